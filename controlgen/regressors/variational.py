"""A map and how far its answers may vary: z given f is normal, with a covariance for each feature.

The mean is a map of its own. The covariance is learned beside it through the frozen round trip, as
in a variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114) whose decoder is fixed: of
answers drawn from q(z|f), the images must have the feature asked for, and q must stay as near to
the generator's N(0, I) as that allows:

    insistence * E_q[1 - cos(f(G(z)), f)] + KL(q || N(0, I)) / size of z

So an answer varies where the feature does not see it. Without a round trip the covariance is that
of maximum likelihood of the latents around the mean.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import functional

from controlgen import rng
from controlgen.regressors._residual import (
    Scaling,
    edited_targets,
    frozen,
    residual_network,
    restored,
    saved,
    taught,
)
from controlgen.regressors.base import Arrays, ManyEstimator, RoundTrip, Table
from controlgen.regressors.cycle_mlp import CycleMLP, CycleMLPRegressor
from controlgen.spec import Spec

MEAN, SPREAD = "mean.", "spread."  # what saved names begin with
ROWS = 1024  # covariances computed at once


class Spread(Scaling):
    """A lower triangular root (n z z) of the covariance for each feature (n d)."""

    def __init__(self, features: Tensor, latents: Tensor, width: int, seed: int) -> None:
        super().__init__(features, latents)
        self.size = latents.shape[1]
        numbers = self.size * (self.size + 1) // 2
        self.network = residual_network(features.shape[1], numbers, width, 1, seed)

    def forward(self, features: Tensor) -> Tensor:
        """Roots in the units of standard latents; at first near 0.3 times the identity."""
        numbers = self.network(self.condition(features))
        root: Tensor = numbers.new_zeros(len(numbers), self.size, self.size)
        rows, columns = torch.tril_indices(self.size, self.size)
        positive = (0.3 * numbers - 1.2).exp()
        root[:, rows, columns] = torch.where(rows == columns, positive, 0.03 * numbers)
        return root


def normal_gap(root: Tensor) -> Tensor:
    """KL(N(0, L L^T) || N(0, I)) / z, mean over roots L (n z z): a scalar, 0 for the identity."""
    squares = root.square().sum((1, 2))
    log_determinant = 2 * torch.diagonal(root, dim1=1, dim2=2).log().sum(1)
    gap: Tensor = (squares - log_determinant - root.shape[1]).mean() / (2 * root.shape[1])
    return gap


def surprise(residuals: Tensor, root: Tensor) -> Tensor:
    """-log N(residuals (n z); 0, L L^T) / z, mean over n, without its constant: a scalar."""
    standard = torch.linalg.solve_triangular(root, residuals[:, :, None], upper=False)[:, :, 0]
    log_determinant = 2 * torch.diagonal(root, dim1=1, dim2=2).log().sum(1)
    mean: Tensor = (standard.square().sum(1) + log_determinant).mean()
    return mean / (2 * root.shape[1])


class VariationalRegressor(ManyEstimator):
    """Parameters as in `Variational`; `mean` is an unfitted map, a `CycleMLPRegressor` if None."""

    fitted_names = ("spread",)

    def __init__(
        self,
        mean: CycleMLPRegressor | None = None,
        width: int = 128,
        batch_size: int = 64,
        spread_steps: int = 600,
        learning_rate: float = 3e-3,
        insistence: float = 30.0,
        arithmetic_share: float = 0.25,
        seed: int = 0,
    ) -> None:
        self.mean = mean
        self.width = width
        self.batch_size = batch_size
        self.spread_steps = spread_steps
        self.learning_rate = learning_rate
        self.insistence = insistence
        self.arithmetic_share = arithmetic_share
        self.seed = seed

    def _learn(
        self, features: Table, latents: Table, round_trip: RoundTrip | None
    ) -> Iterator[float]:
        # The mean first, by itself; then what may vary around it.
        self.mean_ = self._unfitted_mean()
        before = self.mean_.warm_steps + (self.mean_.cycle_steps if round_trip else 0)
        total = before + self.spread_steps
        for share in self.mean_.fit_steps(features, latents, round_trip):
            yield share * before / total

        x, z = (torch.tensor(table, dtype=torch.float32) for table in (features, latents))
        self.spread_ = self._network(x, z)
        loss = partial(self._loss, x, z, round_trip)
        for done in taught(self.spread_, loss, self.learning_rate, self.spread_steps):
            yield (before + done) / total
        frozen(self.spread_)

    def _network(self, features: Tensor, latents: Tensor) -> Spread:
        return Spread(features, latents, self.width, self.seed)

    def _loss(self, x: Tensor, z: Tensor, round_trip: RoundTrip | None, step: int) -> Tensor:
        draws = rng.torch_stream(self.seed, "map spread", step)
        indices = torch.randint(len(x), (self.batch_size,), generator=draws)
        if round_trip is not None:
            return self._round_trip_loss(x, indices, draws, round_trip)
        residuals = self.spread_.scaled(z[indices]) - self._standard_means(x[indices])
        return surprise(residuals, self.spread_(x[indices]))

    def _unfitted_mean(self) -> CycleMLPRegressor:
        made: CycleMLPRegressor = clone(CycleMLPRegressor() if self.mean is None else self.mean)
        return made

    def _standard_means(self, features: Tensor) -> Tensor:
        answers = torch.from_numpy(self.mean_.predict(features.numpy()))
        return self.spread_.scaled(answers.reshape(len(features), -1).float())

    def _round_trip_loss(
        self, x: Tensor, indices: Tensor, draws: torch.Generator, round_trip: RoundTrip
    ) -> Tensor:
        # The last rows of the batch ask for c + (a - b), as an edit would.
        asked, _ = edited_targets(x, indices, self.arithmetic_share, draws)
        root, means = self.spread_(asked), self._standard_means(asked)
        noise = torch.randn(means.shape, generator=draws)
        answer = self.spread_.unscaled(means + torch.einsum("nij,nj->ni", root, noise))
        found = round_trip.embed(round_trip.generate(answer))
        gap = 1 - functional.cosine_similarity(found, asked).mean()
        return self.insistence * gap + normal_gap(root)

    def _predict(self, features: NDArray[Any]) -> NDArray[Any]:
        return self.mean_.predict(features).reshape(len(features), -1)

    def _latent_size(self) -> int:
        return self.spread_.size

    def _answers(self, features: NDArray[Any], noise: NDArray[Any]) -> NDArray[Any]:
        made = np.empty((len(features), *noise.shape))
        draws, scale = torch.from_numpy(noise), self.spread_.latent_scale
        for first in range(0, len(features), ROWS):
            part = slice(first, first + ROWS)
            root = self.spread_(torch.from_numpy(features[part]))
            changes = torch.einsum("nij,kj->nki", root, draws) * scale
            made[part] = self._predict(features[part])[:, None] + changes.numpy()
        return made

    def arrays(self) -> Arrays:
        """The mean's arrays and the spread's, by name."""
        check_is_fitted(self, "spread_")
        return {
            **{MEAN + name: value for name, value in self.mean_.arrays().items()},
            **{SPREAD + name: value for name, value in saved(self.spread_).items()},
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Become the estimator that `arrays` came from. Raises ArtifactCorrupt on a misfit."""
        mean, spread = (
            {name.removeprefix(first): arrays[name] for name in arrays if name.startswith(first)}
            for first in (MEAN, SPREAD)
        )
        self.mean_ = self._unfitted_mean().restore(mean)
        self.spread_, self.n_features_in_ = restored(spread, self._network)
        self.one_output_ = False
        return self


class Variational(Spec):
    """Settings of the map; steps are of `batch_size` items each."""

    kind: Literal["variational"] = "variational"
    mean: CycleMLP = Field(CycleMLP(), description="the map that is varied around")
    width: int = Field(128, ge=8)
    batch_size: int = Field(64, ge=8)
    spread_steps: int = Field(600, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    insistence: float = Field(30.0, gt=0, description="on the round trip, against variety")
    arithmetic_share: float = Field(0.25, ge=0, lt=1, description="of targets c + (a - b)")

    def build(self, seed: int = 0) -> VariationalRegressor:
        """An unfitted estimator."""
        own = self.model_dump(exclude={"kind", "mean"})
        return VariationalRegressor(self.mean.build(seed), **own, seed=seed)
