"""Training diagnostics: observations of a run, and a verdict from them alone.

`TrainingObserver` measures generator and critic from time to time, always with the same latents and
real images, so that its curves change only because the training does. `classify_run` reads them:

diverged     a loss was not finite, or samples stay far from the real ones, or left them again
collapsed    samples look like real images, but cover few of them, or became too alike
oscillating  the distance of the plain generator swings about its own fall
unfinished   the distance is still falling, even if it is far from the floor: train longer
converged    none of these: the distance is stable, possibly at poor samples (`verdict_label`)

`diagnose_gamma` looks for a wrong weight of R3GAN's penalties in the losses. The thresholds below
are this project's own; every verdict lists the numbers it rests on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from sklearn.isotonic import IsotonicRegression
from torch import Tensor, nn

from controlgen.images import generate_pixels, to_signed_float
from controlgen.metrics.frechet import frechet_distance
from controlgen.metrics.precision_recall import density_coverage, precision_recall
from controlgen.rng import normals, stream
from controlgen.types import Dataset, Pixels

VerdictName = Literal["diverged", "collapsed", "oscillating", "unfinished", "converged"]
Rows = NDArray[np.floating]
MIN_OBSERVATIONS = 8  # for a verdict, and rows of history for a diagnosis of gamma
BATCH = 64  # images through the critic at once

# Progress is the share of the distance from an untrained generator (0) to the floor (1).
MIN_PROGRESS = 0.5  # below it, samples are far from real images
MAX_LOST_PROGRESS = 0.15  # progress that may be lost again after the best moment
REALISTIC = 0.5  # share of the precision of real images, above which samples look real
POOR = 0.25  # share of the precision of real images, below which a converged run is poor
MIN_COVERAGE = 0.5  # share of the coverage of real images, below which realistic samples collapsed
MIN_SPREAD = 0.5  # of the mean distance of two real images; below it, samples are too alike
SPREAD_LOSS = 0.8  # of the largest spread; untrained generators start with samples that are alike
MAX_SWING = 0.25  # deviation of the log distance from its falling curve
FALLING = 0.15  # fall of the log distance over the second half of a run that is still falling
FALLING_PROGRESS = 0.03  # progress over the second half of a run far from the floor

# Gamma, the weight of the penalties R1 and R2.
UNINFORMED = 0.97  # share of ln 2: pairing loss of a critic that hardly separates real and fake
VANISHED = 0.02  # penalty in units of the loss; successful trainings keep more than 0.04
SLOPE_LOSS = 0.25  # of the steepest squared slopes, at which they have vanished
MAX_GAP = 4.0  # outputs at real images minus those at samples
SLOPE_GROWTH = 1.1  # squared slopes at the end over those of the second quarter


@dataclass(frozen=True)
class Observation:
    """Measurements at one moment, of n samples and n real images; a row of watch.jsonl.

    `distance` and `distance_now` are Frechet distances to the real images, of the averaged and of
    the plain generator. `floor` is real against real, `untrained` a generator of fresh weights.
    `precision`, `coverage` (0..1, floors from other real images) and `spread` (mean distance of two
    samples over that of two real images) describe the averaged generator. The critic's mean output
    and the root mean square of its gradient norm are at real images and at plain samples.
    """

    images_seen: int
    distance: float
    distance_now: float
    floor: float
    untrained: float
    precision: float
    precision_floor: float
    coverage: float
    coverage_floor: float
    spread: float
    critic_real: float
    critic_fake: float
    slope_real: float
    slope_fake: float


class Verdict(NamedTuple):
    """One of the five names, and the numbers it rests on, one per line."""

    name: VerdictName
    reasons: tuple[str, ...]


class TrainingObserver:
    """Measures a training through `embed` (Pixels -> rows) with `n` latents and `n` real images.

    It draws from its own random streams, so that it does not affect the training.
    """

    def __init__(
        self,
        dataset: Dataset,
        embed: Callable[[Pixels], Rows],
        untrained: nn.Module,
        latent_size: int,
        n: int,
        seed: int,
    ) -> None:
        order = stream(seed, "watched images").permutation(len(dataset))
        self.n = min(n, len(dataset) // 2)
        self.real = dataset.pixels(np.sort(order[: self.n]))
        other_rows = embed(dataset.pixels(np.sort(order[self.n : 2 * self.n])))
        self._embed, self._seed = embed, seed
        self._latents = torch.from_numpy(normals(seed, "watched latents", 0, self.n, latent_size))
        self._rows = embed(self.real)
        self._real_spread = float(pdist(self._rows).mean())
        self._floor = frechet_distance(other_rows, self._rows)
        self._precision_floor, self._coverage_floor = self._precision_and_coverage(other_rows)
        self._untrained = frechet_distance(embed(self._samples(untrained)), self._rows)

    def observe(
        self, images_seen: int, generator: nn.Module, average: nn.Module, critic: nn.Module
    ) -> Observation:
        """Measure the plain and the averaged generator and the critic."""
        samples, averaged = self._samples(generator), self._embed(self._samples(average))
        precision, coverage = self._precision_and_coverage(averaged)
        critic_real, slope_real = _critic_statistics(critic, self.real)
        critic_fake, slope_fake = _critic_statistics(critic, samples)
        return Observation(
            images_seen=images_seen,
            distance=frechet_distance(averaged, self._rows),
            distance_now=frechet_distance(self._embed(samples), self._rows),
            floor=self._floor,
            untrained=self._untrained,
            precision=precision,
            precision_floor=self._precision_floor,
            coverage=coverage,
            coverage_floor=self._coverage_floor,
            spread=float(pdist(averaged).mean()) / max(self._real_spread, 1e-12),
            critic_real=critic_real,
            critic_fake=critic_fake,
            slope_real=slope_real,
            slope_fake=slope_fake,
        )

    def _samples(self, generator: nn.Module) -> Pixels:
        device = next(generator.parameters()).device
        return generate_pixels(generator, self._latents.to(device), BATCH)

    def _precision_and_coverage(self, rows: Rows) -> tuple[float, float]:
        precision = precision_recall(self._rows, rows, self._seed).precision
        return precision.mean, density_coverage(self._rows, rows, self._seed).coverage.mean


def parse_observation(row: Mapping[str, Any]) -> Observation:
    """Read an observation from a row of watch.jsonl."""
    return Observation(**{**row, "images_seen": int(row["images_seen"])})


def classify_run(observations: Sequence[Observation], stopped: str | None = None) -> Verdict:
    """Give a verdict; `stopped` is the message of a training that ended in a non-finite number.

    Raises ValueError for fewer than 8 observations, unless `stopped` is given.
    """
    details = _critic_details(observations)
    if stopped is not None:
        return Verdict("diverged", (stopped, *details))
    if len(observations) < MIN_OBSERVATIONS:
        raise ValueError(f"verdict: needs {MIN_OBSERVATIONS} observations, got {len(observations)}")
    curves = _Curves(observations)
    for rule in (_collapsed, _diverged, _oscillating, _unfinished):
        if verdict := rule(curves):
            return Verdict(verdict.name, (*verdict.reasons, *details))
    reasons = (curves.level_text(), curves.trend_text(), curves.realism_text())
    return Verdict("converged", (*reasons, *details))


def verdict_label(verdict: Verdict, observations: Sequence[Observation]) -> str:
    """Return the verdict's name; a converged run with poor samples is marked as such."""
    if verdict.name != "converged" or not observations:
        return verdict.name
    curves = _Curves(observations)
    poor = curves.final("precision") < POOR * curves.last.precision_floor
    return f"{verdict.name} (poor samples)" if poor else verdict.name


def diagnose_gamma(
    history: Sequence[Mapping[str, float]], gamma_at: Callable[[float], float]
) -> tuple[str, ...]:
    """Return a line for each sign of a wrong gamma in rows of history.jsonl, usually none.

    Valid for the relativistic pairing loss with R1 and R2. If gamma is too large, the critic gives
    up: the pairing loss goes to ln 2 and the slopes to 0. If it is too small, the critic runs away:
    its outputs at real images and samples lie far apart and its slopes grow. The penalty contains
    gamma, which follows a schedule, so the slopes are the penalty without gamma. `gamma_at` gives
    gamma after a number of images. Returns nothing for fewer than 8 rows or a gamma of 0.
    """
    weights = np.array([gamma_at(row["images_seen"]) for row in history])
    if len(history) < MIN_OBSERVATIONS or weights.min() <= 0:
        return ()
    loss, gap, penalty = (
        np.array([row[name] for row in history]) for name in ("critic_loss", "gap", "penalty")
    )
    # |grad D|^2 at reals plus samples; medians of quarters, because single rows fluctuate.
    slopes = 2 * penalty / weights
    quarter = len(history) // 4
    end, second = slice(-quarter, None), slice(quarter, 2 * quarter)
    pairing = float(np.median((loss - penalty)[end]))
    final_penalty, final_slope = float(np.median(penalty[end])), float(np.median(slopes[end]))
    steepest, early_slope = float(slopes.max()), float(np.median(slopes[second]))
    final_gap = float(np.median(gap[end]))

    lines = []
    vanished = final_penalty <= VANISHED and final_slope <= SLOPE_LOSS * steepest
    if pairing >= UNINFORMED * math.log(2) and vanished:
        lines.append(
            f"signs that gamma is too large: the critic's loss without its penalty is "
            f"{pairing:.3f} at the end (ln 2 = 0.693 means no separation), and its squared slopes "
            f"fell from {steepest:.3g} to {final_slope:.3g} (samples as good as real images would "
            "have the same effect)"
        )
    if final_gap > MAX_GAP and final_slope > SLOPE_GROWTH * early_slope:
        lines.append(
            f"signs that gamma is too small: the critic's outputs at reals and samples are "
            f"{final_gap:.2f} apart at the end (usually below {MAX_GAP:g}), and its squared slopes "
            f"grew from {early_slope:.3g} to {final_slope:.3g}"
        )
    return tuple(lines)


class _Curves:
    """Observations as curves, with the statistics that the rules compare."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        self.observations, self.last = observations, observations[-1]
        self.second_half = observations[len(observations) // 2 :]

    def final(self, field: str) -> float:
        # The median of the last quarter: a single observation in a swing does not decide.
        quarter = self.observations[-(len(self.observations) // 4) :]
        return float(np.median([getattr(row, field) for row in quarter]))

    def progress(self, distance: float) -> float:
        # From an untrained generator (0) to the floor (1).
        floor, untrained = self.last.floor, self.last.untrained
        return (untrained - distance) / max(untrained - floor, 1e-12)

    def log_distances(self, field: str) -> NDArray[np.float64]:
        # Of the second half. The floor is added because near it the distance is mostly sampling
        # noise.
        return np.log([getattr(row, field) + row.floor + 1e-12 for row in self.second_half])

    def is_falling(self) -> bool:
        # Far from the floor the log distance hardly changes, so progress counts there.
        if _fall(self.log_distances("distance")) > FALLING:
            return True
        progress = np.array([self.progress(row.distance) for row in self.second_half])
        far = self.progress(self.final("distance")) < MIN_PROGRESS
        return far and -_fall(progress) > FALLING_PROGRESS

    def level_text(self) -> str:
        end = self.final("distance")
        return (
            f"distance {end:.3g} at the end (floor {self.last.floor:.3g}, untrained "
            f"{self.last.untrained:.3g}): {self.progress(end):.0%} progress"
        )

    def trend_text(self) -> str:
        fall = _fall(self.log_distances("distance"))
        verb = "fell" if fall >= 0 else "rose"
        return f"over the second half the distance {verb} by {abs(np.expm1(-fall)):.0%}"

    def realism_text(self) -> str:
        return (
            f"precision {self.final('precision'):.2f} (real images: "
            f"{self.last.precision_floor:.2f}), coverage {self.final('coverage'):.2f} (real "
            f"images: {self.last.coverage_floor:.2f})"
        )


def _collapsed(curves: _Curves) -> Verdict | None:
    precision, coverage, spread = map(curves.final, ("precision", "coverage", "spread"))
    realistic = precision >= REALISTIC * curves.last.precision_floor
    few = coverage < MIN_COVERAGE * curves.last.coverage_floor
    near = curves.progress(curves.final("distance")) >= MIN_PROGRESS
    shrunk = spread < SPREAD_LOSS * max(row.spread for row in curves.observations)
    alike = spread < MIN_SPREAD and (near or shrunk)
    if not (alike or (realistic and few)):
        return None
    reason = f"samples are {spread:.2f} times as far apart as real images (minimum {MIN_SPREAD})"
    return Verdict("collapsed", (reason, curves.realism_text()))


def _diverged(curves: _Curves) -> Verdict | None:
    progress = curves.progress(curves.final("distance"))
    best = min(row.distance for row in curves.observations)
    lost = curves.progress(best) - progress
    if progress < MIN_PROGRESS and not curves.is_falling():
        return Verdict("diverged", (curves.level_text(), f"the minimum is {MIN_PROGRESS:.0%}"))
    if lost > MAX_LOST_PROGRESS:
        reason = f"the best distance was {best:.3g}: {lost:.0%} of progress was lost again"
        return Verdict("diverged", (curves.level_text(), reason))
    return None


def _oscillating(curves: _Curves) -> Verdict | None:
    # The swing is the deviation from the nearest curve that never rises, however it falls.
    logs = curves.log_distances("distance_now")
    falling = IsotonicRegression(increasing=False).fit_transform(np.arange(len(logs)), logs)
    swing = float(np.sqrt(np.square(logs - falling).mean()))
    if swing <= MAX_SWING:
        return None
    values = [row.distance_now for row in curves.second_half]
    reason = (
        f"the plain generator's distance swings by {swing:.0%} about its own fall over the second "
        f"half, between {min(values):.3g} and {max(values):.3g}"
    )
    return Verdict("oscillating", (reason, curves.level_text()))


def _unfinished(curves: _Curves) -> Verdict | None:
    if not curves.is_falling():
        return None
    return Verdict("unfinished", (curves.trend_text(), curves.level_text()))


def _fall(values: NDArray[np.float64]) -> float:
    # How far the least-squares line through the values falls.
    return -float(np.polyfit(np.linspace(0, 1, len(values)), values, 1)[0])


def _critic_details(observations: Sequence[Observation]) -> tuple[str, ...]:
    if not observations:
        return ()
    middle, last = observations[len(observations) // 2], observations[-1]
    gap = last.critic_real - last.critic_fake
    drift = last.critic_real - middle.critic_real
    return (
        f"the critic's slope is {last.slope_real:.3g} at reals and {last.slope_fake:.3g} at "
        f"samples; its outputs lie {gap:.3g} apart and drifted by {drift:.3g} over the second half",
    )


def _critic_statistics(critic: nn.Module, pixels: Pixels) -> tuple[float, float]:
    # Mean output, and the root mean square over images of the gradient norm.
    device = next(critic.parameters()).device
    outputs, squared_norms = [], []
    for batch in to_signed_float(pixels).split(BATCH):
        images = batch.to(device).requires_grad_()
        scores: Tensor = critic(images)
        (gradient,) = torch.autograd.grad(scores.sum(), images)
        outputs.append(scores.detach())
        squared_norms.append(gradient.flatten(1).square().sum(1))
    return float(torch.cat(outputs).mean()), float(torch.cat(squared_norms).mean().sqrt())
