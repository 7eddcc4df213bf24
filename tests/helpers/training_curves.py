"""A healthy observation, losses of a critic that gave up, and settings of a monitored run."""

import math
from collections.abc import Callable

import numpy as np

from controlgen.evaluation.convergence import Observation

GOOD = Observation(
    images_seen=0,
    distance=0.1,
    distance_now=0.12,
    floor=0.05,
    untrained=2.0,
    precision=0.6,
    precision_floor=0.7,
    coverage=0.7,
    coverage_floor=0.95,
    spread=0.95,
    critic_real=1.0,
    critic_fake=0.2,
    slope_real=0.5,
    slope_fake=0.4,
)
WATCH = {"extractor": {"kind": "efficientnet-lite0", "image_size": 32}, "n": 32, "every_images": 8}

# Losses of a critic that gave up, for `history`.
LN2 = math.log(2)
GIVEN_UP = {
    "pairing": np.linspace(0.45, 0.69, 12).tolist() + [LN2] * 8,
    "gap": np.linspace(0.8, 0.01, 12).tolist() + [0.0] * 8,
    "slopes": np.geomspace(0.3, 1e-3, 20).tolist(),
}


def history(
    pairing: list[float], gap: list[float], slopes: list[float], gamma: Callable[[float], float]
) -> list[dict[str, float]]:
    """Rows as in history.jsonl: the loss includes the penalty, and the penalty includes gamma."""
    rows = []
    for step, (loss, difference, square) in enumerate(zip(pairing, gap, slopes, strict=True)):
        images_seen = 1000.0 * (step + 1)
        penalty = gamma(images_seen) / 2 * square
        row = {"images_seen": images_seen, "critic_loss": loss + penalty}
        rows.append(row | {"gap": difference, "penalty": penalty})
    return rows
