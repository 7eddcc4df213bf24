"""Edits between classes: does adding "a minus b" to an image of b give an a, and the same image?

For every ordered pair of classes, sources are held-out generated images that the judge calls b. The
direction is the mean of a's exemplars minus the mean of b's, in features or, with the same
exemplars, in latents. Every method is swept over the amounts; identity is measured at its best
amount and, for the methods compared at equal identity, along the whole sweep.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import feature_math
from controlgen.evaluation.context import EvaluationContext
from controlgen.evaluation.edit_pairs import (
    ClassDirections,
    EditPairs,
    class_directions,
    select_edit_pairs,
    select_exemplars,
)
from controlgen.evaluation.edit_scores import EditScorer, MethodScore
from controlgen.evaluation.equal_identity import (
    AmountSweep,
    EqualIdentity,
    compare_at_equal_identity,
)
from controlgen.evaluation.realism import MethodImages, Realism, evaluate_realism
from controlgen.metrics.bootstrap import Interval
from controlgen.rng import stream
from controlgen.types import Indices, Latents, Pixels
from controlgen.utils.rows import normalize_rows

FIGURE_EDITS = 4  # edits in the figure
MAX_LISTED_CLASSES = 4  # with more classes, pairs have no rows with intervals
IDENTITY_METHODS = ("feature arithmetic", "residual edit", "latent arithmetic")  # at equal identity
Method = Callable[[float], Latents]  # amount -> the latents of every edit


@dataclass(frozen=True)
class SweepPoint:
    """Share of edits that the judge calls the target class, at one amount of one method.

    `identity` is measured for the methods that are compared at equal identity.
    """

    method: str
    amount: float
    flip: Interval
    identity: Interval | None = None


@dataclass(frozen=True)
class PairRate:
    """Flip rates of one ordered pair of classes, each method at its best amount."""

    before: str
    after: str
    edits: int
    feature: Interval
    latent: Interval


@dataclass(frozen=True)
class EditExample:
    """One edit in the figure: its source, and each method's images along the amounts."""

    title: str
    source: Pixels
    steps: dict[str, Pixels]


@dataclass(frozen=True)
class ClassEditResults:
    """All measures of class edits; `pairs[b][a]` is feature arithmetic's flip rate at its best.

    `few_pairs` holds these rates with intervals, and latent arithmetic's, if classes are few.
    `realism` is None if there are too few sources for it.
    """

    edits: int
    sources: int
    exemplars_by: str
    exemplar_precision: Interval
    classes: list[str]
    missing_classes: list[str]
    sweeps: list[SweepPoint]
    best: list[MethodScore]
    equal_identity: EqualIdentity
    pairs: list[list[float | None]]
    few_pairs: list[PairRate]
    amounts: list[float]
    examples: list[EditExample] = field(repr=False)
    realism: Realism | None = None

    def best_of(self, method: str) -> MethodScore:
        """The score of a method at its best amount."""
        return next(row for row in self.best if row.method == method)


def evaluate_class_edits(context: EvaluationContext) -> ClassEditResults:
    """Sweep every method over all ordered pairs of classes.

    Raises TooFewClasses if the judge is confident of fewer than two classes of generated images.
    """
    exemplars, exemplars_by, precision = select_exemplars(context)
    edits, missing = select_edit_pairs(context)
    directions = class_directions(context, exemplars, edits)
    methods = _make_methods(context, edits, directions)
    examples = np.linspace(0, len(edits) - 1, min(FIGURE_EDITS, len(edits))).astype(np.int64)

    # Images are not stored: of every amount only the flips, identities and examples are.
    amounts = list(context.config.amounts)
    scorer = EditScorer(context, edits, directions)
    sweeps = {name: _sweep(scorer, name, method, examples) for name, method in methods.items()}

    # Every method runs once more, at the amount of its best flip rate, for all other measures.
    best = [scorer.score_no_edit(), scorer.score_round_trip()]
    best_flips: dict[str, NDArray[np.bool_]] = {}
    for name, method in methods.items():
        index = int(sweeps[name].flips.mean(1).argmax())
        best_flips[name] = sweeps[name].flips[index]
        best.append(scorer.score(name, amounts[index], method(amounts[index])))
    feature = best[2]
    best_amounts = {row.method: row.amount for row in best[2:]}
    best.append(scorer.score_optimisation(feature.amount))
    images = _images_at_best(context, edits, methods, best_amounts)
    return ClassEditResults(
        edits=len(edits),
        sources=len(np.unique(edits.source)),
        exemplars_by=exemplars_by,
        exemplar_precision=precision,
        classes=list(context.class_names),
        missing_classes=[context.class_names[label] for label in missing],
        sweeps=_sweep_points(scorer, sweeps),
        best=best,
        equal_identity=_equal_identity(scorer, sweeps, feature.identity.mean),
        pairs=_pair_table(context, edits, best_flips["feature arithmetic"]),
        few_pairs=_pair_rates(context, edits, best_flips),
        amounts=amounts,
        examples=_edit_examples(context, edits, examples, sweeps),
        realism=evaluate_realism(context, edits, images),
    )


def _images_at_best(
    context: EvaluationContext,
    edits: EditPairs,
    methods: Mapping[str, Method],
    amounts: Mapping[str, float],
) -> dict[str, MethodImages]:
    # The images of selected edits by the map's round trip, and by each method at its best amount.
    def images(latents: Callable[[], Latents]) -> Callable[[Indices], Pixels]:
        return lambda selection: context.editor.generate(latents()[selection])

    round_trip = images(lambda: context.predict(context.map_name, edits.features))
    return {"round trip": (0.0, round_trip)} | {
        name: (amounts[name], images(partial(method, amounts[name])))
        for name, method in methods.items()
    }


class _SweepResults(NamedTuple):
    # Of k amounts and n edits: flips (k n), identity (k n) or None, the examples' images by amount.
    flips: NDArray[np.bool_]
    identity: NDArray[np.float64] | None
    steps: Pixels


def _sweep(scorer: EditScorer, name: str, method: Method, examples: Indices) -> _SweepResults:
    # Identity costs an audit embedding per image, so it is measured only where it is needed.
    context, flips, identity, steps = scorer.context, [], [], []
    for amount in context.config.amounts:
        pixels = context.editor.generate(method(amount))
        flips.append(context.judge_probabilities(pixels).argmax(1) == scorer.edits.after)
        steps.append(pixels[examples])
        if name in IDENTITY_METHODS:
            identity.append(scorer.identity(context.audit.embed(pixels)))
    stacked = np.stack(identity) if identity else None
    return _SweepResults(np.stack(flips), stacked, np.stack(steps, axis=1))


def _sweep_points(scorer: EditScorer, sweeps: Mapping[str, _SweepResults]) -> list[SweepPoint]:
    mean, sources = scorer.context.mean_interval, scorer.edits.source
    return [
        SweepPoint(
            name,
            amount,
            mean(sweep.flips[index], sources),
            None if sweep.identity is None else mean(sweep.identity[index], sources),
        )
        for name, sweep in sweeps.items()
        for index, amount in enumerate(scorer.context.config.amounts)
    ]


def _equal_identity(
    scorer: EditScorer, results: Mapping[str, _SweepResults], level: float
) -> EqualIdentity:
    # At amount 0 stands the map's round trip or, for edits of latents, the source itself.
    context, edits = scorer.context, scorer.edits
    latents = context.predict(context.map_name, edits.features)
    rising = sorted((amount, k) for k, amount in enumerate(context.config.amounts) if amount > 0)
    order = [index for _, index in rising]
    sweeps = {}
    for name in IDENTITY_METHODS:
        result = results[name]
        assert result.identity is not None
        pixels = edits.pixels
        if name == "feature arithmetic":
            pixels = context.editor.generate(latents)
        flips = context.judge_probabilities(pixels).argmax(1) == edits.after
        identity = scorer.identity(context.audit.embed(pixels))
        sweeps[name] = AmountSweep(
            amounts=[0.0, *(amount for amount, _ in rising)],
            flips=np.stack([flips, *result.flips[order]]),
            identity=np.stack([identity, *result.identity[order]]),
        )
    return compare_at_equal_identity(context, sweeps, level, edits.source)


def _make_methods(
    context: EvaluationContext, edits: EditPairs, directions: ClassDirections
) -> dict[str, Method]:
    # A random direction has the length of its pair's direction and is the same for all sources.
    lengths = np.linalg.norm(directions.features, axis=1, keepdims=True)
    pair = edits.before * len(context.class_names) + edits.after
    draws = stream(context.config.seed, "random direction")
    table = draws.standard_normal((int(pair.max()) + 1, edits.features.shape[1]))
    random = (normalize_rows(table)[pair] * lengths).astype(np.float32)
    unedited = context.predict(context.map_name, edits.features)

    def through_map(name: str, direction: NDArray[np.float32]) -> Method:
        return lambda amount: context.predict(
            name, feature_math.add_direction(edits.features, direction, amount)
        )

    mapped = through_map(context.map_name, directions.features)
    return {
        "feature arithmetic": mapped,
        "residual edit": lambda amount: edits.latents + mapped(amount) - unedited,
        "latent arithmetic": lambda amount: edits.latents + np.float32(amount) * directions.latents,
        "retrieval": through_map("retrieval", directions.features),
        "random direction": through_map(context.map_name, random),
    }


def _pair_table(
    context: EvaluationContext, edits: EditPairs, flips: NDArray[np.bool_]
) -> list[list[float | None]]:
    labels = range(len(context.class_names))
    table: list[list[float | None]] = []
    for b in labels:
        rows = [flips[(edits.before == b) & (edits.after == a)] for a in labels]
        table.append([float(row.mean()) if len(row) else None for row in rows])
    return table


def _pair_rates(
    context: EvaluationContext, edits: EditPairs, best_flips: Mapping[str, NDArray[np.bool_]]
) -> list[PairRate]:
    names, rates = context.class_names, []
    if len(names) > MAX_LISTED_CLASSES:
        return []
    for b, a in sorted(set(zip(edits.before.tolist(), edits.after.tolist(), strict=True))):
        in_pair = (edits.before == b) & (edits.after == a)
        feature, latent = (
            context.mean_interval(best_flips[method][in_pair], edits.source[in_pair])
            for method in ("feature arithmetic", "latent arithmetic")
        )
        rates.append(PairRate(names[b], names[a], int(in_pair.sum()), feature, latent))
    return rates


def _edit_examples(
    context: EvaluationContext,
    edits: EditPairs,
    examples: Indices,
    sweeps: Mapping[str, _SweepResults],
) -> list[EditExample]:
    names = context.class_names
    return [
        EditExample(
            title=f"{names[edits.before[item]]} to {names[edits.after[item]]}",
            source=edits.pixels[item][None],
            steps={method: sweep.steps[index] for method, sweep in sweeps.items()},
        )
        for index, item in enumerate(examples)
    ]
