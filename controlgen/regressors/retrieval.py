"""Retrieval: the latent of the nearest bank feature. The baseline that keeps no identity."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from controlgen.base_config import BaseConfig
from controlgen.regressors.base import MapEstimator, RoundTrip, Table


class RetrievalRegressor(MapEstimator):
    """Nearest neighbour (Euclidean; on unit rows the same as by cosine) in the fitted bank."""

    fitted_names = ("features", "latents")

    def _learn(
        self, features: Table, latents: Table, round_trip: RoundTrip | None
    ) -> Iterator[float]:
        # The bank is remembered; the round trip is not needed.
        self.features_, self.latents_ = features, latents
        yield 1.0

    def _predict(self, features: NDArray[Any]) -> NDArray[Any]:
        neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(self.features_)
        nearest = neighbours.kneighbors(features, return_distance=False)[:, 0]
        return np.asarray(self.latents_[nearest])

    def _input_size(self) -> int:
        return int(self.features_.shape[1])


class Retrieval(BaseConfig):
    """No settings: the bank is the map."""

    kind: Literal["retrieval"] = "retrieval"

    def build(self, seed: int = 0) -> RetrievalRegressor:
        """An unfitted estimator; nothing about it is random."""
        return RetrievalRegressor()
