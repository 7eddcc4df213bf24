"""Do edited images stay as near to real ones as images that nobody edited?

One edit of every source of figure 3, so that edited and unedited images are as many and belong
together: the difference of their distances to the same real images is what the edit costs, and its
interval draws each source with its edit, and every real image for itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen.evaluation.context import Subject
from controlgen.evaluation.edit_pairs import Edits
from controlgen.evaluation.goals import Target
from controlgen.evaluation.markdown import shown, table
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.cmmd import SCALE, gaussian_kernel_minus_one
from controlgen.metrics.kernel import (
    Kernel,
    cubic_kernel,
    estimate_of,
    pair_means,
    with_estimate,
)
from controlgen.metrics.precision_recall import density_coverage, precision_recall
from controlgen.rng import stream
from controlgen.types import Features, Indices, Pixels

FEWEST = 20  # sources from which anything is said
TRAINING = 2_000  # training images at most among which the nearest is sought
GOAL = 2  # half widths of its interval that the difference may lie from 0


@dataclass(frozen=True)
class RealismRow:
    """One way of editing at one amount; differences are edited minus unedited.

    `kernel` and `mmd` of distances to real images (lower is nearer), `nearest` of the mean cosine
    distance to the nearest training image. `recall` and `coverage` are the edited set's own.
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
    """Rows a method; `unedited` and `floor` hold distances themselves: kernel, mmd, recall and
    coverage of the sources, and of as many real training images, against the same real images."""

    n: int
    training: int
    audit_name: str
    rows: list[RealismRow]
    unedited: dict[str, Interval]
    floor: dict[str, Interval]

    def targets(self) -> list[Target]:
        """Feature arithmetic's difference of kernel distances, in half widths of its interval."""
        found = next(row for row in self.rows if row.method == "feature arithmetic").kernel
        half = (found.high - found.low) / 2
        name = "kernel distance, edited minus unedited, in half widths of its interval"
        return [Target(name, "at most", GOAL, abs(found.mean) / half if found.mean else 0.0)]

    def markdown(self) -> list[str]:
        """The section of the report."""
        rows = [
            [
                row.method,
                f"{row.amount:g}",
                *(shown(value, 4) for value in (row.kernel, row.mmd, row.nearest)),
                *(shown(value) for value in (row.recall, row.coverage)),
            ]
            for row in self.rows
        ]
        told = [
            [
                name,
                *(shown(values[of], 4) for of in ("kernel", "mmd")),
                *(shown(values[of]) for of in ("recall", "coverage")),
            ]
            for name, values in {
                "unedited": self.unedited,
                "real training images": self.floor,
            }.items()
        ]
        kd, mmd = f"KD-{self.audit_name}", f"MMD-{self.audit_name}"
        return [
            "## Realism after edits",
            f"One edit of each of {self.n} sources at figure 3's best amount of the method, "
            f"against {self.n} real test images. Differences are edited minus unedited (below 0: "
            "nearer to real images than before), with intervals over sources; nearest: mean cosine "
            f"distance to the nearest of {self.training} training images.",
            table(["images", kd, mmd, "recall", "coverage"], told),
            table(
                ["method", "amount", kd, mmd, "nearest", "recall", "coverage"],
                rows,
            ),
        ]

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """No picture: figure 3 shows the edits."""


def realism(
    subject: Subject,
    edits: Edits,
    made: Mapping[str, tuple[float, Callable[[Indices], Pixels]]],
) -> Realism | None:
    """Compare each method's edited images with real ones; None below 20 sources.

    `made` names methods, their amount and how the images of some edits are made.
    """
    chosen = one_each(edits)
    n = min(len(chosen), len(subject.real_test), len(subject.real_train))
    if n < FEWEST:
        return None
    chosen = chosen[:n]
    real, other = (
        subject.audit.embed(_drawn(subject, data, n, name))
        for data, name in ((subject.real_test, "test"), (subject.real_train, "train"))
    )
    training = min(TRAINING, len(subject.real_train))
    known = subject.audit.embed(_drawn(subject, subject.real_train, training, "nearest"))
    judged = _Judged(subject, real, known, subject.audit.embed(edits.pixels[chosen]))
    return Realism(
        n=n,
        training=training,
        audit_name=subject.config.audit.name,
        rows=[
            judged.row(name, amount, subject.audit.embed(images(chosen)))
            for name, (amount, images) in made.items()
        ],
        unedited=judged.alone(judged.unedited),
        floor=judged.alone(other),
    )


def one_each(edits: Edits) -> Indices:
    """One edit of each source, by its place: of a source with several edits the first, the second,
    and so on in turn, so that all directions take part about alike."""
    chosen = []
    for at, source in enumerate(np.unique(edits.source)):
        own = np.flatnonzero(edits.source == source)
        chosen.append(own[at % len(own)])
    return np.array(chosen, np.int64)


def _drawn(subject: Subject, data: Any, n: int, name: str) -> Pixels:
    order = stream(subject.config.seed, f"realism {name}").permutation(len(data))
    return np.asarray(data.pixels(np.sort(order[:n])))


class _Judged:
    def __init__(
        self, subject: Subject, real: Features, known: Features, unedited: Features
    ) -> None:
        self.subject, self.real, self.known, self.unedited = subject, real, known, unedited
        seed, draws = subject.config.seed, subject.config.bootstraps
        self._drawn = (
            with_estimate(len(real), seed, draws),
            with_estimate(len(real), seed + 1, draws),
        )

    def alone(self, rows: Features) -> dict[str, Interval]:
        recall, coverage = self._shares(rows)
        return {
            "kernel": self._interval(self._kernel(rows)),
            "mmd": self._interval(self._mmd(rows)),
            "recall": recall,
            "coverage": coverage,
        }

    def row(self, method: str, amount: float, rows: Features) -> RealismRow:
        before, after = (1 - (one @ self.known.T).max(1) for one in (self.unedited, rows))
        recall, coverage = self._shares(rows)
        return RealismRow(
            method=method,
            amount=amount,
            kernel=self._interval(self._kernel(rows) - self._kernel(self.unedited)),
            mmd=self._interval(self._mmd(rows) - self._mmd(self.unedited)),
            nearest=self.subject.mean(after.astype(np.float64) - before),
            recall=recall,
            coverage=coverage,
        )

    def _shares(self, rows: Features) -> tuple[Interval, Interval]:
        seed = self.subject.config.seed
        recall = precision_recall(self.real, rows, seed).recall
        return recall, density_coverage(self.real, rows, seed).coverage

    def _interval(self, values: NDArray[np.float64]) -> Interval:
        return estimate_of(values, len(self.real))

    def _kernel(self, rows: Features) -> NDArray[np.float64]:
        scale = np.sqrt(rows.shape[1])
        return self._between(cubic_kernel, rows * scale, self.real * scale)

    def _mmd(self, rows: Features) -> NDArray[np.float64]:
        return SCALE * self._between(gaussian_kernel_minus_one, rows, self.real)

    def _between(self, kernel: Kernel, a: Features, b: Features) -> NDArray[np.float64]:
        # The unbiased estimate and its draws: a source and its edit are drawn together.
        means = pair_means(kernel, a, b, *self._drawn)
        return means.within_a + means.within_b - 2 * means.across
