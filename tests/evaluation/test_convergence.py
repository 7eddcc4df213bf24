"""Verdicts on given curves, observations of given networks, and signs of a wrong gamma."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from controlgen.datasets import Digits
from controlgen.evaluation.convergence import (
    MIN_OBSERVATIONS,
    Observation,
    TrainingObserver,
    classify_run,
    diagnose_gamma,
    verdict_label,
)
from controlgen.images import to_signed_float
from controlgen.schedules import CosineSchedule
from training_curves import GIVEN_UP, GOOD, LN2, history


def run(distances: Sequence[float], **changes: Any) -> list[Observation]:
    return [
        replace(GOOD, images_seen=1000 * step, distance=value, distance_now=value, **changes)
        for step, value in enumerate(distances)
    ]


def falling(end: float, n: int = 20) -> list[float]:
    """From 2 to `end` in the first half, then level."""
    return [max(2.0 * (end / 2.0) ** (step / (n / 2)), end) for step in range(n)]


def test_a_level_curve_near_the_floor_has_converged() -> None:
    verdict = classify_run(run(falling(0.1)))
    assert verdict.name == "converged"
    assert "97% progress" in verdict.reasons[0]
    assert "precision 0.60 (real images: 0.70)" in verdict.reasons[2]


@pytest.mark.parametrize(("precision", "suffix"), [(0.1, " (poor samples)"), (0.3, "")])
def test_verdict_label_marks_converged_runs_with_poor_samples(
    precision: float, suffix: str
) -> None:
    converged = run([0.1] * 12, precision=precision, precision_floor=0.8)
    assert verdict_label(classify_run(converged), converged) == f"converged{suffix}"
    unfinished = run(list(np.geomspace(2, 0.5, 12)), precision=0.0)
    assert verdict_label(classify_run(unfinished), unfinished) == "unfinished"


def test_a_falling_curve_is_unfinished() -> None:
    verdict = classify_run(run(np.geomspace(2.0, 0.1, 20).tolist()))
    assert verdict.name == "unfinished"
    assert "over the second half the distance fell by 6" in verdict.reasons[0]


def test_swings_are_oscillation_and_noise_is_not() -> None:
    swings = [0.1 * np.exp(0.8 * np.sin(step)) for step in range(20)]
    assert classify_run(run([2.0] * 5 + swings)).name == "oscillating"
    noise = [0.1 * np.exp(0.1 * np.sin(7 * step)) for step in range(20)]
    assert classify_run(run([2.0] * 5 + noise)).name == "converged"


def test_too_similar_samples_have_collapsed() -> None:
    assert classify_run(run(falling(0.1), spread=0.3)).name == "collapsed"


def test_only_samples_that_become_similar_have_collapsed_far_from_the_floor() -> None:
    far = run(np.linspace(2.0, 1.5, 20).tolist(), precision=0.0, coverage=0.0)
    assert classify_run([replace(row, spread=0.42) for row in far]).name == "unfinished"
    shrinking = [
        replace(row, spread=spread)
        for row, spread in zip(far, np.linspace(0.42, 0.1, 20), strict=True)
    ]
    assert classify_run(shrinking).name == "collapsed"


def test_low_coverage_is_collapse_only_if_samples_are_realistic() -> None:
    few = run(falling(0.1), coverage=0.2)
    assert classify_run(few).name == "collapsed"
    assert classify_run([replace(row, precision=0.1) for row in few]).name == "converged"


def test_no_progress_or_lost_progress_is_diverged() -> None:
    for end in (2.0, 1.98):
        assert classify_run(run(np.linspace(2.0, end, 20).tolist())).name == "diverged"
    verdict = classify_run(run([*falling(0.1), *[0.8] * 8]))
    assert verdict.name == "diverged"
    assert "lost again" in verdict.reasons[1]


def test_progress_far_from_the_floor_is_unfinished() -> None:
    for end in (1.3, 1.8):
        assert classify_run(run(np.geomspace(2.0, end, 20).tolist())).name == "unfinished"


def test_a_stopped_run_is_diverged_whatever_was_observed() -> None:
    for observations in ([], run([2.0]), run(falling(0.1))):
        verdict = classify_run(observations, stopped="critic loss became nan")
        assert verdict.name == "diverged"
        assert verdict.reasons[0] == "critic loss became nan"
    with pytest.raises(ValueError, match="8 observations"):
        classify_run(run([2.0] * (MIN_OBSERVATIONS - 1)))


@given(
    st.lists(st.floats(0.05, 3.0), min_size=MIN_OBSERVATIONS, max_size=30),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1.2),
    st.integers(-7, 7),
)
def test_the_verdict_does_not_depend_on_the_unit_of_distance(
    distances: list[float], precision: float, coverage: float, spread: float, doublings: int
) -> None:
    # Powers of two are exact, so a bound that is met exactly stays met.
    unit = 2.0**doublings
    observations = run(distances, precision=precision, coverage=coverage, spread=spread)
    scaled = [
        replace(
            row,
            distance=row.distance * unit,
            distance_now=row.distance_now * unit,
            floor=row.floor * unit,
            untrained=row.untrained * unit,
        )
        for row in observations
    ]
    verdict = classify_run(observations)
    assert verdict.name in ("diverged", "collapsed", "oscillating", "unfinished", "converged")
    assert classify_run(scaled).name == verdict.name


def test_reasons_include_slopes_gap_and_drift_of_the_critic() -> None:
    # Both outputs fall from 3 in the middle to -4 at the end, with a constant gap.
    outputs = [*([9.0] * 4), 3.0, 2.0, 0.5, -4.0]
    observations = [
        replace(GOOD, images_seen=step, critic_real=real, critic_fake=real - 1.5, slope_fake=0.25)
        for step, real in enumerate(outputs)
    ]
    verdict = classify_run(observations)
    details = verdict.reasons[-1]
    assert details == (
        "the critic's slope is 0.5 at reals and 0.25 at samples; its outputs lie 1.5 apart and "
        "drifted by -7 over the second half"
    )
    # They are part of every verdict and do not decide it.
    assert verdict.name == classify_run([GOOD] * 8).name == "converged"
    collapsed = classify_run([replace(row, spread=0.1) for row in observations])
    assert (collapsed.name, collapsed.reasons[-1]) == ("collapsed", details)
    stopped = classify_run(observations, stopped="a loss became nan")
    assert stopped.reasons == ("a loss became nan", details)
    assert classify_run([], stopped="a loss became nan").reasons == ("a loss became nan",)


# ---- observations


class Replay(nn.Module):
    """A generator that returns the given images in order."""

    def __init__(self, pixels: np.ndarray) -> None:
        super().__init__()
        self.images = nn.Parameter(to_signed_float(pixels), requires_grad=False)
        self.index = 0

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        first, self.index = self.index, (self.index + len(latents)) % len(self.images)
        return self.images[first : first + len(latents)]


class Linear(nn.Module):
    """D(x) = 3 sum(x) + 1: its gradient is 3 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.weight * images.flatten(1).sum(1) + 1


def flat(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(len(pixels), -1)[:, ::16] / 255


def test_observations_of_perfect_constant_and_noisy_generators() -> None:
    dataset = Digits().open()
    noise = np.random.default_rng(0).integers(0, 256, (100, 1, 32, 32), np.uint8)
    observer = TrainingObserver(dataset, flat, Replay(noise), latent_size=4, n=100, seed=0)
    perfect = Replay(observer.real)
    observed = observer.observe(7, perfect, perfect, Linear())
    assert observed.images_seen == 7
    assert observed.distance == pytest.approx(0, abs=1e-9)
    assert 1e-3 < observed.floor < observed.untrained
    assert observed.precision == observed.coverage == 1.0
    assert observed.spread == pytest.approx(1.0)
    assert observed.slope_real == observed.slope_fake == pytest.approx(3 * 32, rel=1e-5)
    assert observed.critic_real == pytest.approx(
        float(3 * to_signed_float(observer.real).flatten(1).sum(1).mean() + 1), rel=1e-5
    )

    constant_image = Replay(np.repeat(observer.real[:1], 100, 0))
    assert observer.observe(7, constant_image, constant_image, Linear()).spread == 0
    far = observer.observe(7, Replay(noise), Replay(noise), Linear())
    assert far.distance == far.distance_now == pytest.approx(far.untrained)


# ---- gamma


def constant(value: float) -> Callable[[float], float]:
    return lambda _: value


def decreasing(images_seen: float) -> float:
    """From 1 to 0.1 over twenty rows, with the paper's schedule."""
    return CosineSchedule(start=1.0, end=0.1).at(images_seen / 20_000)


DIVERGING = {
    "pairing": np.geomspace(0.3, 0.01, 20).tolist(),
    "gap": np.linspace(1, 5, 20).tolist(),
    "slopes": np.geomspace(0.2, 0.8, 20).tolist(),
}
HEALTHY = {
    "pairing": np.linspace(0.3, 0.5, 20).tolist(),
    "gap": np.linspace(1.6, 0.5, 20).tolist(),
    "slopes": np.geomspace(0.2, 0.5, 20).tolist(),
}


@pytest.mark.parametrize("gamma", [constant(2.0), decreasing])
def test_gamma_is_too_large_if_the_critic_gives_up(
    gamma: Callable[[float], float],
) -> None:
    (line,) = diagnose_gamma(history(**GIVEN_UP, gamma=gamma), gamma)
    assert line.startswith("signs that gamma is too large: ")
    assert "0.693 at the end" in line and "fell from 0.3 to 0.00" in line


@pytest.mark.parametrize("gamma", [constant(0.01), decreasing])
def test_gamma_is_too_small_if_the_critic_runs_away(
    gamma: Callable[[float], float],
) -> None:
    rows = history(**DIVERGING, gamma=gamma)
    if gamma is decreasing:
        # The penalty falls with gamma, not because of the critic.
        assert rows[-1]["penalty"] < rows[8]["penalty"]
    (line,) = diagnose_gamma(rows, gamma)
    assert line.startswith("signs that gamma is too small: ")
    assert "are 4.58 apart" in line and "squared slopes grew from" in line


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # A loss of ln 2 with a normal penalty, and a vanished penalty at a lower loss.
        {"pairing": [LN2] * 20},
        {"slopes": GIVEN_UP["slopes"]},
        # A large gap with constant slopes, and growing slopes at a usual gap.
        {"gap": DIVERGING["gap"], "slopes": [0.5] * 20},
        {"gap": [3.9] * 20},
        # Nothing was learned: the slopes were always small.
        {"pairing": [LN2] * 20, "gap": [0.0] * 20, "slopes": [1e-3] * 20},
    ],
)
@pytest.mark.parametrize("gamma", [constant(1.0), decreasing])
def test_a_single_symptom_is_not_reported(
    changes: Mapping[str, list[float]], gamma: Callable[[float], float]
) -> None:
    assert diagnose_gamma(history(**{**HEALTHY, **changes}, gamma=gamma), gamma) == ()


def test_short_history_and_gamma_of_zero_give_no_diagnosis() -> None:
    rows = history(**DIVERGING, gamma=constant(0.01))
    assert diagnose_gamma([], constant(1.0)) == ()
    assert diagnose_gamma(rows[-MIN_OBSERVATIONS + 1 :], constant(0.01)) == ()
    assert diagnose_gamma(rows, lambda images_seen: 1 - images_seen / 20_000) == ()


@given(st.integers(MIN_OBSERVATIONS, 60), st.floats(1e-3, 100))
def test_small_gamma_is_diagnosed_for_any_length_and_weight(n: int, weight: float) -> None:
    steps = np.linspace(0, 19, n)
    stretched = {
        name: np.interp(steps, np.arange(20), values) for name, values in DIVERGING.items()
    }
    gamma = constant(weight)
    (line,) = diagnose_gamma(history(**stretched, gamma=gamma), gamma)
    assert "too small" in line
