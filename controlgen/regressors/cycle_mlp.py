"""A residual MLP from features to latents, trained by least squares and then by a cycle loss.

The cycle needs no labels: the image generated from the predicted latent must have the target
feature, 1 - cos(f(G(h(c))), c), and, if c is the feature of a generated image G(z), must look like
it, |G(h(c)) - G(z)|^2. A moment term pulls the predicted latents towards the standard normal. Some
targets are sums of bank features, c + (a - b), as edits request them; their latents are held to the
mean and variance of the others, or they would leave the generator's domain. Real images can be
added as targets of the cycle alone.
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
    Whitening,
    arithmetic_targets,
    export_arrays,
    freeze_float64,
    load_arrays_into,
    residual_network,
    train_steps,
)
from controlgen.regressors.base import Arrays, MapEstimator, RealTargets, RoundTrip, Table

REAL_SHARE = 0.25  # real images per generated image in a batch, if there are any


class _Scaled(Whitening):
    """The network between half-whitened features and the latents' own scale."""

    def __init__(self, network: nn.Module, features: Tensor, latents: Tensor) -> None:
        super().__init__(features, latents)
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        return self.unscaled(self.network(self.condition(features)))


def moment_loss(latents: Tensor) -> Tensor:
    """Distance of a batch (n z) from mean 0 and variance 1 per coordinate: a scalar, 0 at best."""
    return latents.mean(0).square().mean() + (latents.var(0) - 1).square().mean()


def moment_distance(a: Tensor, b: Tensor) -> Tensor:
    """Distance between the means and variances per coordinate of two batches (n z) and (m z)."""
    return (a.mean(0) - b.mean(0)).square().mean() + (a.var(0) - b.var(0)).square().mean()


class CycleMLPRegressor(MapEstimator):
    """The estimator of `CycleMLPConfig`. Without `round_trip` only least squares is run."""

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

        # Cheap least-squares steps bring every latent close to its target; then the cycle.
        phases = [("warm", self.warm_steps, self.learning_rate)]
        if round_trip is not None:
            phases.append(("cycle", self.cycle_steps, self.learning_rate / 2))
        total, before = sum(steps for _, steps, _ in phases), 0
        for phase, steps, rate in phases:
            loss = partial(self._loss, x, z, round_trip, phase)
            for done in train_steps(self.network_, loss, rate, steps):
                yield (before + done) / total
            before += steps
        freeze_float64(self.network_)

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
        # The last rows of the batch have the targets c + (a - b) of edits.
        targets, plain = arithmetic_targets(x, indices, self.arithmetic_share, draws)
        answer, true = self.network_(targets), z[indices[:plain]]
        images = round_trip.generate(answer)
        total = 1 - functional.cosine_similarity(round_trip.embed(images), targets).mean()
        if self.pixel_weight:
            with torch.no_grad():
                generated = round_trip.generate(true)
            total += self.pixel_weight * (images[:plain] - generated).square().mean()
        total += self.latent_weight * (answer[:plain] - true).square().mean()
        total += self.moment_weight * moment_loss(answer[:plain])
        if len(targets) - plain > 1:
            spread = moment_distance(answer[plain:], answer[:plain].detach())
            total += self.edited_moment_weight * spread
        if round_trip.real is not None:
            total += REAL_SHARE * self._real_loss(round_trip.real, draws, round_trip)
        return total

    def _real_loss(
        self, real: RealTargets, draws: torch.Generator, round_trip: RoundTrip
    ) -> Tensor:
        # The latent of a real image is unknown, so only the generated image can be compared.
        count = max(int(REAL_SHARE * self.batch_size), 2)
        rows = torch.randint(len(real.features), (count,), generator=draws)
        targets, answer = real.features[rows], self.network_(real.features[rows])
        images = round_trip.generate(answer)
        total = 1 - functional.cosine_similarity(round_trip.embed(images), targets).mean()
        total += self.pixel_weight * (images - real.images[rows]).square().mean()
        total += self.moment_weight * moment_loss(answer)
        return total

    def _predict(self, features: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.network_(torch.tensor(features, dtype=torch.float64)).numpy())

    def arrays(self) -> Arrays:
        """The network's weights and scales by name."""
        check_is_fitted(self, "network_")
        return export_arrays(self.network_)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore the fitted state from `arrays`. Raises ArtifactCorrupt if they do not match."""
        self.network_, self.n_features_in_ = load_arrays_into(arrays, self._network)
        self.one_output_ = False
        return self


class CycleMLPConfig(BaseConfig):
    """Settings of the map; a step has `batch_size` items."""

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
