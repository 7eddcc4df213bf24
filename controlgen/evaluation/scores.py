"""Scores of generated images against real ones: each with its interval and its floor."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from controlgen.errors import ConfigError, DataError, Incompatible
from controlgen.evaluation.context import OnProgress, Perceptual
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.features import ClassifierSpace, FeatureSpace, UnnormalizedSpace
from controlgen.metrics import naming
from controlgen.metrics.bootstrap import Interval, mean_interval
from controlgen.metrics.cmmd import cmmd
from controlgen.metrics.diversity import diversity, nearest_distance
from controlgen.metrics.frechet import frechet_interval
from controlgen.metrics.inception_score import inception_score
from controlgen.metrics.kernel import kernel_distance
from controlgen.metrics.memorisation import audit, has_poses, iter_pose_features, nearest
from controlgen.metrics.path_length import path_length, path_lengths
from controlgen.metrics.perceptual import ImageDistance, PerceptualDistance
from controlgen.metrics.precision_recall import density_coverage, precision_recall
from controlgen.rng import normals, stream
from controlgen.types import Features, Latents, Pixels

MEASURES = (
    "frechet",
    "kernel",
    "mmd",
    "precision",
    "recall",
    "density",
    "coverage",
    "inception-score",
    "diversity",
    "nearest",
    "copies",
)
SHARE_MEASURES = ("precision", "recall", "density", "coverage")
PATH_LENGTH = "path-length"  # of a generator, not of images: `path_length_score`
MIN_IMAGES = 20  # per set
NEAREST_QUERIES = 256  # images whose nearest real image is searched
NEAREST_CANDIDATES = 3  # real images compared with each of them, nearest by features
PATH_STEPS = 500  # small steps that a path length averages
Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Score:
    """A named value with its 95 % interval, and the score of real images at the same n.

    `value.n` counts the averaged images or pairs. `floor` is None without other real images, and
    for measures that have none.
    """

    name: str
    value: Interval
    floor: Interval | None
    better: Better
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "value": self.value._asdict(),
            "floor": None if self.floor is None else self.floor._asdict(),
            "better": self.better,
            "note": self.note,
        }


class ReferenceSet:
    """Real images against which sets of generated images are scored.

    Features and floors of the real images are computed once.

    Args:
        real: Pixels (n c h w).
        other_real: pixels of other sources than `real`, for the floors and for copies; without
            them distances have no floor and copies are not searched.
        extractor: the feature space, and `extractor_name` its name in the names of scores.
        seed: of bootstraps and pairs; `bootstraps` is their number.
        perceptual: the distance of image pairs; PD-efficientnet-lite0 by default.
    """

    def __init__(
        self,
        real: Pixels,
        other_real: Pixels | None,
        extractor: FeatureSpace,
        extractor_name: str,
        seed: int,
        bootstraps: int = 200,
        perceptual: Perceptual | None = None,
    ) -> None:
        self.real, self.other_real = real, other_real
        self.extractor, self.extractor_name = extractor, extractor_name
        self.seed, self.bootstraps, self._perceptual = seed, bootstraps, perceptual
        self._cache: dict[int, _RealImages] = {}

    def scores(
        self,
        generated: Pixels,
        only: Collection[str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[Score]:
        """Score generated images by all MEASURES, or by `only` some.

        All sets are cut to the first n images of the smallest, so their order must be random.
        Copies are searched among these n real images. Frechet, kernel, precision, recall, density
        and coverage use Inception's raw rows, as published, and unit rows of other extractors
        (times sqrt(d) for the kernel). Extractors without classes have no Inception Score.

        Args:
            generated: Pixels (n c h w).
            only: names from MEASURES.
            on_progress: is called with a measure and the share of work done.

        Returns:
            Scores in the order of MEASURES.

        Raises:
            ConfigError: for a measure that is unknown or not available.
            DataError: for fewer than 20 images in a set.
            Incompatible: for images of different shapes.
        """
        measures = _select_measures(only, self.extractor, self.other_real)
        image_sets = [generated, self.real]
        image_sets += [] if self.other_real is None else [self.other_real]
        _validate_sets(image_sets)
        n = min(map(len, image_sets))
        scorer = _Scorer(self._embedded(generated[:n]), self._real_images(n), self)
        report = on_progress or (lambda measure, share: None)
        scores: list[Score] = []
        for index, measure in enumerate(measures):
            report(measure, index / len(measures))
            scores.append(scorer.score(measure))
        report("done", 1.0)
        return scores

    @cached_property
    def perceptual(self) -> Perceptual:
        """The distance of image pairs, opened on first use."""
        return self._perceptual or PerceptualDistance()

    def _embedded(self, pixels: Pixels) -> "_EmbeddedImages":
        return _EmbeddedImages(pixels, self.extractor, self.extractor_name)

    def _real_images(self, n: int) -> "_RealImages":
        if n not in self._cache:
            other = None if self.other_real is None else self._embedded(self.other_real[:n])
            # Usually all sets have one size, so only the last is cached.
            self._cache = {n: _RealImages(self._embedded(self.real[:n]), other, {})}
        return self._cache[n]


def path_length_score(
    generate: Callable[[Latents], Tensor],
    latent_size: int,
    seed: int,
    n: int = PATH_STEPS,
    perceptual: ImageDistance | None = None,
) -> Score:
    """Compute the perceptual path length of n small steps between normal latents.

    Latents keep their norms. `generate` maps Latents (m z) to Images (m c h w) in -1..1, not
    rounded to bytes. The score is named after the distance: only that of LPIPS is PPL.
    """
    distance = perceptual or PerceptualDistance()
    start, end = (normals(seed, f"path {which}", 0, n, latent_size) for which in ("start", "end"))
    positions = stream(seed, "path positions").random(n)
    lengths = path_lengths(
        lambda latents: generate(latents).detach().cpu().numpy(),
        distance.image_distance,
        start,
        end,
        positions,
    )
    name = f"PPL-{distance.name.removeprefix('PD-')}"
    return Score(name, path_length(lengths, seed), None, "lower")


def scores_markdown(scores: Sequence[Score]) -> list[str]:
    """Return a table, and one line per note."""
    head = ("measure", "value", "real against real", "better", "n")
    rows = []
    for score in scores:
        digits = _digits(score)
        value, floor = (format_interval(part, digits) for part in (score.value, score.floor))
        rows.append((score.name, value, floor, score.better, f"{score.value.n}"))
    notes = [f"{score.name}: {score.note}" for score in scores if score.note]
    return [markdown_table(head, rows), *notes]


class _EmbeddedImages:
    """Pixels with their features, computed once."""

    def __init__(self, pixels: Pixels, space: FeatureSpace, name: str) -> None:
        self.pixels, self.space = pixels, space
        self.published = isinstance(space, UnnormalizedSpace) and name.startswith(naming.INCEPTION)

    @cached_property
    def _raw(self) -> Features:
        space = self.space
        return space.embed_raw(self.pixels) if isinstance(space, UnnormalizedSpace) else self.unit

    @cached_property
    def unit(self) -> Features:
        if not isinstance(self.space, UnnormalizedSpace):
            return self.space.embed(self.pixels)
        lengths = np.linalg.norm(self._raw, axis=1, keepdims=True)
        return np.asarray(self._raw / np.maximum(lengths, np.finfo(np.float32).tiny))

    @property
    def rows(self) -> Features:
        return self._raw if self.published else self.unit

    @property
    def kernel_rows(self) -> Features:
        return self._raw if self.published else self.unit * np.float32(math.sqrt(self.space.size))

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        assert isinstance(self.space, ClassifierSpace)
        return self.space.probabilities(self._raw)


@dataclass(frozen=True)
class _RealImages:
    """Real images of one size, with a cache of their floors."""

    real: _EmbeddedImages
    other: _EmbeddedImages | None
    floors: dict[str, Any]

    def floor(self, name: str, measure: Callable[[], Any]) -> Any:
        if name not in self.floors:
            self.floors[name] = measure()
        return self.floors[name]


@dataclass
class _Scorer:
    """One method per measure, named after it."""

    generated: _EmbeddedImages
    reference: _RealImages
    settings: ReferenceSet

    @property
    def real(self) -> _EmbeddedImages:
        return self.reference.real

    def score(self, measure: str) -> Score:
        if measure in SHARE_MEASURES:
            return self._share(measure)
        score: Score = getattr(self, f"_{measure.replace('-', '_')}")()
        return score

    def _distance_to_real(
        self, name: str, measure: Callable[[_EmbeddedImages], Interval]
    ) -> tuple[Interval, Interval | None]:
        other = self.reference.other
        floor = None if other is None else self.reference.floor(name, lambda: measure(other))
        return measure(self.generated), floor

    def _same_for_real(
        self, name: str, measure: Callable[[_EmbeddedImages], Interval]
    ) -> tuple[Interval, Interval]:
        return measure(self.generated), self.reference.floor(name, lambda: measure(self.real))

    def _frechet(self) -> Score:
        size = self.real.rows.shape[1]
        value, floor = self._distance_to_real(
            "frechet", lambda images: frechet_interval(images.rows, self.real.rows)
        )
        note = naming.few_images(value.n, size)
        name = naming.frechet_name(self.settings.extractor_name, size)
        return Score(name, value, floor, "lower", note)

    def _kernel(self) -> Score:
        rows, resampling = self.real.kernel_rows, (self.settings.seed, self.settings.bootstraps)
        value, floor = self._distance_to_real(
            "kernel", lambda images: kernel_distance(images.kernel_rows, rows, *resampling)
        )
        name = naming.kernel_name(self.settings.extractor_name, rows.shape[1])
        return Score(name, value, floor, "lower")

    def _mmd(self) -> Score:
        resampling = (self.settings.seed, self.settings.bootstraps)
        value, floor = self._distance_to_real(
            "mmd", lambda images: cmmd(images.unit, self.real.unit, *resampling)
        )
        name = naming.cmmd_name(self.settings.extractor_name, self.real.unit.shape[1])
        return Score(name, value, floor, "lower")

    def _measure_shares(self, images: _EmbeddedImages) -> dict[str, Interval]:
        rows = self.real.rows, images.rows, self.settings.seed
        return precision_recall(*rows)._asdict() | density_coverage(*rows)._asdict()

    @cached_property
    def _shares(self) -> dict[str, Interval]:
        return self._measure_shares(self.generated)

    def _share(self, name: str) -> Score:
        other, floor = self.reference.other, None
        if other is not None:
            floor = self.reference.floor("shares", lambda: self._measure_shares(other))[name]
        return Score(name, self._shares[name], floor, "higher")

    def _inception_score(self) -> Score:
        value, floor = self._same_for_real(
            "inception score", lambda images: inception_score(images.probabilities)
        )
        name = naming.inception_score_name(self.settings.extractor_name)
        return Score(name, value, floor, "higher")

    def _diversity(self) -> Score:
        perceptual, seed = self.settings.perceptual, self.settings.seed
        value, floor = self._same_for_real(
            "diversity", lambda images: diversity(images.pixels, perceptual.distance, seed)
        )
        return Score(f"{perceptual.name} diversity", value, floor, "neither")

    def _nearest(self) -> Score:
        perceptual = self.settings.perceptual

        def mean_distance(images: _EmbeddedImages) -> Interval:
            queries = slice(NEAREST_QUERIES)
            order = np.argsort(-images.unit[queries] @ self.real.unit.T, axis=1, kind="stable")
            pixels, candidates = images.pixels[queries], order[:, :NEAREST_CANDIDATES]
            distances = nearest_distance(pixels, self.real.pixels, candidates, perceptual.distance)
            return mean_interval(distances, self.settings.seed)

        value, floor = self._distance_to_real("nearest", mean_distance)
        return Score(f"{perceptual.name} to nearest real", value, floor, "neither")

    def _copies(self) -> Score:
        assert self.reference.other is not None  # see `_select_measures`
        pixels, n = self.real.pixels, len(self.real.pixels)
        shape: Any = pixels.shape[1:]
        poses = has_poses(shape)
        queries = np.concatenate([self.generated.unit, self.reference.other.unit])
        blocks = iter_pose_features(
            lambda indices: pixels[indices], np.arange(n), self.real.space.embed, poses
        )
        distances = nearest(queries, blocks).distance
        statistics = audit(
            distances[:n], distances[n:], self.settings.seed, self.settings.bootstraps
        )
        searched = f"{n} real images" + (", in eight poses" if poses else "")
        note = f"{statistics.verdict} among {searched}; 0.01 is expected of new images"
        return Score("copies suspected", statistics.share, None, "lower", note)


def _select_measures(
    only: Collection[str] | None, extractor: FeatureSpace, other_real: Pixels | None
) -> list[str]:
    unavailable = {}
    if not isinstance(extractor, ClassifierSpace):
        unavailable["inception-score"] = "the extractor has no classes"
    if other_real is None:
        unavailable["copies"] = "there are no other real images to give the scale"
    for name in only or ():
        if name not in MEASURES:
            raise ConfigError(f"measure {name}: unknown; choose from {', '.join(MEASURES)}")
        if name in unavailable:
            raise ConfigError(f"measure {name}: {unavailable[name]}; leave it out")
    selected = MEASURES if only is None else only
    return [name for name in MEASURES if name in selected and name not in unavailable]


def _validate_sets(image_sets: Sequence[Pixels]) -> None:
    shapes = sorted({pixels.shape[1:] for pixels in image_sets})
    if len(shapes) > 1:
        text = " and ".join("x".join(map(str, shape)) for shape in shapes)
        raise Incompatible(f"images of shapes {text} cannot be compared; resize them to one shape")
    n = min(map(len, image_sets))
    if n < MIN_IMAGES:
        raise DataError(f"{n} images in a set are too few to score; give at least {MIN_IMAGES}")


def _digits(score: Score) -> int:
    # Three significant digits of the smaller mean.
    means = [score.value.mean, score.floor.mean if score.floor else 0]
    smallest = min((abs(mean) for mean in means if mean), default=1)
    return min(max(2 - math.floor(math.log10(smallest)), 2), 6)
