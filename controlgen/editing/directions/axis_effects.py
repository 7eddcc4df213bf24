"""The axes of one model, each found once, and what they do to its features."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen import rng
from controlgen.editing.directions.axes import FAMILIES, Axes, Axis
from controlgen.editing.protocols import Walked
from controlgen.errors import ConfigError
from controlgen.types import Direction, Features

SOURCES = 256  # samples that a latent axis is walked on to see what it does to features


class FeatureChange(NamedTuple):
    """A mean change of features (d) and how far the single changes agree with it, 0..1."""

    direction: Direction
    consistency: float


class AxisFinder:
    """The axes of one model; each family and each axis is found once."""

    def __init__(self, model: Walked) -> None:
        self._model = model
        self._families: dict[str, Axes] = {}
        self._axes: dict[tuple[str, int], Axis] = {}

    def family(self, name: str) -> Axes:
        """All axes of a family, with its default settings. Raises ConfigError for an unknown one.

        Raises ConfigError also where nothing varies, so that there is no axis.
        """
        if name not in FAMILIES:
            raise ConfigError(f"axes {name!r}: there is {', '.join(FAMILIES)}")
        if name not in self._families:
            found = FAMILIES[name]().find(self._model.generator, self._model.statistics)
            if not len(found.rows):
                raise ConfigError(f"axes {name!r}: nothing varies here, so there is none")
            self._families[name] = found
        return self._families[name]

    def axis(self, family: str, index: int) -> Axis:
        """One axis. Raises ConfigError for an unknown family, and beyond the first or the last."""
        axes = self.family(family)
        place = axes.place(index)
        if (key := (family, place)) not in self._axes:
            row, share = axes.rows[place], float(axes.shares[place])
            if axes.latent:
                seen = feature_direction(self._model, row)
                found = Axis(family, place + 1, row, seen.direction, share, seen.consistency)
            else:
                found = Axis(family, place + 1, None, row, share, None)
            self._axes[key] = found
        return self._axes[key]


def feature_direction(
    model: Walked,
    latent: NDArray[np.float32],
    step: float = 1.0,
    n: int = SOURCES,
    seed: int = 0,
) -> FeatureChange:
    """What a move of the latent by `latent` (z) does to features, the mean over n samples.

    Of embed(G(z + step v)) - embed(G(z - step v)), over 2 step. Raises ConfigError where `step` is
    not above 0 or there are no samples.
    """
    if n < 1 or not (np.isfinite(step) and step > 0):
        raise ConfigError(f"axes: step {step} must be above 0, and n {n} at least 1")
    sources = rng.normals(seed, "axis sources", 0, n, model.latent_size)
    move = np.float32(step) * np.asarray(latent, np.float32)
    ends = [model.embed(model.generate(sources + sign * move)) for sign in (1, -1)]
    return mean_change((ends[0] - ends[1]) / np.float32(2 * step))


def mean_change(changes: Features) -> FeatureChange:
    """Mean of changes (n d) and its consistency, |mean| / mean |change|; 0 where none changes.

    1 where every sample changes alike; of n independent changes without a common part about
    1 / sqrt(n), so read it against that.
    """
    table = np.asarray(changes, np.float64)
    mean, lengths = table.mean(0), np.linalg.norm(table, axis=1)
    consistency = np.linalg.norm(mean) / lengths.mean() if lengths.any() else 0.0
    return FeatureChange(np.asarray(mean, np.float32), float(consistency))
