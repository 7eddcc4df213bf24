"""Unsupervised axes: the directions of largest variance of the bank's features, the generator's
first layer or its early activations. The union is the registry.

A latent axis is a unit vector, so that one sigma is one unit of the standard normal; a feature axis
has the length of one sigma of the bank. Axes count from 1 by falling variance, and the component of
the largest magnitude is positive.
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
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ConfigError
from controlgen.types import Direction, Latents
from controlgen.utils.cancellation import raise_if_cancelled

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]
MIN_VARIANCE_RATIO = 1e-10  # to the largest variance; smaller ones are rounding errors
BATCH_SIZE = 256  # latents per forward pass


class HasEarlyLayers(Protocol):
    """A generator with access to its first layers, as every network family has."""

    @property
    def latent_size(self) -> int: ...

    def first_layer(self) -> Tensor: ...

    def first_activation(self, latents: Tensor) -> Tensor: ...

    def first_stage(self, latents: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Axes:
    """k axes of one family by falling variance.

    `vectors` are unit latent vectors (k z) where `latent` is true, else feature directions of one
    sigma of the bank (k d). `variances` (k) define the order.
    """

    family: str
    latent: bool
    vectors: Rows
    variances: Floats

    @property
    def shares(self) -> Floats:
        """The share (k) of each axis in the variance of all axes, 0..1."""
        return np.asarray(self.variances / max(self.variances.sum(), 1e-300))

    def index_of(self, index: int) -> int:
        """The array index of axis `index` (from 1). Raises ConfigError where there is none."""
        label = f'axis("{self.family}", {index})'
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise ConfigError(f"{label}: an axis index is a whole number from 1")
        if index < 1:
            raise ConfigError(f"{label}: axis indices start at 1")
        if index > len(self.vectors):
            raise ConfigError(f"{label}: there are only {len(self.vectors)} axes here")
        return int(index) - 1


class PrincipalComponents(BaseConfig):
    """Principal components of the bank's features, as far as the map stores them."""

    kind: Literal["pca"] = "pca"

    def fit(self, generator: HasEarlyLayers, statistics: FeaturePCA) -> Axes:
        """Feature directions (k d) of one sigma of the bank along each component."""
        components, variances = statistics.components, statistics.variances.astype(np.float64)
        return _sorted_axes(self.kind, False, components, variances, np.sqrt(variances))


class Sefa(BaseConfig):
    """Closed-form factorisation (Shen & Zhou 2021, arXiv:2007.06600, equation 5): eigenvectors of
    A^T A, for the generator's first affine map A of the latent.
    """

    kind: Literal["sefa"] = "sefa"

    def fit(self, generator: HasEarlyLayers, statistics: FeaturePCA) -> Axes:
        """Unit latent vectors (k z) sorted by |A v|^2, without those of zero effect."""
        layer = generator.first_layer().detach().cpu().double().numpy()
        variances, columns = eigh(layer.T @ layer)
        return _sorted_axes(self.kind, True, columns.T, variances)


class Ganspace(BaseConfig):
    """Principal components of early activations, regressed to latents (Harkonen et al. 2020,
    arXiv:2004.02546, section 2.2, for a generator without a mapping network).
    """

    kind: Literal["ganspace"] = "ganspace"
    n: int = Field(4_000, ge=16, description="latents whose activations are sampled")
    layer: Literal["stage", "linear"] = Field(
        "stage", description="activations after the first stage, or after the first linear layer"
    )
    seed: int = Field(0, ge=0)

    def fit(self, generator: HasEarlyLayers, statistics: FeaturePCA) -> Axes:
        """Unit latent vectors (k z), k <= z, sorted by the variance of the activations.

        Sampled activations have principal coordinates x (n k); the axes are the columns of the U
        that minimises |z - U x|^2. The coordinates are uncorrelated, so column k is
        z^T x_k / |x_k|^2, independent of the others.
        """
        z = generator.latent_size
        latents = rng.normals(self.seed, self.kind, 0, self.n, z)
        layer = generator.first_stage if self.layer == "stage" else generator.first_activation
        activations = _activations(layer, latents)
        coordinates, variances = _principal_coordinates(activations, min(z, self.n - 1))
        lifted = coordinates.T @ latents.astype(np.float64)
        lengths = np.linalg.norm(lifted, axis=1, keepdims=True)
        return _sorted_axes(self.kind, True, lifted / np.maximum(lengths, 1e-300), variances)


AnyAxes = Annotated[Sefa | Ganspace | PrincipalComponents, Field(discriminator="kind")]
FAMILIES: dict[str, type[Sefa | Ganspace | PrincipalComponents]] = {
    member().kind: member for member in get_args(get_args(AnyAxes)[0])
}


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis. `index` counts from 1.

    `latent` (z) is its unit latent vector, None for a feature axis. `direction` (d) is the effect
    of one sigma on features. `share` is its share of the family's variance, 0..1. `consistency` is
    that of `mean_and_consistency`; None for a feature axis, whose direction is not measured.
    """

    family: str
    index: int
    latent: NDArray[np.float32] | None
    direction: Direction
    share: float
    consistency: float | None


def _sorted_axes(
    family: str,
    latent: bool,
    vectors: NDArray[np.floating],
    variances: Floats,
    lengths: Floats | None = None,
) -> Axes:
    # By falling variance, the largest component positive, without axes of zero variance.
    order = np.argsort(-variances, kind="stable")
    order = order[variances[order] > MIN_VARIANCE_RATIO * max(variances.max(initial=0), 0)]
    ordered = np.asarray(vectors, np.float64)[order]
    largest = np.take_along_axis(ordered, np.abs(ordered).argmax(1)[:, None], axis=1)
    ordered *= np.where(largest < 0, -1.0, 1.0)
    if lengths is not None:
        ordered *= lengths[order, None]
    return Axes(family, latent, np.ascontiguousarray(ordered, np.float32), variances[order])


def _activations(layer: Callable[[Tensor], Tensor], latents: Latents) -> Floats:
    # Flattened activations (n f) of a layer for latents (n z).
    rows: Floats | None = None
    with torch.no_grad():
        for first in range(0, len(latents), BATCH_SIZE):
            raise_if_cancelled()
            batch = layer(torch.from_numpy(latents[first : first + BATCH_SIZE])).flatten(1).cpu()
            if rows is None:
                rows = np.empty((len(latents), batch.shape[1]))
            rows[first : first + BATCH_SIZE] = batch.numpy()
    return np.empty((0, 0)) if rows is None else rows


def _principal_coordinates(rows: Floats, max_components: int) -> tuple[Floats, Floats]:
    # Principal coordinates (n k) of rows (n f) and their variances (k). The Gram matrix has the
    # eigenvalues of the covariance matrix; the smaller of the two is cheaper.
    rows -= rows.mean(0)  # in place: the array is large
    n, f = rows.shape
    product = rows.T @ rows if f <= n else rows @ rows.T
    largest = [max(len(product) - max_components, 0), len(product) - 1]
    values, vectors = eigh(product, subset_by_index=largest)
    values = np.maximum(values, 0)
    coordinates = rows @ vectors if f <= n else vectors * np.sqrt(values)
    return np.asarray(coordinates), np.asarray(values / n)
