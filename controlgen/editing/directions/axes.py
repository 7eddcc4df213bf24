"""Axes without labels: the directions along which the bank's features, the generator's first layer
or its early activations vary most. The union is the registry.

An axis of latents is a unit vector, and one sigma along it is one unit of the standard normal; an
axis of features is as long as one sigma of the bank. Axes are counted from 1, the largest first,
and each is turned so that its component of the largest magnitude is positive.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import eigh
from torch import Tensor

from controlgen import rng
from controlgen.base_config import BaseConfig
from controlgen.editing.feature_pca import Statistics
from controlgen.errors import ConfigError
from controlgen.types import Direction, Latents
from controlgen.utils.cancellation import raise_if_cancelled

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]
STILL = 1e-10  # of the largest variance: what moves less than that is rounding, and no axis
AT_ONCE = 256  # latents that go through the generator together


class EarlyGenerator(Protocol):
    """A generator that shows its first layer; every network family's does."""

    @property
    def latent_size(self) -> int: ...

    def first_layer(self) -> Tensor: ...

    def first_activation(self, latents: Tensor) -> Tensor: ...

    def first_stage(self, latents: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Axes:
    """k axes of one family, the largest first.

    `rows` are unit vectors of latents (k z), or where `latent` is false changes of features worth
    one sigma of the bank (k d). `variances` (k) are what they were sorted by.
    """

    family: str
    latent: bool
    rows: Rows
    variances: Floats

    @property
    def shares(self) -> Floats:
        """Each axis's variance over that of all of them (k), 0..1."""
        return np.asarray(self.variances / max(self.variances.sum(), 1e-300))

    def place(self, index: int) -> int:
        """Where axis `index` (from 1) stands in the arrays. Raises ConfigError beyond the last."""
        said = f'axis("{self.family}", {index})'
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise ConfigError(f"{said}: axes are counted in whole numbers from 1")
        if index < 1:
            raise ConfigError(f"{said}: axes are counted from 1")
        if index > len(self.rows):
            raise ConfigError(f"{said}: there are {len(self.rows)} of them here, counted from 1")
        return int(index) - 1


class PrincipalComponents(BaseConfig):
    """Principal components of the bank's features, those that the map's statistics keep."""

    kind: Literal["pca"] = "pca"

    def find(self, generator: EarlyGenerator, statistics: Statistics) -> Axes:
        """Changes of features (k d), each of one sigma of the bank along a component."""
        components, variances = statistics.components, statistics.variances.astype(np.float64)
        return _sorted(self.kind, False, components, variances, np.sqrt(variances))


class Sefa(BaseConfig):
    """Closed-form factorisation (Shen & Zhou 2021, arXiv:2007.06600, equation 5): eigenvectors of
    A^T A, for the generator's first affine map A of the latent.
    """

    kind: Literal["sefa"] = "sefa"

    def find(self, generator: EarlyGenerator, statistics: Statistics) -> Axes:
        """Unit vectors of latents (k z) sorted by |A v|^2; those that move nothing are left out."""
        layer = generator.first_layer().detach().cpu().double().numpy()
        variances, columns = eigh(layer.T @ layer)
        return _sorted(self.kind, True, columns.T, variances)


class Ganspace(BaseConfig):
    """Principal components of early activations, taken back to latents (Harkonen et al. 2020,
    arXiv:2004.02546, section 2.2: the generator whose latent is not mapped first).
    """

    kind: Literal["ganspace"] = "ganspace"
    n: int = Field(4_000, ge=16, description="latents whose activations are looked at")
    layer: Literal["stage", "linear"] = Field(
        "stage", description="activations where the first stage ends, or of the first layer alone"
    )
    seed: int = Field(0, ge=0)

    def find(self, generator: EarlyGenerator, statistics: Statistics) -> Axes:
        """Unit vectors of latents (k z), k at most z, sorted by the variance of the activations.

        Sampled activations have principal coordinates x (n k); the axes are the columns of the U
        that makes |z - U x|^2 least. The coordinates are uncorrelated, so column k is
        z^T x_k / |x_k|^2 whatever the others are.
        """
        z = generator.latent_size
        latents = rng.normals(self.seed, self.kind, 0, self.n, z)
        layer = generator.first_stage if self.layer == "stage" else generator.first_activation
        coordinates, variances = _principal(_activations(layer, latents), min(z, self.n - 1))
        lifted = coordinates.T @ latents.astype(np.float64)
        lengths = np.linalg.norm(lifted, axis=1, keepdims=True)
        return _sorted(self.kind, True, lifted / np.maximum(lengths, 1e-300), variances)


AnyAxes = Annotated[Sefa | Ganspace | PrincipalComponents, Field(discriminator="kind")]
FAMILIES: dict[str, type[Sefa | Ganspace | PrincipalComponents]] = {
    member().kind: member for member in get_args(get_args(AnyAxes)[0])
}


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis. `index` counts from 1.

    `latent` (z) is its unit vector of latents, None for a family of features. `direction` (d) is
    what one sigma along it changes in features. `share` is its part of its family's variance, 0..1.
    `consistency` is that of `mean_change` in axis_finder.py; None for a family of features, whose
    direction is asked for and not seen on samples.
    """

    family: str
    index: int
    latent: NDArray[np.float32] | None
    direction: Direction
    share: float
    consistency: float | None


def _sorted(
    family: str,
    latent: bool,
    rows: NDArray[np.floating],
    variances: Floats,
    lengths: Floats | None = None,
) -> Axes:
    # Largest variance first, the largest component positive, without what does not move.
    order = np.argsort(-variances, kind="stable")
    order = order[variances[order] > STILL * max(variances.max(initial=0), 0)]
    kept = np.asarray(rows, np.float64)[order]
    largest = np.take_along_axis(kept, np.abs(kept).argmax(1)[:, None], axis=1)
    kept *= np.where(largest < 0, -1.0, 1.0)
    if lengths is not None:
        kept *= lengths[order, None]
    return Axes(family, latent, np.ascontiguousarray(kept, np.float32), variances[order])


def _activations(layer: Callable[[Tensor], Tensor], latents: Latents) -> Floats:
    # What a layer makes of latents (n z), one flat row each (n f).
    rows: Floats | None = None
    with torch.no_grad():
        for first in range(0, len(latents), AT_ONCE):
            raise_if_cancelled()
            part = layer(torch.from_numpy(latents[first : first + AT_ONCE])).flatten(1).cpu()
            if rows is None:
                rows = np.empty((len(latents), part.shape[1]))
            rows[first : first + AT_ONCE] = part.numpy()
    return np.empty((0, 0)) if rows is None else rows


def _principal(rows: Floats, most: int) -> tuple[Floats, Floats]:
    # Principal coordinates (n k) of rows (n f) and their variances (k), k at most `most`. The
    # smaller of the two products has the same eigenvalues and is the cheaper one.
    rows -= rows.mean(0)  # They are many; no copy is made.
    n, f = rows.shape
    product = rows.T @ rows if f <= n else rows @ rows.T
    kept = [max(len(product) - most, 0), len(product) - 1]
    values, vectors = eigh(product, subset_by_index=kept)
    values = np.maximum(values, 0)
    coordinates = rows @ vectors if f <= n else vectors * np.sqrt(values)
    return np.asarray(coordinates), np.asarray(values / n)
