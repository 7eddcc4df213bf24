"""Export runs as pretrained folders, which the repository carries."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.model_card import write_model_card
from controlgen.artifacts.store import MANIFEST, read_manifest, write_manifest
from controlgen.attributes import strokes
from controlgen.config import ClipConfig, CompareConfig, EncoderConfig, RunConfig, SpacesConfig
from controlgen.datasets import MNIST
from controlgen.editing.checkpoint import save_bank
from controlgen.features import OpenClipConfig, OpenClipSpace
from controlgen.images import shrink_png
from controlgen.metrics.bootstrap import mean_interval
from controlgen.metrics.zero_shot import linear_r2, zero_shot_predictions
from controlgen.stages.artifact_refs import CLIP_LIMITS, RESEARCH, WHAT_CLIP
from controlgen.stages.train_encoder import NEIGHBOURS, VIEWS, card
from controlgen.synthetic import SyntheticDigits, SyntheticTissue
from controlgen.utils.files import read_json, sha256_of_file, write_json

WEIGHTS = (".safetensors", ".json")  # exported files of a map folder
WATCHED = (
    "Its world was widened while the MNIST test score was watched, so that score is slightly "
    "optimistic; no image of it was trained on."
)
BY_EYE = (
    "The ranges of its world were set by eye beside real colon tiles, so scores on such tiles are "
    "slightly optimistic; no real tile was trained on."
)
REPORTED = (".png", ".md", ".json")  # exported files of a report folder
FREE = (
    "mnist",
    "fashion-mnist",
    "stacked-mnist",
    "digits",
    "ihc",
)  # data sets whose images may be shown and copied
PLACES = (
    "root",
    "path",
    "cache",
    "start_from",
    "generator",
    "weights",
)  # settings that hold local paths
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
)  # pictures of a model card, if they exist
LEFT_OUT = "(A picture of real source images is left out of this folder: {}. It lies in {}.)"


def export_model(
    run: RunConfig,
    gan: ArtifactRef,
    map_ref: ArtifactRef,
    report_ref: ArtifactRef,
    store: Store,
    target: Path,
) -> None:
    """Export a run as a pretrained folder: what an Editor needs, the report and a model card."""
    fitted, judged, trained = (store.open(ref) for ref in (map_ref, report_ref, gan))
    report = read_json(judged / "report.json")
    sources = _collect_files(fitted, judged, trained)
    # Images of other owners, and their local paths, are not exported.
    data = run.train.dataset
    private = (
        [] if data.kind in FREE else [name for name in report["shows_real"] if name in sources]
    )
    for name in private:
        del sources[name]
    with export_folder(target, "map", sources, store, {"gan": gan, "map": map_ref}) as folder:
        full_report = (
            f"{report_ref} of the store in which the model was trained, which was not published"
        )
        _leave_out(folder / "report.md", private, full_report)
        save_bank(folder, run.sample.seed, run.sample.n)
        write_json(folder / "config.json", strip_local_paths(run.to_dict()))
        if "space.json" in sources:
            space = read_json(folder / "space.json")
            write_json(folder / "space.json", strip_local_paths(space))
        targets = {goal["name"]: _target_line(goal) for goal in report["targets"]}
        write_model_card(
            folder,
            f"Pretrained {target.name}",
            "Generator, feature space and map: `controlgen.Editor.load` takes this folder. "
            + RESEARCH,
            {
                "data": f"{run.about or data.kind}; images only: labels judged, and taught nothing",
                **_origin(run, trained),
                **_acceptance(report),
                "fitted on": f"{run.sample.n - run.fit.held_out:,} generated images",
                "licence": "Apache-2.0 (code and weights)",
                "memorisation": _memorisation(report, full_report if private else ""),
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


def _collect_files(fitted: Path, judged: Path, trained: Path) -> dict[str, Path]:
    # The files to export by name: of the map, of its report, and the curves of its training.
    files = {path.name: path for path in fitted.glob("*.*") if path.suffix in WEIGHTS}
    files |= {path.name: path for path in judged.glob("*.*") if path.suffix in REPORTED}
    files.pop(MANIFEST)
    if (trained / "losses.png").is_file():  # a reused generator may have no training record
        files["losses.png"] = trained / "losses.png"
    return files


def _memorisation(report: Mapping[str, Any], full_report: str) -> str:
    # The audit's verdict in words; an unaudited model must not look like one that passed.
    if report.get("copies") is None:
        return "not audited: whether samples are copies of training images is not known"
    copies = report["copies"]["found"]
    share = "{mean:.3f} ({low:.3f} to {high:.3f})".format(**copies["share"])
    sentence = (
        f"{copies['verdict']}: {share} of {copies['samples']} samples lie nearer to a training "
        "image than 99 % of held-out ones do"
    )
    return sentence + (
        f"; the nearest pairs show real images and lie in {full_report}" if full_report else ""
    )


def _acceptance(report: Mapping[str, Any]) -> dict[str, str]:
    # The share of rejected samples is stated with the figures of the accepted ones.
    every = report["quality"].get("every_draw")
    if every is None:
        return {}
    accepted = "{mean:.3f} ({low:.3f} to {high:.3f})".format(**every["kept"])
    text = f"those as like real images as most are: {accepted} of first draws"
    if every["confident"] is not None:
        text += f", on all of which the judge is confident at {every['confident']['mean']:.3f}"
    return {"samples kept": text}


def _origin(run: RunConfig, trained: Path) -> dict[str, str]:
    # The origin of the generator: trainings of this run, or the folder it was reused from.
    if run.generator is not None:
        return {"generator": f"taken from {read_json(trained / 'config.json')['taken from']}"}
    lengths = ", then ".join(f"{phase.total_images:,}" for phase in run.training_phases())
    return {"real images shown": lengths}


def strip_local_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with every path reduced to its last name."""
    public: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            public[key] = strip_local_paths(value)
        else:
            public[key] = Path(value).name if key in PLACES and value else value
    return public


def _leave_out(report: Path, names: Sequence[str], full_report: str) -> None:
    # Remove links to missing pictures; the report states where they are.
    lines = report.read_text(encoding="utf-8").split("\n")
    for index, line in enumerate(lines):
        for name in names:
            if line.startswith("![") and line.endswith(f"]({name})"):
                lines[index] = LEFT_OUT.format(name, full_report)
    report.write_text("\n".join(lines), encoding="utf-8")


def _target_line(target: Mapping[str, Any]) -> str:
    measured = "not measured" if target["measured"] is None else f"{target['measured']:.3f}"
    return f"{measured} (wanted {target['wanted']}: {'met' if target['met'] else 'missed'})"


@contextmanager
def export_folder(
    target: Path,
    kind: str,
    sources: Mapping[str, Path],
    store: Store,
    parents: Mapping[str, ArtifactRef],
) -> Iterator[Path]:
    """Yield a folder with copies of `sources` for additions; it then replaces `target` atomically.

    Large pictures are copied with fewer colours to keep the repository small.
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


def export_clip(config: ClipConfig, ref: ArtifactRef, store: Store, target: Path) -> None:
    """Export a trained CLIP as a pretrained folder with a model card.

    A CLIP trained on synthetic digits is scored on MNIST's test set for its card; others are
    exported without scores.
    """
    source = store.open(ref)
    files = {path.name: path for path in source.iterdir() if path.name != MANIFEST}
    with export_folder(target, "clip", files, store, {"clip": ref}) as folder:
        scores: dict[str, Any] = {}
        limits: tuple[str, ...] = CLIP_LIMITS
        if isinstance(config.world, SyntheticDigits):
            scores = clip_digit_scores(OpenClipConfig(model=str(source)).open(), config)
            limits += (WATCHED,)
            write_json(folder / "scores.json", scores)
        if isinstance(config.world, SyntheticTissue):
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


def export_comparison(
    config: SpacesConfig | CompareConfig, ref: ArtifactRef, store: Store, target: Path
) -> None:
    """Export a comparison as a pretrained folder: its report without local paths."""
    source = store.open(ref)
    files = {path.name: path for path in source.iterdir() if path.name != MANIFEST}
    with export_folder(target, ref.kind, files, store, {ref.kind: ref}) as folder:
        write_json(folder / "config.json", strip_local_paths(config.to_dict()))


def export_encoder(config: EncoderConfig, ref: ArtifactRef, store: Store, target: Path) -> None:
    """Export an encoder as a pretrained folder; settings find it by the folder's name.

    Images of other owners, and their local paths, are not exported.
    """
    source = store.open(ref)
    private = () if config.dataset.kind in FREE else (NEIGHBOURS, VIEWS)
    left_out = (MANIFEST, *private)
    files = {path.name: path for path in source.iterdir() if path.name not in left_out}
    with export_folder(target, "encoder", files, store, {"encoder": ref}) as folder:
        write_json(folder / "config.json", strip_local_paths(config.to_dict()))
        scores, command = read_json(source / "scores.json"), f"configs/{config.name}.toml"
        title = f"Encoder {target.name}"
        card(folder, title, config, scores, f"{command} --ship {target.name}")


def clip_digit_scores(space: OpenClipSpace, config: ClipConfig) -> dict[str, Any]:
    """Zero-shot accuracy from text and linear R^2 of shape attributes on the 10 000 MNIST test
    images.
    """
    test = MNIST(split="test").open()
    everything = np.arange(len(test))
    pixels, labels = test.pixels(everything), test.labels(everything)
    right = zero_shot_predictions(space, config.world.prompts(), pixels) == labels
    r2 = linear_r2(space.embed(pixels), strokes.measure_strokes(pixels).astype(np.float32))
    scores: dict[str, Any] = {
        "MNIST zero-shot accuracy": mean_interval(right, config.seed)._asdict()
    }
    for name, value in zip(strokes.NAMES, r2, strict=True):
        scores[f"linear R2, {name}"] = round(float(value), 4)
    return scores


def _with_interval(value: Any) -> str:
    if isinstance(value, dict):
        return "{mean:.4f} ({low:.4f} to {high:.4f}, n {n})".format(**value)
    return f"{value:.3f}"
