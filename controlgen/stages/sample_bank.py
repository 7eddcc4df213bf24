"""Draw the sample bank and embed it."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from controlgen import rng
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import EmbedConfig, RejectionSamplingConfig, RunConfig, SampleConfig
from controlgen.datasets import with_content_hash
from controlgen.editing import Samples
from controlgen.editing.checkpoint import load_generator, save_realism_filter
from controlgen.editing.generative_model import SAMPLES
from controlgen.editing.rejection_sampling import RealismFilter, draw_accepted
from controlgen.features import FeatureSpace
from controlgen.images import generate_pixels, grid, write_png
from controlgen.metrics.classifier import source_ids
from controlgen.networks import AnyGenerator
from controlgen.stages.artifact_refs import GRID, artifact_ref, provenance
from controlgen.types import Dataset, Features, Indices, Latents, Pixels
from controlgen.utils.array_files import create_memmap, open_memmap
from controlgen.utils.files import write_json
from controlgen.utils.parallel import CHUNK_ROWS, map_rows_deterministic
from controlgen.utils.progress import ProgressReporter, TqdmReporter

CHUNK_IMAGES = 2048  # real images in memory at once
N_EXTREMES = 40  # samples per row of the rejection-sampling picture


def draw_samples(
    run: RunConfig, gan: ArtifactRef, store: Store, report: ProgressReporter | None = None
) -> ArtifactRef:
    """Draw a bank of latents and images; item i depends on the seed and i alone.

    With `sample.likeness`, samples are accepted by rejection sampling in the steering feature
    space. Raises DataError if there are too few real images for that.
    """
    config, rejection = run.sample, run.sample.likeness
    space: FeatureSpace | None = run.embed.space.open() if rejection else None
    dataset = with_content_hash(run.train.dataset) if rejection else None
    parents = [dataset.fingerprint()] if dataset else []
    parents += [space.fingerprint] if space else []
    ref = artifact_ref("bank", run.name, config, gan.fingerprint, *parents)
    if store.has(ref):
        return ref
    reporter = report or TqdmReporter()
    generator, shape = load_generator(store.open(gan))
    model = _SampledModel(generator, space)
    with store.create(ref, {"gan": gan}) as folder:
        realism = None
        if rejection and space and dataset:
            realism = _fit_realism_filter(rejection, space, dataset.open(), reporter, ref)
            save_realism_filter(folder, rejection, realism)
        latents = create_memmap(folder / "latents.npy", (config.n, model.latent_size), np.float32)
        pixels = create_memmap(folder / "pixels.npy", (config.n, *shape), np.uint8)
        with reporter.start(f"sample {ref.name}", config.n, unit="images") as meter:
            for part, samples in _draw_in_parts(model, realism, config):
                latents[part], pixels[part] = samples.latents, samples.pixels
                meter.update_to(part.stop)
        for array in (latents, pixels):
            array.flush()
        origin = provenance(ref, "the bank's first items", config.seed)
        write_png(folder / "grid.png", grid(pixels[:GRID], 10), origin, zoom=2)
        if realism:
            _draw_extremes(model, realism, config.seed, folder, ref)
        write_json(folder / "config.json", config.to_dict())
    return ref


def _draw_in_parts(
    model: "_SampledModel", realism: RealismFilter | None, config: SampleConfig
) -> Iterator[tuple[slice, Samples]]:
    # Images are generated in chunks of fixed size, so that the last bit of each depends on nothing
    # else.
    step = math.ceil(config.batch_size / CHUNK_ROWS) * CHUNK_ROWS
    for start in range(0, config.n, step):
        count = min(step, config.n - start)
        stop = start + math.ceil(count / CHUNK_ROWS) * CHUNK_ROWS
        samples = draw_accepted(model, realism, config.seed, SAMPLES, start, stop)
        yield slice(start, start + count), Samples(*(rows[:count] for rows in samples))


class _SampledModel:
    """The generator, and the feature space of the rejection sampling if there is one."""

    def __init__(self, generator: AnyGenerator, space: FeatureSpace | None) -> None:
        self._generator, self._space = generator, space

    @property
    def latent_size(self) -> int:
        return self._generator.latent_size

    def generate(self, latents: Latents) -> Pixels:
        return map_rows_deterministic(partial(generate_pixels, self._generator), latents)

    def embed(self, pixels: Pixels) -> Features:
        assert self._space is not None
        return map_rows_deterministic(self._space.embed, pixels)


def calibration_indices(config: RejectionSamplingConfig, dataset: Dataset) -> Indices:
    """Indices of the real training images that rejection sampling is calibrated on, sorted."""
    order = rng.stream(config.seed, "likeness images").permutation(len(dataset))
    return np.sort(order[: config.images])


def _fit_realism_filter(
    config: RejectionSamplingConfig,
    space: FeatureSpace,
    dataset: Dataset,
    report: ProgressReporter,
    ref: ArtifactRef,
) -> RealismFilter:
    indices = calibration_indices(config, dataset)
    rows = []
    with report.start(f"embed real images for {ref.name}", len(indices), unit="images") as meter:
        for start in range(0, len(indices), CHUNK_IMAGES):
            part = indices[start : start + CHUNK_IMAGES]
            rows.append(map_rows_deterministic(space.embed, dataset.pixels(part)))
            meter.update_to(start + len(part))
    return RealismFilter.fit(np.concatenate(rows), source_ids(dataset, indices), config)


def _draw_extremes(
    model: _SampledModel, realism: RealismFilter, seed: int, folder: Path, ref: ArtifactRef
) -> None:
    # The first draws that are least and most similar to real images.
    first = draw_accepted(model, None, seed, SAMPLES, 0, 10 * GRID).pixels
    order = np.argsort(realism.similarity(model.embed(first)), kind="stable")
    recipe = (
        f"of {10 * GRID} first draws: the {N_EXTREMES} least like real images (top), "
        f"{N_EXTREMES} around the threshold, and the {N_EXTREMES} most like real images"
    )
    bound = int((~realism.accepts(model.embed(first))).sum())
    middle = int(np.clip(bound - N_EXTREMES // 2, 0, len(order) - N_EXTREMES))
    rows = (order[:N_EXTREMES], order[middle : middle + N_EXTREMES], order[-N_EXTREMES:])
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
    ref = artifact_ref("features", name, config, bank.fingerprint, space.fingerprint)
    if store.has(ref):
        return ref
    pixels = open_memmap(store.open(bank) / "pixels.npy")
    with store.create(ref, {"bank": bank}) as folder:
        features = create_memmap(folder / "features.npy", (len(pixels), space.size), np.float32)
        with (report or TqdmReporter()).start(
            f"embed {ref.name}", len(pixels), unit="images"
        ) as meter:
            for start in range(0, len(pixels), config.batch_size):
                part = slice(start, min(start + config.batch_size, len(pixels)))
                features[part] = space.embed(np.array(pixels[part]))
                meter.update_to(part.stop)
        features.flush()
        sheet = grid(_along_components(features, pixels), 11)
        recipe = "bank images along the first eight principal components of their features"
        write_png(folder / "components.png", sheet, provenance(ref, recipe, 0), zoom=2)
        write_json(folder / "config.json", config.to_dict())
        write_json(folder / "space.json", {"fingerprint": space.fingerprint})
    return ref


def _along_components(
    features: Any, pixels: Pixels, components: int = 8, steps: int = 11
) -> Pixels:
    # One row per principal component: images at evenly spaced ranks along it.
    part = np.array(features[:5000])
    _, _, axes = np.linalg.svd(part - part.mean(0), full_matrices=False)
    order = np.argsort(part @ axes[:components].T, axis=0)
    ranks = np.linspace(0, len(part) - 1, steps).round().astype(int)
    return np.asarray(pixels[order[ranks].T.ravel()])
