"""How did a training go? Evidence gathered on the way, and a verdict from it alone.

`Watcher` looks at generator and critic now and then, always with the same latents and the same real
images, so that its curves move because the training does. `verdict` reads the curves:

diverged     a loss was not a number, or samples stay far from the real ones, or left them again
collapsed    samples look like real images, but reach few of them, or became too alike
oscillating  the distance of the plain generator swings about its own fall
unfinished   the distance is still falling, be it far from the floor: more images would help
converged    none of these: it stays where it is, which may be among poor samples (`qualified`)

Thresholds are this project's own and stand below; every verdict says the numbers it rests on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from sklearn.isotonic import IsotonicRegression
from torch import Tensor, nn

from controlgen.images import generated, to_unit
from controlgen.metrics.frechet import frechet_distance
from controlgen.metrics.precision_recall import density_coverage, precision_recall
from controlgen.rng import normals, stream
from controlgen.types import Dataset, Pixels

Name = Literal["diverged", "collapsed", "oscillating", "unfinished", "converged"]
Rows = NDArray[np.floating]
FEWEST = 8  # observations from which a verdict is given
NEAR = 0.5  # share of the way from an untrained generator to the floor, below which it is not near
LEFT = 0.15  # share of that way that may be lost again after the best moment
LIKE_REAL = 0.5  # of the precision of real images: above it, samples look like real ones
POOR = 0.25  # of the precision of real images: below it, what has converged is poor
REACHED = 0.5  # of the coverage of real images: below it, such samples have collapsed
ALIKE = 0.5  # of the mean distance of two real images: below it, samples are too alike
MORE_ALIKE = 0.8  # of the largest spread seen; far from the floor samples are alike from birth
SWING = 0.25  # deviation of the log distance about its fall: a swing of a quarter
FALLING = 0.15  # fall of the log distance over the second half, at which it is still falling
ON_ITS_WAY = 0.03  # share of the way made over the second half, at which it is so where it is far
BATCH = 64  # images through the critic at once


@dataclass(frozen=True)
class Evidence:
    """What is seen at one moment, of n samples and n real images.

    `distance` and `distance_now` are Frechet distances to the reals: of the averaged generator and
    of the plain one. `floor` is real against real, `untrained` a generator of fresh weights.
    `precision` and `coverage` (0..1, beside those of other real images) and `spread` (mean distance
    of two samples over that of two reals) are of the averaged generator. The critic's mean output
    and the root mean square of its gradient's norm, at reals and at samples of the plain generator.
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
    """One of the five names, and the numbers it rests on, a line each."""

    name: Name
    reasons: tuple[str, ...]


class Watcher:
    """Looks at a training through `embed` (Pixels -> rows), with `n` latents and `n` real images.

    Nothing it does touches the training: it draws from streams of its own.
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
        other = embed(dataset.pixels(np.sort(order[self.n : 2 * self.n])))
        self._embed, self._seed = embed, seed
        self._latents = torch.from_numpy(normals(seed, "watched latents", 0, self.n, latent_size))
        self._rows = embed(self.real)
        self._pairs = float(pdist(self._rows).mean())
        self._floor = frechet_distance(other, self._rows)
        self._precision_floor, self._coverage_floor = self._likeness(other)
        self._untrained = frechet_distance(embed(self._samples(untrained)), self._rows)

    def look(
        self, images_seen: int, generator: nn.Module, average: nn.Module, critic: nn.Module
    ) -> Evidence:
        """The evidence of this moment."""
        now, averaged = self._samples(generator), self._embed(self._samples(average))
        precision, coverage = self._likeness(averaged)
        critic_real, slope_real = _scores(critic, self.real)
        critic_fake, slope_fake = _scores(critic, now)
        return Evidence(
            images_seen=images_seen,
            distance=frechet_distance(averaged, self._rows),
            distance_now=frechet_distance(self._embed(now), self._rows),
            floor=self._floor,
            untrained=self._untrained,
            precision=precision,
            precision_floor=self._precision_floor,
            coverage=coverage,
            coverage_floor=self._coverage_floor,
            spread=float(pdist(averaged).mean()) / max(self._pairs, 1e-12),
            critic_real=critic_real,
            critic_fake=critic_fake,
            slope_real=slope_real,
            slope_fake=slope_fake,
        )

    def _samples(self, generator: nn.Module) -> Pixels:
        device = next(generator.parameters()).device
        return generated(generator, self._latents.to(device), BATCH)

    def _likeness(self, rows: Rows) -> tuple[float, float]:
        precision = precision_recall(self._rows, rows, self._seed).precision
        return precision.mean, density_coverage(self._rows, rows, self._seed).coverage.mean


def _scores(critic: nn.Module, pixels: Pixels) -> tuple[float, float]:
    # Mean output, and root mean square over images of the norm of its gradient.
    device = next(critic.parameters()).device
    outputs, squares = [], []
    for part in to_unit(pixels).split(BATCH):
        images = part.to(device).requires_grad_()
        scores: Tensor = critic(images)
        (slope,) = torch.autograd.grad(scores.sum(), images)
        outputs.append(scores.detach())
        squares.append(slope.flatten(1).square().sum(1))
    return float(torch.cat(outputs).mean()), float(torch.cat(squares).mean().sqrt())


def evidence_of(row: Mapping[str, Any]) -> Evidence:
    """Evidence from a row of watch.jsonl."""
    return Evidence(**{**row, "images_seen": int(row["images_seen"])})


def row_of(evidence: Evidence) -> dict[str, float]:
    """The row of watch.jsonl that `evidence_of` reads."""
    return asdict(evidence)


def verdict(seen: Sequence[Evidence], stopped: str | None = None) -> Verdict:
    """What the evidence says; `stopped` is the reason where a training broke off at a number that
    was none. Raises ValueError over fewer than 8 observations of a training that did not.
    """
    if stopped is not None:
        return Verdict("diverged", (stopped, *_signs(seen)))
    if len(seen) < FEWEST:
        raise ValueError(f"verdict: needs {FEWEST} observations, got {len(seen)}")
    for rule in (_collapsed, _diverged, _oscillating, _unfinished):
        if found := rule(seen):
            return Verdict(found.name, (*found.reasons, *_signs(seen)))
    told = (_level(seen), _trend_told(seen), _likeness(seen), *_signs(seen))
    return Verdict("converged", told)


def qualified(found: Verdict, seen: Sequence[Evidence]) -> str:
    """The verdict's name, and whether what has converged are samples that hardly look real."""
    if found.name != "converged" or not seen:
        return found.name
    poor = _last(seen, "precision") < POOR * seen[-1].precision_floor
    return f"{found.name} (poor samples)" if poor else found.name


def _last(seen: Sequence[Evidence], field: str) -> float:
    # The median of the last quarter: one look in a swing does not decide.
    return float(np.median([getattr(one, field) for one in seen[-(len(seen) // 4) :]]))


def _way(seen: Sequence[Evidence], distance: float) -> float:
    # Share of the way from an untrained generator (0) to the floor (1).
    floor, untrained = seen[-1].floor, seen[-1].untrained
    return (untrained - distance) / max(untrained - floor, 1e-12)


def _half(seen: Sequence[Evidence], field: str) -> NDArray[np.float64]:
    # The second half's log distances. With the floor added, for at the floor the chance of the draw
    # is as large as what is left.
    return np.log([getattr(one, field) + one.floor + 1e-12 for one in seen[len(seen) // 2 :]])


def _fall(logs: NDArray[np.float64]) -> float:
    # How far the straight line through them falls.
    return -float(np.polyfit(np.linspace(0, 1, len(logs)), logs, 1)[0])


def _goes_on(seen: Sequence[Evidence]) -> bool:
    # Whether the distance still falls; far from the floor its logarithm hardly moves.
    if _fall(_half(seen, "distance")) > FALLING:
        return True
    made = np.array([_way(seen, one.distance) for one in seen[len(seen) // 2 :]])
    return _way(seen, _last(seen, "distance")) < NEAR and -_fall(made) > ON_ITS_WAY


def _swing(logs: NDArray[np.float64]) -> float:
    # Their deviation about the nearest curve that never rises: any way of falling is no swing.
    falling = IsotonicRegression(increasing=False).fit_transform(np.arange(len(logs)), logs)
    return float(np.sqrt(np.square(logs - falling).mean()))


def _level(seen: Sequence[Evidence]) -> str:
    end = _last(seen, "distance")
    return (
        f"distance {end:.3g} at the end (floor {seen[-1].floor:.3g}, untrained "
        f"{seen[-1].untrained:.3g}): {_way(seen, end):.0%} of the way"
    )


def _trend_told(seen: Sequence[Evidence]) -> str:
    fall = _fall(_half(seen, "distance"))
    word = "fell" if fall >= 0 else "rose"
    return f"over the second half the distance {word} by {abs(np.expm1(-fall)):.0%}"


def _likeness(seen: Sequence[Evidence]) -> str:
    precision, coverage = _last(seen, "precision"), _last(seen, "coverage")
    return (
        f"{precision:.2f} of the samples look like real images (real ones: "
        f"{seen[-1].precision_floor:.2f}), and they reach {coverage:.2f} of the real images (real "
        f"ones: {seen[-1].coverage_floor:.2f})"
    )


def _collapsed(seen: Sequence[Evidence]) -> Verdict | None:
    precision, coverage, spread = (_last(seen, of) for of in ("precision", "coverage", "spread"))
    like = precision >= LIKE_REAL * seen[-1].precision_floor
    few = coverage < REACHED * seen[-1].coverage_floor
    near = _way(seen, _last(seen, "distance")) >= NEAR
    became = spread < MORE_ALIKE * max(one.spread for one in seen)
    alike = spread < ALIKE and (near or became)
    if not (alike or (like and few)):
        return None
    return Verdict(
        "collapsed",
        (
            f"samples lie {spread:.2f} as far apart as real images (too alike below {ALIKE})",
            _likeness(seen),
        ),
    )


def _diverged(seen: Sequence[Evidence]) -> Verdict | None:
    end = _last(seen, "distance")
    best = min(one.distance for one in seen)
    lost = _way(seen, best) - _way(seen, end)
    if _way(seen, end) < NEAR and not _goes_on(seen):
        return Verdict("diverged", (_level(seen), f"near is {NEAR:.0%} of the way"))
    if lost > LEFT:
        told = f"at its best the distance was {best:.3g}: {lost:.0%} of the way was lost again"
        return Verdict("diverged", (_level(seen), told))
    return None


def _oscillating(seen: Sequence[Evidence]) -> Verdict | None:
    swing = _swing(_half(seen, "distance_now"))
    if swing <= SWING:
        return None
    values = [one.distance_now for one in seen[len(seen) // 2 :]]
    told = (
        f"the plain generator's distance swings by {swing:.0%} about its own fall over the second "
        f"half, between {min(values):.3g} and {max(values):.3g}"
    )
    return Verdict("oscillating", (told, _level(seen)))


def _unfinished(seen: Sequence[Evidence]) -> Verdict | None:
    return Verdict("unfinished", (_trend_told(seen), _level(seen))) if _goes_on(seen) else None


def _signs(seen: Sequence[Evidence]) -> tuple[str, ...]:
    # What the critic did, for whoever wants to know why.
    if not seen:
        return ()
    first, last = seen[len(seen) // 2], seen[-1]
    gap = last.critic_real - last.critic_fake
    drift = last.critic_real - first.critic_real
    return (
        f"the critic's slope is {last.slope_real:.3g} at reals and {last.slope_fake:.3g} at "
        f"samples; its outputs lie {gap:.3g} apart and drifted by {drift:.3g} over the second half",
    )
