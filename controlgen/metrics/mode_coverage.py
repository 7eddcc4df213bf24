"""Mode coverage: which known modes does a generator produce? Stacked MNIST, mixtures, classes.

Metz et al. 2017 (Unrolled GAN), section 3.3: the number of modes with at least one sample (higher
is better, at most k) and KL(generated || real) over modes in nats (lower is better, 0 at best).
Both depend on n: n samples of a perfect generator miss some modes and have a KL of about (k - 1) /
2n, so the score of a perfect generator at this n is part of the result.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.jackknife import half_width, jackknife_error
from controlgen.rng import stream

STACKED = 1000  # modes of three stacked digits
DRAWS = 200  # perfect generators behind the floor
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ModeCoverage:
    """`covered` of `modes` modes in n samples, and KL(generated || real) in nats.

    `perfect_seen` and `perfect_kl` are the means over perfect generators at the same n.
    """

    n: int
    modes: int
    covered: int
    kl: Interval
    perfect_seen: float
    perfect_kl: float


def stacked_mnist_modes(digits: NDArray[np.integer]) -> NDArray[np.int64]:
    """Digits 0..9 of three channels (n 3) -> mode 0..999 (n): 100 first + 10 second + third.

    Raises ValueError on other shapes or numbers.
    """
    if digits.ndim != 2 or digits.shape[1] != 3 or ((digits < 0) | (digits > 9)).any():
        raise ValueError(f"stacked_calls: needs digits 0..9 of three channels, got {digits.shape}")
    return np.asarray(digits.astype(np.int64) @ np.array([100, 10, 1]))


def mixture_modes(
    points: NDArray[np.floating], centres: NDArray[np.floating], spread: float, within: float = 3.0
) -> NDArray[np.int64]:
    """The component (0..k - 1) of each point (n d), or -1 for none: (n).

    A point counts if it lies within `within` deviations `spread` of its nearest centre (k d), the
    high-quality samples of Srivastava et al. 2017 (VEEGAN), section 4.1.
    """
    apart = np.linalg.norm(points[:, None] - centres[None], axis=2)
    nearest = apart.argmin(1)
    return np.where(apart.min(1) <= within * spread, nearest, -1)


def mode_coverage(
    calls: NDArray[np.integer],
    seed: int,
    modes: int = STACKED,
    shares: NDArray[np.floating] | None = None,
) -> ModeCoverage:
    """Modes covered by the calls (n), each 0..modes - 1, against real `shares` (modes) or equal
    ones.

    The 95 % interval of KL is the jackknife's (it keeps the bias at this n) and stops at 0. Raises
    ValueError below two calls, for calls out of range, and for shares that are not positive with
    sum 1 (a mode without a real image would make KL infinite: leave it out).
    """
    if len(calls) < 2 or calls.min() < 0 or calls.max() >= modes:
        raise ValueError(f"mode_coverage: needs two calls or more, all in 0..{modes - 1}")
    real = np.full(modes, 1 / modes) if shares is None else np.asarray(shares, np.float64)
    if real.shape != (modes,) or not (real > 0).all() or abs(real.sum() - 1) > 1e-6:
        raise ValueError(f"mode_coverage: needs {modes} positive shares that sum to 1")
    n = len(calls)
    counts = np.bincount(calls, minlength=modes).astype(np.float64)
    divergence = float(_kl(counts / n, real))

    # Leaving out any call of one mode gives the same value, so it is computed once per mode.
    terms, logs = xlogy(counts, counts) - xlogy(counts, real), np.zeros(modes)
    covered = np.flatnonzero(counts)
    fewer = counts[covered] - 1
    logs[covered] = terms.sum() - terms[covered] + xlogy(fewer, fewer) - xlogy(fewer, real[covered])
    left_out = np.repeat(logs / (n - 1) - np.log(n - 1), counts.astype(np.int64))
    reach = half_width(jackknife_error(left_out), n)

    # Perfect generators draw from the real shares.
    perfect = stream(seed, "perfect modes", n).multinomial(n, real / real.sum(), size=DRAWS)
    return ModeCoverage(
        n=n,
        modes=modes,
        covered=len(covered),
        kl=Interval(divergence, max(divergence - reach, 0.0), divergence + reach, n),
        perfect_seen=float((perfect > 0).sum(1).mean()),
        perfect_kl=float(_kl(perfect / n, real).mean()),
    )


def _kl(shares: Floats, real: Floats) -> Floats:
    # Sum over modes of p log(p / q), where a mode without samples adds nothing.
    return np.asarray((xlogy(shares, shares) - xlogy(shares, real)).sum(-1))
