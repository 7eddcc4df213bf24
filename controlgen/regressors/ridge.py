"""Ridge regression from features to latents: the linear baseline."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.linear_model import Ridge as SklearnRidge

from controlgen.base_config import BaseConfig
from controlgen.regressors.base import MapEstimator, RoundTrip, Table, to_shell


class RidgeRegressor(MapEstimator):
    """scikit-learn's ridge; with `rescale` the answers are put on the shell of norm sqrt(z).

    Least squares answers E[z|f], whose norm is too small wherever features leave z undecided.
    """

    fitted_names: tuple[str, ...] = ("weight", "intercept")

    def __init__(self, alpha: float = 1e-3, rescale: bool = False) -> None:
        self.alpha = alpha
        self.rescale = rescale

    def _learn(
        self, features: Table, latents: Table, round_trip: RoundTrip | None
    ) -> Iterator[float]:
        # One closed-form step; the round trip is not needed. The penalty is per item, so that the
        # same alpha means the same at any n.
        solved = SklearnRidge(alpha=self.alpha * len(features)).fit(features, latents)
        self.weight_ = np.asarray(solved.coef_).reshape(latents.shape[1], -1).T
        self.intercept_ = np.asarray(solved.intercept_)
        yield 1.0

    def _predict(self, features: NDArray[Any]) -> NDArray[Any]:
        latents = np.asarray(features @ self.weight_ + self.intercept_)
        return to_shell(latents) if self.rescale else latents

    def _input_size(self) -> int:
        return int(self.weight_.shape[0])


class Ridge(BaseConfig):
    """Settings of the linear map."""

    kind: Literal["ridge"] = "ridge"
    alpha: float = Field(1e-3, ge=0, description="L2 penalty per training item")
    rescale: bool = False

    def build(self, seed: int = 0) -> RidgeRegressor:
        """An unfitted estimator; nothing about it is random."""
        return RidgeRegressor(alpha=self.alpha, rescale=self.rescale)
