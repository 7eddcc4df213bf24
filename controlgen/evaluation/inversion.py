"""Part one: is the image made from a feature the image that was asked for, and how fast?"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen.editing.refine import descend
from controlgen.evaluation.context import EditorLike, Subject
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.classifier import sources_of
from controlgen.metrics.inversion import (
    paired_cosine,
    pixel_error,
    recall_at_1,
    shell_norm,
    weighted_r2,
)
from controlgen.rng import normals, stream
from controlgen.types import Features, Indices, Latents, Pixels

LEARNING_RATE = 0.05  # of Adam on the latents
SINGLES = 100  # edits timed one at a time
TIMED_STEPS = 20  # optimisation steps timed; all cost the same
PICTURED = 12  # items shown in the picture


@dataclass(frozen=True)
class InversionRow:
    """One map on one kind of target; R@1 is among those n, latent R^2 where latents are known.

    `judge_agrees` is None where nobody judges. `perceptual` is measured on real targets alone, and
    only where the subject brings such a distance.
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
    """Feature to image through the map against optimisation, both in this run on this machine.

    Optimisation's seconds are a few steps timed and scaled to all of them, per item.
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
class Targets:
    """Images whose features are to be turned back into images.

    Those of one source (number in `sources`) are not independent; left out, each is its own.
    """

    kind: str
    pixels: Pixels
    features: Features
    audit: Features
    latents: Latents | None
    sources: Indices | None = None

    def first(self, n: int) -> "Targets":
        """The first n of them."""
        latents = None if self.latents is None else self.latents[:n]
        sources = None if self.sources is None else self.sources[:n]
        parts = (self.pixels[:n], self.features[:n], self.audit[:n])
        return Targets(self.kind, *parts, latents, sources)

    def moved(self) -> "Targets":
        """The same items, each in its neighbour's place."""
        latents = None if self.latents is None else np.roll(self.latents, 1, axis=0)
        pixels, features, audit = (
            np.roll(rows, 1, axis=0) for rows in (self.pixels, self.features, self.audit)
        )
        return Targets(self.kind, pixels, features, audit, latents)


Strips = dict[str, Pixels]  # row name -> the first few images of it


def optimise(editor: EditorLike, targets: Features, start: Latents, steps: int) -> Latents:
    """Latents (n z) found by Adam on 1 - cos(f1(G(z)), target) from `start`, all items at once."""
    path = descend(editor.features_of_latents, start, targets, 0.0, LEARNING_RATE)
    return np.asarray(next(islice(path, steps - 1, None)).following.numpy())


def inversion_table(subject: Subject) -> Iterator[tuple[list[InversionRow], Strips]]:
    """Rows and picture strips, first on held-out generated targets, then on held-out real ones."""
    config = subject.config
    latents, pixels, features = subject.held_out(config.inversions)
    audit = subject.audit.embed(pixels)
    generated = Targets("generated", pixels, features, audit, latents)
    yield _rows(subject, generated, generated)

    # Real images lie in a set in some order, by class perhaps, so they are drawn.
    drawn = stream(config.seed, "inversion real").permutation(len(subject.real_test))
    indices = np.sort(drawn[: config.inversions])
    real = subject.real_test.pixels(indices)
    seen = subject.editor.embed(real), subject.audit.embed(real)
    asked = Targets("real", real, *seen, None, sources_of(subject.real_test, indices))
    yield _rows(subject, asked, generated)


def _rows(
    subject: Subject, asked: Targets, unrelated: Targets
) -> tuple[list[InversionRow], Strips]:
    strips: Strips = {"asked": asked.pixels[:PICTURED]}
    rows = []

    # Every map answers all targets; its images are embedded again, in both spaces.
    for name in subject.maps:
        latents = subject.predict(name, asked.features)
        row, obtained = _judged(subject, name, asked, latents)
        rows.append(row)
        strips[name] = obtained[:PICTURED]

    # Optimisation is too slow for all: it answers the first few, and so does the map beside it.
    few = asked.first(subject.config.optimisation_targets)
    start = normals(
        subject.config.seed, "optimisation start", 0, len(few.pixels), subject.editor.latent_size
    )
    found = optimise(subject.editor, few.features, start, subject.config.optimisation_steps)
    row, obtained = _judged(subject, "optimisation", few, found)
    strips["optimisation"] = obtained[:PICTURED]
    latents = subject.predict(subject.map_name, few.features)
    beside, _ = _judged(subject, f"{subject.map_name}, same {len(few.pixels)}", few, latents)
    rows += [row, beside]

    # The floor: an unrelated generated image for every target, by shifting the list by one.
    n = min(len(asked.pixels), len(unrelated.pixels))
    rows.append(_compared(subject, "random", asked.first(n), unrelated.first(n).moved()))
    return rows, strips


def _judged(
    subject: Subject, name: str, asked: Targets, latents: Latents
) -> tuple[InversionRow, Pixels]:
    pixels = subject.editor.generate(latents)
    features, audit = subject.editor.embed(pixels), subject.audit.embed(pixels)
    obtained = Targets(asked.kind, pixels, features, audit, latents)
    return _compared(subject, name, asked, obtained), pixels


def _compared(subject: Subject, name: str, asked: Targets, obtained: Targets) -> InversionRow:
    assert obtained.latents is not None

    def mean(values: NDArray[Any]) -> Interval:
        return subject.mean(values, asked.sources)

    # What needs a judge, known latents or a perceptual distance is absent without them.
    agrees, distance = None, None
    if subject.judge is not None:
        called = [subject.judge.probabilities(one.pixels).argmax(1) for one in (asked, obtained)]
        agrees = mean(called[0] == called[1])
    if subject.perceptual is not None and asked.kind == "real":
        distance = mean(subject.perceptual.distance(asked.pixels, obtained.pixels))
    r2 = None
    if asked.latents is not None:
        explained = partial(weighted_r2, asked.latents, obtained.latents)
        r2 = subject.resampled(explained, np.arange(len(asked.pixels)))
    return InversionRow(
        targets=asked.kind,
        map=name,
        n=len(asked.pixels),
        cosine_f1=mean(paired_cosine(asked.features, obtained.features)),
        cosine_f2=mean(paired_cosine(asked.audit, obtained.audit)),
        recall_at_1=mean(recall_at_1(asked.features, obtained.features)),
        judge_agrees=agrees,
        pixel_error=mean(pixel_error(asked.pixels, obtained.pixels)),
        shell_norm=mean(shell_norm(obtained.latents)),
        latent_r2=r2,
        perceptual=distance,
    )


def time_map(subject: Subject) -> Timing:
    """Time feature to image, one at a time and batched, and optimisation likewise, in one run."""
    config, editor = subject.config, subject.editor
    _, _, features = subject.held_out(config.inversions)
    singles = [features[i % len(features)][None] for i in range(SINGLES + 1)]

    # The first call warms up and is not counted.
    seconds = [_seconds(subject, single) for single in singles][1:]
    batched = _seconds(subject, features) / len(features)

    # Optimisation of a batch, and of one item alone; steps cost the same, so a few are enough.
    n, steps = min(config.optimisation_targets, len(features)), config.optimisation_steps
    start = normals(config.seed, "optimisation start", 0, n, editor.latent_size)
    timed = min(TIMED_STEPS, steps)
    per_step = []
    for count in (n, 1):
        began = time.perf_counter()
        optimise(editor, features[:count], start[:count], timed)
        per_step.append((time.perf_counter() - began) / timed / count)
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return Timing(
        map_p50_ms=float(p50),
        map_p95_ms=float(p95),
        map_batched_ms=batched * 1000,
        optimisation_steps=steps,
        optimisation_batched_seconds=per_step[0] * steps,
        optimisation_alone_seconds=per_step[1] * steps,
    )


def _seconds(subject: Subject, features: NDArray[np.float32]) -> float:
    began = time.perf_counter()
    subject.editor.generate(subject.predict(subject.map_name, features))
    return time.perf_counter() - began
