"""Measured attributes seen from feature space: directions that move one and hold others.

A linear model reads each attribute off the features; with the covariance of the bank's features it
says which change of features is the most likely one that moves an attribute. No label takes part:
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
from controlgen.editing.feature_pca import Statistics
from controlgen.errors import ArtifactCorrupt, ConfigError, Incompatible
from controlgen.types import Direction, Features, Latents, Pixels

Values = NDArray[np.float64]
BLOCK = 512  # images measured between two reports of progress
FEWEST = 32  # images that a model can be fitted on
ROWS = 20_000  # items at most that the regression sees; more change no digit that is printed
PENALTIES = np.logspace(-8, 0, 9)  # tried, per item; unit features have a variance below 1
UNSEEN = 1e-6  # of an attribute's variance, what the features must at least show
ALIKE = 1e-4  # smallest eigenvalue of the correlations between attributes as the features show them


class Made(NamedTuple):
    """What was answered to a feature: Latents (n z) and the Pixels (n c h w) they generate."""

    latents: Latents
    pixels: Pixels


def in_sigmas(change: Values, spread: Values) -> Values:
    """A change (n a) over the attributes' spread (a); 0 where an attribute never varied."""
    return np.where(spread > 0, change / np.where(spread > 0, spread, 1.0), 0.0)


@dataclass(frozen=True)
class AttributeModel:
    """A linear model of measured attributes on features; a attributes, d features.

    mean and spread (a) are those of the bank, in each attribute's own unit; spread is one sigma.
    weights (a d) turn a change of features into a change of the attributes in sigmas. r2 (a) is
    the share of each attribute's variance that they explain on items they were not fitted on.
    response (a a), where it was measured, is what comes out of asking: see `closed_loop`.
    """

    settings: AnyAttributes
    mean: Values
    spread: Values
    weights: Values
    r2: Values
    statistics: Statistics
    response: Values | None = None

    @classmethod
    def of(
        cls,
        settings: AnyAttributes,
        pixels: Pixels,
        features: Features,
        statistics: Statistics | None = None,
    ) -> Self:
        """From bank Pixels (n c h w) and their Features (n d). Raises as `fitted` and `measure`."""
        rows = [part for _, part in measured_in_blocks(settings, pixels)]
        values = np.concatenate([np.empty((0, len(settings.names))), *rows])
        return cls.fitted(settings, values, features, statistics)

    @classmethod
    def fitted(
        cls,
        settings: AnyAttributes,
        values: Values,
        features: Features,
        statistics: Statistics | None = None,
    ) -> Self:
        """From measured values (n a) and the Features (n d) of the same images.

        The last tenth of the first 20 000 items is kept back for `r2`. Ridge regression on the
        others; each attribute has the penalty with the least leave-one-out error, in closed form
        (Allen 1974, "The relationship between variable selection and data augmentation and a
        method for prediction"). `statistics` are those of the features where they are
        known already. Raises ConfigError where there are too few items, Incompatible where their
        numbers differ.
        """
        if len(values) != len(features):
            raise Incompatible(
                f"attributes of {len(values)} images, features of {len(features)}: give both of "
                "the same images"
            )
        if len(values) < FEWEST:
            raise ConfigError(
                f"attributes: {len(values)} images are too few to fit on; draw at least {FEWEST}"
            )
        # What never varies (a stain that no image holds) has no sigma, and is left out below.
        mean, spread = values.mean(0), values.std(0)
        varies = spread > 1e-9 * np.maximum(np.abs(mean), 1)
        spread = np.where(varies, spread, 0.0)
        weights, r2 = np.zeros((len(mean), features.shape[1])), np.zeros(len(mean))
        if varies.any():
            targets = (values[:ROWS, varies] - mean[varies]) / spread[varies]
            weights[varies], r2[varies] = _ridge(np.asarray(features[:ROWS], np.float64), targets)
        known = Statistics.of(features) if statistics is None else statistics
        return cls(settings, mean, spread, weights, r2, known)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the attributes, in the order of every array here."""
        return self.settings.names

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays, for saving; the statistics are saved by themselves."""
        names = ("mean", "spread", "weights", "r2", "response")
        kept = {name: getattr(self, name) for name in names}
        return {name: value for name, value in kept.items() if value is not None}

    @classmethod
    def restore(
        cls, settings: AnyAttributes, arrays: Mapping[str, NDArray[Any]], statistics: Statistics
    ) -> Self:
        """From settings, `arrays()` and the statistics. Raises ArtifactCorrupt on a misfit."""
        a, d = len(settings.names), len(statistics.mean)
        wanted = {"mean": (a,), "spread": (a,), "weights": (a, d), "r2": (a,)}
        if "response" in arrays:  # maps fitted before it was measured have none
            wanted["response"] = (a, a)
        for name, shape in wanted.items():
            if name not in arrays or arrays[name].shape != shape:
                raise ArtifactCorrupt(f"the attributes' {name} is missing or not of shape {shape}")
        return cls(settings, **{name: arrays[name] for name in wanted}, statistics=statistics)

    def measure(self, pixels: Pixels) -> Values:
        """Pixels (n c h w) -> attributes (n a), each in its own unit. Raises Incompatible."""
        return self.settings.measure(pixels)

    def standard(self, pixels: Pixels) -> Values:
        """Pixels (n c h w) -> attributes (n a) in bank sigmas from the bank's mean.

        0 where an attribute never varied in the bank: it has no sigma. Raises Incompatible.
        """
        return self.in_sigmas(self.measure(pixels) - self.mean)

    def in_sigmas(self, change: Values) -> Values:
        """A change of the attributes (n a), each in its own unit, in bank sigmas."""
        return in_sigmas(change, self.spread)

    def columns(self, names: str | Sequence[str]) -> list[int]:
        """Where these attributes stand. Raises ConfigError for one unknown or named twice."""
        wanted = [names] if isinstance(names, str) else list(names)
        for name in wanted:
            if name not in self.names:
                raise ConfigError(f"attribute {name!r}: there is {', '.join(self.names)}")
        if len(set(wanted)) < len(wanted):
            raise ConfigError(f"attributes {', '.join(wanted)}: name each one once")
        return [self.names.index(name) for name in wanted]

    def direction(self, name: str, hold: str | Sequence[str] = ()) -> Direction:
        """The most likely change (d) that moves `name` by one sigma and holds others.

        "Most likely" is least in Mahalanobis length under the bank's covariance S; moves and holds
        are those of the linear model: d = S W' (W S W')^-1 e with W the rows of (name, *hold) and
        e = (1, 0, ...). Without hold it is along S w, the pattern of Haufe et al. 2014, "On the
        interpretation of weight vectors of linear models" (equation 6). Raises ConfigError for an
        unknown name, one both moved and held, and for attributes that the features do not show or
        cannot tell apart.
        """
        moved, held = self.columns([name]), self.columns(hold)
        if moved[0] in held:
            others = ", ".join(one for one in self.names if one != name)
            raise ConfigError(f"attribute {name!r} cannot be moved and held; hold some of {others}")
        wanted = np.zeros((1, 1 + len(held)))
        wanted[0, 0] = 1.0
        return np.asarray(self.lift(moved + held, wanted)[0], np.float32)

    def held(self, direction: Direction, hold: str | Sequence[str]) -> Direction:
        """The nearest (Mahalanobis) direction (d) that by the linear model moves none of `hold`.

        d - S W' (W S W')^-1 W d with W the rows of `hold`. Raises ConfigError as `direction` does.
        """
        columns = self.columns(hold)
        if not columns:
            return direction
        moves = self.weights[columns] @ np.asarray(direction, np.float64)
        return np.asarray(direction - self.lift(columns, moves[None])[0], np.float32)

    def steered(self, hold: str | Sequence[str]) -> list[int]:
        """Where the attributes stand that can be moved apart: `hold`, and all beside these.

        Raises ConfigError as `columns`.
        """
        columns = self.columns(hold)
        return columns + self._others(columns)

    def of_attributes(self, change: Values) -> float:
        """Share of a change's (d) squared length that is no sum of attributes' own changes, 0..1.

        0 for a zero change.
        """
        length = float(change @ change)
        if length == 0:
            return 0.0
        patterns, _ = self._shown(list(range(len(self.names))))
        own = np.linalg.lstsq(patterns, self.statistics.components @ change, rcond=None)[0]
        left = change - (patterns @ own) @ self.statistics.components
        return float(left @ left) / length

    def answers_to(self, columns: list[int]) -> Values:
        """The response (r r) among these attributes; what is asked, where it was not measured."""
        whole = np.eye(len(self.names)) if self.response is None else self.response
        return np.asarray(whole[np.ix_(columns, columns)])

    def _others(self, columns: list[int]) -> list[int]:
        # All other attributes that can be left alone beside these; the others leave no choice.
        found: list[int] = []
        for column in range(len(self.names)):
            if column not in columns:
                tried = [*columns, *found, column]
                with suppress(ConfigError):
                    self._refuse_singular(tried, self._shown(tried)[1])
                    found.append(column)
        return found

    def lift(self, columns: list[int], changes: Values) -> Values:
        """Changes (n r) of these attributes in sigmas -> the most likely changes (n d) of features.

        Raises ConfigError where the features do not show them, or cannot tell them apart.
        """
        patterns, shown = self._shown(columns)
        self._refuse_singular(columns, shown)
        components = self.statistics.components.astype(np.float64)
        return np.asarray((patterns @ np.linalg.solve(shown, changes.T)).T @ components)

    def _shown(self, columns: list[int]) -> tuple[Values, Values]:
        # S W' along the components (k r), and W S W' (r r): the attributes' covariance as the
        # features show them.
        rows = self.statistics.components.astype(np.float64) @ self.weights[columns].T
        patterns = self.statistics.variances[:, None].astype(np.float64) * rows
        return patterns, rows.T @ patterns

    def _refuse_singular(self, columns: list[int], shown: Values) -> None:
        names = np.array([self.names[column] for column in columns])
        sigmas = np.sqrt(np.maximum(np.diag(shown), 0))
        if (unseen := sigmas**2 < UNSEEN).any():
            raise ConfigError(
                f"{', '.join(names[unseen])}: does not show in the features of the bank's images; "
                "move and hold other attributes"
            )
        values, vectors = np.linalg.eigh(shown / np.outer(sigmas, sigmas))
        if values[0] < ALIKE:
            alike = np.abs(vectors[:, 0]) > 0.1
            raise ConfigError(
                f"{', '.join(names[alike])}: the features cannot tell these apart; leave one out"
            )


def required(model: AttributeModel | None) -> AttributeModel:
    """The model of a map that has one. Raises ConfigError where it was fitted without."""
    if model is None:
        raise ConfigError(
            "this map has no measured attributes; fit one with fit.attributes set, as in "
            "--set fit.attributes.kind=strokes"
        )
    return model


def measured_in_blocks(settings: AnyAttributes, pixels: Pixels) -> Iterator[tuple[int, Values]]:
    """Measure Pixels (n c h w) block by block: yields how many are done and the block's rows."""
    for start in range(0, len(pixels), BLOCK):
        rows = settings.measure(np.array(pixels[start : start + BLOCK]))
        yield start + len(rows), rows


def _ridge(features: Values, targets: Values) -> tuple[Values, Values]:
    # Weights (a d) from all but the last tenth of the rows, R2 (a) on that tenth.
    kept = len(targets) - max(len(targets) // 10, 8)
    ridge = RidgeCV(alphas=PENALTIES * kept, alpha_per_target=True)
    ridge.fit(features[:kept], targets[:kept])
    answers = ridge.predict(features[kept:]).reshape(targets[kept:].shape)
    r2 = r2_score(targets[kept:], answers, multioutput="raw_values")
    return np.reshape(ridge.coef_, (targets.shape[1], -1)), np.asarray(r2)
