"""Inversion: does a map turn features back into the image they came from, and how fast?"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen.editing.refine import adam_path
from controlgen.evaluation.context import EditorLike, EvaluationContext
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.classifier import source_ids
from controlgen.metrics.inversion import (
    paired_cosine,
    pixel_error,
    recall_at_1,
    relative_latent_norm,
    weighted_r2,
)
from controlgen.rng import normals, stream
from controlgen.types import Features, Indices, Latents, Pixels

LEARNING_RATE = 0.05  # of Adam on the latents
TIMED_EDITS = 100  # edits timed one at a time
TIMED_STEPS = 20  # optimisation steps timed; all cost the same
FIGURE_IMAGES = 12  # images of each row in the figure


@dataclass(frozen=True)
class InversionRow:
    """One map on one kind of target, "generated" or "real"; R@1 is among the n targets.

    `judge_agrees` is None without a judge, `latent_r2` without known latents. `perceptual` is
    measured on real targets alone, if the context has such a distance.
    """

    targets: str
    map: str
    n: int
    cosine_f1: Interval
    cosine_f2: Interval
    recall_at_1: Interval
    judge_agrees: Interval | None
    pixel_error: Interval
    shell_norm: Interval
    latent_r2: Interval | None
    perceptual: Interval | None = None


@dataclass(frozen=True)
class Timing:
    """Time from feature to image by the map and by optimisation, in one run on one machine.

    Seconds of optimisation are per item: a few steps, scaled to all steps.
    """

    map_p50_ms: float
    map_p95_ms: float
    map_batched_ms: float
    optimisation_steps: int
    optimisation_batched_seconds: float
    optimisation_alone_seconds: float

    @property
    def ratio_alone(self) -> float:
        """How many times faster the map is, one item at a time."""
        return self.optimisation_alone_seconds * 1000 / self.map_p50_ms

    @property
    def ratio_batched(self) -> float:
        """How many times faster the map is, in batches."""
        return self.optimisation_batched_seconds * 1000 / self.map_batched_ms


@dataclass(frozen=True)
class EmbeddedImages:
    """Targets of an inversion, or its results: n images, their features in both spaces, latents.

    Images of one source (its number in `sources`) are not independent; None: one source per image.
    """

    kind: str
    pixels: Pixels
    features: Features
    audit: Features
    latents: Latents | None
    sources: Indices | None = None

    def take(self, selection: slice | Indices) -> "EmbeddedImages":
        """The selected images."""
        optional = (self.latents, self.sources)
        return EmbeddedImages(
            self.kind,
            *(rows[selection] for rows in (self.pixels, self.features, self.audit)),
            *(None if rows is None else rows[selection] for rows in optional),
        )


Strips = dict[str, Pixels]  # row name -> its first images


def optimise_latents(editor: EditorLike, targets: Features, start: Latents, steps: int) -> Latents:
    """Minimise 1 - cos(f1(G(z)), target) over latents (n z) by Adam from `start`, all at once."""
    path = adam_path(editor.features_of_latents, start, targets, 0.0, LEARNING_RATE)
    return np.asarray(next(islice(path, steps - 1, None)).following.numpy())


def evaluate_inversion(context: EvaluationContext) -> Iterator[tuple[list[InversionRow], Strips]]:
    """Yield rows and figure strips of held-out generated targets, then of held-out real ones."""
    config = context.config
    latents, pixels, features = context.held_out_items(config.inversions)
    audit = context.audit.embed(pixels)
    generated = EmbeddedImages("generated", pixels, features, audit, latents)
    yield _evaluate_targets(context, generated, generated)

    # A data set may be ordered by class, so real images are drawn at random.
    order = stream(config.seed, "inversion real").permutation(len(context.real_test))
    indices = np.sort(order[: config.inversions])
    pixels = context.real_test.pixels(indices)
    embedded = context.editor.embed(pixels), context.audit.embed(pixels)
    sources = source_ids(context.real_test, indices)
    real = EmbeddedImages("real", pixels, *embedded, None, sources)
    yield _evaluate_targets(context, real, generated)


def _evaluate_targets(
    context: EvaluationContext, targets: EmbeddedImages, unrelated: EmbeddedImages
) -> tuple[list[InversionRow], Strips]:
    strips: Strips = {"target": targets.pixels[:FIGURE_IMAGES]}
    rows = []

    # Every map inverts all targets.
    for name in context.maps:
        latents = context.predict(name, targets.features)
        row, pixels = _evaluate_latents(context, name, targets, latents)
        rows.append(row)
        strips[name] = pixels[:FIGURE_IMAGES]

    # Optimisation is slow: it inverts the first few targets, and the map the same ones.
    few = targets.take(slice(context.config.optimisation_targets))
    n, steps = len(few.pixels), context.config.optimisation_steps
    start = normals(context.config.seed, "optimisation start", 0, n, context.editor.latent_size)
    optimised = optimise_latents(context.editor, few.features, start, steps)
    row, pixels = _evaluate_latents(context, "optimisation", few, optimised)
    strips["optimisation"] = pixels[:FIGURE_IMAGES]
    latents = context.predict(context.map_name, few.features)
    same, _ = _evaluate_latents(context, f"{context.map_name}, same {n}", few, latents)
    rows += [row, same]

    # The floor pairs every target with an unrelated generated image, by shifting the list by one.
    n = min(len(targets.pixels), len(unrelated.pixels))
    shifted = unrelated.take(np.roll(np.arange(n), 1))
    rows.append(_compare(context, "random", targets.take(slice(n)), shifted))
    return rows, strips


def _evaluate_latents(
    context: EvaluationContext, name: str, targets: EmbeddedImages, latents: Latents
) -> tuple[InversionRow, Pixels]:
    pixels = context.editor.generate(latents)
    features, audit = context.editor.embed(pixels), context.audit.embed(pixels)
    results = EmbeddedImages(targets.kind, pixels, features, audit, latents)
    return _compare(context, name, targets, results), pixels


def _compare(
    context: EvaluationContext, name: str, targets: EmbeddedImages, results: EmbeddedImages
) -> InversionRow:
    assert results.latents is not None

    def mean(values: NDArray[Any]) -> Interval:
        return context.mean_interval(values, targets.sources)

    agrees, distance, r2 = None, None, None
    if context.judge is not None:
        before, after = (
            context.judge_probabilities(images.pixels).argmax(1) for images in (targets, results)
        )
        agrees = mean(before == after)
    if context.perceptual is not None and targets.kind == "real":
        distance = mean(context.perceptual.distance(targets.pixels, results.pixels))
    if targets.latents is not None:
        explained = partial(weighted_r2, targets.latents, results.latents)
        r2 = context.statistic_interval(explained, np.arange(len(targets.pixels)))
    return InversionRow(
        targets=targets.kind,
        map=name,
        n=len(targets.pixels),
        cosine_f1=mean(paired_cosine(targets.features, results.features)),
        cosine_f2=mean(paired_cosine(targets.audit, results.audit)),
        recall_at_1=mean(recall_at_1(targets.features, results.features)),
        judge_agrees=agrees,
        pixel_error=mean(pixel_error(targets.pixels, results.pixels)),
        shell_norm=mean(relative_latent_norm(results.latents)),
        latent_r2=r2,
        perceptual=distance,
    )


def benchmark_map(context: EvaluationContext) -> Timing:
    """Time the map and optimisation in one run, on one item at a time and on a batch."""
    config, editor = context.config, context.editor
    _, _, features = context.held_out_items(config.inversions)
    singles = [features[i % len(features)][None] for i in range(TIMED_EDITS + 1)]

    # The first call warms up and does not count.
    seconds = [_time_map(context, single) for single in singles][1:]
    batched = _time_map(context, features) / len(features)

    # All steps of optimisation cost the same, so a few are enough.
    n, steps = min(config.optimisation_targets, len(features)), config.optimisation_steps
    start = normals(config.seed, "optimisation start", 0, n, editor.latent_size)
    timed_steps = min(TIMED_STEPS, steps)
    per_step = []
    for count in (n, 1):
        began = time.perf_counter()
        optimise_latents(editor, features[:count], start[:count], timed_steps)
        per_step.append((time.perf_counter() - began) / timed_steps / count)
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return Timing(
        map_p50_ms=float(p50),
        map_p95_ms=float(p95),
        map_batched_ms=batched * 1000,
        optimisation_steps=steps,
        optimisation_batched_seconds=per_step[0] * steps,
        optimisation_alone_seconds=per_step[1] * steps,
    )


def _time_map(context: EvaluationContext, features: Features) -> float:
    began = time.perf_counter()
    context.editor.generate(context.predict(context.map_name, features))
    return time.perf_counter() - began
