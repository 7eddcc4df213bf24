"""Realism after edits: are edited images as near to real ones as unedited images?

One edit of every source takes part, so edited and unedited images are paired and equal in number.
The difference of their distances to the same real images is the cost of the edit; its interval
draws each source with its edit, and every real image independently.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen.evaluation.context import EvaluationContext
from controlgen.evaluation.edit_pairs import EditPairs
from controlgen.evaluation.goals import Goal
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.classifier import LabelledDataset
from controlgen.metrics.cmmd import SCALE, gaussian_kernel_minus_one
from controlgen.metrics.kernel import (
    Kernel,
    bootstrap_counts,
    bootstrap_interval,
    cubic_kernel,
    pair_means,
)
from controlgen.metrics.precision_recall import density_coverage, precision_recall
from controlgen.rng import stream
from controlgen.types import Features, Indices, Pixels

MIN_SOURCES = 20  # with fewer sources there is no such section
MAX_TRAINING_IMAGES = 2_000  # training images searched for the nearest
MAX_HALF_WIDTHS = 2  # goal: distance of the difference from 0, in half widths of its interval
MethodImages = tuple[float, Callable[[Indices], Pixels]]  # amount, selected edits -> their images


@dataclass(frozen=True)
class RealismRow:
    """A method at one amount; differences are edited minus unedited.

    `kernel` and `mmd` are differences of distances to real images (lower is nearer), `nearest` of
    the mean cosine distance to the nearest training image. `recall` and `coverage` are of the
    edited images.
    """

    method: str
    amount: float
    kernel: Interval
    mmd: Interval
    nearest: Interval
    recall: Interval
    coverage: Interval


@dataclass(frozen=True)
class Realism:
    """A row per method.

    `unedited` and `floor` hold kernel, mmd, recall and coverage of the sources, and of as many
    real training images, against the same real images.
    """

    n: int
    training: int
    audit_name: str
    rows: list[RealismRow]
    unedited: dict[str, Interval]
    floor: dict[str, Interval]

    def goals(self) -> list[Goal]:
        """Feature arithmetic's difference of kernel distances, in half widths of its interval."""
        kernel = next(row for row in self.rows if row.method == "feature arithmetic").kernel
        half_width = (kernel.high - kernel.low) / 2
        name = "kernel distance, edited minus unedited, in half widths of its interval"
        measured = abs(kernel.mean) / half_width if kernel.mean else 0.0
        return [Goal(name, "at most", MAX_HALF_WIDTHS, measured)]

    def markdown(self) -> list[str]:
        """The section of the report."""
        rows = [
            [
                row.method,
                f"{row.amount:g}",
                *(format_interval(value, 4) for value in (row.kernel, row.mmd, row.nearest)),
                *(format_interval(value) for value in (row.recall, row.coverage)),
            ]
            for row in self.rows
        ]
        references = {"unedited": self.unedited, "real training images": self.floor}
        reference_rows = [
            [
                name,
                *(format_interval(values[key], 4) for key in ("kernel", "mmd")),
                *(format_interval(values[key]) for key in ("recall", "coverage")),
            ]
            for name, values in references.items()
        ]
        kd, mmd = f"KD-{self.audit_name}", f"MMD-{self.audit_name}"
        head = ["method", "amount", kd, mmd, "nearest", "recall", "coverage"]
        return [
            "## Realism after edits",
            f"One edit of each of {self.n} sources, at each method's best amount, against {self.n} "
            "real test images. Differences are edited minus unedited (below 0: nearer to real "
            "images than before), with intervals over sources; nearest: mean cosine distance to "
            f"the nearest of {self.training} training images.",
            markdown_table(["images", kd, mmd, "recall", "coverage"], reference_rows),
            markdown_table(head, rows),
        ]

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write nothing: the figure of class edits shows the images."""


def evaluate_realism(
    context: EvaluationContext, edits: EditPairs, methods: Mapping[str, MethodImages]
) -> Realism | None:
    """Compare each method's edited images with real ones; None below 20 sources."""
    selection = one_edit_per_source(edits)
    n = min(len(selection), len(context.real_test), len(context.real_train))
    if n < MIN_SOURCES:
        return None
    selection = selection[:n]
    real, other = (
        context.audit.embed(_random_images(context, data, n, name))
        for data, name in ((context.real_test, "test"), (context.real_train, "train"))
    )
    training = min(MAX_TRAINING_IMAGES, len(context.real_train))
    nearest = context.audit.embed(_random_images(context, context.real_train, training, "nearest"))
    unedited = context.audit.embed(edits.pixels[selection])
    scorer = _RealismScorer(context, real, nearest, unedited)
    return Realism(
        n=n,
        training=training,
        audit_name=context.config.audit.name,
        rows=[
            scorer.compare(name, amount, context.audit.embed(images(selection)))
            for name, (amount, images) in methods.items()
        ],
        unedited=scorer.score(unedited),
        floor=scorer.score(other),
    )


def one_edit_per_source(edits: EditPairs) -> Indices:
    """Index of one edit of each source.

    Of a source's edits the first, the second and so on is taken in turn from source to source, so
    that all directions are about equally frequent.
    """
    selection = []
    for turn, source in enumerate(np.unique(edits.source)):
        candidates = np.flatnonzero(edits.source == source)
        selection.append(candidates[turn % len(candidates)])
    return np.array(selection, np.int64)


def _random_images(context: EvaluationContext, data: LabelledDataset, n: int, name: str) -> Pixels:
    order = stream(context.config.seed, f"realism {name}").permutation(len(data))
    return np.asarray(data.pixels(np.sort(order[:n])))


class _RealismScorer:
    def __init__(
        self, context: EvaluationContext, real: Features, training: Features, unedited: Features
    ) -> None:
        self.context, self.real, self.training, self.unedited = context, real, training, unedited
        seed, bootstraps = context.config.seed, context.config.bootstraps
        self._counts = (
            bootstrap_counts(len(real), seed, bootstraps),
            bootstrap_counts(len(real), seed + 1, bootstraps),
        )

    def score(self, features: Features) -> dict[str, Interval]:
        recall, coverage = self._recall_coverage(features)
        return {
            "kernel": self._interval(self._kernel(features)),
            "mmd": self._interval(self._mmd(features)),
            "recall": recall,
            "coverage": coverage,
        }

    def compare(self, method: str, amount: float, edited: Features) -> RealismRow:
        before, after = (1 - (rows @ self.training.T).max(1) for rows in (self.unedited, edited))
        recall, coverage = self._recall_coverage(edited)
        return RealismRow(
            method=method,
            amount=amount,
            kernel=self._interval(self._kernel(edited) - self._kernel(self.unedited)),
            mmd=self._interval(self._mmd(edited) - self._mmd(self.unedited)),
            nearest=self.context.mean_interval(after.astype(np.float64) - before),
            recall=recall,
            coverage=coverage,
        )

    def _recall_coverage(self, features: Features) -> tuple[Interval, Interval]:
        seed = self.context.config.seed
        recall = precision_recall(self.real, features, seed).recall
        return recall, density_coverage(self.real, features, seed).coverage

    def _interval(self, values: NDArray[np.float64]) -> Interval:
        return bootstrap_interval(values, len(self.real))

    def _kernel(self, features: Features) -> NDArray[np.float64]:
        scale = np.sqrt(features.shape[1])
        return self._distances(cubic_kernel, features * scale, self.real * scale)

    def _mmd(self, features: Features) -> NDArray[np.float64]:
        return SCALE * self._distances(gaussian_kernel_minus_one, features, self.real)

    def _distances(self, kernel: Kernel, a: Features, b: Features) -> NDArray[np.float64]:
        # The unbiased estimate and its bootstrap draws; a source and its edit share their counts.
        means = pair_means(kernel, a, b, *self._counts)
        return means.within_a + means.within_b - 2 * means.across
