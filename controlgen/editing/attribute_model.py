"""A linear model of measured attributes: which directions change one and hold others constant.

A linear model predicts each attribute from the features; with the covariance of the bank's features
it gives the most likely change of features that changes an attribute. No labels are used:
attributes are formulas of pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score

from controlgen.attributes import AnyAttributes
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ArtifactCorrupt, ConfigError, Incompatible
from controlgen.types import Direction, Features, Latents, Pixels

Values = NDArray[np.float64]
MEASURE_BATCH = 512  # images measured between two reports of progress
MIN_IMAGES = 32  # images that a model is fitted on
MAX_FIT_IMAGES = 20_000  # more images change no printed digit
PENALTIES = np.logspace(-8, 0, 9)  # per image; unit features have a variance below 1
MIN_SIGNAL = 1e-6  # share of an attribute's variance that the features must explain
MIN_EIGENVALUE = 1e-4  # of the attributes' correlation matrix as the features show it


class Generated(NamedTuple):
    """Latents (n z) and the Pixels (n c h w) that they generate."""

    latents: Latents
    pixels: Pixels


def to_sigmas(change: Values, spread: Values) -> Values:
    """A change (n a) over the attributes' spread (a); 0 for an attribute that never varied."""
    return np.where(spread > 0, change / np.where(spread > 0, spread, 1.0), 0.0)


@dataclass(frozen=True)
class AttributeModel:
    """A linear model of measured attributes on features; a attributes, d features.

    mean and spread (a) are those of the bank, in each attribute's own unit; spread is one sigma.
    weights (a d) turn a change of features into a change of the attributes in sigmas. r2 (a) is the
    share of each attribute's variance that they explain on held-out images. response (a a): see
    `attribute_feedback`; None where it was not measured.
    """

    settings: AnyAttributes
    mean: Values
    spread: Values
    weights: Values
    r2: Values
    statistics: FeaturePCA
    response: Values | None = None

    @classmethod
    def fit_from_images(
        cls,
        settings: AnyAttributes,
        pixels: Pixels,
        features: Features,
        statistics: FeaturePCA | None = None,
    ) -> Self:
        """Measure bank Pixels (n c h w) and fit to their Features (n d). Raises as `fit`."""
        rows = [part for _, part in measure_batched(settings, pixels)]
        values = np.concatenate([np.empty((0, len(settings.names))), *rows])
        return cls.fit(settings, values, features, statistics)

    @classmethod
    def fit(
        cls,
        settings: AnyAttributes,
        values: Values,
        features: Features,
        statistics: FeaturePCA | None = None,
    ) -> Self:
        """Fit to measured values (n a) and the Features (n d) of the same images.

        Ridge regression; the last tenth of the first 20 000 images is held out for `r2`. Each
        attribute has the penalty with the least leave-one-out error, in closed form (Allen 1974,
        "The relationship between variable selection and data augmentation and a method for
        prediction"). `statistics` of the features are computed if not given. Raises ConfigError
        where there are too few images, Incompatible where the numbers of rows differ.
        """
        if len(values) != len(features):
            raise Incompatible(
                f"attributes of {len(values)} images, features of {len(features)}: give both of "
                "the same images"
            )
        if len(values) < MIN_IMAGES:
            raise ConfigError(
                f"attributes: {len(values)} images are too few to fit; draw at least {MIN_IMAGES}"
            )
        # A constant attribute (a stain that no image has) has no sigma and is left out below.
        mean, spread = values.mean(0), values.std(0)
        varies = spread > 1e-9 * np.maximum(np.abs(mean), 1)
        spread = np.where(varies, spread, 0.0)
        weights, r2 = np.zeros((len(mean), features.shape[1])), np.zeros(len(mean))
        if varies.any():
            targets = (values[:MAX_FIT_IMAGES, varies] - mean[varies]) / spread[varies]
            rows = np.asarray(features[:MAX_FIT_IMAGES], np.float64)
            weights[varies], r2[varies] = _fit_ridge(rows, targets)
        statistics = FeaturePCA.fit(features) if statistics is None else statistics
        return cls(settings, mean, spread, weights, r2, statistics)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the attributes, in the order of all arrays."""
        return self.settings.names

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays, for saving, without those of the statistics."""
        names = ("mean", "spread", "weights", "r2", "response")
        arrays = {name: getattr(self, name) for name in names}
        return {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    def restore(
        cls, settings: AnyAttributes, arrays: Mapping[str, NDArray[Any]], statistics: FeaturePCA
    ) -> Self:
        """From settings, `arrays()` and the statistics. Raises ArtifactCorrupt on a misfit."""
        a, d = len(settings.names), len(statistics.mean)
        shapes = {"mean": (a,), "spread": (a,), "weights": (a, d), "r2": (a,)}
        if "response" in arrays:  # maps of earlier versions have none
            shapes["response"] = (a, a)
        for name, shape in shapes.items():
            if name not in arrays or arrays[name].shape != shape:
                raise ArtifactCorrupt(f"the attributes' {name} is missing or not of shape {shape}")
        return cls(settings, **{name: arrays[name] for name in shapes}, statistics=statistics)

    def measure(self, pixels: Pixels) -> Values:
        """Pixels (n c h w) -> attributes (n a), each in its own unit. Raises Incompatible."""
        return self.settings.measure(pixels)

    def standardize(self, pixels: Pixels) -> Values:
        """Pixels (n c h w) -> attributes (n a) in bank sigmas from the bank's mean.

        0 for an attribute that never varied in the bank. Raises Incompatible.
        """
        return self.to_sigmas(self.measure(pixels) - self.mean)

    def to_sigmas(self, change: Values) -> Values:
        """A change of the attributes (n a), each in its own unit, in bank sigmas."""
        return to_sigmas(change, self.spread)

    def indices(self, names: str | Sequence[str]) -> list[int]:
        """Indices of these attributes. Raises ConfigError for an unknown or repeated name."""
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in self.names:
                raise ConfigError(f"attribute {name!r}: there is {', '.join(self.names)}")
        if len(set(names)) < len(names):
            raise ConfigError(f"attributes {', '.join(names)}: name each one once")
        return [self.names.index(name) for name in names]

    def direction(self, name: str, hold: str | Sequence[str] = ()) -> Direction:
        """The most likely change (d) that raises `name` by one sigma and holds others constant.

        "Most likely" is least in Mahalanobis length under the bank's covariance S; the changes of
        attributes are those of the linear model: d = S W' (W S W')^-1 e with W the rows of
        (name, *hold) and e = (1, 0, ...). Without hold it is along S w, the pattern of Haufe et al.
        2014, "On the interpretation of weight vectors of linear models" (equation 6). Raises
        ConfigError for an unknown name, one that is also held, and attributes that the features do
        not show or cannot separate.
        """
        changed, held = self.indices([name]), self.indices(hold)
        if changed[0] in held:
            others = ", ".join(other for other in self.names if other != name)
            raise ConfigError(
                f"attribute {name!r} cannot change and be held; hold some of {others}"
            )
        sigmas = np.zeros((1, 1 + len(held)))
        sigmas[0, 0] = 1.0
        return np.asarray(self.to_feature_direction(changed + held, sigmas)[0], np.float32)

    def project_out(self, direction: Direction, hold: str | Sequence[str]) -> Direction:
        """The nearest (Mahalanobis) direction (d) that by the linear model changes none of `hold`.

        d - S W' (W S W')^-1 W d with W the rows of `hold`. Raises ConfigError as `direction` does.
        """
        columns = self.indices(hold)
        if not columns:
            return direction
        changes = self.weights[columns] @ np.asarray(direction, np.float64)
        return np.asarray(
            direction - self.to_feature_direction(columns, changes[None])[0], np.float32
        )

    def controllable(self, hold: str | Sequence[str]) -> list[int]:
        """Indices of `hold` and of the attributes that can be controlled separately from it.

        Raises ConfigError as `indices`.
        """
        columns = self.indices(hold)
        for column in range(len(self.names)):
            if column not in columns:
                with suppress(ConfigError):
                    self._covariance([*columns, column])
                    columns.append(column)
        return columns

    def unexplained_share(self, change: Values) -> float:
        """Share of a change's (d) squared length that is no sum of attribute directions, 0..1.

        0 for a zero change.
        """
        length = float(change @ change)
        if length == 0:
            return 0.0
        patterns = self._patterns(list(range(len(self.names))))
        own = np.linalg.lstsq(patterns, self.statistics.components @ change, rcond=None)[0]
        rest = change - (patterns @ own) @ self.statistics.components
        return float(rest @ rest) / length

    def response_matrix(self, columns: list[int]) -> Values:
        """The response (r r) among these attributes; the identity where it was not measured."""
        matrix = np.eye(len(self.names)) if self.response is None else self.response
        return np.asarray(matrix[np.ix_(columns, columns)])

    def to_feature_direction(self, columns: list[int], changes: Values) -> Values:
        """Changes (n r) of these attributes in sigmas -> the most likely changes (n d) of features.

        Raises ConfigError where the features do not show the attributes, or cannot separate them.
        """
        covariance = self._covariance(columns)
        components = self.statistics.components.astype(np.float64)
        solved = np.linalg.solve(covariance, changes.T)
        return np.asarray((self._patterns(columns) @ solved).T @ components)

    def _weights_by_component(self, columns: list[int]) -> Values:
        # W' along the components (k r).
        return self.statistics.components.astype(np.float64) @ self.weights[columns].T

    def _patterns(self, columns: list[int]) -> Values:
        # S W' along the components (k r).
        variances = self.statistics.variances[:, None].astype(np.float64)
        return variances * self._weights_by_component(columns)

    def _covariance(self, columns: list[int]) -> Values:
        # W S W' (r r): the attributes' covariance as the features show it. Refuses a singular one.
        covariance = self._weights_by_component(columns).T @ self._patterns(columns)
        names = np.array([self.names[column] for column in columns])
        sigmas = np.sqrt(np.maximum(np.diag(covariance), 0))
        if (hidden := sigmas**2 < MIN_SIGNAL).any():
            raise ConfigError(
                f"{', '.join(names[hidden])}: does not show in the features of the bank's images; "
                "use other attributes"
            )
        values, vectors = np.linalg.eigh(covariance / np.outer(sigmas, sigmas))
        if values[0] < MIN_EIGENVALUE:
            similar = np.abs(vectors[:, 0]) > 0.1
            raise ConfigError(
                f"{', '.join(names[similar])}: the features cannot separate these; leave one out"
            )
        return covariance


def require_attributes(model: AttributeModel | None) -> AttributeModel:
    """The attribute model. Raises ConfigError where the map was fitted without one."""
    if model is None:
        raise ConfigError(
            "this map has no measured attributes; fit one with fit.attributes set, as in "
            "--set fit.attributes.kind=strokes"
        )
    return model


def measure_batched(settings: AnyAttributes, pixels: Pixels) -> Iterator[tuple[int, Values]]:
    """Measure Pixels (n c h w) in batches: yields the number measured and the batch's rows."""
    for start in range(0, len(pixels), MEASURE_BATCH):
        rows = settings.measure(np.array(pixels[start : start + MEASURE_BATCH]))
        yield start + len(rows), rows


def _fit_ridge(features: Values, targets: Values) -> tuple[Values, Values]:
    # Weights (a d) from all but the last tenth of the rows, R2 (a) on that tenth.
    n_train = len(targets) - max(len(targets) // 10, 8)
    ridge = RidgeCV(alphas=PENALTIES * n_train, alpha_per_target=True)
    ridge.fit(features[:n_train], targets[:n_train])
    predictions = ridge.predict(features[n_train:]).reshape(targets[n_train:].shape)
    r2 = r2_score(targets[n_train:], predictions, multioutput="raw_values")
    return np.reshape(ridge.coef_, (targets.shape[1], -1)), np.asarray(r2)
