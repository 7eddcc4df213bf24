"""Flip rates of methods compared at equal identity with the source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlgen.evaluation.context import EvaluationContext
from controlgen.metrics.bootstrap import Interval
from controlgen.types import Indices

ROUNDING = 1e-9  # tolerance of comparisons of the same mean
Table = NDArray[np.floating] | NDArray[np.bool_]


@dataclass(frozen=True)
class AmountSweep:
    """A method's sweep: amounts (k, rising from 0), and each edit's flip and identity (k n)."""

    amounts: Sequence[float]
    flips: Table
    identity: Table


@dataclass(frozen=True)
class MethodAtLevel:
    """A method at the largest amount whose mean identity is at least the common level.

    `flip` is the share of edits flipped at that amount, interpolated along the sweep as identity
    is; `highest` is the highest flip rate at any amount up to it. None if identity is always below
    the level.
    """

    method: str
    amount: float | None
    identity: float | None
    flip: Interval | None
    highest: float | None


@dataclass(frozen=True)
class EqualIdentity:
    """Methods at one level of identity, that of feature arithmetic at its best flip rate.

    `lead` is the mean over edits of feature arithmetic's flips minus latent arithmetic's.
    """

    level: float
    methods: list[MethodAtLevel]
    lead: Interval | None


def last_crossing(
    amounts: Sequence[float], identity: Sequence[float], level: float
) -> tuple[int, float] | None:
    """Last point of a piecewise linear sweep at `level` or above: (index, weight).

    The point divides the step from index to index + 1 at `weight`, 0..1. None if identity is below
    the level everywhere. Amounts must rise.
    """
    values = np.asarray(identity, np.float64)
    enough = np.flatnonzero(values >= level - ROUNDING)
    if not len(enough):
        return None
    last = int(enough[-1])
    if last == len(amounts) - 1:
        return last, 0.0
    weight = (values[last] - level) / (values[last] - values[last + 1])
    return last, max(float(weight), 0.0)


def compare_at_equal_identity(
    context: EvaluationContext, sweeps: Mapping[str, AmountSweep], level: float, sources: Indices
) -> EqualIdentity:
    """Compare the methods of `sweeps` at `level`; `sources` (n) groups edits of one image.

    "feature arithmetic" and "latent arithmetic" must be among them.
    """
    methods: list[MethodAtLevel] = []
    flips_at_level: dict[str, NDArray[np.float64] | None] = {}
    for name, sweep in sweeps.items():
        row, flips = _method_at_level(context, name, sweep, level, sources)
        methods.append(row)
        flips_at_level[name] = flips
    feature, latent = flips_at_level["feature arithmetic"], flips_at_level["latent arithmetic"]
    lead = None
    if feature is not None and latent is not None:
        lead = context.mean_interval(feature - latent, sources)
    return EqualIdentity(level, methods, lead)


def _method_at_level(
    context: EvaluationContext, name: str, sweep: AmountSweep, level: float, sources: Indices
) -> tuple[MethodAtLevel, NDArray[np.float64] | None]:
    means = sweep.identity.mean(1)
    crossing = last_crossing(sweep.amounts, means.tolist(), level)
    if crossing is None:
        return MethodAtLevel(name, None, None, None, None), None
    index, weight = crossing
    following = min(index + 1, len(sweep.amounts) - 1)

    def interpolate(values: Table) -> NDArray[np.float64]:
        return np.asarray((1 - weight) * values[index] + weight * values[following], np.float64)

    flips, rates = interpolate(sweep.flips), sweep.flips.mean(1)
    row = MethodAtLevel(
        method=name,
        amount=float(interpolate(np.asarray(sweep.amounts))),
        identity=float(interpolate(means)),
        flip=context.mean_interval(flips, sources),
        highest=float(max(*rates[: index + 1], flips.mean())),
    )
    return row, flips
