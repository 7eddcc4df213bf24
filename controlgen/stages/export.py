"""Make the pretrained folders that the repository carries."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.model_card import write_model_card
from controlgen.artifacts.store import MANIFEST, write_manifest, read_manifest
from controlgen.attributes import strokes
from controlgen.config import ClipConfig, CompareConfig, EncoderConfig, RunConfig, SpacesConfig
from controlgen.datasets import MNIST
from controlgen.editing.checkpoint import save_bank
from controlgen.features import OpenClip, OpenClipSpace
from controlgen.images import shrink_png
from controlgen.metrics.bootstrap import interval
from controlgen.metrics.zero_shot import linear_r2, zero_shot_predictions
from controlgen.stages.artifact_refs import CLIP_LIMITS, RESEARCH, WHAT_CLIP
from controlgen.stages.train_encoder import NEIGHBOURS, VIEWS, card
from controlgen.synthetic import Glyphs, Tissue
from controlgen.utils.files import read_json, sha256_of_file, write_json

WEIGHTS = (".safetensors", ".json")  # of a map folder, what is shipped
WATCHED = (
    "Its world was widened while the MNIST test score was watched, so that score is slightly "
    "optimistic; no image of it was trained on."
)
BY_EYE = (
    "The ranges of its world were set by eye beside real colon tiles, so scores on such tiles are "
    "slightly optimistic; no real tile was trained on."
)
REPORTED = (".png", ".md", ".json")  # of a report folder
FREE = (
    "mnist",
    "fashion-mnist",
    "stacked-mnist",
    "digits",
    "ihc",
)  # sources whose images may be shown and copied
PLACES = (
    "root",
    "path",
    "cache",
    "start_from",
    "generator",
    "weights",
)  # settings that name a place on one machine
PICTURES = (
    "samples.png",
    "figure3.png",
    "answers.png",
    "analogies.png",
    "sliders.png",
    "leakage.png",
    "flip-rate.png",
    "reliability.png",
    "nearest-distances.png",
    "losses.png",
)  # that a card shows, where they are there
LEFT_OUT = "(A picture of real source images is left out of this folder: {}. It lies in {}.)"


def ship(
    run: RunConfig,
    gan: ArtifactRef,
    map_ref: ArtifactRef,
    report_ref: ArtifactRef,
    store: Store,
    target: Path,
) -> None:
    """Make a pretrained folder of a run: all that an Editor needs, the report and a model card."""
    fitted, judged, trained = (store.open(ref) for ref in (map_ref, report_ref, gan))
    report = read_json(judged / "report.json")
    sources = {path.name: path for path in fitted.glob("*.*") if path.suffix in WEIGHTS}
    sources |= {path.name: path for path in judged.glob("*.*") if path.suffix in REPORTED}
    sources.pop(MANIFEST)
    if (trained / "losses.png").is_file():  # a generator that was taken may have none
        sources["losses.png"] = trained / "losses.png"

    # Images that belong to others are not passed on, and neither is where they lay.
    data = run.train.dataset
    private = [] if data.kind in FREE else [one for one in report["shows_real"] if one in sources]
    for name in private:
        del sources[name]
    with shipping(target, "map", sources, store, {"gan": gan, "map": map_ref}) as folder:
        kept = f"{report_ref} of the store in which the model was trained, which was not published"
        _leave_out(folder / "report.md", private, kept)
        save_bank(folder, run.sample.seed, run.sample.n)
        write_json(folder / "config.json", without_places(run.effective()))
        if "space.json" in sources:
            space = read_json(folder / "space.json")
            write_json(folder / "space.json", without_places(space))
        targets = {one["name"]: _target_line(one) for one in report["targets"]}
        write_model_card(
            folder,
            f"Pretrained {target.name}",
            "Generator, feature space and map: `controlgen.Editor.load` takes this folder. "
            + RESEARCH,
            {
                "data": f"{run.about or data.kind}; images only: labels judged, and taught nothing",
                **_origin(run, trained),
                **_kept(report),
                "fitted on": f"{run.sample.n - run.fit.held_out:,} generated images",
                "licence": "Apache-2.0 (code and weights)",
                "memorisation": _memorisation(report, kept if private else ""),
                **targets,
            },
            [
                *run.limits,
                "Every number is one training seed; intervals are over images (see report.md).",
                "Outside what the training images show, answers are guesses: read `agreement`.",
            ],
            f"python -m flows.pipeline configs/{run.name}.toml --ship {target.name}",
            [name for name in PICTURES if (folder / name).is_file()],
        )


def _memorisation(report: Mapping[str, Any], kept: str) -> str:
    # The audit's verdict in words; a model that nobody audited must not look like one that passed.
    if report.get("copies") is None:
        return "not audited: whether samples are copies of training images is not known"
    found = report["copies"]["found"]
    share = "{mean:.3f} ({low:.3f} to {high:.3f})".format(**found["share"])
    told = (
        f"{found['verdict']}: {share} of {found['samples']} samples lie nearer to a training image "
        "than 99 % of held-out ones do"
    )
    return told + (f"; the nearest pairs show real images and lie in {kept}" if kept else "")


def _kept(report: Mapping[str, Any]) -> dict[str, str]:
    # What likeness refuses is said beside what it leaves.
    every = report["quality"].get("every_draw")
    if every is None:
        return {}
    kept = "{mean:.3f} ({low:.3f} to {high:.3f})".format(**every["kept"])
    said = f"those as like real images as most are: {kept} of first draws"
    if every["confident"] is not None:
        said += f", on all of which the judge is confident at {every['confident']['mean']:.3f}"
    return {"samples kept": said}


def _origin(run: RunConfig, trained: Path) -> dict[str, str]:
    # Where the generator comes from: trainings of this run, or a folder it was taken from.
    if run.generator is not None:
        return {"generator": f"taken from {read_json(trained / 'config.json')['taken from']}"}
    shown = ", then ".join(f"{one.total_images:,}" for one in run.trainings())
    return {"real images shown": shown}


def without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with folders and files by their last name, wherever they lay."""
    kept: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            kept[key] = without_places(value)
        else:
            kept[key] = Path(value).name if key in PLACES and value else value
    return kept


def _leave_out(report: Path, names: Sequence[str], kept: str) -> None:
    # A picture that is not there is not linked to; the report says where it is.
    lines = report.read_text(encoding="utf-8").split("\n")
    for index, line in enumerate(lines):
        for name in names:
            if line.startswith("![") and line.endswith(f"]({name})"):
                lines[index] = LEFT_OUT.format(name, kept)
    report.write_text("\n".join(lines), encoding="utf-8")


def _target_line(one: Mapping[str, Any]) -> str:
    measured = "not measured" if one["measured"] is None else f"{one['measured']:.3f}"
    return f"{measured} (wanted {one['wanted']}: {'met' if one['met'] else 'missed'})"


@contextmanager
def shipping(
    target: Path,
    kind: str,
    sources: Mapping[str, Path],
    store: Store,
    parents: Mapping[str, ArtifactRef],
) -> Iterator[Path]:
    """Yield a folder with copies of `sources` to be added to; it then replaces `target` whole.

    Large pictures are copied with fewer colours: a repository carries what is shipped.
    """
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, source in sources.items():
        copy = shrink_png if source.suffix == ".png" else shutil.copyfile
        copy(source, partial / name)
    yield partial
    digest = hashlib.sha256()
    for path in sorted(partial.iterdir()):
        digest.update(f"{path.name} {sha256_of_file(path)}\n".encode())
    seconds = sum(read_manifest(store.path(parent)).seconds for parent in parents.values())
    described = {role: str(parent) for role, parent in parents.items()}
    write_manifest(partial, kind, target.name, digest.hexdigest()[:12], described, seconds)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def ship_clip(config: ClipConfig, ref: ArtifactRef, store: Store, target: Path) -> None:
    """Make a pretrained folder of an embedded CLIP, with a model card.

    Only here one taught on glyphs meets real digits: its card says how well it reads MNIST's test
    set. Other worlds are shipped without scores.
    """
    source = store.open(ref)
    files = {path.name: path for path in source.iterdir() if path.name != MANIFEST}
    with shipping(target, "clip", files, store, {"clip": ref}) as folder:
        scores: dict[str, Any] = {}
        limits: tuple[str, ...] = CLIP_LIMITS
        if isinstance(config.world, Glyphs):
            scores = read_digits(OpenClip(model=str(source)).open(), config)
            limits += (WATCHED,)
            write_json(folder / "scores.json", scores)
        if isinstance(config.world, Tissue):
            limits += (BY_EYE,)
        write_model_card(
            folder,
            f"Embedded CLIP {target.name}",
            WHAT_CLIP,
            {
                "world": f"{config.world.kind}: {config.images:,} procedural captioned images",
                "image tower": f"{config.tower} at {config.image_size} px",
                "text tower": f"{config.text_layers} layers, {config.text_width} wide",
                "licence": "Apache-2.0 (code and weights)",
                **{key: _with_interval(value) for key, value in scores.items()},
            },
            limits,
            f"python -m flows.train_clip configs/{config.name}.toml --ship {target.name}",
            ["world.png"],
        )


def ship_comparison(
    config: SpacesConfig | CompareConfig, ref: ArtifactRef, store: Store, target: Path
) -> None:
    """Make a pretrained folder of a comparison: its report, without where data lay."""
    source = store.open(ref)
    files = {path.name: path for path in source.iterdir() if path.name != MANIFEST}
    with shipping(target, ref.kind, files, store, {ref.kind: ref}) as folder:
        write_json(folder / "config.json", without_places(config.effective()))


def ship_encoder(config: EncoderConfig, ref: ArtifactRef, store: Store, target: Path) -> None:
    """Make a pretrained folder of an encoder; settings find it by the folder's name.

    Images that belong to others are not passed on, and neither is where they lay.
    """
    source = store.open(ref)
    private = () if config.dataset.kind in FREE else (NEIGHBOURS, VIEWS)
    left_out = (MANIFEST, *private)
    files = {path.name: path for path in source.iterdir() if path.name not in left_out}
    with shipping(target, "encoder", files, store, {"encoder": ref}) as folder:
        write_json(folder / "config.json", without_places(config.effective()))
        scores, command = read_json(source / "scores.json"), f"configs/{config.name}.toml"
        title = f"Encoder {target.name}"
        card(folder, title, config, scores, f"{command} --ship {target.name}")


def read_digits(space: OpenClipSpace, config: ClipConfig) -> dict[str, Any]:
    """Zero-shot accuracy through text and linear R^2 of shape, on the 10 000 MNIST test images."""
    test = MNIST(split="test").open()
    everything = np.arange(len(test))
    pixels, labels = test.pixels(everything), test.labels(everything)
    right = zero_shot_predictions(space, config.world.prompts(), pixels) == labels
    found = linear_r2(space.embed(pixels), strokes.attributes(pixels).astype(np.float32))
    scores: dict[str, Any] = {"MNIST zero-shot accuracy": interval(right, config.seed)._asdict()}
    for name, value in zip(strokes.NAMES, found, strict=True):
        scores[f"linear R2, {name}"] = round(float(value), 4)
    return scores


def _with_interval(value: Any) -> str:
    if isinstance(value, dict):
        return "{mean:.4f} ({low:.4f} to {high:.4f}, n {n})".format(**value)
    return f"{value:.3f}"
