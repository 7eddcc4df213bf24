"""Editor: generator + feature space + map. Every edit is embedded again and says what came out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from controlgen import rng
from controlgen.control import algebra, query
from controlgen.control.bundle import load_bundle
from controlgen.control.statistics import Statistics
from controlgen.errors import ConfigError, Incompatible
from controlgen.features import FeatureSpace
from controlgen.images import read_image, to_pixels
from controlgen.networks.r3gan import Generator
from controlgen.regressors import Regressor
from controlgen.types import Direction, Features, Latents, Pixels, Shape

BATCH = 256
SAMPLES = "samples"  # the stream that sample i comes from


class Samples(NamedTuple):
    """Latents (n z) and the Pixels (n c h w) they generate."""

    latents: Latents
    pixels: Pixels


@dataclass(frozen=True)
class Edit:
    """An answer: what came out, what was asked, and where it started. n rows throughout."""

    pixels: Pixels
    latents: Latents
    asked: Features
    obtained: Features
    source_pixels: Pixels
    source_latents: Latents
    source_features: Features

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
        generator: Generator,
        space: FeatureSpace,
        map: Regressor,
        statistics: Statistics,
        image_shape: Shape,
    ) -> None:
        self.generator = generator.eval().requires_grad_(False)
        self.space = space
        self.map = map
        self.statistics = statistics
        self.image_shape = image_shape

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
        parts = torch.from_numpy(np.require(latents, np.float32, ["C", "W"])).split(BATCH)
        with torch.no_grad():
            return np.concatenate([to_pixels(self.generator(part)) for part in parts])

    def embed(self, pixels: Pixels) -> Features:
        """Pixels (n c h w) -> Features (n d), rows of unit length."""
        return self.space.embed(pixels)

    def invert(self, features: Features) -> Latents:
        """Features (n d) -> Latents (n z) by the map."""
        if features.ndim != 2 or features.shape[1] != self.space.size:
            raise Incompatible(
                f"features of shape {features.shape}: this map takes (n, {self.space.size})"
            )
        return np.asarray(self.map.predict(features), np.float32)

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
    ) -> Direction:
        """A change in feature space (d), from two texts or from two groups of images.

        Each side's unit features are averaged; the answer is the difference of the two means,
        projected on what the bank's images span (what lies outside, no image can follow).
        Raises ConfigError where a side is missing, both kinds are given, or a text is empty.
        """
        if text is not None and neutral is not None and more is None and less is None:
            change = self._text_mean(text) - self._text_mean(neutral)
            return self.statistics.project(change)
        if more is not None and less is not None and text is None and neutral is None:
            if not len(more) or not len(less):
                raise ConfigError("direction: each group needs at least one image")
            change = algebra.mean(self.embed(more)) - algebra.mean(self.embed(less))
            return self.statistics.project(change)
        raise ConfigError("direction: give text= and neutral=, or more= and less=")

    def parse(self, expression: str) -> Direction:
        """A direction (d) written as a sum of text("...") and image("FILE"), projected likewise.

        Raises ConfigError where it is not understood, DataError where an image cannot be read.
        """
        change = query.evaluate(
            expression,
            {
                "text": self._text_mean,
                "image": lambda path: self.embed(read_image(path, self.image_shape))[0],
            },
        )
        return self.statistics.project(change)

    def edit(
        self,
        source: Latents | Pixels | Samples,
        direction: Direction,
        amount: float = 1.0,
        residual: bool = False,
    ) -> Edit:
        """Move n sources by amount * direction in feature space and generate what the map answers.

        `residual` moves the source's own latent by the difference of two answers of the map,
        z0 + h(c + delta) - h(c): it keeps more of a generated source, and amount 0 is the identity.
        Raises Incompatible for a direction of another size, ConfigError for an amount not finite.
        """
        _check_move(direction, self.space.size, amount)
        latents, pixels, features = self._start(source)
        asked = algebra.add(features, direction, amount)
        answer = self.invert(asked)
        if residual:
            # What amount 0 would ask for, to the last bit: the difference is then exactly zero.
            before = self.invert(algebra.add(features, direction, 0.0))
            answer = latents + (answer - before)
        return self._edit(answer, asked, latents, pixels, features)

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
        return Edit(made, moved, obtained, obtained, pixels, latents, features)

    def interpolate(
        self, start: Latents | Pixels | Samples, end: Latents | Pixels | Samples, position: float
    ) -> Edit:
        """The image between two, at 0..1 on the great circle between their features."""
        latents, pixels, features = self._start(start)
        asked = algebra.slerp(features, self._start(end)[2], position)
        return self._edit(self.invert(asked), asked, latents, pixels, features)

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
        self,
        answer: Latents,
        asked: Features,
        latents: Latents,
        pixels: Pixels,
        features: Features,
    ) -> Edit:
        made = self.generate(answer)
        return Edit(made, answer, asked, self.embed(made), pixels, latents, features)

    def _text_mean(self, text: str | Sequence[str]) -> Features:
        embed_text = getattr(self.space, "embed_text", None)
        if embed_text is None:
            raise ConfigError("this feature space has no text; use image groups instead")
        return algebra.mean(embed_text([text] if isinstance(text, str) else list(text)))


def _check_move(direction: NDArray[np.float32], size: int, amount: float) -> None:
    if direction.shape != (size,):
        raise Incompatible(f"direction of shape {direction.shape}: must be ({size},) here")
    if not np.isfinite(amount):
        raise ConfigError(f"amount {amount}: must be a finite number")
