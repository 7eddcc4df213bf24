"""How far an answer can be believed, learned from targets whose image is known, and judged."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from controlgen.base_config import BaseConfig
from controlgen.config import ReachabilityConfig
from controlgen.editing import feature_math
from controlgen.editing.confidence.probe_targets import NEAR, Trials
from controlgen.editing.confidence.score import (
    FALLING,
    INPUTS,
    USUAL,
    Reachability,
    Values,
    Yardstick,
    fitted,
)
from controlgen.editing.feature_pca import Statistics
from controlgen.errors import ConfigError
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.calibration import (
    Bin,
    Events,
    auroc,
    auroc_interval,
    brier,
    expected_calibration_error,
    reliability,
)
from controlgen.rng import stream
from controlgen.types import Features, Indices, Pixels

AS_NEAR = 0.9  # share of held-out bank answers that are near enough, by definition
BOOTSTRAPS = 1000
FALL = np.isin(INPUTS, FALLING)
FEWEST = 20  # held-out bank images, and targets, that anything can be learned from
Embed = Callable[[Pixels], Features]


class Trip(NamedTuple):
    """Features asked for and obtained (n d), and the audit cosine (n) of target and answer."""

    asked: Features
    obtained: Features
    audit: NDArray[np.float32]


class KindRow(BaseConfig):
    """Judged targets of one kind: how many are near, what was said, how well they are ranked."""

    kind: str
    n: int
    near: float
    score: float
    warned: float
    auroc: Interval | None


class WithoutRow(BaseConfig):
    """AUROC of regressions fitted without one input, and on it alone."""

    input: str
    without: float | None
    alone: float | None


class Judged(BaseConfig):
    """What the score is worth on targets whose sources it was not fitted on.

    `near_means` is the audit cosine from which an answer counts as near. `auroc_near` is among
    targets that look like what the model was made for (NEAR), `auroc_bank` among held-out samples.
    `brier_constant` is that of the judged half's own share, said of every target.
    """

    near_means: float
    fitted: int
    judged: int
    share: float
    auroc: Interval | None
    auroc_near: Interval | None
    auroc_bank: Interval | None
    brier: float
    brier_constant: float
    calibration_error: float
    bins: tuple[Bin, ...]
    kinds: tuple[KindRow, ...]
    inputs: tuple[WithoutRow, ...]
    failures_warned: float | None = Field(description="share of answers not near that are warned")
    warnings_right: float | None = Field(description="share of warned answers that are not near")


def trip(
    pixels: Pixels,
    embed: Embed,
    answer: Callable[[Features], Pixels],
    audit: Embed,
) -> Trip:
    """Ask for the features of images (n c h w), and see what comes out, in both spaces."""
    asked = embed(pixels)
    made = answer(asked)
    return Trip(asked, embed(made), feature_math.cosine(audit(pixels), audit(made)))


def calibrate(
    config: ReachabilityConfig,
    statistics: Statistics,
    training: Features,
    held_out: Trip,
    trials: Trials,
    tried: Trip,
) -> tuple[Reachability, Judged]:
    """Fit on the trials of one half of the sources, judge on those of the other.

    `training` are bank features (N d), of which some are stored; `held_out` other bank items and
    their answers, which make the scale; `trials` further targets, none made from those, and `tried`
    their answers. No label takes part. Raises ConfigError where there are too few of either.
    """
    if min(len(held_out.asked), len(trials.kinds)) < FEWEST:
        raise ConfigError(
            f"fit.reachability: {len(held_out.asked)} held-out bank images and {len(trials.kinds)} "
            f"targets are too few; raise fit.held_out and fit.reachability.targets (at least "
            f"{FEWEST} each)"
        )
    chosen = stream(config.seed, "reachability stored").permutation(len(training))
    stored = np.array(training[np.sort(chosen[: config.stored])], np.float32)
    yardstick = Yardstick.of(
        statistics, stored, config.neighbours, held_out.asked, held_out.obtained
    )
    near_means = float(np.quantile(held_out.audit, 1 - AS_NEAR))
    events = tried.audit >= near_means
    inputs = yardstick.inputs(tried.asked, tried.obtained)
    fit = first_half(trials.sources, config.seed)

    # The threshold of warnings rests on the bank alone, not on how many of each kind were tried.
    plain = Reachability(yardstick, fitted(inputs[fit], events[fit], FALL), 0.0)
    usual = plain.score(held_out.asked, held_out.obtained)
    found = replace(plain, warn_below=float(np.quantile(usual, USUAL)))
    scores = found.score(tried.asked, tried.obtained)
    judged = _judged(config, found, inputs, events, scores, trials, fit)
    return found, judged.model_copy(update={"near_means": near_means})


def first_half(sources: Indices, seed: int) -> NDArray[np.bool_]:
    """Whether each item (n) is fitted on: half of the sources, drawn by seed, each one whole."""
    names, owners = np.unique(sources, return_inverse=True)
    order = stream(seed, "reachability halves").permutation(len(names))
    return np.asarray((order < len(names) // 2)[owners])


def _judged(
    config: ReachabilityConfig,
    found: Reachability,
    inputs: Values,
    events: Events,
    scores: NDArray[np.float32],
    trials: Trials,
    fit: NDArray[np.bool_],
) -> Judged:
    seed, other = config.seed, ~fit
    warned = scores < found.warn_below

    def ranked(some: NDArray[np.bool_]) -> Interval | None:
        return auroc_interval(scores[some], events[some], trials.sources[some], seed, BOOTSTRAPS)

    kinds = []
    for kind in dict.fromkeys(trials.kinds.tolist()):
        some = other & (trials.kinds == kind)
        if some.any():
            means = (float(values[some].mean()) for values in (events, scores, warned))
            near, score, share = means
            row = KindRow(
                kind=kind,
                n=int(some.sum()),
                near=near,
                score=score,
                warned=share,
                auroc=ranked(some),
            )
            kinds.append(row)
    s, e, sources = scores[other], events[other], trials.sources[other]
    return Judged(
        near_means=0.0,
        fitted=int(fit.sum()),
        judged=len(s),
        share=float(e.mean()),
        auroc=ranked(other),
        auroc_near=ranked(other & np.isin(trials.kinds, NEAR)),
        auroc_bank=ranked(other & (trials.kinds == "bank")),
        brier=brier(s, e),
        brier_constant=brier(np.full(len(e), e.mean()), e),
        calibration_error=expected_calibration_error(s, e),
        bins=tuple(reliability(s, e, sources, seed, BOOTSTRAPS)),
        kinds=tuple(kinds),
        inputs=tuple(_without(k, inputs, events, fit) for k in range(len(INPUTS))),
        failures_warned=_share(warned[other & ~events]),
        warnings_right=_share(~events[other & warned]),
    )


def _without(column: int, inputs: Values, events: Events, fit: NDArray[np.bool_]) -> WithoutRow:
    others = [k for k in range(len(INPUTS)) if k != column]
    values = []
    for columns in (others, [column]):
        learned = fitted(inputs[fit][:, columns], events[fit], FALL[columns])
        said = learned.log_odds(inputs[~fit][:, columns])
        value = float(auroc(said, events[~fit])[0])
        values.append(value if np.isfinite(value) else None)
    return WithoutRow(input=INPUTS[column], without=values[0], alone=values[1])


def _share(values: Events) -> float | None:
    return float(values.mean()) if len(values) else None
