"""Retrieval: the latent of the nearest bank feature; the baseline that preserves no identity."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from controlgen.base_config import BaseConfig
from controlgen.regressors.base import MapEstimator, RoundTrip, Table


class RetrievalRegressor(MapEstimator):
    """Nearest neighbour in the fitted bank (Euclidean; for unit rows equal to cosine)."""

    fitted_names = ("features", "latents")

    def _learn(
        self, features: Table, latents: Table, round_trip: RoundTrip | None
    ) -> Iterator[float]:
        # The bank is stored; the round trip is not needed.
        self.features_, self.latents_ = features, latents
        yield 1.0

    def _predict(self, features: NDArray[Any]) -> NDArray[Any]:
        neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(self.features_)
        nearest = neighbours.kneighbors(features, return_distance=False)[:, 0]
        return np.asarray(self.latents_[nearest])

    def _input_size(self) -> int:
        return int(self.features_.shape[1])


class RetrievalConfig(BaseConfig):
    """Settings of retrieval; there are none."""

    kind: Literal["retrieval"] = "retrieval"

    def build(self, seed: int = 0) -> RetrievalRegressor:
        """An unfitted estimator; it is deterministic."""
        return RetrievalRegressor()
