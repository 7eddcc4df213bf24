"""Compute and cache the axes of one model, and measure their effects on features."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen import rng
from controlgen.editing.directions.axes import FAMILIES, Axes, Axis
from controlgen.editing.protocols import AxisSource
from controlgen.errors import ConfigError
from controlgen.types import Direction, Features

N_SAMPLES = 256  # samples on which the effect of a latent axis is measured


class FeatureChange(NamedTuple):
    """The mean of feature changes (d) and their consistency, 0..1."""

    direction: Direction
    consistency: float


class AxisCache:
    """The axes of one model; each family and each axis is computed once."""

    def __init__(self, model: AxisSource) -> None:
        self._model = model
        self._families: dict[str, Axes] = {}
        self._axes: dict[tuple[str, int], Axis] = {}

    def family(self, name: str) -> Axes:
        """All axes of a family at its default settings.

        Raises ConfigError for an unknown family, and where no variance is left.
        """
        if name not in FAMILIES:
            raise ConfigError(f"axes {name!r}: unknown family; choose from {', '.join(FAMILIES)}")
        if name not in self._families:
            axes = FAMILIES[name]().fit(self._model.generator, self._model.statistics)
            if not len(axes.vectors):
                raise ConfigError(f"axes {name!r}: there is no variance, hence no axis")
            self._families[name] = axes
        return self._families[name]

    def axis(self, family: str, index: int) -> Axis:
        """One axis. Raises ConfigError for an unknown family or index."""
        axes = self.family(family)
        position = axes.index_of(index)
        if (key := (family, position)) not in self._axes:
            vector, share = axes.vectors[position], float(axes.shares[position])
            if axes.latent:
                effect = axis_effect_on_features(self._model, vector)
                axis = Axis(
                    family, position + 1, vector, effect.direction, share, effect.consistency
                )
            else:
                axis = Axis(family, position + 1, None, vector, share, None)
            self._axes[key] = axis
        return self._axes[key]


def axis_effect_on_features(
    model: AxisSource,
    latent: NDArray[np.float32],
    step: float = 1.0,
    n: int = N_SAMPLES,
    seed: int = 0,
) -> FeatureChange:
    """The mean effect on features of adding `latent` v (z) to n sampled latents z.

    The central difference (embed(G(z + step v)) - embed(G(z - step v))) / (2 step). Raises
    ConfigError where `step` is not above 0 or n is below 1.
    """
    if n < 1 or not (np.isfinite(step) and step > 0):
        raise ConfigError(f"axes: step must be above 0 (is {step}) and n at least 1 (is {n})")
    sources = rng.normals(seed, "axis sources", 0, n, model.latent_size)
    shift = np.float32(step) * np.asarray(latent, np.float32)
    ends = [model.embed(model.generate(sources + sign * shift)) for sign in (1, -1)]
    return mean_and_consistency((ends[0] - ends[1]) / np.float32(2 * step))


def mean_and_consistency(changes: Features) -> FeatureChange:
    """The mean of changes (n d) and its consistency |mean| / mean |change|, 0 for zero changes.

    1 where all changes are equal; about 1 / sqrt(n) for independent changes without a common part.
    """
    rows = np.asarray(changes, np.float64)
    mean, lengths = rows.mean(0), np.linalg.norm(rows, axis=1)
    consistency = np.linalg.norm(mean) / lengths.mean() if lengths.any() else 0.0
    return FeatureChange(np.asarray(mean, np.float32), float(consistency))
