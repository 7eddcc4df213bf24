"""One set of images judged against real ones: every measure with its interval and its floor."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from controlgen.errors import ConfigError, DataError, Incompatible
from controlgen.evaluation.context import OnProgress, Perceptual
from controlgen.evaluation.markdown import shown, table
from controlgen.features import ClassSpace, FeatureSpace, RawSpace
from controlgen.metrics import naming
from controlgen.metrics.bootstrap import Interval, interval
from controlgen.metrics.cmmd import cmmd
from controlgen.metrics.diversity import diversity, nearest_distance
from controlgen.metrics.frechet import frechet_interval
from controlgen.metrics.inception_score import inception_score
from controlgen.metrics.kernel import kernel_distance
from controlgen.metrics.memorisation import audit, has_poses, nearest, posed_blocks
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
SHARES = ("precision", "recall", "density", "coverage")
PATH_LENGTH = "path-length"  # of a generator, not of images: `path_length_score`
LEAST = 20  # images a side
NEAREST, CANDIDATES = 256, 3  # images whose nearest real one is sought, among so many by features
PATHS = 500  # small steps behind a path length
Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Score:
    """A named number with its 95 % interval, and what real images score at the same n.

    `value.n` counts what was averaged: images, or pairs of them. `floor` is None where there are no
    other real images, or the measure has none.
    """

    name: str
    value: Interval
    floor: Interval | None
    better: Better
    note: str | None = None

    def effective(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "name": self.name,
            "value": self.value._asdict(),
            "floor": None if self.floor is None else self.floor._asdict(),
            "better": self.better,
            "note": self.note,
        }


class Reference:
    """Real Pixels (n c h w) that one set of images after another is judged against.

    `other_real`, of other sources than `real`, gives the floors and the scale of copies; without it
    distances have no floor and copies are not sought. `perceptual` is PD-efficientnet-lite0 if left
    out. What belongs to the real images alone, features and floors, is found once.
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
        self.seed, self.bootstraps, self._given = seed, bootstraps, perceptual
        self._sides: dict[int, _Real] = {}

    def scores(
        self,
        generated: Pixels,
        only: Collection[str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[Score]:
        """Judge generated Pixels (n c h w) by `only` of MEASURES, or by all.

        Every side is cut to the first n, n being the smallest side: draw them at random. Copies are
        sought among these n real images alone. Frechet, kernel, precision, recall, density and
        coverage see Inception's raw rows, as published, and unit rows of any other extractor (times
        sqrt(d) for the kernel). An extractor without classes gives no Inception Score.
        Raises ConfigError for a measure that is unknown or cannot be had, DataError below 20
        images, Incompatible where images differ in shape.
        """
        wanted = _wanted(only, self.extractor, self.other_real)
        sides = [generated, self.real]
        sides += [] if self.other_real is None else [self.other_real]
        _check(sides)
        n = min(len(side) for side in sides)
        side = _Side(generated[:n], self.extractor, self.extractor_name)
        card = _Card(side, self._real(n), self)

        # Measures that share their work are made together; the order of MEASURES is kept.
        tell = on_progress or (lambda what, done: None)
        found: list[Score] = []
        for done, measure in enumerate(wanted):
            tell(measure, done / len(wanted))
            found.append(card.score(measure))
        tell("done", 1.0)
        return found

    @cached_property
    def perceptual(self) -> Perceptual:
        """The distance that images are compared with pair by pair, opened when it is needed."""
        return self._given or PerceptualDistance()

    def _real(self, n: int) -> "_Real":
        if n not in self._sides:
            kept = (self.real, self.other_real)
            sides = [
                None if one is None else _Side(one[:n], self.extractor, self.extractor_name)
                for one in kept
            ]
            assert sides[0] is not None
            self._sides = {n: _Real(sides[0], sides[1], {})}  # one size is asked for, as a rule
        return self._sides[n]


def path_length_score(
    generate: Callable[[Latents], Tensor],
    latent_size: int,
    seed: int,
    n: int = PATHS,
    perceptual: ImageDistance | None = None,
) -> Score:
    """Perceptual path length of n small steps between normal latents, keeping their norms.

    `generate` maps Latents (m z) to Images (m c h w) in -1..1, not rounded to bytes. Named after
    the distance: only LPIPS's is PPL. Raises what opening the distance raises.
    """
    seen = perceptual or PerceptualDistance()
    start, end = (normals(seed, f"path {which}", 0, n, latent_size) for which in ("start", "end"))
    positions = stream(seed, "path positions").random(n)
    lengths = path_lengths(
        lambda latents: generate(latents).detach().cpu().numpy(),
        seen.image_distance,
        start,
        end,
        positions,
    )
    name = f"PPL-{seen.name.removeprefix('PD-')}"
    return Score(name, path_length(lengths, seed), None, "lower")


def markdown(scores: Sequence[Score]) -> list[str]:
    """A table, and a line a note."""
    head = ("measure", "value", "real against real", "better", "n")
    rows = []
    for one in scores:
        digits = _digits(one)
        floor = shown(one.floor, digits)
        rows.append((one.name, shown(one.value, digits), floor, one.better, f"{one.value.n}"))
    return [table(head, rows), *(f"{one.name}: {one.note}" for one in scores if one.note)]


class _Side:
    """Pixels and what the extractor sees in them, looked at once."""

    def __init__(self, pixels: Pixels, space: FeatureSpace, name: str) -> None:
        self.pixels, self.space = pixels, space
        self.published = isinstance(space, RawSpace) and name.startswith(naming.INCEPTION)

    @cached_property
    def _raw(self) -> Features:
        space = self.space
        return space.embed_raw(self.pixels) if isinstance(space, RawSpace) else self.unit

    @cached_property
    def unit(self) -> Features:
        if not isinstance(self.space, RawSpace):
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
        assert isinstance(self.space, ClassSpace)
        return self.space.probabilities(self._raw)


@dataclass(frozen=True)
class _Real:
    # The real sides of one size, and what was measured of them alone.
    side: _Side
    other: _Side | None
    found: dict[str, Any]

    def once(self, name: str, measure: Callable[[], Any]) -> Any:
        if name not in self.found:
            self.found[name] = measure()
        return self.found[name]


@dataclass
class _Card:
    generated: _Side
    against: _Real
    how: Reference

    @property
    def real(self) -> _Side:
        return self.against.side

    def score(self, measure: str) -> Score:
        if measure in SHARES:
            return self._share(measure)
        made: Score = getattr(self, f"_{measure.replace('-', '_')}")()
        return made

    def _against_real(
        self, name: str, measure: Callable[[_Side], Interval]
    ) -> tuple[Interval, Interval | None]:
        other = self.against.other
        floor = None if other is None else self.against.once(name, lambda: measure(other))
        return measure(self.generated), floor

    def _beside_real(
        self, name: str, measure: Callable[[_Side], Interval]
    ) -> tuple[Interval, Interval]:
        return measure(self.generated), self.against.once(name, lambda: measure(self.real))

    def _frechet(self) -> Score:
        size = self.real.rows.shape[1]
        value, floor = self._against_real(
            "frechet", lambda side: frechet_interval(side.rows, self.real.rows)
        )
        note = naming.few_images(value.n, size)
        name = naming.frechet_name(self.how.extractor_name, size)
        return Score(name, value, floor, "lower", note)

    def _kernel(self) -> Score:
        rows, resampling = self.real.kernel_rows, (self.how.seed, self.how.bootstraps)
        value, floor = self._against_real(
            "kernel", lambda side: kernel_distance(side.kernel_rows, rows, *resampling)
        )
        name = naming.kernel_name(self.how.extractor_name, rows.shape[1])
        return Score(name, value, floor, "lower")

    def _mmd(self) -> Score:
        resampling = (self.how.seed, self.how.bootstraps)
        value, floor = self._against_real(
            "mmd", lambda side: cmmd(side.unit, self.real.unit, *resampling)
        )
        name = naming.cmmd_name(self.how.extractor_name, self.real.unit.shape[1])
        return Score(name, value, floor, "lower")

    def _shares_of(self, side: _Side) -> dict[str, Interval]:
        pair = self.real.rows, side.rows
        both = precision_recall(*pair, self.how.seed), density_coverage(*pair, self.how.seed)
        return both[0]._asdict() | both[1]._asdict()

    @cached_property
    def _shares(self) -> dict[str, Interval]:
        return self._shares_of(self.generated)

    def _share(self, name: str) -> Score:
        other, floor = self.against.other, None
        if other is not None:
            floor = self.against.once("shares", lambda: self._shares_of(other))[name]
        return Score(name, self._shares[name], floor, "higher")

    def _inception_score(self) -> Score:
        value, floor = self._beside_real(
            "inception score", lambda side: inception_score(side.probabilities)
        )
        name = naming.inception_score_name(self.how.extractor_name)
        return Score(name, value, floor, "higher")

    def _diversity(self) -> Score:
        seen, seed = self.how.perceptual, self.how.seed
        value, floor = self._beside_real(
            "diversity", lambda side: diversity(side.pixels, seen.distance, seed)
        )
        return Score(f"{seen.name} diversity", value, floor, "neither")

    def _nearest(self) -> Score:
        seen = self.how.perceptual

        def distances(side: _Side) -> Interval:
            queries = slice(NEAREST)
            near = np.argsort(-side.unit[queries] @ self.real.unit.T, axis=1, kind="stable")
            pixels, candidates = side.pixels[queries], near[:, :CANDIDATES]
            found = nearest_distance(pixels, self.real.pixels, candidates, seen.distance)
            return interval(found, self.how.seed)

        value, floor = self._against_real("nearest", distances)
        return Score(f"{seen.name} to nearest real", value, floor, "neither")

    def _copies(self) -> Score:
        assert self.against.other is not None  # `_wanted` has seen to it
        pixels, n = self.real.pixels, len(self.real.pixels)
        shape: Any = pixels.shape[1:]
        posed = has_poses(shape)
        queries = np.concatenate([self.generated.unit, self.against.other.unit])
        blocks = posed_blocks(
            lambda chosen: pixels[chosen], np.arange(n), self.real.space.embed, posed
        )
        found = nearest(queries, blocks).distance
        told = audit(found[:n], found[n:], self.how.seed, self.how.bootstraps)
        where = f"{n} real images" + (", in eight poses" if posed else "")
        note = f"{told.verdict} among {where}; 0.01 is what images as new as real ones give"
        return Score("copies suspected", told.share, None, "lower", note)


def _wanted(
    only: Collection[str] | None, extractor: FeatureSpace, other_real: Pixels | None
) -> list[str]:
    lacking = {}
    if not isinstance(extractor, ClassSpace):
        lacking["inception-score"] = "the extractor tells no classes"
    if other_real is None:
        lacking["copies"] = "there are no other real images to give the scale"
    for name in only or ():
        if name not in MEASURES:
            raise ConfigError(f"measure {name}: unknown; choose from {', '.join(MEASURES)}")
        if name in lacking:
            raise ConfigError(f"measure {name}: {lacking[name]}; leave it out")
    chosen = MEASURES if only is None else only
    return [name for name in MEASURES if name in chosen and name not in lacking]


def _check(sides: Sequence[Pixels]) -> None:
    shapes = {side.shape[1:] for side in sides}
    if len(shapes) > 1:
        raise Incompatible(
            f"images of shapes {' and '.join(_shown_shapes(shapes))} do not compare; bring them to "
            "one shape"
        )
    n = min(len(side) for side in sides)
    if n < LEAST:
        raise DataError(f"{n} images a side are too few to score; give at least {LEAST}")


def _shown_shapes(shapes: Collection[tuple[int, ...]]) -> Iterator[str]:
    return ("x".join(map(str, shape)) for shape in sorted(shapes))


def _digits(score: Score) -> int:
    # Three digits that count, of the smallest number that is to be read.
    parts = [score.value.mean, score.floor.mean if score.floor else 0]
    least = min((abs(part) for part in parts if part), default=1)
    return min(max(2 - math.floor(math.log10(least)), 2), 6)
