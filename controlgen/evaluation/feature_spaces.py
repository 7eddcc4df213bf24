"""How well feature spaces see a set of pictures, beside colour alone and the largest class.

Labels and measured attributes judge here; nothing that is fitted on them is kept. What learns (the
linear probe of Alain & Bengio 2016, "Understanding intermediate layers using linear classifier
probes", and the ridge) learns on the training split, chooses its strength by cross-validation that
keeps sources whole, and is scored on the test split. What needs no teaching (nearest neighbours,
sentences) is scored on both splits.
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
from controlgen.metrics.bootstrap import LEVELS, Interval, interval, resample_counts
from controlgen.metrics.linear_probe import train_probe
from controlgen.metrics.zero_shot import zero_shot_classes
from controlgen.rng import stream
from controlgen.types import Dataset, Indices, Pixels, Shape

Table = NDArray[np.floating[Any]]  # n d
Numbers = NDArray[np.float64]
Whole = NDArray[np.int64]

LARGEST, COLOUR = "largest class", "colour alone"  # the controls
FOLDS = 5  # at most; fewer where there are fewer sources
RIDGE_STRENGTHS = tuple(np.logspace(-6, 4, 21))  # from none to all, whatever the features' scale
CHUNK = 512  # rows whose distances to all others are held at once
ONE_SOURCE = "the training images are of one source: ridge strength by contiguous blocks of them"


@dataclass(frozen=True)
class Pictures:
    """Both splits, one after the other: training images first. `sources` (n) never spans them."""

    pixels: Pixels
    labels: Whole | None
    sources: Whole
    train: int  # so many of them are of the training split
    class_names: tuple[str, ...]

    @classmethod
    def gather(cls, train: Dataset, test: Dataset, most: int, seed: int) -> Self:
        """Open both splits, at most `most` images of each, drawn at random without order."""
        parts = [_drawn(split, most, seed, at) for at, split in enumerate((train, test))]
        data: Any = train
        names = tuple(data.class_names)
        labels = [np.asarray(split.labels(rows)) for split, rows in parts] if names else None
        # Numbers of sources start anew in some data sets' splits, which never share a source.
        numbers = [np.asarray(split.groups(rows)) for split, rows in parts]
        pairs = np.concatenate(
            [np.stack([np.full(len(n), at), n]) for at, n in enumerate(numbers)], 1
        )
        return cls(
            pixels=np.concatenate([split.pixels(rows) for split, rows in parts]),
            labels=np.concatenate(labels) if labels else None,
            sources=np.unique(pairs, axis=1, return_inverse=True)[1].ravel(),
            train=len(numbers[0]),
            class_names=names,
        )

    @property
    def facts(self) -> dict[str, int]:
        """Images and sources of each split."""
        halves = {"train": self.sources[: self.train], "test": self.sources[self.train :]}
        counts = {f"{name} images": len(rows) for name, rows in halves.items()}
        return counts | {f"{name} sources": len(np.unique(rows)) for name, rows in halves.items()}


@dataclass(frozen=True)
class Sight:
    """What one space sees; None where it was not or cannot be measured, `notes` say why.

    `probe`, `neighbour` and `zero_shot` are shares 0..1 of images read right, `attributes` hold the
    linear R^2 of each (1 exact, 0 the mean); their n counts sources. `probe_strength` is C of the
    logistic regression.
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


class Examiner:
    """Asks the same of every space, on the same pictures."""

    def __init__(self, config: SpacesConfig, pictures: Pictures) -> None:
        """Raises Incompatible where attributes do not fit, ConfigError where prompts do not."""
        self.config, self.pictures = config, pictures
        self.prompts = _ordered(config.prompts, pictures.class_names)
        self.values: Numbers | None = None
        if config.attributes is not None:
            channels, height, width = pictures.pixels.shape[1:]
            config.attributes.check((channels, height, width))
            self.values = config.attributes.measure(pictures.pixels)

    def largest_class(self) -> Sight:
        """The control that looks at nothing: every image is of the training split's largest class.

        Call only where there are classes.
        """
        labels, train = self.pictures.labels, self.pictures.train
        assert labels is not None
        right = labels[train:] == np.bincount(labels[:train]).argmax()
        return Sight(LARGEST, size=0, probe=self._mean(right, slice(train, None)))

    def colour_alone(self) -> Sight:
        """The control that sees no form: mean and spread of each channel."""
        features = colour(self.pictures.pixels)
        return self._ask(COLOUR, features, self._scaled(features))

    def look(self, name: str, space: FeatureSpace) -> Sight:
        """Embed all pictures, timed, and ask."""
        began = time.perf_counter()
        features = space.embed(self.pictures.pixels)
        seconds = time.perf_counter() - began
        seen = self._ask(name, features, features)
        zero_shot = None
        if self.prompts and hasattr(space, "embed_text"):
            classes = zero_shot_classes(cast(TextSpace, space), self.prompts)
            right = (features @ classes.T).argmax(1)
            zero_shot = self._mean(right == self.pictures.labels, slice(None))
        speed = len(features) / seconds
        return replace(seen, zero_shot=zero_shot, images_per_second=speed)

    def _ask(self, name: str, features: Table, places: Table) -> Sight:
        # Distances and ridge see `places`: unit features as they are, colour standardised. A
        # feature that is all but dead on the training split would be blown up by standardising.
        seen = Sight(name, size=features.shape[1])
        pictures = self.pictures
        if pictures.labels is not None:
            seen = self._ask_for_classes(seen, features)
            agrees = neighbour_agrees(places, pictures.labels, pictures.sources)
            seen = replace(seen, neighbour=self._mean(agrees, slice(None)))
        return self._ask_for_values(seen, places.astype(np.float64))

    def _ask_for_classes(self, seen: Sight, features: Table) -> Sight:
        labels, train = self.pictures.labels, self.pictures.train
        assert labels is not None
        rows = features.astype(np.float64)
        taught = _Rows(rows[:train], labels[:train], self.pictures.sources[:train])
        try:
            probe = train_probe(taught, taught, self.config.seed)
        except DataError as error:
            return replace(seen, notes=(*seen.notes, f"no probe: {error}"))
        called = probe.probabilities(rows[train:]).argmax(1)
        right = self._mean(called == labels[train:], slice(train, None))
        return replace(seen, probe=right, probe_strength=probe.strength.value)

    def _ask_for_values(self, seen: Sight, places: Numbers) -> Sight:
        if self.values is None:
            return seen
        train = self.pictures.train
        sources = self.pictures.sources[:train]
        many = len(np.unique(sources))
        rows, values = places[:train], self.values[:train]
        cutter: Any = GroupKFold(min(FOLDS, many)) if many > 1 else KFold(FOLDS)
        folds = list(cutter.split(rows, groups=sources if many > 1 else None))
        told = ridge_predictions(rows, values, places[train:], folds)
        scores, absent = self._scores(told)
        notes = (*seen.notes, *([ONE_SOURCE] if many < 2 else []), *absent)
        return replace(seen, attributes=scores, notes=notes)

    def _scaled(self, features: Table) -> Numbers:
        # Standardised by the training split, so that every column counts alike.
        rows = features.astype(np.float64)
        return np.asarray(StandardScaler().fit(rows[: self.pictures.train]).transform(rows))

    def _scores(self, told: Numbers) -> tuple[dict[str, Interval], list[str]]:
        assert self.values is not None and self.config.attributes is not None
        scores, absent = {}, []
        for at, name in enumerate(self.config.attributes.names):
            score = r2_interval(
                self.values[self.pictures.train :, at],
                told[:, at],
                self.config.seed,
                self.config.bootstraps,
                self.pictures.sources[self.pictures.train :],
            )
            if score is None:
                absent.append(f"no R2 of {name}: it is the same in all test images")
            else:
                scores[name] = score
        return scores, absent

    def _mean(self, right: NDArray[np.generic], part: slice) -> Interval:
        sources = self.pictures.sources[part]
        return interval(right, self.config.seed, self.config.bootstraps, sources)


@dataclass(frozen=True)
class _Rows:
    """Features in the place of pixels, already embedded: what a probe is taught on."""

    rows: Numbers
    classes: Whole
    sources: Whole

    @property
    def image_shape(self) -> Shape:
        return (self.rows.shape[1], 1, 1)

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, indices: Indices) -> Any:
        return self.rows[indices]

    def labels(self, indices: Indices) -> Whole:
        return self.classes[indices]

    def groups(self, indices: Indices) -> Whole:
        return self.sources[indices]

    def embed(self, pixels: Any) -> Any:
        return pixels


def colour(pixels: Pixels) -> Numbers:
    """Mean and standard deviation, 0..1, of each channel: Pixels (n c h w) -> (n 2c)."""
    parts = [pixels[first : first + CHUNK] / 255 for first in range(0, len(pixels), CHUNK)]
    rows = [np.concatenate([part.mean((2, 3)), part.std((2, 3))], 1) for part in parts]
    return np.concatenate(rows)


def neighbour_agrees(features: Table, labels: Whole, sources: Whole) -> NDArray[np.bool_]:
    """Whether the nearest image (Euclidean) of another source is of the same class: (n).

    On rows of unit length that is the nearest by cosine. An image without one agrees with nobody.
    """
    rows = features.astype(np.float64)
    squares = (rows**2).sum(1)
    agrees = np.zeros(len(rows), bool)
    for first in range(0, len(rows), CHUNK):
        part = slice(first, first + CHUNK)
        distances = squares - 2 * rows[part] @ rows.T
        distances[sources[part, None] == sources] = np.inf
        nearest = distances.argmin(1)
        agrees[part] = (labels[nearest] == labels[part]) & (sources[nearest] != sources[part])
    return agrees


def ridge_predictions(
    features: Table, values: Numbers, asked: Table, folds: Sequence[tuple[Whole, Whole]]
) -> Numbers:
    """Values (m k) of `asked` (m d) by ridge regression taught on `features` (n d), `values` (n k).

    Each value has a strength of its own, of RIDGE_STRENGTHS the one with the least squared error
    over `folds`: indices of the images that teach, and of those held out.
    """
    errors = np.zeros((len(RIDGE_STRENGTHS), values.shape[1]))
    for taught, held in folds:
        answers = _ridges(features[taught], values[taught], features[held])
        errors += np.stack([((answer - values[held]) ** 2).sum(0) for answer in answers])
    told = np.stack(list(_ridges(features, values, asked)))
    return np.asarray(told[errors.argmin(0), :, np.arange(values.shape[1])].T)


def r2_interval(
    true: Numbers, told: Numbers, seed: int, bootstraps: int, sources: Whole
) -> Interval | None:
    """R^2 = 1 - SSE / SST of `told` (m) with its 95 % bootstrap interval over `sources` (m).

    A draw takes a source whole, and the mean that SST is about is the draw's own. None where all
    true values are the same.
    """
    if np.ptp(true) == 0:
        return None
    positions = np.unique(sources, return_inverse=True)[1]
    centred = true - true.mean()
    count, value, square, error = (
        np.bincount(positions, row)
        for row in (np.ones(len(true)), centred, centred**2, (true - told) ** 2)
    )

    # Draws in which nothing varies have no R^2 and are left out.
    drawn = resample_counts(len(count), seed, bootstraps)
    total = drawn @ square - (drawn @ value) ** 2 / (drawn @ count)
    varied = total > 1e-9 * square.sum()
    scores = 1 - (drawn @ error)[varied] / total[varied]
    low, high = np.percentile(scores, LEVELS)
    return Interval(float(1 - error.sum() / square.sum()), float(low), float(high), len(count))


def _ridges(features: Table, values: Numbers, asked: Table) -> Iterator[Numbers]:
    # One eigendecomposition serves every strength: (X'X + a)^-1 X'y = Q (L + a)^-1 Q' X'y.
    mean, offset = features.mean(0), values.mean(0)
    centred = (features - mean).astype(np.float64)
    spread, axes = np.linalg.eigh(centred.T @ centred)
    shadows = axes.T @ (centred.T @ (values - offset))
    seen = (asked - mean) @ axes
    for strength in RIDGE_STRENGTHS:
        yield seen @ (shadows / (np.maximum(spread, 0) + strength)[:, None]) + offset


def _drawn(split: Dataset, most: int, seed: int, at: int) -> tuple[Any, Whole]:
    rows = np.arange(len(split))
    if len(rows) > most:
        rows = np.sort(stream(seed, "spaces images", at).permutation(rows)[:most])
    return split, rows


def _ordered(prompts: Mapping[str, Sequence[str]], names: tuple[str, ...]) -> list[list[str]]:
    # Sentences in the order of the labels; a class without any could never be answered.
    if prompts and set(prompts) != set(names):
        raise ConfigError(
            f"prompts: for {', '.join(prompts)}, but the classes are {', '.join(names) or 'none'}; "
            "give every class its texts, or no prompts at all"
        )
    return [list(prompts[name]) for name in names] if prompts else []
