"""A residual MLP from features to latents, taught by least squares and then by the cycle.

The cycle (label-free): what the frozen generator makes of the predicted latent must have the
feature that was asked for, 1 - cos(f(G(h(c))), c), and, where c is the feature of a generated image
G(z), look like it, |G(h(c)) - G(z)|^2. A moment term draws the predicted latents towards standard
normal. Part of the targets are sums of bank features, c + (a - b), because such targets are what
edits ask for; their answers are held to the mean and variance of the plain ones, or they would
leave the shell that the generator knows. Real images may be asked for as well, by the cycle alone.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional

from controlgen import rng
from controlgen.base_config import BaseConfig
from controlgen.regressors._mlp import (
    Scaling,
    edited_targets,
    frozen,
    residual_network,
    restored,
    saved,
    taught,
)
from controlgen.regressors.base import Arrays, MapEstimator, RealTargets, RoundTrip, Table

REAL_SHARE = 0.25  # real images for each generated one of a batch, where there are any


class _Scaled(Scaling):
    """The network between half-whitened features and the latents' own scale."""

    def __init__(self, network: nn.Module, features: Tensor, latents: Tensor) -> None:
        super().__init__(features, latents)
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        return self.unscaled(self.network(self.condition(features)))


def moment_gap(latents: Tensor) -> Tensor:
    """How far a batch (n z) is from mean 0 and variance 1 per coordinate: a scalar, 0 at best."""
    return latents.mean(0).square().mean() + (latents.var(0) - 1).square().mean()


def moment_difference(a: Tensor, b: Tensor) -> Tensor:
    """How far the means and variances per coordinate of two batches (n z), (m z) lie apart."""
    return (a.mean(0) - b.mean(0)).square().mean() + (a.var(0) - b.var(0)).square().mean()


class CycleMLPRegressor(MapEstimator):
    """Parameters as in `CycleMLP`. Without `round_trip` only the least-squares phase is run."""

    fitted_names = ("network",)

    def __init__(
        self,
        width: int = 384,
        depth: int = 3,
        batch_size: int = 256,
        warm_steps: int = 1500,
        cycle_steps: int = 600,
        learning_rate: float = 2e-3,
        latent_weight: float = 0.05,
        pixel_weight: float = 1.0,
        moment_weight: float = 0.01,
        arithmetic_share: float = 0.25,
        edited_moment_weight: float = 0.05,
        seed: int = 0,
    ) -> None:
        self.width = width
        self.depth = depth
        self.batch_size = batch_size
        self.warm_steps = warm_steps
        self.cycle_steps = cycle_steps
        self.learning_rate = learning_rate
        self.latent_weight = latent_weight
        self.pixel_weight = pixel_weight
        self.moment_weight = moment_weight
        self.arithmetic_share = arithmetic_share
        self.edited_moment_weight = edited_moment_weight
        self.seed = seed

    def _learn(
        self, features: Table, latents: Table, round_trip: RoundTrip | None
    ) -> Iterator[float]:
        x, z = (torch.tensor(table, dtype=torch.float32) for table in (features, latents))
        self.network_ = self._network(x, z)

        # Least squares first: cheap steps that bring every latent near its own. Then the cycle.
        phases = [("warm", self.warm_steps, self.learning_rate)]
        if round_trip is not None:
            phases.append(("cycle", self.cycle_steps, self.learning_rate / 2))
        total, before = sum(steps for _, steps, _ in phases), 0
        for phase, steps, rate in phases:
            loss = partial(self._loss, x, z, round_trip, phase)
            for done in taught(self.network_, loss, rate, steps):
                yield (before + done) / total
            before += steps
        frozen(self.network_)

    def _network(self, features: Tensor, latents: Tensor) -> _Scaled:
        sizes = features.shape[1], latents.shape[1]
        network = residual_network(*sizes, self.width, self.depth, self.seed)
        return _Scaled(network, features, latents)

    def _loss(
        self, x: Tensor, z: Tensor, round_trip: RoundTrip | None, phase: str, step: int
    ) -> Tensor:
        draws = rng.torch_stream(self.seed, f"map {phase}", step)
        indices = torch.randint(len(x), (self.batch_size,), generator=draws)
        if phase == "warm" or round_trip is None:
            loss: Tensor = (self.network_(x[indices]) - z[indices]).square().mean()
            return loss
        return self._cycle_loss(x, z, indices, draws, round_trip)

    def _cycle_loss(
        self, x: Tensor, z: Tensor, indices: Tensor, draws: torch.Generator, round_trip: RoundTrip
    ) -> Tensor:
        # The last rows of the batch ask for c + (a - b), as an edit would.
        asked, plain = edited_targets(x, indices, self.arithmetic_share, draws)
        answer, true = self.network_(asked), z[indices[:plain]]
        images = round_trip.generate(answer)
        total = 1 - functional.cosine_similarity(round_trip.embed(images), asked).mean()
        if self.pixel_weight:
            with torch.no_grad():
                shown = round_trip.generate(true)
            total += self.pixel_weight * (images[:plain] - shown).square().mean()
        total += self.latent_weight * (answer[:plain] - true).square().mean()
        total += self.moment_weight * moment_gap(answer[:plain])
        if len(asked) - plain > 1:
            spread = moment_difference(answer[plain:], answer[:plain].detach())
            total += self.edited_moment_weight * spread
        if round_trip.real is not None:
            total += REAL_SHARE * self._real_loss(round_trip.real, draws, round_trip)
        return total

    def _real_loss(
        self, real: RealTargets, draws: torch.Generator, round_trip: RoundTrip
    ) -> Tensor:
        # No latent of a real image is known, so that only what it makes can be compared.
        count = max(int(REAL_SHARE * self.batch_size), 2)
        rows = torch.randint(len(real.features), (count,), generator=draws)
        asked, answer = real.features[rows], self.network_(real.features[rows])
        images = round_trip.generate(answer)
        total = 1 - functional.cosine_similarity(round_trip.embed(images), asked).mean()
        total += self.pixel_weight * (images - real.images[rows]).square().mean()
        total += self.moment_weight * moment_gap(answer)
        return total

    def _predict(self, features: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.network_(torch.tensor(features, dtype=torch.float64)).numpy())

    def arrays(self) -> Arrays:
        """The network's weights and scales by name."""
        check_is_fitted(self, "network_")
        return saved(self.network_)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Become the estimator that `arrays` came from. Raises ArtifactCorrupt on a misfit."""
        self.network_, self.n_features_in_ = restored(arrays, self._network)
        self.one_output_ = False
        return self


class CycleMLP(BaseConfig):
    """Settings of the map; steps are of `batch_size` items each."""

    kind: Literal["cycle-mlp"] = "cycle-mlp"
    width: int = Field(384, ge=8)
    depth: int = Field(3, ge=0, description="residual blocks")
    batch_size: int = Field(256, ge=8)
    warm_steps: int = Field(1500, ge=1, description="of least squares")
    cycle_steps: int = Field(600, ge=0, description="through generator and feature space")
    learning_rate: float = Field(2e-3, gt=0)
    latent_weight: float = Field(0.05, ge=0, description="of least squares inside the cycle phase")
    pixel_weight: float = Field(1.0, ge=0, description="of the squared error of images in -1..1")
    moment_weight: float = Field(0.01, ge=0, description="of keeping predicted latents N(0, I)")
    arithmetic_share: float = Field(0.25, ge=0, lt=1, description="of targets c + (a - b)")
    edited_moment_weight: float = Field(
        0.05, ge=0, description="of keeping answers to c + (a - b) spread as those to c are"
    )

    def build(self, seed: int = 0) -> CycleMLPRegressor:
        """An unfitted estimator."""
        return CycleMLPRegressor(**self.model_dump(exclude={"kind"}), seed=seed)
