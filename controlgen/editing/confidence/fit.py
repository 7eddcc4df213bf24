"""Fit the confidence model on targets with a known image, and evaluate it on held-out sources."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from controlgen.base_config import BaseConfig
from controlgen.config import ReachabilityConfig
from controlgen.editing import feature_math
from controlgen.editing.confidence.probe_targets import IN_DISTRIBUTION, ProbeTargets
from controlgen.editing.confidence.score import (
    INPUTS,
    LOW_SHARE,
    MONOTONE_INPUTS,
    BankDistances,
    ConfidenceModel,
    Values,
    fit_monotone_logistic,
)
from controlgen.editing.feature_pca import FeaturePCA
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

NEAR_SHARE = 0.9  # of the results for held-out bank images count as near, by definition
BOOTSTRAPS = 1000
MONOTONE_MASK = np.isin(INPUTS, MONOTONE_INPUTS)
MIN_ITEMS = 20  # held-out bank images, and probe targets
Embed = Callable[[Pixels], Features]


class RoundTripResult(NamedTuple):
    """Target features and result features (n d), and the audit cosine (n) of their images."""

    target_features: Features
    features: Features
    audit_cosine: NDArray[np.float32]


class PerKindMetrics(BaseConfig):
    """Held-out targets of one kind: share near, mean score, share with a warning, AUROC."""

    kind: str
    n: int
    near: float
    score: float
    warned: float
    auroc: Interval | None


class AblationRow(BaseConfig):
    """AUROC of regressions without one input, and with that input alone."""

    input: str
    without: float | None
    alone: float | None


class ConfidenceReport(BaseConfig):
    """The quality of the score on targets from held-out sources.

    `near_means`: the audit cosine from which a result counts as near. `fitted`, `judged`: number of
    targets in the two halves. `share`: near targets of the judged half. `auroc_near`: among
    IN_DISTRIBUTION targets; `auroc_bank`: among samples. `brier_constant`: of the constant score
    `share`.
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
    kinds: tuple[PerKindMetrics, ...]
    inputs: tuple[AblationRow, ...]
    failures_warned: float | None = Field(description="share of results not near with a warning")
    warnings_right: float | None = Field(description="share of warned results that are not near")


def round_trip(
    pixels: Pixels,
    embed: Embed,
    reconstruct: Callable[[Features], Pixels],
    audit: Embed,
) -> RoundTripResult:
    """Reconstruct images (n c h w) from their features and compare them in both spaces."""
    target_features = embed(pixels)
    results = reconstruct(target_features)
    audit_cosine = feature_math.paired_cosine(audit(pixels), audit(results))
    return RoundTripResult(target_features, embed(results), audit_cosine)


def fit_confidence(
    config: ReachabilityConfig,
    statistics: FeaturePCA,
    training: Features,
    held_out: RoundTripResult,
    probes: ProbeTargets,
    results: RoundTripResult,
) -> tuple[ConfidenceModel, ConfidenceReport]:
    """Fit on the probe targets of half of the sources, evaluate on the others.

    training: bank features (N d), of which `config.stored` are kept. held_out: round trips of other
    bank images, which define the scale. probes: targets made from neither; results: their round
    trips. Labels are not used. Raises ConfigError where held-out images or probes are too few.
    """
    if min(len(held_out.features), len(probes.kinds)) < MIN_ITEMS:
        raise ConfigError(
            f"fit.reachability: {len(held_out.features)} held-out bank images and "
            f"{len(probes.kinds)} targets are too few; raise fit.held_out and "
            f"fit.reachability.targets (at least {MIN_ITEMS} each)"
        )
    order = stream(config.seed, "reachability stored").permutation(len(training))
    stored = np.array(training[np.sort(order[: config.stored])], np.float32)
    distances = BankDistances.fit(
        statistics, stored, config.neighbours, held_out.target_features, held_out.features
    )
    near_means = float(np.quantile(held_out.audit_cosine, 1 - NEAR_SHARE))
    events = results.audit_cosine >= near_means
    inputs = distances.regression_inputs(results.target_features, results.features)
    fit = split_sources(probes.sources, config.seed)

    # The warning threshold depends on the bank alone, not on the mixture of kinds of probes.
    regression = fit_monotone_logistic(inputs[fit], events[fit], MONOTONE_MASK)
    model = ConfidenceModel(distances, regression, 0.0)
    held_out_scores = model.score(held_out.target_features, held_out.features)
    model = replace(model, warn_below=float(np.quantile(held_out_scores, LOW_SHARE)))
    scores = model.score(results.target_features, results.features)
    ablation = tuple(_ablate(k, inputs, events, fit) for k in range(len(INPUTS)))
    warned = scores < model.warn_below
    report = _evaluate(config.seed, scores, events, warned, probes, ~fit)
    updates = {"near_means": near_means, "fitted": int(fit.sum()), "inputs": ablation}
    return model, report.model_copy(update=updates)


def split_sources(sources: Indices, seed: int) -> NDArray[np.bool_]:
    """Whether each item (n) belongs to the half to fit on; items of one source stay together."""
    names, owners = np.unique(sources, return_inverse=True)
    order = stream(seed, "reachability halves").permutation(len(names))
    return np.asarray((order < len(names) // 2)[owners])


def _evaluate(
    seed: int,
    scores: NDArray[np.float32],
    events: Events,
    warned: NDArray[np.bool_],
    probes: ProbeTargets,
    held_out: NDArray[np.bool_],
) -> ConfidenceReport:
    def interval(mask: NDArray[np.bool_]) -> Interval | None:
        return auroc_interval(scores[mask], events[mask], probes.sources[mask], seed, BOOTSTRAPS)

    kinds = []
    for kind in dict.fromkeys(probes.kinds.tolist()):
        mask = held_out & (probes.kinds == kind)
        if mask.any():
            near, score, share = (float(v[mask].mean()) for v in (events, scores, warned))
            metrics = {"near": near, "score": score, "warned": share, "auroc": interval(mask)}
            kinds.append(PerKindMetrics(kind=kind, n=int(mask.sum()), **metrics))
    s, e, sources = scores[held_out], events[held_out], probes.sources[held_out]
    return ConfidenceReport(
        near_means=0.0,
        fitted=0,
        judged=len(s),
        share=float(e.mean()),
        auroc=interval(held_out),
        auroc_near=interval(held_out & np.isin(probes.kinds, IN_DISTRIBUTION)),
        auroc_bank=interval(held_out & (probes.kinds == "bank")),
        brier=brier(s, e),
        brier_constant=brier(np.full(len(e), e.mean()), e),
        calibration_error=expected_calibration_error(s, e),
        bins=tuple(reliability(s, e, sources, seed, BOOTSTRAPS)),
        kinds=tuple(kinds),
        inputs=(),
        failures_warned=_share(warned[held_out & ~events]),
        warnings_right=_share(~events[held_out & warned]),
    )


def _ablate(column: int, inputs: Values, events: Events, fit: NDArray[np.bool_]) -> AblationRow:
    others = [k for k in range(len(INPUTS)) if k != column]
    values = []
    for columns in (others, [column]):
        mask = MONOTONE_MASK[columns]
        regression = fit_monotone_logistic(inputs[fit][:, columns], events[fit], mask)
        log_odds = regression.log_odds(inputs[~fit][:, columns])
        value = float(auroc(log_odds, events[~fit])[0])
        values.append(value if np.isfinite(value) else None)
    return AblationRow(input=INPUTS[column], without=values[0], alone=values[1])


def _share(values: Events) -> float | None:
    return float(values.mean()) if len(values) else None
