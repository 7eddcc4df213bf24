"""Shared by the feature-to-latent maps: input checks and export as plain arrays."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from controlgen import rng
from controlgen.errors import ArtifactCorrupt, ConfigError

Table = NDArray[Any]  # floats, one row per item
Arrays = dict[str, NDArray[Any]]
ANSWERS = "answers"  # the stream of the noise of sample j


class RealTargets(NamedTuple):
    """Real images for the cycle loss: features (m d), unit rows, and Images (m c h w)."""

    features: Tensor
    images: Tensor


class RoundTrip(Protocol):
    """The frozen generator and feature space behind the pairs; both differentiable."""

    @property
    def real(self) -> RealTargets | None:
        """Real targets in addition to the pairs, without known latents; None: no such targets."""
        ...

    def generate(self, latents: Tensor) -> Tensor:
        """Latents (n z) -> Images (n c h w)."""
        ...

    def embed(self, images: Tensor) -> Tensor:
        """Images (n c h w) -> features (n d), unit rows."""
        ...


class Regressor(Protocol):
    """A fitted or unfitted map; a scikit-learn estimator."""

    def fit(self, X: Any, y: Any, round_trip: RoundTrip | None = None) -> Self: ...  # noqa: N803

    def fit_steps(
        self,
        X: Any,  # noqa: N803
        y: Any,
        round_trip: RoundTrip | None = None,
    ) -> Iterator[float]: ...

    def predict(self, X: Any) -> NDArray[Any]: ...  # noqa: N803

    def arrays(self) -> Arrays: ...

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self: ...


@runtime_checkable
class SupportsSampling(Protocol):
    """A map that samples several latents for a feature: draws from p(z | f)."""

    def answers(self, features: Any, k: int, seed: int = 0) -> NDArray[Any]: ...


class MapEstimator(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Base class of the maps: subclasses implement `_learn`, `_predict` and `fitted_names`.

    `fit_steps` is a generator that yields the finished share (0..1) of the training, so that a
    caller can show progress or stop; `fit` runs it to the end.
    """

    fitted_names: tuple[str, ...] = ()  # attributes to export, without the trailing underscore

    def fit(self, X: Any, y: Any, round_trip: RoundTrip | None = None) -> Self:  # noqa: N803
        """Fit latents y (n z) to features X (n d).

        Args:
            X: features (n d), rows of unit length.
            y: latents (n z).
            round_trip: the frozen generator and feature space, for maps that train through them.

        Returns:
            The fitted map.

        Raises:
            ValueError: if the arrays cannot be used.
        """
        for _ in self.fit_steps(X, y, round_trip):
            pass
        return self

    def fit_steps(
        self,
        X: Any,  # noqa: N803
        y: Any,
        round_trip: RoundTrip | None = None,
    ) -> Iterator[float]:
        """Fit step by step; yields the finished share. The map is usable after the last step."""
        features, latents = validate_data(self, X, y, multi_output=True, y_numeric=True)
        self.one_output_ = latents.ndim == 1
        table = np.asarray(latents).reshape(len(latents), -1)
        yield from self._learn(np.asarray(features), table, round_trip)

    def _learn(
        self, features: Table, latents: Table, round_trip: RoundTrip | None
    ) -> Iterator[float]:
        raise TypeError(f"{type(self).__name__} must define _learn")

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Predict latents (n z) for features X (n d); 1-d if `y` was.

        Args:
            X: features (n d).

        Returns:
            Latents (n z), float64 as usual in scikit-learn.

        Raises:
            ValueError: if the array cannot be used.
        """
        check_is_fitted(self, f"{self.fitted_names[0]}_")
        checked = validate_data(self, X, reset=False)
        # scikit-learn expects float64, whatever precision the map uses.
        answer = self._predict(np.asarray(checked)).astype(np.float64)
        return answer[:, 0] if self.one_output_ else answer

    def _predict(self, features: NDArray[Any]) -> NDArray[Any]:
        raise TypeError(f"{type(self).__name__} must define _predict")

    def arrays(self) -> Arrays:
        """The fitted state as named arrays."""
        check_is_fitted(self, f"{self.fitted_names[0]}_")
        return {name: np.asarray(getattr(self, f"{name}_")) for name in self.fitted_names}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore the fitted state from `arrays`. Raises ArtifactCorrupt if they do not match."""
        missing = set(self.fitted_names) - set(arrays)
        if missing:
            raise ArtifactCorrupt(f"the map lacks {', '.join(sorted(missing))}")
        for name in self.fitted_names:
            setattr(self, f"{name}_", np.asarray(arrays[name]))
        self.one_output_ = False
        self.n_features_in_ = self._input_size()
        return self

    def _input_size(self) -> int:
        raise TypeError(f"{type(self).__name__} must define _input_size")


class SamplingEstimator(MapEstimator):
    """Base class of maps that sample: subclasses implement `_answers` and `_latent_size`."""

    def answers(self, features: Any, k: int, seed: int = 0) -> NDArray[Any]:
        """Sample k latents (n k z) for each feature (n d).

        Sample j is computed from noise row j of the seed, the same for every feature: it depends on
        the seed, the feature and j alone, and is continuous in the feature.

        Args:
            features: features (n d).
            k: samples per feature.
            seed: seed of the noise.

        Returns:
            Latents (n k z), float64.

        Raises:
            ConfigError: if k is below 1.
            ValueError: if the array cannot be used.
        """
        check_is_fitted(self, f"{self.fitted_names[0]}_")
        if k < 1:
            raise ConfigError(f"answers: k must be at least 1, not {k}")
        checked = np.asarray(validate_data(self, features, reset=False), np.float64)
        noise = rng.normals(seed, ANSWERS, 0, k, self._latent_size()).astype(np.float64)
        return self._answers(checked, noise)

    def _latent_size(self) -> int:
        raise TypeError(f"{type(self).__name__} must define _latent_size")

    def _answers(self, features: NDArray[Any], noise: NDArray[Any]) -> NDArray[Any]:
        # Features (n d) and noise (k z) -> latents (n k z).
        raise TypeError(f"{type(self).__name__} must define _answers")


def rescale_to_sphere(latents: NDArray[Any]) -> NDArray[Any]:
    """Rescale rows to norm sqrt(z), where standard normal latents concentrate."""
    norms = np.linalg.norm(latents, axis=1, keepdims=True)
    return np.asarray(latents * (np.sqrt(latents.shape[1]) / np.maximum(norms, 1e-12)))
