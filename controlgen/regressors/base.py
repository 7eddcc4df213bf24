"""What feature -> latent maps share: input checks, and saving as plain arrays."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from controlgen import rng
from controlgen.errors import ArtifactCorrupt, ConfigError

Table = NDArray[Any]  # floats, one row an item
Arrays = dict[str, NDArray[Any]]
ANSWERS = "answers"  # the stream that the noise of answer j comes from


class RealTargets(NamedTuple):
    """Real images that take part in the cycle: features (m d), unit rows, and Images (m c h w)."""

    features: Tensor
    images: Tensor


class RoundTrip(Protocol):
    """The frozen generator and feature space behind the pairs; both differentiable."""

    @property
    def real(self) -> RealTargets | None:
        """What is asked for beside the pairs, though no latent of it is known; None: nothing."""
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
class Answering(Protocol):
    """A map that knows many latents for one feature: draws of p(z | f)."""

    def answers(self, features: Any, k: int, seed: int = 0) -> NDArray[Any]: ...


class MapEstimator(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the estimators: subclasses give `_learn`, `_predict` and `fitted_names`.

    `fit_steps` is a generator that learns a little at each item and yields the share done (0..1),
    so that a caller can show progress or stop; `fit` runs it to its end.
    """

    fitted_names: tuple[str, ...] = ()  # attributes, without the trailing underscore, to be saved

    def fit(self, X: Any, y: Any, round_trip: RoundTrip | None = None) -> Self:  # noqa: N803
        """Learn latents y (n z) from features X (n d). Raises ValueError on unusable arrays."""
        for _ in self.fit_steps(X, y, round_trip):
            pass
        return self

    def fit_steps(
        self,
        X: Any,  # noqa: N803
        y: Any,
        round_trip: RoundTrip | None = None,
    ) -> Iterator[float]:
        """Learn step by step, yielding the share done; usable after the last step."""
        features, latents = validate_data(self, X, y, multi_output=True, y_numeric=True)
        self.one_output_ = latents.ndim == 1
        table = np.asarray(latents).reshape(len(latents), -1)
        yield from self._learn(np.asarray(features), table, round_trip)

    def _learn(
        self, features: Table, latents: Table, round_trip: RoundTrip | None
    ) -> Iterator[float]:
        raise TypeError(f"{type(self).__name__} must define _learn")

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Latents (n z) for features X (n d); 1-d where y was."""
        check_is_fitted(self, f"{self.fitted_names[0]}_")
        checked = validate_data(self, X, reset=False)
        # scikit-learn's convention is float64 answers, whatever precision the map works in.
        answer = self._predict(np.asarray(checked)).astype(np.float64)
        return answer[:, 0] if self.one_output_ else answer

    def _predict(self, features: NDArray[Any]) -> NDArray[Any]:
        raise TypeError(f"{type(self).__name__} must define _predict")

    def arrays(self) -> Arrays:
        """All that `fit` learned, as named arrays."""
        check_is_fitted(self, f"{self.fitted_names[0]}_")
        return {name: np.asarray(getattr(self, f"{name}_")) for name in self.fitted_names}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Become the estimator that `arrays` came from. Raises ArtifactCorrupt on a misfit."""
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


class ManyEstimator(MapEstimator):
    """Base of the maps that give many answers: subclasses give `_answers` and `_latent_size`."""

    def answers(self, features: Any, k: int, seed: int = 0) -> NDArray[Any]:
        """k latents (n k z) for each of the features (n d), in float64.

        Answer j is made from noise row j of the seed, the same for every feature. So it depends on
        the seed, the feature and j alone, and moves continuously with the feature. Raises
        ConfigError for k below 1, ValueError on unusable arrays.
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


def to_shell(latents: NDArray[Any]) -> NDArray[Any]:
    """Rescale rows to norm sqrt(z), the shell that standard normal latents live on."""
    norms = np.linalg.norm(latents, axis=1, keepdims=True)
    return np.asarray(latents * (np.sqrt(latents.shape[1]) / np.maximum(norms, 1e-12)))
