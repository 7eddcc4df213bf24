"""A conditional flow from noise to latents: several candidates for one feature.

Conditional flow matching (Lipman et al. 2023, arXiv:2210.02747) on the straight path from noise e
to a latent z, x_t = (1 - t) e + t z, whose velocity is z - e. A residual MLP learns the velocity
from x_t, t and the half-whitened feature. A share of the conditions is dropped, as in classifier-
free guidance (Ho and Salimans 2022, arXiv:2207.12598), although sampling uses the conditional flow
alone; another share gets noise of a level that the network is given, so that features off the image
manifold, e.g. of texts, can be used at such a level.

With a frozen round trip, a second phase runs the sampler itself and applies the losses of
`cycle_mlp` to its samples: their images must have the target feature and look like the bank's image
of it. Flow matching continues in this phase, which keeps the samples diverse.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
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
from controlgen.regressors.base import Arrays, RoundTrip, SamplingEstimator, Table

WAVES = 8  # cosines and sines that encode the time
ROWS = 4096  # samples computed at once


class Velocity(Whitening):
    """dx/dt of standard latents x (n z) at times t (n 1), for conditions with a noise level."""

    noise: Tensor

    def __init__(self, features: Tensor, latents: Tensor, width: int, depth: int, seed: int):
        super().__init__(features, latents)
        d, z = features.shape[1], latents.shape[1]
        self.network = residual_network(z + d + 2 * WAVES + 2, z, width, depth, seed)
        # Noise of level 1 is as large as the features' distance from their mean.
        self.register_buffer("noise", features.var(0, correction=0).mean().sqrt())

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, level: Tensor) -> Tensor:
        """Velocities (n z) for half-whitened conditions (n d) of levels (n 1); below 0: dropped."""
        given = (level >= 0).to(x.dtype)
        turns = torch.pi * t * torch.arange(1, WAVES + 1, dtype=x.dtype)
        inputs = [x, condition * given, level * given, given, turns.cos(), turns.sin()]
        velocity: Tensor = self.network(torch.cat(inputs, 1))
        return velocity

    def noisy(self, features: Tensor, levels: Tensor, draws: torch.Generator) -> Tensor:
        """Conditions (n d) of features (n d) with noise of levels (n 1)."""
        noise = torch.randn(features.shape, generator=draws) * self.noise
        return self.condition(features + levels * noise)

    def answer(self, x: Tensor, condition: Tensor, level: float, steps: int) -> Tensor:
        """Integrate noise x (n z) to latents by midpoint steps, in the latents' own scale."""
        levels = x.new_full((len(x), 1), level)

        def velocity(x: Tensor, time: float) -> Tensor:
            t = x.new_full((len(x), 1), time)
            return self(x, t, condition, levels)  # type: ignore[no-any-return]

        for step in range(steps):
            time = step / steps
            middle = x + velocity(x, time) / (2 * steps)
            x = x + velocity(middle, time + 1 / (2 * steps)) / steps
        return self.unscaled(x)


class FlowRegressor(SamplingEstimator):
    """The estimator of `FlowConfig`.

    Without `round_trip` only flow matching is run. `predict` integrates noise 0, the centre of all
    samples: if z given f is normal, this gives its mean. With several modes, the point between them
    may be no valid latent; use `answers`.
    """

    fitted_names = ("flow",)

    def __init__(
        self,
        width: int = 384,
        depth: int = 3,
        batch_size: int = 256,
        match_steps: int = 1500,
        cycle_steps: int = 900,
        cycle_batch_size: int = 64,
        learning_rate: float = 2e-3,
        sampler_steps: int = 2,
        drop_share: float = 0.1,
        noise_share: float = 0.3,
        noise_most: float = 1.0,
        match_weight: float = 0.1,
        pixel_weight: float = 0.2,
        arithmetic_share: float = 0.25,
        centre_share: float = 0.25,
        seed: int = 0,
    ) -> None:
        self.width = width
        self.depth = depth
        self.batch_size = batch_size
        self.match_steps = match_steps
        self.cycle_steps = cycle_steps
        self.cycle_batch_size = cycle_batch_size
        self.learning_rate = learning_rate
        self.sampler_steps = sampler_steps
        self.drop_share = drop_share
        self.noise_share = noise_share
        self.noise_most = noise_most
        self.match_weight = match_weight
        self.pixel_weight = pixel_weight
        self.arithmetic_share = arithmetic_share
        self.centre_share = centre_share
        self.seed = seed

    def _learn(
        self, features: Table, latents: Table, round_trip: RoundTrip | None
    ) -> Iterator[float]:
        x, z = (torch.tensor(table, dtype=torch.float32) for table in (features, latents))
        self.flow_ = self._network(x, z)
        phases = [("match", self.match_steps, self.batch_size, self.learning_rate)]
        if round_trip is not None:
            cycle = (self.cycle_steps, self.cycle_batch_size, self.learning_rate / 2)
            phases.append(("cycle", *cycle))
        total, before = sum(steps for _, steps, _, _ in phases), 0
        for phase, steps, batch_size, rate in phases:
            loss = partial(self._loss, x, z, round_trip, phase, batch_size)
            for done in train_steps(self.flow_, loss, rate, steps):
                yield (before + done) / total
            before += steps
        freeze_float64(self.flow_)

    def _network(self, features: Tensor, latents: Tensor) -> Velocity:
        return Velocity(features, latents, self.width, self.depth, self.seed)

    def _loss(
        self,
        x: Tensor,
        z: Tensor,
        round_trip: RoundTrip | None,
        phase: str,
        batch_size: int,
        step: int,
    ) -> Tensor:
        draws = rng.torch_stream(self.seed, f"flow {phase}", step)
        indices = torch.randint(len(x), (batch_size,), generator=draws)
        loss = self._matching_loss(x[indices], z[indices], draws)
        if phase == "match" or round_trip is None:
            return loss
        return self.match_weight * loss + self._cycle_loss(x, z, indices, draws, round_trip)

    def _matching_loss(self, features: Tensor, latents: Tensor, draws: torch.Generator) -> Tensor:
        # Some conditions are dropped, some are noisy, the others are clean (level 0).
        n = len(features)
        lot, t = torch.rand(2, n, 1, generator=draws)
        levels = torch.rand(n, 1, generator=draws) * self.noise_most
        levels[lot > self.noise_share] = 0
        condition = self.flow_.noisy(features, levels, draws)
        levels[lot > 1 - self.drop_share] = -1
        target = self.flow_.scaled(latents)
        noise = torch.randn(target.shape, generator=draws)
        velocity = self.flow_((1 - t) * noise + t * target, t, condition, levels)
        loss: Tensor = (velocity - (target - noise)).square().mean()
        return loss

    def _cycle_loss(
        self, x: Tensor, z: Tensor, indices: Tensor, draws: torch.Generator, round_trip: RoundTrip
    ) -> Tensor:
        # The last rows of the batch have the targets c + (a - b) of edits.
        targets, plain = arithmetic_targets(x, indices, self.arithmetic_share, draws)
        noise = torch.randn(len(targets), z.shape[1], generator=draws)
        noise *= torch.rand(len(targets), 1, generator=draws) > self.centre_share
        condition = self.flow_.condition(targets)
        answer = self.flow_.answer(noise, condition, 0.0, self.sampler_steps)
        images = round_trip.generate(answer)
        total = 1 - functional.cosine_similarity(round_trip.embed(images), targets).mean()
        if self.pixel_weight:
            with torch.no_grad():
                generated = round_trip.generate(z[indices[:plain]])
            total += self.pixel_weight * (images[:plain] - generated).square().mean()
        return total

    def _predict(self, features: NDArray[Any]) -> NDArray[Any]:
        return self._answers(features, np.zeros((1, self._latent_size())))[:, 0]

    def _latent_size(self) -> int:
        return int(self.flow_.latent_shift.shape[0])

    def _answers(self, features: NDArray[Any], noise: NDArray[Any]) -> NDArray[Any]:
        return self.sampled(features, noise)

    def sampled(
        self, features: NDArray[Any], noise: NDArray[Any], level: float = 0.0
    ) -> NDArray[Any]:
        """Latents (n k z): each row of noise (k z) integrated for each of the features (n d).

        `level` is the assumed noise of the features: 0 for images, up to `noise_most`.
        """
        k, z = noise.shape
        condition = self.flow_.condition(torch.tensor(features, dtype=torch.float64))
        start = torch.tensor(noise, dtype=torch.float64)
        samples = np.empty((len(features), k, z))
        step = max(ROWS // k, 1)
        for first in range(0, len(features), step):
            part = condition[first : first + step].repeat_interleave(k, 0)
            rows = start.repeat(len(part) // k, 1)
            answer = self.flow_.answer(rows, part, level, self.sampler_steps)
            samples[first : first + step] = answer.reshape(-1, k, z).numpy()
        return samples

    def arrays(self) -> Arrays:
        """The network's weights and scales by name."""
        check_is_fitted(self, "flow_")
        return export_arrays(self.flow_)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore the fitted state from `arrays`. Raises ArtifactCorrupt if they do not match."""
        self.flow_, self.n_features_in_ = load_arrays_into(arrays, self._network)
        self.one_output_ = False
        return self


class FlowConfig(BaseConfig):
    """Settings of the map; `batch_size` applies to flow matching."""

    kind: Literal["flow"] = "flow"
    width: int = Field(384, ge=8)
    depth: int = Field(3, ge=0, description="residual blocks")
    batch_size: int = Field(256, ge=8)
    match_steps: int = Field(1500, ge=1, description="of flow matching")
    cycle_steps: int = Field(900, ge=0, description="through sampler, generator, feature space")
    cycle_batch_size: int = Field(64, ge=8)
    learning_rate: float = Field(2e-3, gt=0)
    sampler_steps: int = Field(2, ge=1, description="of the midpoint rule, two evaluations each")
    drop_share: float = Field(0.1, ge=0, lt=1, description="of conditions left out while learning")
    noise_share: float = Field(0.3, ge=0, lt=1, description="of conditions made noisy")
    noise_most: float = Field(1.0, ge=0, description="highest level; 1 is the features' own spread")
    match_weight: float = Field(0.1, ge=0, description="of flow matching inside the cycle phase")
    pixel_weight: float = Field(0.2, ge=0, description="of the squared error of images in -1..1")
    arithmetic_share: float = Field(0.25, ge=0, lt=1, description="of targets c + (a - b)")
    centre_share: float = Field(0.25, ge=0, lt=1, description="of answers from noise 0, as predict")

    def build(self, seed: int = 0) -> FlowRegressor:
        """An unfitted estimator."""
        return FlowRegressor(**self.model_dump(exclude={"kind"}), seed=seed)
