"""Part two: the paper's figure 3 made a number. Does adding "a minus b" turn a b into an a, and the
same b, not any a?

For every ordered pair of classes, sources are held-out generated images that the judge calls b. The
direction is the mean of a's exemplars minus the mean of b's, in features or, with the same
exemplars, in latents. Amounts are swept; identity is measured at each method's best amount, and
along the whole sweep for the methods that are compared at equal identity.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import feature_math
from controlgen.evaluation.context import Subject
from controlgen.evaluation.edit_pairs import (
    Directions,
    Edits,
    class_directions,
    pick_edits,
    pick_exemplars,
)
from controlgen.evaluation.edit_scores import Best, Scorer
from controlgen.evaluation.equal_identity import EqualIdentity, Trace, at_equal_identity
from controlgen.evaluation.realism import Realism, realism
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.inversion import unit_rows
from controlgen.rng import stream
from controlgen.types import Indices, Latents, Pixels

PICTURED = 4  # edits shown in the picture
FEW_CLASSES = 4  # up to here every ordered pair is told with its interval
MATCHED = ("feature arithmetic", "residual edit", "latent arithmetic")  # at equal identity
Method = Callable[[float], Latents]  # amount -> the latents of every edit


@dataclass(frozen=True)
class Sweep:
    """Share of edits that the judge calls the target class, at one amount; and, of the methods
    that are compared at equal identity, the identity kept there."""

    method: str
    amount: float
    flip: Interval
    identity: Interval | None = None


@dataclass(frozen=True)
class PairRate:
    """Flip rates of one ordered pair of classes, each method at its own best amount."""

    before: str
    after: str
    edits: int
    feature: Interval
    latent: Interval


@dataclass(frozen=True)
class Example:
    """One edit as shown: its source, and for each method the images along the amounts."""

    title: str
    source: Pixels
    steps: dict[str, Pixels]


@dataclass(frozen=True)
class Figure3:
    """All numbers of the figure; `pairs[b][a]` is feature arithmetic's flip rate at its best.

    `few_pairs` says the same with intervals, beside latent arithmetic, where classes are few.
    `realism` is None where there are too few sources for it.
    """

    edits: int
    sources: int
    exemplars_by: str
    exemplar_precision: Interval
    classes: list[str]
    missing_classes: list[str]
    sweeps: list[Sweep]
    best: list[Best]
    equal_identity: EqualIdentity
    pairs: list[list[float | None]]
    few_pairs: list[PairRate]
    amounts: list[float]
    examples: list[Example] = field(repr=False)
    realism: Realism | None = None

    def at_best(self, method: str) -> Best:
        """The row of a method."""
        return next(row for row in self.best if row.method == method)


def figure3(subject: Subject) -> Figure3:
    """Sweep every method over all ordered pairs of classes.

    Raises TooFewClasses where the generator makes fewer than two classes the judge is sure of.
    """
    exemplars, by, precision = pick_exemplars(subject)
    edits, missing = pick_edits(subject)
    directions = class_directions(subject, exemplars, edits)
    methods = _methods(subject, edits, directions)
    shown = np.linspace(0, len(edits) - 1, min(PICTURED, len(edits))).astype(np.int64)

    # Every method at every amount: only calls, identities and the shown images are kept.
    amounts = list(subject.config.amounts)
    scorer = Scorer(subject, edits, directions)
    swept = {name: _swept(scorer, name, method, shown) for name, method in methods.items()}

    # Every method once more at the amount of its best rate, with all that is measured there.
    best = [scorer.unedited(), scorer.round_trip()]
    at_best: dict[str, NDArray[np.bool_]] = {}
    for name, method in methods.items():
        place = int(swept[name].flips.mean(1).argmax())
        at_best[name] = swept[name].flips[place]
        best.append(scorer.score(name, amounts[place], method(amounts[place])))
    feature = best[2]
    told = {row.method: row.amount for row in best[2:]}
    best.append(scorer.optimised(feature.amount))
    return Figure3(
        edits=len(edits),
        sources=len(np.unique(edits.source)),
        exemplars_by=by,
        exemplar_precision=precision,
        classes=list(subject.class_names),
        missing_classes=[subject.class_names[k] for k in missing],
        sweeps=_sweeps(scorer, swept),
        best=best,
        equal_identity=_at_equal_identity(scorer, swept, feature.identity.mean),
        pairs=_pairs(subject, edits, at_best["feature arithmetic"]),
        few_pairs=_few_pairs(subject, edits, at_best),
        amounts=amounts,
        examples=_examples(subject, edits, shown, {k: one.steps for k, one in swept.items()}),
        realism=realism(subject, edits, _made(subject, edits, methods, told)),
    )


def _made(
    subject: Subject, edits: Edits, methods: Mapping[str, Method], amounts: Mapping[str, float]
) -> dict[str, tuple[float, Callable[[Indices], Pixels]]]:
    # How each method's images at its best amount are made, after the map's round trip.
    def images(latents: Callable[[], Latents]) -> Callable[[Indices], Pixels]:
        return lambda chosen: subject.editor.generate(latents()[chosen])

    unmoved = images(lambda: subject.predict(subject.map_name, edits.features))
    made = {"round trip": (0.0, unmoved)}
    for name, method in methods.items():
        made[name] = (amounts[name], images(partial(method, amounts[name])))
    return made


class _Swept(NamedTuple):
    # Of k amounts and n edits: flips (k n), identity (k n) or None, shown images by amount.
    flips: NDArray[np.bool_]
    identity: NDArray[np.float64] | None
    steps: Pixels


def _swept(scorer: Scorer, name: str, method: Method, shown: Indices) -> _Swept:
    # Identity costs an audit embedding an image, so it is measured where it is asked for only.
    subject, flips, identity, steps = scorer.subject, [], [], []
    for amount in subject.config.amounts:
        pixels = subject.editor.generate(method(amount))
        flips.append(subject.probabilities(pixels).argmax(1) == scorer.edits.after)
        steps.append(pixels[shown])
        if name in MATCHED:
            identity.append(scorer.identity(subject.audit.embed(pixels)))
    kept = np.stack(identity) if identity else None
    return _Swept(np.stack(flips), kept, np.stack(steps, axis=1))


def _sweeps(scorer: Scorer, swept: Mapping[str, _Swept]) -> list[Sweep]:
    mean, sources = scorer.subject.mean, scorer.edits.source
    return [
        Sweep(
            name,
            amount,
            mean(one.flips[place], sources),
            None if one.identity is None else mean(one.identity[place], sources),
        )
        for name, one in swept.items()
        for place, amount in enumerate(scorer.subject.config.amounts)
    ]


def _at_equal_identity(scorer: Scorer, swept: Mapping[str, _Swept], level: float) -> EqualIdentity:
    # Sweeps begin where nothing is asked: at the map's round trip, or at the source itself.
    subject, edits = scorer.subject, scorer.edits
    latents = subject.predict(subject.map_name, edits.features)
    rising = sorted((amount, k) for k, amount in enumerate(subject.config.amounts) if amount > 0)
    order = [place for _, place in rising]
    traces = {}
    for name in MATCHED:
        one = swept[name]
        assert one.identity is not None
        pixels = edits.pixels
        if name == "feature arithmetic":
            pixels = subject.editor.generate(latents)
        flips = subject.probabilities(pixels).argmax(1) == edits.after
        identity = scorer.identity(subject.audit.embed(pixels))
        traces[name] = Trace(
            amounts=[0.0, *(amount for amount, _ in rising)],
            flips=np.stack([flips, *one.flips[order]]),
            identity=np.stack([identity, *one.identity[order]]),
        )
    return at_equal_identity(subject, traces, level, edits.source)


def _methods(subject: Subject, edits: Edits, directions: Directions) -> dict[str, Method]:
    # A random direction has the length of the pair's own, and is the same for all its sources.
    lengths = np.linalg.norm(directions.features, axis=1, keepdims=True)
    pair = edits.before * len(subject.class_names) + edits.after
    draws = stream(subject.config.seed, "random direction")
    table = draws.standard_normal((int(pair.max()) + 1, edits.features.shape[1]))
    random = (unit_rows(table)[pair] * lengths).astype(np.float32)
    unmoved = subject.predict(subject.map_name, edits.features)

    def through(name: str, direction: NDArray[np.float32]) -> Method:
        return lambda amount: subject.predict(
            name, feature_math.add(edits.features, direction, amount)
        )

    mapped = through(subject.map_name, directions.features)
    return {
        "feature arithmetic": mapped,
        "residual edit": lambda amount: edits.latents + mapped(amount) - unmoved,
        "latent arithmetic": lambda amount: edits.latents + np.float32(amount) * directions.latents,
        "retrieval": through("retrieval", directions.features),
        "random direction": through(subject.map_name, random),
    }


def _pairs(subject: Subject, edits: Edits, flips: NDArray[np.bool_]) -> list[list[float | None]]:
    classes = range(len(subject.class_names))
    table: list[list[float | None]] = []
    for b in classes:
        rows = [flips[(edits.before == b) & (edits.after == a)] for a in classes]
        table.append([float(row.mean()) if len(row) else None for row in rows])
    return table


def _few_pairs(
    subject: Subject, edits: Edits, at_best: Mapping[str, NDArray[np.bool_]]
) -> list[PairRate]:
    names, rows = subject.class_names, []
    if len(names) > FEW_CLASSES:
        return []
    for b, a in sorted(set(zip(edits.before.tolist(), edits.after.tolist(), strict=True))):
        some = (edits.before == b) & (edits.after == a)
        feature, latent = (
            subject.mean(at_best[method][some], edits.source[some])
            for method in ("feature arithmetic", "latent arithmetic")
        )
        rows.append(PairRate(names[b], names[a], int(some.sum()), feature, latent))
    return rows


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
