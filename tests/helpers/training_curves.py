"""What a training looks like that goes well or whose critic gave up, and how tests watch one."""

import math
from collections.abc import Callable

import numpy as np

from controlgen.evaluation.convergence import Evidence

GOOD = Evidence(
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
    """Rows as training leaves them: the loss holds the penalty, and the penalty holds gamma."""
    rows = []
    for at, (loss, apart, square) in enumerate(zip(pairing, gap, slopes, strict=True)):
        seen = 1000.0 * (at + 1)
        penalty = gamma(seen) / 2 * square
        rows.append(
            {"images_seen": seen, "critic_loss": loss + penalty, "gap": apart, "penalty": penalty}
        )
    return rows
