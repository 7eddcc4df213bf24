"""Part two: the paper's figure 3 made a number. Does adding "a minus b" turn a b into an a, and the
same b, not any a?

For every ordered pair of classes, sources are held-out generated images that the judge calls b. The
direction is the mean of a's exemplars minus the mean of b's, in features or, with the same
exemplars, in latents. Amounts are swept; identity is measured at each method's best amount.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from controlgen.control import algebra
from controlgen.evaluation.base import Subject
from controlgen.evaluation.choices import (
    Directions,
    Edits,
    class_directions,
    pick_edits,
    pick_exemplars,
)
from controlgen.evaluation.scoring import Best, Scorer
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.inversion import unit_rows
from controlgen.rng import stream
from controlgen.types import Indices, Latents, Pixels

PICTURED = 4  # edits shown in the picture
Method = Callable[[float], Latents]  # amount -> the latents of every edit


@dataclass(frozen=True)
class Sweep:
    """Share of edits that the judge calls the target class, at one amount."""

    method: str
    amount: float
    flip: Interval


@dataclass(frozen=True)
class Example:
    """One edit as shown: its source, and for each method the images along the amounts."""

    title: str
    source: Pixels
    steps: dict[str, Pixels]


@dataclass(frozen=True)
class Figure3:
    """All numbers of the figure; `pairs[b][a]` is feature arithmetic's flip rate at its best."""

    edits: int
    sources: int
    exemplars_by: str
    exemplar_precision: float
    missing_classes: list[str]
    sweeps: list[Sweep]
    best: list[Best]
    pairs: list[list[float | None]]
    amounts: list[float]
    examples: list[Example] = field(repr=False)

    def at_best(self, method: str) -> Best:
        """The row of a method."""
        return next(row for row in self.best if row.method == method)


def figure3(subject: Subject) -> Figure3:
    """Sweep every method over all ordered pairs of classes.

    Raises DataError where the generator makes fewer than two classes the judge is sure of.
    """
    exemplars, by, precision = pick_exemplars(subject)
    edits, missing = pick_edits(subject)
    directions = class_directions(subject, exemplars, edits)
    methods = _methods(subject, edits, directions)
    shown = np.linspace(0, len(edits) - 1, min(PICTURED, len(edits))).astype(np.int64)

    # Every method at every amount: only the judge's calls and the shown images are kept.
    amounts = list(subject.config.amounts)
    called: dict[str, NDArray[np.int64]] = {}
    steps: dict[str, Pixels] = {}
    for name, method in methods.items():
        made = [_called(subject, method(amount), shown) for amount in amounts]
        called[name] = np.stack([calls for calls, _ in made])
        steps[name] = np.stack([pixels for _, pixels in made], axis=1)
    flipped = {name: calls == edits.after for name, calls in called.items()}
    sweeps = [
        Sweep(name, amount, subject.mean(flips, edits.source))
        for name, table in flipped.items()
        for amount, flips in zip(amounts, table, strict=True)
    ]

    # Identity costs an audit embedding an image, so it is measured at the best amounts only.
    scorer = Scorer(subject, edits, directions)
    best = [scorer.unedited(), scorer.round_trip()]
    for name, method in methods.items():
        amount = amounts[int(flipped[name].mean(1).argmax())]
        best.append(scorer.score(name, amount, method(amount)))
    feature = best[2]
    best.append(scorer.optimised(feature.amount))
    return Figure3(
        edits=len(edits),
        sources=len(np.unique(edits.source)),
        exemplars_by=by,
        exemplar_precision=precision,
        missing_classes=[subject.class_names[k] for k in missing],
        sweeps=sweeps,
        best=best,
        pairs=_pairs(subject, edits, flipped["feature arithmetic"][amounts.index(feature.amount)]),
        amounts=amounts,
        examples=_examples(subject, edits, shown, steps),
    )


def _methods(subject: Subject, edits: Edits, directions: Directions) -> dict[str, Method]:
    # A random direction has the length of the pair's own, and is the same for all its sources.
    lengths = np.linalg.norm(directions.features, axis=1, keepdims=True)
    pair = edits.before * len(subject.class_names) + edits.after
    draws = stream(subject.config.seed, "random direction")
    table = draws.standard_normal((int(pair.max()) + 1, edits.features.shape[1]))
    random = (unit_rows(table)[pair] * lengths).astype(np.float32)
    unmoved = subject.predict(subject.map_name, edits.features)

    def through(name: str, direction: NDArray[np.float32]) -> Method:
        return lambda amount: subject.predict(name, algebra.add(edits.features, direction, amount))

    mapped = through(subject.map_name, directions.features)
    return {
        "feature arithmetic": mapped,
        "residual edit": lambda amount: edits.latents + mapped(amount) - unmoved,
        "latent arithmetic": lambda amount: edits.latents + np.float32(amount) * directions.latents,
        "retrieval": through("retrieval", directions.features),
        "random direction": through(subject.map_name, random),
    }


def _called(subject: Subject, latents: Latents, shown: Indices) -> tuple[NDArray[np.int64], Pixels]:
    pixels = subject.editor.generate(latents)
    return subject.judge.probabilities(pixels).argmax(1), pixels[shown]


def _pairs(subject: Subject, edits: Edits, flips: NDArray[np.bool_]) -> list[list[float | None]]:
    classes = range(len(subject.class_names))
    table: list[list[float | None]] = []
    for b in classes:
        rows = [flips[(edits.before == b) & (edits.after == a)] for a in classes]
        table.append([float(row.mean()) if len(row) else None for row in rows])
    return table


def _examples(
    subject: Subject, edits: Edits, shown: Indices, steps: dict[str, Pixels]
) -> list[Example]:
    names = subject.class_names
    return [
        Example(
            title=f"{names[edits.before[item]]} to {names[edits.after[item]]}",
            source=edits.pixels[item][None],
            steps={method: pixels[place] for method, pixels in steps.items()},
        )
        for place, item in enumerate(shown)
    ]
