"""Ridge regression with the spread of its residuals: the simplest map that gives many answers."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from controlgen.regressors.base import ManyEstimator, RoundTrip, Table
from controlgen.regressors.ridge import RidgeRegressor
from controlgen.spec import Spec


class GaussianRegressor(ManyEstimator, RidgeRegressor):
    """z given f is normal around the ridge's answer, with one covariance for all features.

    An answer is the mean plus a draw of the residual, which has the right spread as it is: without
    a penalty, the covariance of means and that of residuals sum to the latents' own. `predict`
    answers the mean, rescaled where `rescale` says so, as `RidgeRegressor` does.
    """

    fitted_names = ("weight", "intercept", "spread")

    def _learn(
        self, features: Table, latents: Table, round_trip: RoundTrip | None
    ) -> Iterator[float]:
        steps = list(super()._learn(features, latents, round_trip))
        # The symmetric root of the covariance exists also where a coordinate is fully determined.
        residuals = latents - (features @ self.weight_ + self.intercept_)
        variances, axes = np.linalg.eigh(residuals.T @ residuals / len(residuals))
        self.spread_ = (axes * np.sqrt(np.maximum(variances, 0))) @ axes.T
        yield from steps

    def _latent_size(self) -> int:
        return int(self.spread_.shape[0])

    def _answers(self, features: NDArray[Any], noise: NDArray[Any]) -> NDArray[Any]:
        means = features @ self.weight_ + self.intercept_
        return np.asarray(means[:, None] + noise @ self.spread_)


class Gaussian(Spec):
    """Settings of the linear map with spread."""

    kind: Literal["gaussian"] = "gaussian"
    alpha: float = Field(1e-3, ge=0, description="L2 penalty per training item")
    rescale: bool = Field(False, description="put predictions, not answers, on the shell")

    def build(self, seed: int = 0) -> GaussianRegressor:
        """An unfitted estimator; fitting it draws nothing."""
        return GaussianRegressor(alpha=self.alpha, rescale=self.rescale)
