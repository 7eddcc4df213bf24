"""Ridge regression from features to latents: the linear baseline."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.linear_model import Ridge as SklearnRidge

from controlgen.base_config import BaseConfig
from controlgen.regressors.base import MapEstimator, RoundTrip, Table, rescale_to_sphere


class RidgeRegressor(MapEstimator):
    """scikit-learn's ridge; `rescale` puts predictions on the sphere of norm sqrt(z).

    Least squares predicts E[z|f], whose norm is too small wherever features leave z undetermined.
    """

    fitted_names: tuple[str, ...] = ("weight", "intercept")

    def __init__(self, alpha: float = 1e-3, rescale: bool = False) -> None:
        self.alpha = alpha
        self.rescale = rescale

    def _learn(
        self, features: Table, latents: Table, round_trip: RoundTrip | None
    ) -> Iterator[float]:
        # One closed-form step; the round trip is not needed. The penalty is per item, so that alpha
        # has the same effect at any n.
        solved = SklearnRidge(alpha=self.alpha * len(features)).fit(features, latents)
        self.weight_ = np.asarray(solved.coef_).reshape(latents.shape[1], -1).T
        self.intercept_ = np.asarray(solved.intercept_)
        yield 1.0

    def _predict(self, features: NDArray[Any]) -> NDArray[Any]:
        latents = np.asarray(features @ self.weight_ + self.intercept_)
        return rescale_to_sphere(latents) if self.rescale else latents

    def _input_size(self) -> int:
        return int(self.weight_.shape[0])


class RidgeConfig(BaseConfig):
    """Settings of the linear map."""

    kind: Literal["ridge"] = "ridge"
    alpha: float = Field(1e-3, ge=0, description="L2 penalty per training item")
    rescale: bool = False

    def build(self, seed: int = 0) -> RidgeRegressor:
        """An unfitted estimator; it is deterministic."""
        return RidgeRegressor(alpha=self.alpha, rescale=self.rescale)
