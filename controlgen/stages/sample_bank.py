"""Draw a bank of images and embed it."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from controlgen import rng
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import EmbedConfig, LikenessConfig, RunConfig
from controlgen.datasets import pinned
from controlgen.editing.checkpoint import load_generator, save_likeness
from controlgen.editing.editor import SAMPLES
from controlgen.editing.rejection_sampling import Likeness, drawn
from controlgen.features import FeatureSpace
from controlgen.images import generated, grid, write_png
from controlgen.metrics.classifier import sources_of
from controlgen.networks import AnyGenerator
from controlgen.stages.artifact_refs import GRID, name_of, provenance
from controlgen.types import Dataset, Features, Indices, Latents, Pixels
from controlgen.utils.array_files import create_memmap, open_memmap
from controlgen.utils.files import write_json
from controlgen.utils.parallel import CHUNK_ROWS, map_rows_deterministic
from controlgen.utils.progress import ProgressReporter, TqdmReporter

LOOKED_AT = 2048  # real images held at once
SHOWN = 40  # samples of a part of the picture of likeness


def draw_samples(
    run: RunConfig, gan: ArtifactRef, store: Store, report: ProgressReporter | None = None
) -> ArtifactRef:
    """Draw a bank of latents and images; item i depends on the seed and i alone.

    With `sample.likeness` those are kept that look like real images, to the steering feature space.
    Raises DataError where there are too few real images for that.
    """
    config, kept = run.sample, run.sample.likeness
    space: FeatureSpace | None = run.embed.space.open() if kept else None
    dataset = pinned(run.train.dataset) if kept else None
    parents = [one.fingerprint() for one in (dataset,) if one]
    parents += [one.fingerprint for one in (space,) if one]
    ref = name_of("bank", run.name, config, gan.fingerprint, *parents)
    if store.has(ref):
        return ref
    generator, shape = load_generator(store.open(gan))
    model = _Drawing(generator, space)
    with store.create(ref, {"gan": gan}) as folder:
        likeness = None
        if kept and space and dataset:
            likeness = _learned(kept, space, dataset.open(), report or TqdmReporter(), ref)
            save_likeness(folder, kept, likeness)
        # Every image is drawn among as many others, so that its last bit depends on nothing else.
        step = math.ceil(config.batch_size / CHUNK_ROWS) * CHUNK_ROWS
        latents = create_memmap(folder / "latents.npy", (config.n, model.latent_size), np.float32)
        pixels = create_memmap(folder / "pixels.npy", (config.n, *shape), np.uint8)
        with (report or TqdmReporter()).meter(
            f"sample {ref.name}", config.n, unit="images"
        ) as meter:
            for start in range(0, config.n, step):
                part = slice(start, min(start + step, config.n))
                whole = start + math.ceil((part.stop - start) / CHUNK_ROWS) * CHUNK_ROWS
                found = drawn(model, likeness, config.seed, SAMPLES, start, whole)
                latents[part], pixels[part] = (rows[: part.stop - start] for rows in found)
                meter.to(part.stop)
        for array in (latents, pixels):
            array.flush()
        origin = provenance(ref, "the bank's first items", config.seed)
        write_png(folder / "grid.png", grid(pixels[:GRID], 10), origin, zoom=2)
        if likeness:
            _picture_of_likeness(model, likeness, config.seed, folder, ref)
        write_json(folder / "config.json", config.effective())
    return ref


class _Drawing:
    """A generator, and the feature space that samples are judged in, where they are."""

    def __init__(self, generator: AnyGenerator, space: FeatureSpace | None) -> None:
        self._generator, self._space = generator, space

    @property
    def latent_size(self) -> int:
        return self._generator.latent_size

    def generate(self, latents: Latents) -> Pixels:
        return map_rows_deterministic(partial(generated, self._generator), latents)

    def embed(self, pixels: Pixels) -> Features:
        assert self._space is not None
        return map_rows_deterministic(self._space.embed, pixels)


def looked_at(config: LikenessConfig, dataset: Dataset) -> Indices:
    """The real training images that likeness is learned from, in the order they lie."""
    order = rng.stream(config.seed, "likeness images").permutation(len(dataset))
    return np.sort(order[: config.images])


def _learned(
    config: LikenessConfig,
    space: FeatureSpace,
    dataset: Dataset,
    report: ProgressReporter,
    ref: ArtifactRef,
) -> Likeness:
    indices = looked_at(config, dataset)
    rows = []
    with report.meter(f"look at real images for {ref.name}", len(indices), unit="images") as meter:
        for start in range(0, len(indices), LOOKED_AT):
            part = indices[start : start + LOOKED_AT]
            rows.append(map_rows_deterministic(space.embed, dataset.pixels(part)))
            meter.to(start + len(part))
    return Likeness.of(np.concatenate(rows), sources_of(dataset, indices), config)


def _picture_of_likeness(
    model: _Drawing, likeness: Likeness, seed: int, folder: Path, ref: ArtifactRef
) -> None:
    # Among the first draws of some samples, those that lie furthest from and nearest to real ones.
    first = drawn(model, None, seed, SAMPLES, 0, 10 * GRID).pixels
    order = np.argsort(likeness.scores(model.embed(first)), kind="stable")
    recipe = (
        f"of {10 * GRID} first draws the {SHOWN} least like real images (top), then the {SHOWN} "
        f"at the bound, just refused and just kept, then the {SHOWN} most like them"
    )
    bound = int((~likeness.keeps(model.embed(first))).sum())
    middle = int(np.clip(bound - SHOWN // 2, 0, len(order) - SHOWN))
    rows = (order[:SHOWN], order[middle : middle + SHOWN], order[-SHOWN:])
    sheet = grid(first[np.concatenate(rows)], 20)
    write_png(folder / "likeness.png", sheet, provenance(ref, recipe, seed), zoom=2)


def embed_images(
    name: str,
    config: EmbedConfig,
    bank: ArtifactRef,
    store: Store,
    report: ProgressReporter | None = None,
) -> ArtifactRef:
    """Embed every image of a bank in the steering feature space."""
    space: FeatureSpace = config.space.open()
    ref = name_of("features", name, config, bank.fingerprint, space.fingerprint)
    if store.has(ref):
        return ref
    pixels = open_memmap(store.open(bank) / "pixels.npy")
    with store.create(ref, {"bank": bank}) as folder:
        features = create_memmap(folder / "features.npy", (len(pixels), space.size), np.float32)
        with (report or TqdmReporter()).meter(
            f"embed {ref.name}", len(pixels), unit="images"
        ) as meter:
            for start in range(0, len(pixels), config.batch_size):
                part = slice(start, min(start + config.batch_size, len(pixels)))
                features[part] = space.embed(np.array(pixels[part]))
                meter.to(part.stop)
        features.flush()
        sheet = grid(_along_components(features, pixels), 11)
        recipe = "bank images along the first eight principal components of their features"
        write_png(folder / "components.png", sheet, provenance(ref, recipe, 0), zoom=2)
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
