"""Methods compared at equal identity: what an edit achieves where it costs the source as much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlgen.evaluation.context import Subject
from controlgen.metrics.bootstrap import Interval
from controlgen.types import Indices

ROUNDING = 1e-9  # by so much the same mean may differ from itself
Table = NDArray[np.floating] | NDArray[np.bool_]


@dataclass(frozen=True)
class Trace:
    """One method along its sweep: amounts (k, rising from 0), and of every edit (k n) whether it
    flipped and its identity."""

    amounts: Sequence[float]
    flips: Table
    identity: Table


@dataclass(frozen=True)
class AtLevel:
    """A method at the largest amount whose mean identity still is at least the common level.

    `flip` is the share of edits flipped there, interpolated along the sweep as identity is;
    `highest` is its highest flip rate at any amount up to there. None where the method never keeps
    that much.
    """

    method: str
    amount: float | None
    identity: float | None
    flip: Interval | None
    highest: float | None


@dataclass(frozen=True)
class EqualIdentity:
    """Methods at one level of identity: what feature arithmetic keeps at its best flip rate.

    `lead` is the flip rate of feature arithmetic minus that of latent arithmetic, edit by edit.
    """

    level: float
    methods: list[AtLevel]
    lead: Interval | None


def crossing(
    amounts: Sequence[float], identity: Sequence[float], level: float
) -> tuple[int, float] | None:
    """Where a sweep, drawn as straight lines, last is at `level` or above: (place, weight).

    The point lies between place and place + 1, `weight` (0..1) of the way; weight 0 is the amount
    itself. None where identity is below the level everywhere. Amounts must rise.
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


def at_equal_identity(
    subject: Subject, traces: Mapping[str, Trace], level: float, sources: Indices
) -> EqualIdentity:
    """Compare every method of `traces` at `level`; `sources` (n) says whose edits belong together.

    "feature arithmetic" and "latent arithmetic" must be among them.
    """
    methods: list[AtLevel] = []
    obtained: dict[str, NDArray[np.float64] | None] = {}
    for name, trace in traces.items():
        row, flips = _at(subject, name, trace, level, sources)
        methods.append(row)
        obtained[name] = flips
    feature, latent = obtained["feature arithmetic"], obtained["latent arithmetic"]
    lead = None
    if feature is not None and latent is not None:
        lead = subject.mean(feature - latent, sources)
    return EqualIdentity(level, methods, lead)


def _at(
    subject: Subject, name: str, trace: Trace, level: float, sources: Indices
) -> tuple[AtLevel, NDArray[np.float64] | None]:
    means = trace.identity.mean(1)
    found = crossing(trace.amounts, means.tolist(), level)
    if found is None:
        return AtLevel(name, None, None, None, None), None
    place, weight = found
    after = min(place + 1, len(trace.amounts) - 1)

    def between(values: Table) -> NDArray[np.float64]:
        return np.asarray((1 - weight) * values[place] + weight * values[after], np.float64)

    flips, rates = between(trace.flips), trace.flips.mean(1)
    row = AtLevel(
        method=name,
        amount=float(between(np.asarray(trace.amounts))),
        identity=float(between(means)),
        flip=subject.mean(flips, sources),
        highest=float(max(*rates[: place + 1], flips.mean())),
    )
    return row, flips
