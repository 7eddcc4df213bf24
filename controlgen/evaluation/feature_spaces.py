"""Quality of feature spaces on a data set, compared with colour statistics and the largest class.

Labels and measured attributes are used for evaluation only. The linear probe (Alain & Bengio 2016,
"Understanding intermediate layers using linear classifier probes") and ridge regression are trained
on the training split, with a strength chosen by cross-validation over whole sources, and scored on
the test split. Nearest neighbours and zero-shot texts need no training and use both splits.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold
from sklearn.preprocessing import StandardScaler

from controlgen.config import SpacesConfig
from controlgen.errors import ConfigError, DataError
from controlgen.features import FeatureSpace, TextSpace
from controlgen.metrics.bootstrap import LEVELS, Interval, mean_interval, resample_counts
from controlgen.metrics.linear_probe import train_probe
from controlgen.metrics.zero_shot import zero_shot_classes
from controlgen.rng import stream
from controlgen.types import Dataset, Indices, Pixels, Shape

FeatureRows = NDArray[np.floating[Any]]  # (n d)
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LARGEST_CLASS, COLOUR_ONLY = "largest class", "colour alone"  # the controls
FOLDS = 5  # at most one per source
RIDGE_STRENGTHS = tuple(
    np.logspace(-6, 4, 21)
)  # from none to full shrinkage at any scale of features
CHUNK_ROWS = 512  # rows whose distances to all others are computed at once
ONE_SOURCE = "training images of one source: ridge strength chosen on contiguous blocks"


@dataclass(frozen=True)
class LabelledImages:
    """Training images, then test images; the two share no source in `sources` (n)."""

    pixels: Pixels
    labels: Ints | None
    sources: Ints
    train: int  # number of training images
    class_names: tuple[str, ...]

    @classmethod
    def load(cls, train: Dataset, test: Dataset, limit: int, seed: int) -> Self:
        """Load both splits, at most `limit` random images of each."""
        splits: list[Any] = [train, test]
        parts = [(split, _sample_rows(split, limit, seed, k)) for k, split in enumerate(splits)]
        names = tuple(splits[0].class_names)
        labels = [np.asarray(split.labels(rows)) for split, rows in parts] if names else None
        # Source numbers may start from zero in each split, but splits never share a source.
        numbers = [np.asarray(split.groups(rows)) for split, rows in parts]
        pairs = np.concatenate(
            [np.stack([np.full(len(n), k), n]) for k, n in enumerate(numbers)], 1
        )
        return cls(
            pixels=np.concatenate([split.pixels(rows) for split, rows in parts]),
            labels=np.concatenate(labels) if labels else None,
            sources=np.unique(pairs, axis=1, return_inverse=True)[1].ravel(),
            train=len(numbers[0]),
            class_names=names,
        )

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of images and sources of each split."""
        halves = {"train": self.sources[: self.train], "test": self.sources[self.train :]}
        counts = {f"{name} images": len(rows) for name, rows in halves.items()}
        return counts | {f"{name} sources": len(np.unique(rows)) for name, rows in halves.items()}


@dataclass(frozen=True)
class SpaceScores:
    """Scores of one space; None if not measured, `notes` give the reasons.

    `probe`, `neighbour` and `zero_shot` are accuracies 0..1, `attributes` the linear R^2 of each
    attribute; their n counts sources. `probe_strength` is C of the logistic regression.
    """

    name: str
    size: int | None = None
    probe: Interval | None = None
    probe_strength: float | None = None
    neighbour: Interval | None = None
    zero_shot: Interval | None = None
    attributes: Mapping[str, Interval] = field(default_factory=dict)
    images_per_second: float | None = None
    notes: tuple[str, ...] = ()


class SpaceEvaluator:
    """Evaluates feature spaces on the same images."""

    def __init__(self, config: SpacesConfig, images: LabelledImages) -> None:
        """Raises Incompatible if attributes do not fit, ConfigError if prompts do not."""
        self.config, self.images = config, images
        self.prompts = _order_prompts(config.prompts, images.class_names)
        self.values: Floats | None = None
        if config.attributes is not None:
            channels, height, width = images.pixels.shape[1:]
            config.attributes.check((channels, height, width))
            self.values = config.attributes.measure(images.pixels)

    def largest_class(self) -> SpaceScores:
        """The constant control: predict the largest class of the training split. Needs labels."""
        labels, train = self.images.labels, self.images.train
        assert labels is not None
        correct = labels[train:] == np.bincount(labels[:train]).argmax()
        return SpaceScores(LARGEST_CLASS, size=0, probe=self._mean(correct, slice(train, None)))

    def colour_only(self) -> SpaceScores:
        """The control without shape: mean and standard deviation of each channel."""
        features = colour_moments(self.images.pixels)
        return self._score_features(COLOUR_ONLY, features, self._standardized(features))

    def evaluate(self, name: str, space: FeatureSpace) -> SpaceScores:
        """Embed all images, measure the time and score the features."""
        start = time.perf_counter()
        features = space.embed(self.images.pixels)
        seconds = time.perf_counter() - start
        scores = self._score_features(name, features, features)
        zero_shot = None
        if self.prompts and hasattr(space, "embed_text"):
            classes = zero_shot_classes(cast(TextSpace, space), self.prompts)
            predicted = (features @ classes.T).argmax(1)
            zero_shot = self._mean(predicted == self.images.labels, slice(None))
        return replace(scores, zero_shot=zero_shot, images_per_second=len(features) / seconds)

    def _score_features(self, name: str, features: FeatureRows, metric: FeatureRows) -> SpaceScores:
        # Distances and ridge use `metric`: unit features unchanged, colour standardised. To
        # standardise unit features would amplify those that are nearly constant in training.
        scores, images = SpaceScores(name, size=features.shape[1]), self.images
        if images.labels is not None:
            scores = self._with_probe(scores, features)
            agrees = neighbour_agrees(metric, images.labels, images.sources)
            scores = replace(scores, neighbour=self._mean(agrees, slice(None)))
        return self._with_attributes(scores, metric.astype(np.float64))

    def _with_probe(self, scores: SpaceScores, features: FeatureRows) -> SpaceScores:
        labels, train = self.images.labels, self.images.train
        assert labels is not None
        rows = features.astype(np.float64)
        dataset = _EmbeddedDataset(rows[:train], labels[:train], self.images.sources[:train])
        try:
            probe = train_probe(dataset, dataset, self.config.seed)
        except DataError as error:
            return replace(scores, notes=(*scores.notes, f"no probe: {error}"))
        predicted = probe.probabilities(rows[train:]).argmax(1)
        accuracy = self._mean(predicted == labels[train:], slice(train, None))
        return replace(scores, probe=accuracy, probe_strength=probe.strength.value)

    def _with_attributes(self, scores: SpaceScores, features: Floats) -> SpaceScores:
        if self.values is None:
            return scores
        train = self.images.train
        sources = self.images.sources[:train]
        n_sources = len(np.unique(sources))
        rows, values = features[:train], self.values[:train]
        splitter: Any = GroupKFold(min(FOLDS, n_sources)) if n_sources > 1 else KFold(FOLDS)
        folds = list(splitter.split(rows, groups=sources if n_sources > 1 else None))
        predicted = ridge_predictions(rows, values, features[train:], folds)
        attributes, constant = self._score_attributes(predicted)
        notes = (*scores.notes, *([ONE_SOURCE] if n_sources < 2 else []), *constant)
        return replace(scores, attributes=attributes, notes=notes)

    def _standardized(self, features: FeatureRows) -> Floats:
        # By the training split, so that all columns have the same weight.
        rows = features.astype(np.float64)
        return np.asarray(StandardScaler().fit(rows[: self.images.train]).transform(rows))

    def _score_attributes(self, predicted: Floats) -> tuple[dict[str, Interval], list[str]]:
        assert self.values is not None and self.config.attributes is not None
        scores, notes = {}, []
        for column, name in enumerate(self.config.attributes.names):
            score = r2_interval(
                self.values[self.images.train :, column],
                predicted[:, column],
                self.config.seed,
                self.config.bootstraps,
                self.images.sources[self.images.train :],
            )
            if score is None:
                notes.append(f"no R2 of {name}: it is the same in all test images")
            else:
                scores[name] = score
        return scores, notes

    def _mean(self, correct: NDArray[np.generic], part: slice) -> Interval:
        sources = self.images.sources[part]
        return mean_interval(correct, self.config.seed, self.config.bootstraps, sources)


@dataclass(frozen=True)
class _EmbeddedDataset:
    """Embedded images as the data set and the feature space of a probe."""

    rows: Floats
    classes: Ints
    sources: Ints

    @property
    def image_shape(self) -> Shape:
        return (self.rows.shape[1], 1, 1)

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, indices: Indices) -> Any:
        return self.rows[indices]

    def labels(self, indices: Indices) -> Ints:
        return self.classes[indices]

    def groups(self, indices: Indices) -> Ints:
        return self.sources[indices]

    def embed(self, pixels: Any) -> Any:
        return pixels


def colour_moments(pixels: Pixels) -> Floats:
    """Mean and standard deviation, 0..1, of each channel: Pixels (n c h w) -> (n 2c)."""
    starts = range(0, len(pixels), CHUNK_ROWS)
    chunks = [pixels[start : start + CHUNK_ROWS] / 255 for start in starts]
    rows = [np.concatenate([chunk.mean((2, 3)), chunk.std((2, 3))], 1) for chunk in chunks]
    return np.concatenate(rows)


def neighbour_agrees(features: FeatureRows, labels: Ints, sources: Ints) -> NDArray[np.bool_]:
    """Return whether the nearest image (Euclidean) of another source is of the same class: (n).

    For unit rows this is the nearest by cosine. False if there is no other source.
    """
    rows = features.astype(np.float64)
    squares = (rows**2).sum(1)
    agrees = np.zeros(len(rows), bool)
    for start in range(0, len(rows), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        distances = squares - 2 * rows[part] @ rows.T
        distances[sources[part, None] == sources] = np.inf
        nearest = distances.argmin(1)
        agrees[part] = (labels[nearest] == labels[part]) & (sources[nearest] != sources[part])
    return agrees


def ridge_predictions(
    features: FeatureRows, values: Floats, queries: FeatureRows, folds: Sequence[tuple[Ints, Ints]]
) -> Floats:
    """Predict values (m k) of `queries` (m d) by ridge regression of `values` (n k) on `features`.

    Each column uses the strength of RIDGE_STRENGTHS with the least squared error over `folds`,
    pairs of training and held-out indices.
    """
    errors = np.zeros((len(RIDGE_STRENGTHS), values.shape[1]))
    for train, test in folds:
        predictions = _ridge_path(features[train], values[train], features[test])
        errors += np.stack([((rows - values[test]) ** 2).sum(0) for rows in predictions])
    path = np.stack(list(_ridge_path(features, values, queries)))
    return np.asarray(path[errors.argmin(0), :, np.arange(values.shape[1])].T)


def r2_interval(
    true: Floats, predicted: Floats, seed: int, bootstraps: int, sources: Ints
) -> Interval | None:
    """R^2 = 1 - SSE / SST of `predicted` (m) with its 95 % bootstrap interval over `sources` (m).

    Whole sources are drawn, and SST is about the mean of the draw. None if all true values are
    equal.
    """
    if np.ptp(true) == 0:
        return None
    positions = np.unique(sources, return_inverse=True)[1]
    centred = true - true.mean()
    count, value, square, error = (
        np.bincount(positions, row)
        for row in (np.ones(len(true)), centred, centred**2, (true - predicted) ** 2)
    )

    # Draws without variance have no R^2 and are left out.
    counts = resample_counts(len(count), seed, bootstraps)
    total = counts @ square - (counts @ value) ** 2 / (counts @ count)
    varied = total > 1e-9 * square.sum()
    scores = 1 - (counts @ error)[varied] / total[varied]
    low, high = np.percentile(scores, LEVELS)
    return Interval(float(1 - error.sum() / square.sum()), float(low), float(high), len(count))


def _ridge_path(features: FeatureRows, values: Floats, queries: FeatureRows) -> Iterator[Floats]:
    # One eigendecomposition for all strengths: (X'X + a)^-1 X'y = Q (L + a)^-1 Q' X'y.
    mean, offset = features.mean(0), values.mean(0)
    centred = (features - mean).astype(np.float64)
    spread, axes = np.linalg.eigh(centred.T @ centred)
    projected_values = axes.T @ (centred.T @ (values - offset))
    projected = (queries - mean) @ axes
    for strength in RIDGE_STRENGTHS:
        yield projected @ (projected_values / (np.maximum(spread, 0) + strength)[:, None]) + offset


def _sample_rows(split: Dataset, limit: int, seed: int, index: int) -> Ints:
    rows = np.arange(len(split))
    if len(rows) > limit:
        rows = np.sort(stream(seed, "spaces images", index).permutation(rows)[:limit])
    return rows


def _order_prompts(prompts: Mapping[str, Sequence[str]], names: tuple[str, ...]) -> list[list[str]]:
    # In the order of the labels; a class without texts could never be predicted.
    if prompts and set(prompts) != set(names):
        raise ConfigError(
            f"prompts: for {', '.join(prompts)}, but the classes are {', '.join(names) or 'none'}; "
            "give every class its texts, or no prompts at all"
        )
    return [list(prompts[name]) for name in names] if prompts else []
