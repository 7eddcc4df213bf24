"""Editor: generator + feature space + map. Every edit is embedded again and says what came out."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from torch import Tensor

from controlgen.editing import apply, feature_math
from controlgen.editing.attribute_model import AttributeModel, required
from controlgen.editing.candidates import Answers, answered, latents_of, ranked
from controlgen.editing.checkpoint import BankDescription, load_bundle
from controlgen.editing.confidence.score import Reachability
from controlgen.editing.directions import contrast
from controlgen.editing.directions.axes import Axis
from controlgen.editing.directions.axis_effects import AxisFinder
from controlgen.editing.directions.regression import Given
from controlgen.editing.edit import Edit, Samples
from controlgen.editing.expressions import resolver
from controlgen.editing.expressions.parser import Node
from controlgen.editing.expressions.resolver import Query
from controlgen.editing.feature_pca import Statistics
from controlgen.editing.inversion_residuals import borrowing, left_out
from controlgen.editing.refine import check_steps
from controlgen.editing.refine import refine as refined
from controlgen.editing.rejection_sampling import Likeness, drawn
from controlgen.editing.search import Gallery
from controlgen.errors import ConfigError, Incompatible
from controlgen.features import FeatureSpace
from controlgen.images import generated
from controlgen.networks import AnyGenerator
from controlgen.regressors import Regressor
from controlgen.types import Direction, Features, Latents, Pixels, Shape
from controlgen.utils.parallel import map_rows_deterministic, single_threaded_torch

SAMPLES = "samples"  # the stream that sample i comes from


class Editor:
    """Steers images: real ones go in as pixels, generated ones as latents.

    The bytes of a picture do not depend on how many cores a machine has; see `threads`.
    """

    def __init__(
        self,
        generator: AnyGenerator,
        space: FeatureSpace,
        map: Regressor,
        statistics: Statistics,
        image_shape: Shape,
        attributes: AttributeModel | None = None,
        reachability: Reachability | None = None,
        bank: BankDescription | None = None,
        weights: str = "",
        likeness: Likeness | None = None,
    ) -> None:
        self.generator = generator.eval().requires_grad_(False)
        self.space = space
        self.map = map
        self.statistics = statistics
        self.image_shape = image_shape
        self.attributes = attributes
        self.reachability = reachability
        self.bank = bank
        self.weights = weights  # fingerprint of all that a picture depends on; "" if not loaded
        self.likeness = likeness

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
        """Samples start..start+n of this seed; each depends on seed and its index alone.

        A map whose bank was drawn with `sample.likeness` keeps samples here by the same rule.
        """
        if n < 1 or start < 0:
            raise ConfigError(
                f"sample: n must be at least 1 and start at least 0, not {n}, {start}"
            )
        return self.drawn(n, seed, SAMPLES, start)

    def drawn(self, n: int, seed: int, purpose: str, start: int = 0) -> Samples:
        """As `sample`, of a stream of random numbers that is `purpose`'s own."""
        return drawn(self, self.likeness, seed, purpose, start, start + n)

    def bank_items(self, start: int, stop: int) -> Samples:
        """Items start..stop of the bank that the map was fitted on, drawn again.

        Raises ConfigError outside the bank, and where the map's folder does not describe it.
        """
        if self.bank is None:
            raise ConfigError("this map does not say which bank it was fitted on; fit it again")
        if not 0 <= start < stop <= self.bank.n:
            raise ConfigError(
                f"bank: there is no item {stop - 1 if start >= 0 else start}; its items are "
                f"0 to {self.bank.n - 1}"
            )
        return self.sample(stop - start, self.bank.seed, start)

    def generate(self, latents: Latents) -> Pixels:
        """Latents (n z) -> Pixels (n c h w)."""
        if latents.ndim != 2 or latents.shape[1] != self.latent_size:
            raise Incompatible(
                f"latents of shape {latents.shape}: this generator takes (n, {self.latent_size})"
            )
        rows = np.require(latents, np.float32, ["C", "W"])
        return map_rows_deterministic(lambda part: generated(self.generator, part), rows)

    def embed(self, pixels: Pixels) -> Features:
        """Pixels (n c h w) -> Features (n d), rows of unit length."""
        return map_rows_deterministic(self.space.embed, pixels)

    def attribute(self, name: str, hold: str | Sequence[str] = ()) -> Direction:
        """The most likely change (d) worth one sigma of a measured attribute, `hold` left alone.

        Raises ConfigError for one not known, not held apart, or not measured for this map.
        """
        return required(self.attributes).direction(name, hold)

    def embed_text(self, text: str | Sequence[str]) -> Direction:
        """The mean unit feature (d) of texts.

        Raises ConfigError for a blank text, and where the space has no text.
        """
        with single_threaded_torch():
            return contrast.of_texts(self.space, text)

    def invert(self, features: Features) -> Latents:
        """Features (n d) -> Latents (n z) by the map."""
        _check_features(features, self.space.size)
        return np.asarray(map_rows_deterministic(self.map.predict, features), np.float32)

    def answers(self, features: Features, k: int, seed: int = 0, refine: int = 0) -> Answers:
        """k answers of the map to each of n features (n d), ranked by round trip, best first.

        Draw j depends on the seed, the feature and j alone; of a map that gives one answer, others
        are its own moved by what it leaves out of other pictures, the best of 4 k tried
        (controlgen.editing.inversion_residuals). `refine` steps descend from each answer as in `edit`. Raises
        Incompatible for features of another size, ConfigError for k below 1, or beyond 128 of such
        a map, and for `refine` below 0.
        """
        _check_features(features, self.space.size)
        check_steps(refine)
        with single_threaded_torch():
            latents = latents_of(self.map, features, k, seed)
        if latents.shape[1] < k:
            tried = borrowing(latents[:, 0], self._left_out, k, seed)
            found = ranked(self, features, tried, self.reachability).best(k)
            if not refine:
                return found
            latents = found.latents
        return answered(self, features, latents, refine)

    @cached_property
    def _left_out(self) -> Latents:
        return left_out(self, self.invert, self.latent_size)

    def refine(self, latents: Latents, asked: Features, steps: int) -> Latents:
        """Latents (n z) taken nearer to the features asked for (n d), by gradients; 0 does nothing.

        See controlgen.editing.refine. Raises ConfigError where `steps` is below 0.
        """
        check_steps(steps)
        if steps == 0:
            return latents
        with single_threaded_torch():
            return refined(self.generator, self.space.embed_images, latents, asked, steps)

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
        values: Given | None = None,
        of: Pixels | None = None,
        hold: str | Sequence[str] = (),
    ) -> Direction:
        """A change in feature space (d): of two texts, two groups of images, or what was measured.

        Each side's unit features are averaged; the answer is the difference of the two means,
        projected on what the bank's images span (what lies outside, no image can follow). Of an
        attribute it is the most likely change worth one sigma of the bank. `values` (n) are any
        number measured on the images `of` (n c h w), 32 at least: the direction is then the same of
        a regression of the values on the images' features, worth one sigma of the values. By the
        linear model of the attributes it moves none of `hold`.
        Raises ConfigError where a side is missing, two kinds are given, a text is empty, an
        attribute is not known, not held apart by the features, or not measured for this map, and
        where values are not one finite number an image, too few, all alike, or not shown by the
        features; Incompatible for `of` that are no pixels.
        """
        sides = (text, neutral, more, less, attribute, values, of)
        return contrast.direction(self, *sides, hold)

    def parse(self, expression: str, hold: str | Sequence[str] = ()) -> Direction:
        """A direction (d) as an expression: text("a thin one") - text("a bold one").

        Every picture in it counts as its feature. Projected likewise; by the linear model of the
        attributes it moves none of `hold`, and each attribute("NAME") is then still worth one
        sigma. Raises ConfigError with the column of a mistake, DataError where a file cannot be
        read.
        """
        return resolver.way(self, expression, _names(hold)).direction

    def query(self, expression: str | Node, hold: str | Sequence[str] = ()) -> Query:
        """Where a picture starts and which way it goes, as in seed(7) + 2 * attribute("ink").

        The start is the first image("FILE"), seed(7) or bank(12) that is added as it stands, or
        the bank's average picture; the rest is the direction, projected likewise.
        Raises ConfigError with the column of a mistake, DataError where a file cannot be read.
        """
        return resolver.ask(self, expression, _names(hold))

    def feature(self, expression: str | Node) -> Direction:
        """What an expression that is a picture asks for, as a unit feature (d). Raises likewise."""
        return resolver.feature_of(self, expression)

    @cached_property
    def gallery(self) -> Gallery:
        """The bank that the map was fitted on, to be searched."""
        return Gallery(self)

    def answer(
        self,
        query: str | Query,
        amount: float = 1.0,
        residual: bool = False,
        corrections: int | None = None,
        refine: int = 0,
    ) -> Edit:
        """The edit that an expression asks for; amount 1 goes all the way. Raises as `edit`."""
        if isinstance(query, str):
            query = self.query(query)
        # Of an image the latent is this editor's answer to its features.
        own = query.source if query.source.ndim == 2 else self.invert(query.features)
        start = apply.Start(own, query.pixels, query.features)
        move = (query.direction, amount, residual, query.hold, corrections, refine)
        return apply.in_features(self, start, *move)

    def within(self, change: Direction, hold: str | Sequence[str] = ()) -> Direction:
        """The part (d) of a change that the bank's images span and that moves none of `hold`."""
        inside = self.statistics.project(change)
        return required(self.attributes).held(inside, hold) if len(hold) else inside

    @cached_property
    def axes(self) -> AxisFinder:
        """The families of axes that need no label, each found once."""
        return AxisFinder(self)

    def axis(self, family: str, index: int) -> Axis:
        """Axis `index`, counted from 1, of "sefa", "ganspace" or "pca"; see control/axes.py.

        Raises ConfigError for an unknown family and for an index that there is not.
        """
        return self.axes.axis(family, index)

    def edit(
        self,
        source: Latents | Pixels | Samples,
        direction: Direction,
        amount: float = 1.0,
        residual: bool = False,
        hold: str | Sequence[str] = (),
        corrections: int | None = None,
        refine: int = 0,
    ) -> Edit:
        """Move n sources by amount * direction in feature space and generate what the map answers.

        `residual` moves the source's own latent by the difference of two answers of the map,
        z0 + h(c + delta) - h(c): it keeps more of a generated source, and amount 0 is the identity.
        `hold` names attributes to be left alone: the direction is first made one that by the linear
        model moves none of them. Then `corrections` rounds (8 if none are named, 0 where nothing is
        held) measure the pictures made and ask for what is missing: what is held goes back to what
        the source's pixels have, and where the direction is made of attributes alone, the others go
        where it takes them; see controlgen.editing.attribute_feedback. The source's pixels count even
        where the map reconstructs them with other values, so a real image is corrected for that as
        well. No correction makes an image's deviation larger.
        `refine` steps then descend from each answer of the map to what was asked: none is further
        from it afterwards. Corrections measure refined pictures, so each round costs as many steps.
        A residual edit of a real image is refined even at amount 0, for its latent is an answer.
        Raises Incompatible for a direction of another size, ConfigError for an amount or a
        direction's number that is not finite or beyond 1e6, `refine` or `corrections` below
        0, and `hold` where the map has no attributes or not those.
        """
        move = (direction, amount, residual, hold, corrections, refine)
        return apply.in_features(self, source, *move)

    def edit_latents(
        self, source: Latents | Pixels | Samples, direction: Latents, amount: float = 1.0
    ) -> Edit:
        """The same arithmetic in latent space, z0 + amount * direction (z), for comparison.

        Nothing is asked for in feature space, so `asked` is what was obtained.
        """
        return apply.in_latents(self, source, direction, amount)

    def interpolate(
        self,
        start: Latents | Pixels | Samples,
        end: Latents | Pixels | Samples,
        position: float,
        refine: int = 0,
    ) -> Edit:
        """The image between two, at 0..1 on the great circle between their features.

        `refine` steps as in `edit`. Raises ConfigError where it is below 0.
        """
        return apply.between(self, start, end, position, refine)

    def interpolate_latents(self, start: Latents, end: Latents, position: float) -> Pixels:
        """The image between two latents, on the great circle with the norm kept, for comparison."""
        return self.generate(feature_math.slerp(start, end, position))


def _names(hold: str | Sequence[str]) -> tuple[str, ...]:
    return (hold,) if isinstance(hold, str) and hold else tuple(hold)


def _check_features(features: Features, size: int) -> None:
    if features.ndim != 2 or features.shape[1] != size:
        raise Incompatible(f"features of shape {features.shape}: this map takes (n, {size})")
