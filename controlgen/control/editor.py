"""Editor: generator + feature space + map. Every edit is embedded again and says what came out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from controlgen import rng
from controlgen.control import algebra, query
from controlgen.control.answers import Answers, latents_of, ranked
from controlgen.control.attributes import AttributeModel, Made
from controlgen.control.bundle import load_bundle
from controlgen.control.statistics import Statistics
from controlgen.errors import ConfigError, Incompatible
from controlgen.features import FeatureSpace
from controlgen.images import generated, read_image
from controlgen.networks import AnyGenerator
from controlgen.regressors import Regressor
from controlgen.types import Direction, Features, Latents, Pixels, Shape

SAMPLES = "samples"  # the stream that sample i comes from
CORRECTIONS = 2  # rounds that an edit which holds attributes gets unless told otherwise


class Samples(NamedTuple):
    """Latents (n z) and the Pixels (n c h w) they generate."""

    latents: Latents
    pixels: Pixels


class Measured(NamedTuple):
    """Attributes (n a) of the sources and of what came out, each in its own unit."""

    names: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]


@dataclass(frozen=True)
class Edit:
    """An answer: what came out, what was asked, and where it started. n rows throughout.

    `asked` is all that was asked in the end, with what the corrections of held attributes added.
    """

    pixels: Pixels
    latents: Latents
    asked: Features
    obtained: Features
    source_pixels: Pixels
    source_latents: Latents
    source_features: Features
    model: AttributeModel | None = field(default=None, repr=False)

    @cached_property
    def attributes(self) -> Measured | None:
        """Measured on the source's and the answer's pixels; None for a map without attributes."""
        if self.model is None:
            return None
        before, after = map(self.model.measure, (self.source_pixels, self.pixels))
        return Measured(self.model.names, before, after)

    @property
    def agreement(self) -> NDArray[np.float32]:
        """Cosine of the features asked for and obtained (n), -1..1."""
        return algebra.cosine(self.asked, self.obtained)

    @property
    def progress(self) -> NDArray[np.float32]:
        """Cosine of the change asked for and the change obtained (n), -1..1; 0 where none was."""
        wanted, got = self.asked - self.source_features, self.obtained - self.source_features
        return algebra.cosine(wanted, got)


class Editor:
    """Steers images: real ones go in as pixels, generated ones as latents."""

    def __init__(
        self,
        generator: AnyGenerator,
        space: FeatureSpace,
        map: Regressor,
        statistics: Statistics,
        image_shape: Shape,
        attributes: AttributeModel | None = None,
    ) -> None:
        self.generator = generator.eval().requires_grad_(False)
        self.space = space
        self.map = map
        self.statistics = statistics
        self.image_shape = image_shape
        self.attributes = attributes

    @classmethod
    def load(cls, path: str | Path, generator: str | Path | None = None) -> Self:
        """Open a map artifact, or a pretrained folder, verified.

        `generator` names a GAN artifact to be used instead of the copy inside; it must be the one
        the map was fitted to. Raises ArtifactMissing, ArtifactCorrupt, Incompatible.
        """
        bundle = load_bundle(Path(path), Path(generator) if generator else None)
        return cls(*bundle)

    @property
    def latent_size(self) -> int:
        """z."""
        return self.generator.latent_size

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Samples:
        """Samples start..start+n of this seed; each depends on seed and its index alone."""
        if n < 1 or start < 0:
            raise ConfigError(
                f"sample: n must be at least 1 and start at least 0, not {n}, {start}"
            )
        latents = rng.normals(seed, SAMPLES, start, start + n, self.latent_size)
        return Samples(latents, self.generate(latents))

    def generate(self, latents: Latents) -> Pixels:
        """Latents (n z) -> Pixels (n c h w)."""
        if latents.ndim != 2 or latents.shape[1] != self.latent_size:
            raise Incompatible(
                f"latents of shape {latents.shape}: this generator takes (n, {self.latent_size})"
            )
        return generated(self.generator, np.require(latents, np.float32, ["C", "W"]))

    def embed(self, pixels: Pixels) -> Features:
        """Pixels (n c h w) -> Features (n d), rows of unit length."""
        return self.space.embed(pixels)

    def invert(self, features: Features) -> Latents:
        """Features (n d) -> Latents (n z) by the map."""
        _check_features(features, self.space.size)
        return np.asarray(self.map.predict(features), np.float32)

    def answers(self, features: Features, k: int, seed: int = 0) -> Answers:
        """k answers of the map to each of n features (n d), ranked by round trip, best first.

        Draw j depends on the seed, the feature and j alone. Raises Incompatible for features of
        another size, ConfigError for k below 1, or above 1 where the map gives one answer only.
        """
        _check_features(features, self.space.size)
        return ranked(self, features, latents_of(self.map, features, k, seed))

    def features_of_latents(self, latents: Tensor) -> Tensor:
        """Latents (n z) -> unit features (n d), differentiable: what an optimiser needs."""
        return self.space.embed_images(self.generator(latents).clamp(-1, 1))

    def direction(
        self,
        *,
        text: str | Sequence[str] | None = None,
        neutral: str | Sequence[str] | None = None,
        more: Pixels | None = None,
        less: Pixels | None = None,
        attribute: str | None = None,
        hold: str | Sequence[str] = (),
    ) -> Direction:
        """A change in feature space (d), from two texts, two groups of images, or an attribute.

        Each side's unit features are averaged; the answer is the difference of the two means,
        projected on what the bank's images span (what lies outside, no image can follow). Of an
        attribute it is the most likely change worth one sigma of the bank. By the linear model of
        the attributes it moves none of `hold`.
        Raises ConfigError where a side is missing, two kinds are given, a text is empty, or an
        attribute is not known, not held apart by the features, or not measured for this map.
        """
        given = {
            name
            for name, value in (
                ("text", text),
                ("neutral", neutral),
                ("more", more),
                ("less", less),
                ("attribute", attribute),
            )
            if value is not None
        }
        if attribute is not None and given == {"attribute"}:
            return self._model().direction(attribute, hold)
        if text is not None and neutral is not None and given == {"text", "neutral"}:
            change = self._text_mean(text) - self._text_mean(neutral)
        elif more is not None and less is not None and given == {"more", "less"}:
            if not len(more) or not len(less):
                raise ConfigError("direction: each group needs at least one image")
            change = algebra.mean(self.embed(more)) - algebra.mean(self.embed(less))
        else:
            raise ConfigError(
                "direction: give text= and neutral=, or more= and less=, or attribute="
            )
        return self._holding(self.statistics.project(change), hold)

    def parse(self, expression: str, hold: str | Sequence[str] = ()) -> Direction:
        """A direction (d) as a sum of text("..."), image("FILE") and attribute("NAME").

        Projected likewise; by the linear model of the attributes it moves none of `hold`, and each
        attribute("NAME") is then still worth one sigma.
        Raises ConfigError where it is not understood, DataError where an image cannot be read.
        """
        change = query.evaluate(
            expression,
            {
                "text": self._text_mean,
                "image": lambda path: self.embed(read_image(path, self.image_shape))[0],
                "attribute": lambda name: self._model().direction(name, hold),
            },
        )
        return self._holding(self.statistics.project(change), hold)

    def edit(
        self,
        source: Latents | Pixels | Samples,
        direction: Direction,
        amount: float = 1.0,
        residual: bool = False,
        hold: str | Sequence[str] = (),
        corrections: int | None = None,
    ) -> Edit:
        """Move n sources by amount * direction in feature space and generate what the map answers.

        `residual` moves the source's own latent by the difference of two answers of the map,
        z0 + h(c + delta) - h(c): it keeps more of a generated source, and amount 0 is the identity.
        `hold` names attributes to be left alone: the direction is first made one that by the linear
        model moves none of them; then `corrections` rounds (2 unless told otherwise) measure them
        on the pictures made and ask for what takes them, and no other attribute, back to those of
        the source's pixels. The source's pixels count even where the map reconstructs them with
        other values, so a real image is corrected for that as well. No correction makes an image's
        deviation larger.
        Raises Incompatible for a direction of another size, ConfigError for an amount not finite,
        corrections of nothing held, and `hold` where the map has no attributes or not those.
        """
        _check_move(direction, self.space.size, amount)
        rounds = _rounds(hold, corrections)
        direction = self._holding(direction, hold)
        latents, pixels, features = self._start(source)
        asked = algebra.add(features, direction, amount)
        # What amount 0 would ask for, to the last bit: the difference is then exactly zero.
        before = self.invert(algebra.add(features, direction, 0.0)) if residual else None

        def make(asked: Features) -> Made:
            answer = self.invert(asked)
            if before is not None:
                answer = latents + (answer - before)
            return Made(answer, self.generate(answer))

        if rounds:
            asked, made = self._model().corrected(hold, pixels, asked, make, rounds)
        else:
            made = make(asked)
        return self._edit(made, asked, latents, pixels, features)

    def edit_latents(
        self, source: Latents | Pixels | Samples, direction: Latents, amount: float = 1.0
    ) -> Edit:
        """The same arithmetic in latent space, z0 + amount * direction (z), for comparison.

        Nothing is asked for in feature space, so `asked` is what was obtained.
        """
        _check_move(direction, self.latent_size, amount)
        latents, pixels, features = self._start(source)
        moved = np.asarray(latents + np.float32(amount) * direction, np.float32)
        made = self.generate(moved)
        obtained = self.embed(made)
        parts = (made, moved, obtained, obtained, pixels, latents, features)
        return Edit(*parts, model=self.attributes)

    def interpolate(
        self, start: Latents | Pixels | Samples, end: Latents | Pixels | Samples, position: float
    ) -> Edit:
        """The image between two, at 0..1 on the great circle between their features."""
        latents, pixels, features = self._start(start)
        asked = algebra.slerp(features, self._start(end)[2], position)
        answer = self.invert(asked)
        made = Made(answer, self.generate(answer))
        return self._edit(made, asked, latents, pixels, features)

    def interpolate_latents(self, start: Latents, end: Latents, position: float) -> Pixels:
        """The image between two latents, on the great circle with the norm kept, for comparison."""
        return self.generate(algebra.slerp(start, end, position))

    def _start(self, source: Latents | Pixels | Samples) -> tuple[Latents, Pixels, Features]:
        # Generated sources bring their latents; images get the map's answer to their features.
        if isinstance(source, Samples):
            return source.latents, source.pixels, self.embed(source.pixels)
        if source.ndim == 4:
            if source.dtype != np.uint8:
                raise Incompatible("pixels must be uint8 0..255 of shape (n, c, h, w)")
            features = self.embed(source)
            return self.invert(features), source, features
        pixels = self.generate(source)
        return np.asarray(source, np.float32), pixels, self.embed(pixels)

    def _edit(
        self, made: Made, asked: Features, latents: Latents, pixels: Pixels, features: Features
    ) -> Edit:
        obtained = self.embed(made.pixels)
        parts = (made.pixels, made.latents, asked, obtained, pixels, latents, features)
        return Edit(*parts, model=self.attributes)

    def _model(self) -> AttributeModel:
        if self.attributes is None:
            raise ConfigError(
                "this map has no measured attributes; fit one with fit.attributes set, as in "
                "--set fit.attributes.kind=strokes"
            )
        return self.attributes

    def _holding(self, direction: Direction, hold: str | Sequence[str]) -> Direction:
        return self._model().held(direction, hold) if len(hold) else direction

    def _text_mean(self, text: str | Sequence[str]) -> Features:
        embed_text = getattr(self.space, "embed_text", None)
        if embed_text is None:
            raise ConfigError("this feature space has no text; use image groups instead")
        return algebra.mean(embed_text([text] if isinstance(text, str) else list(text)))


def _rounds(hold: str | Sequence[str], corrections: int | None) -> int:
    if corrections is None:
        return CORRECTIONS if len(hold) else 0
    if corrections < 0 or (corrections and not len(hold)):
        raise ConfigError(f"corrections = {corrections}: give 0 or more, and name what to hold")
    return corrections


def _check_features(features: Features, size: int) -> None:
    if features.ndim != 2 or features.shape[1] != size:
        raise Incompatible(f"features of shape {features.shape}: this map takes (n, {size})")


def _check_move(direction: NDArray[np.float32], size: int, amount: float) -> None:
    if direction.shape != (size,):
        raise Incompatible(f"direction of shape {direction.shape}: must be ({size},) here")
    if not np.isfinite(amount):
        raise ConfigError(f"amount {amount}: must be a finite number")
