"""Signs that the weight of R3GAN's penalties was wrong, read off what training showed.

Too large, the critic gives up: its pairing loss goes to ln 2, where it tells nothing apart, while
its slopes go to 0. Too small, the critic runs away: reals and samples lie more than 4 apart while
its slopes grow. The penalty holds gamma, which its schedule lowers; so slopes are read, which are
the penalty without gamma.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

FEWEST = 8  # rows from which anything is said
GIVEN_UP = 0.97  # of ln 2: a pairing loss from which the critic tells hardly anything apart
VANISHED = 0.02  # penalty, in the loss's own unit; trainings that went well keep more than 0.04
FELL = 0.25  # of the steepest slopes (squared) seen, at which they have gone
APART = 4.0  # outputs at reals less those at samples
GREW = 1.1  # slopes (squared) at the end over those of the second quarter


def gamma_signs(
    history: Sequence[Mapping[str, float]], gamma_at: Callable[[float], float]
) -> tuple[str, ...]:
    """What rows of history.jsonl say of gamma, a line each; mostly nothing.

    Only of the relativistic pairing with R1 and R2. `gamma_at` gives the weight after so many
    images. Of fewer than 8 rows, and where a weight was 0, nothing is said.
    """
    weights = np.array([gamma_at(row["images_seen"]) for row in history])
    if len(history) < FEWEST or weights.min() <= 0:
        return ()
    loss, gap, penalty = (
        np.array([row[name] for row in history]) for name in ("critic_loss", "gap", "penalty")
    )
    # |grad D|^2 at reals and at samples together; medians of quarters, for single rows swing.
    slopes = 2 * penalty / weights
    quarter = len(history) // 4
    end, second = slice(-quarter, None), slice(quarter, 2 * quarter)
    pairing = float(np.median((loss - penalty)[end]))
    left, at_end = float(np.median(penalty[end])), float(np.median(slopes[end]))
    steepest, before = float(slopes.max()), float(np.median(slopes[second]))
    apart = float(np.median(gap[end]))

    found = []
    if pairing >= GIVEN_UP * math.log(2) and left <= VANISHED and at_end <= FELL * steepest:
        found.append(
            f"signs that gamma is too large: the critic's loss without its penalty is "
            f"{pairing:.3f} at the end, where ln 2 = 0.693 tells nothing apart, and its squared "
            f"slopes fell from {steepest:.3g} to {at_end:.3g} (samples as good as real images "
            "would do the same)"
        )
    if apart > APART and at_end > GREW * before:
        found.append(
            f"signs that gamma is too small: the critic's outputs at reals and samples lie "
            f"{apart:.2f} apart at the end (usual is below {APART:g}), and its squared slopes grew "
            f"from {before:.3g} to {at_end:.3g}"
        )
    return tuple(found)
