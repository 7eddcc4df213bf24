"""The stages of a run: (config, refs, store) -> Ref, at once where the artifact is there.

An artifact's name ends in the fingerprint of its config, its parents and the stage's version, so a
changed setting makes a new artifact and an unchanged one is never made twice.
"""

import copy
import hashlib
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from controlgen import figures, rng
from controlgen.artifacts import Ref, Store
from controlgen.artifacts.bank import Bank
from controlgen.artifacts.card import write_card
from controlgen.artifacts.formats import create_mapped, load_tensors, open_mapped, save_tensors
from controlgen.artifacts.store import digest_of, finish, read_json, write_json, write_text
from controlgen.config import (
    ClipConfig,
    EmbedConfig,
    FitConfig,
    RunConfig,
    SampleConfig,
    TrainConfig,
)
from controlgen.control import Editor
from controlgen.control.bundle import load_generator, save_generator, save_map
from controlgen.control.editor import SAMPLES
from controlgen.control.statistics import Statistics
from controlgen.errors import ConfigError
from controlgen.evaluation import evaluate as judge_editor
from controlgen.evaluation import write_report
from controlgen.features import FeatureSpace
from controlgen.images import grid, to_pixels, write_png
from controlgen.networks.r3gan import Generator
from controlgen.progress import Bars, Reporter
from controlgen.regressors import Retrieval, Ridge, RoundTrip
from controlgen.spec import Spec
from controlgen.training import TrainState, clip, train
from controlgen.training.history import mean_row, read_history, to_text
from controlgen.training.state import pays_bf16
from controlgen.types import Pixels

VERSION = {"gan": 1, "bank": 1, "features": 1, "map": 1, "report": 1, "clip": 1}
GRID = 100  # images of the fixed-seed grid, ten a row
STATE = "state.safetensors"
WEIGHTS = (".safetensors", ".json")  # of a map folder, what is shipped; config.json is rewritten
REPORTED = (".png", ".md", ".json")  # of a report folder
RESEARCH = "Synthetic images for research; they show what a small model learned, not the world."


def _ref(kind: str, name: str, config: Spec, *parents: str) -> Ref:
    fingerprint = config.fingerprint(*parents, version=VERSION[kind])
    return Ref(kind, f"{name}-{fingerprint}")


def _provenance(ref: Ref, recipe: str, seed: int) -> dict[str, Any]:
    from controlgen import __version__

    return {
        "synthetic": "true",
        "model": str(ref),
        "seed": str(seed),
        "recipe": recipe,
        "version": __version__,
    }


def train_gan(name: str, config: TrainConfig, store: Store, report: Reporter | None = None) -> Ref:
    """Train a GAN, resuming where an earlier attempt stopped. Raises DataError, Diverged."""
    ref = _ref("gan", name, config)
    if store.has(ref):
        return ref
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    with store.making(ref, {}) as folder:
        if (folder / STATE).is_file():
            state.restore(load_tensors(folder / STATE))
        _train_and_save(config, dataset, state, folder, ref, report or Bars())

        # What is kept: the averaged generator, the critic, the curves and the pictures.
        save_generator(folder, state.average.cpu(), config.network, dataset.image_shape[0])
        save_tensors(folder / "critic.safetensors", state.critic.state_dict())
        write_json(folder / "config.json", config.effective())
        (folder / STATE).unlink()
        write_card(
            folder,
            f"GAN {ref.name}",
            f"An unconditional generator trained on unlabelled images. {RESEARCH}",
            {
                "data": config.dataset.kind,
                "objective": config.objective.kind,
                "real images shown": state.images_seen,
                "parameters, generator": sum(p.numel() for p in state.average.parameters()),
                "precision": "bf16 above 4x4" if state.bf16 else "fp32",
            },
            ["Not evaluated by itself: see the report of the run."],
            f"python -m flows.train_gan CONFIG  # with the [train] of config.json, name {name}",
            ["grid.png", "losses.png"],
        )
    return ref


def _train_and_save(
    config: TrainConfig, dataset: Any, state: TrainState, folder: Path, ref: Ref, report: Reporter
) -> None:
    # Rows later than the saved state belong to steps that are about to be made again.
    rows = read_history(folder / "history.jsonl", state.images_seen)
    every = max(config.checkpoint_images // 10, config.batch_size)
    steps, next_row = [], state.images_seen + every
    next_save = state.images_seen + config.checkpoint_images
    title = f"train {ref.name}"
    with report.meter(title, config.total_images, state.images_seen, "images") as meter:
        for step in train(config, dataset, state):
            steps.append(step)
            if step.images_seen >= next_row or step.images_seen >= config.total_images:
                rows.append(mean_row(steps))
                steps, next_row = [], step.images_seen + every
                row = rows[-1]
                note = f"gap {row['gap']:.2f} penalty {row['penalty']:.3f}"
                meter.to(min(step.images_seen, config.total_images), note)
            if step.images_seen >= next_save:
                next_save += config.checkpoint_images
                _checkpoint(state, rows, folder, ref)
    _checkpoint(state, rows, folder, ref)


def _checkpoint(state: TrainState, rows: list[dict[str, float]], folder: Path, ref: Ref) -> None:
    # The state comes last: it decides how many rows of the history count.
    write_text(folder / "history.jsonl", to_text(rows))
    provenance = _provenance(ref, f"averaged generator after {state.images_seen} images", 0)
    latents = rng.normals(0, SAMPLES, 0, GRID, state.average.latent_size)
    with torch.no_grad():
        pixels = to_pixels(state.average(torch.from_numpy(latents).to(state.device)))
    snapshots = folder / "grids"
    snapshots.mkdir(exist_ok=True)
    sheet = grid(pixels, 10)
    write_png(snapshots / f"{state.images_seen:09d}.png", sheet, provenance)
    write_png(folder / "grid.png", sheet, provenance, zoom=2)
    if rows:
        figures.loss_curves(folder / "losses.png", rows, provenance)
    save_tensors(folder / STATE, state.tensors())


def draw_samples(
    name: str, config: SampleConfig, gan: Ref, store: Store, report: Reporter | None = None
) -> Ref:
    """Draw a bank of latents and images; item i depends on the seed and i alone."""
    ref = _ref("bank", name, config, gan.fingerprint)
    if store.has(ref):
        return ref
    generator, shape = load_generator(store.open(gan))
    with store.making(ref, {"gan": gan}) as folder:
        latents = rng.normals(config.seed, SAMPLES, 0, config.n, generator.latent_size)
        stored = create_mapped(folder / "latents.npy", latents.shape, np.float32)
        stored[:] = latents
        pixels = create_mapped(folder / "pixels.npy", (config.n, *shape), np.uint8)
        with (report or Bars()).meter(f"sample {ref.name}", config.n, unit="images") as meter:
            for start in range(0, config.n, config.batch_size):
                part = slice(start, min(start + config.batch_size, config.n))
                with torch.no_grad():
                    pixels[part] = to_pixels(generator(torch.from_numpy(latents[part])))
                meter.to(part.stop)
        for array in (stored, pixels):
            array.flush()
        provenance = _provenance(ref, "the bank's first items", config.seed)
        write_png(folder / "grid.png", grid(pixels[:GRID], 10), provenance, zoom=2)
        write_json(folder / "config.json", config.effective())
    return ref


def embed_images(
    name: str, config: EmbedConfig, bank: Ref, store: Store, report: Reporter | None = None
) -> Ref:
    """Embed every image of a bank in the steering feature space."""
    space: FeatureSpace = config.space.open()
    ref = _ref("features", name, config, bank.fingerprint, space.fingerprint)
    if store.has(ref):
        return ref
    pixels = open_mapped(store.open(bank) / "pixels.npy")
    with store.making(ref, {"bank": bank}) as folder:
        features = create_mapped(folder / "features.npy", (len(pixels), space.size), np.float32)
        with (report or Bars()).meter(f"embed {ref.name}", len(pixels), unit="images") as meter:
            for start in range(0, len(pixels), config.batch_size):
                part = slice(start, min(start + config.batch_size, len(pixels)))
                features[part] = space.embed(np.array(pixels[part]))
                meter.to(part.stop)
        features.flush()
        sheet = grid(_along_components(features, pixels), 11)
        recipe = "bank images along the first eight principal components of their features"
        write_png(folder / "components.png", sheet, _provenance(ref, recipe, 0), zoom=2)
        write_json(folder / "config.json", config.effective())
        write_json(folder / "space.json", {"fingerprint": space.fingerprint})
    return ref


def _along_components(
    features: Any, pixels: Pixels, components: int = 8, steps: int = 11
) -> Pixels:
    # One row a principal component: the images at evenly spaced ranks along it.
    part = np.array(features[:5000])
    _, _, axes = np.linalg.svd(part - part.mean(0), full_matrices=False)
    order = np.argsort(part @ axes[:components].T, axis=0)
    ranks = np.linspace(0, len(part) - 1, steps).round().astype(int)
    return np.asarray(pixels[order[ranks].T.ravel()])


def fit_map(
    run: RunConfig,
    gan: Ref,
    bank: Ref,
    features: Ref,
    store: Store,
    report: Reporter | None = None,
) -> Ref:
    """Fit the feature -> latent map; its folder holds all that an Editor needs."""
    config = run.fit
    ref = _ref("map", run.name, config, gan.fingerprint, bank.fingerprint, features.fingerprint)
    if store.has(ref):
        return ref
    items = Bank.open(store.open(bank), store.open(features), config.held_out)
    if len(items.latents) < 2 * config.held_out:
        raise ConfigError(
            f"fit.held_out = {config.held_out} leaves less than half of sample.n = "
            f"{len(items.latents)} to fit on; draw more samples or hold out fewer"
        )
    generator, shape = load_generator(store.open(gan))
    space: FeatureSpace = run.embed.space.open()
    estimator = config.map.build(config.seed)
    with store.making(ref, {"gan": gan, "bank": bank, "features": features}) as folder:
        part = items.train
        steps = estimator.fit_steps(
            np.array(items.features[part]),
            np.array(items.latents[part]),
            _round_trip(generator, space),
        )
        with (report or Bars()).meter(f"fit {ref.name}", 100, unit="%") as meter:
            for share in steps:
                meter.to(math.floor(1000 * share) / 10)

        save_generator(folder, generator, generator.spec, shape[0])
        statistics = Statistics.of(np.array(items.features[part]))
        space_settings = run.embed.space
        save_map(folder, config.map, estimator, statistics, space_settings, space.fingerprint)
        write_json(folder / "config.json", config.effective())
        editor = Editor(generator, space, estimator, statistics, shape)
        _picture_of_map(editor, items, folder, ref)
        write_card(
            folder,
            f"Map {ref.name}",
            f"Generator, feature space and feature-to-latent map: all an Editor needs. {RESEARCH}",
            {"map": config.map.kind, "fitted on": f"{part.stop} generated images, no labels"},
            ["Not evaluated by itself: see the report of the run."],
            f"python -m flows.fit_map CONFIG  # name {run.name}",
            ["inversion.png"],
        )
    return ref


def _round_trip(generator: Generator, space: FeatureSpace) -> RoundTrip:
    # Latents -> features of what they generate, differentiable; in bf16 where that is native.
    bf16 = pays_bf16(torch.device("cpu"))
    frozen = copy.deepcopy(generator)
    frozen.bf16 = bf16

    def round_trip(latents: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return space.embed_images(frozen(latents).clamp(-1, 1)).float()

    return round_trip


def _picture_of_map(editor: Editor, items: Bank, folder: Path, ref: Ref) -> None:
    # Held-out bank images above what the map makes of their features.
    first = items.held_out.start
    asked = np.array(items.pixels[first : first + 16])
    obtained = editor.generate(editor.invert(np.array(items.features[first : first + 16])))
    recipe = "held-out bank images (top) and what the map answers to their features (bottom)"
    sheet = grid(np.concatenate([asked, obtained]), 16)
    write_png(folder / "inversion.png", sheet, _provenance(ref, recipe, 0), zoom=2)


def evaluate(
    run: RunConfig,
    map_ref: Ref,
    bank: Ref,
    features: Ref,
    store: Store,
    report: Reporter | None = None,
) -> Ref:
    """Judge a map by the protocol. Labels, and a judge taught by them, exist only in here."""
    config = run.evaluate
    ref = _ref("report", run.name, config, map_ref.fingerprint)
    if store.has(ref):
        return ref
    editor = Editor.load(store.open(map_ref))
    items = Bank.open(store.open(bank), store.open(features), run.fit.held_out)
    maps = _maps_to_compare(editor, items, run.fit)
    real = {split: run.train.dataset.judging(split).open() for split in ("train", "test")}
    audit: FeatureSpace = config.audit.open()
    with store.making(ref, {"map": map_ref, "bank": bank, "features": features}) as folder:
        with (report or Bars()).meter(f"evaluate {ref.name}", 100, unit="%") as meter:
            found = judge_editor(
                editor,
                items,
                real["train"],
                real["test"],
                audit,
                config,
                maps=maps,
                map_name=run.fit.map.kind,
                class_names=config.class_names,
                prompts=[config.prompt.format(one) for one in config.class_names],
                on_progress=lambda what, share: meter.to(round(100 * share), what),
            )
        write_report(found, folder, _provenance(ref, "evaluation", config.seed))
        write_json(folder / "config.json", config.effective())
    return ref


def _maps_to_compare(editor: Editor, items: Bank, config: FitConfig) -> dict[str, Any]:
    # The baselines see the same training part of the bank as the map did.
    features, latents = (np.array(rows[items.train]) for rows in (items.features, items.latents))
    baselines = (Retrieval(), Ridge())
    predictors: dict[str, Any] = {
        one.kind: one.build().fit(features, latents).predict for one in baselines
    }
    return predictors | {config.map.kind: editor.map.predict}


def train_clip(config: ClipConfig, store: Store, report: Reporter | None = None) -> Ref:
    """Train the embedded CLIP on procedural captioned images only, resuming where it stopped."""
    ref = _ref("clip", config.name, config)
    if store.has(ref):
        return ref
    state = clip.ClipState(config)
    with store.making(ref, {}) as folder:
        if (folder / STATE).is_file():
            state.restore(load_tensors(folder / STATE))
        next_save = state.images_seen + config.checkpoint_images
        title, seen = f"train {ref.name}", state.images_seen
        with (report or Bars()).meter(title, config.images, seen, "glyphs") as meter:
            for step in clip.train_clip(config, config.world, state):
                meter.to(min(step.images_seen, config.images), f"loss {step.loss:.3f}")
                if step.images_seen >= next_save:
                    next_save += config.checkpoint_images
                    save_tensors(folder / STATE, state.tensors())

        # What is kept: what open_clip loads, and a look at the world it learned from.
        clip.export(state, folder)
        shown = config.world.draw(config.seed, 0, GRID)
        recipe = f"procedural {config.world.kind}"
        write_png(folder / "world.png", grid(shown.pixels, 10), _provenance(ref, recipe, 0), zoom=2)
        write_json(folder / "config.json", config.effective())
        (folder / STATE).unlink(missing_ok=True)
        write_card(
            folder,
            f"Embedded CLIP {ref.name}",
            "A small CLIP (image and text tower) for open_clip, trained on procedural captioned "
            "images only. It has seen no photograph, no scan and no label of any data set.",
            {
                "world": config.world.kind,
                "images seen": state.images_seen,
                "parameters": sum(p.numel() for p in state.model.parameters()),
                "feature size": config.embed_dim,
                "first captions of the world": "; ".join(shown.captions[:5]),
                "licence": "Apache-2.0",
            },
            [
                "Knows nothing but what its world draws; other pictures get meaningless features.",
                "Understands short sentences in the manner of its captions only.",
            ],
            "python -m flows.train_clip configs/clip-mini.toml --ship clip-mini",
            ["world.png"],
        )
    return ref


def ship(
    run: RunConfig, gan: Ref, map_ref: Ref, report_ref: Ref, store: Store, target: Path
) -> None:
    """Make a pretrained folder of a run: all that an Editor needs, the report and a model card."""
    fitted, judged, trained = (store.open(ref) for ref in (map_ref, report_ref, gan))
    report = read_json(judged / "report.json")
    sources = {path.name: path for path in fitted.glob("*.*") if path.suffix in WEIGHTS}
    sources |= {path.name: path for path in judged.glob("*.*") if path.suffix in REPORTED}
    sources.pop("manifest.json")
    sources["losses.png"] = trained / "losses.png"
    with shipping(target, "map", sources, parents={"gan": gan, "map": map_ref}) as folder:
        write_json(folder / "config.json", run.effective())
        targets = {one["name"]: _target_line(one) for one in report["targets"]}
        write_card(
            folder,
            f"Pretrained {target.name}",
            "Generator, feature space and map: `controlgen.Editor.load` takes this folder. "
            + RESEARCH,
            {
                "data": f"{run.train.dataset.kind}, images only; labels judged, and taught nothing",
                "real images shown": f"{run.train.total_images:,}",
                "fitted on": f"{run.sample.n - run.fit.held_out:,} generated images",
                "licence": "Apache-2.0 (code and weights)",
                **targets,
            },
            [
                "Every number is one training seed; intervals are over images (see report.md).",
                "Outside what the training images show, answers are guesses: read `agreement`.",
            ],
            f"python -m flows.pipeline configs/{run.name}.toml --ship {target.name}",
            ["samples.png", "figure3.png", "flip-rate.png", "losses.png"],
        )


def _target_line(one: Mapping[str, Any]) -> str:
    measured = "not measured" if one["measured"] is None else f"{one['measured']:.3f}"
    return f"{measured} (wanted {one['wanted']}: {'met' if one['met'] else 'missed'})"


@contextmanager
def shipping(
    target: Path, kind: str, sources: Mapping[str, Path], parents: Mapping[str, Ref]
) -> Iterator[Path]:
    """Yield a folder with copies of `sources` to be added to; it then replaces `target` whole."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, source in sources.items():
        shutil.copyfile(source, partial / name)
    yield partial
    digest = hashlib.sha256()
    for path in sorted(partial.iterdir()):
        digest.update(f"{path.name} {digest_of(path)}\n".encode())
    described = {role: str(parent) for role, parent in parents.items()}
    finish(partial, kind, target.name, digest.hexdigest()[:12], described, 0.0)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def ship_clip(ref: Ref, store: Store, target: Path) -> None:
    """Make a pretrained folder of an embedded CLIP."""
    sources = {
        path.name: path for path in store.open(ref).iterdir() if path.name != "manifest.json"
    }
    with shipping(target, "clip", sources, parents={"clip": ref}):
        pass
