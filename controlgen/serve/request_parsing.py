"""What a request holds, read and held to the limits; nothing of the disk is ever read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import Samples
from controlgen.editing.expressions import resolver
from controlgen.editing.expressions.files import GivenFiles
from controlgen.errors import ConfigError, DataError, Incompatible
from controlgen.serve import serialization
from controlgen.serve.limits import Limits
from controlgen.serve.registry import Served
from controlgen.serve.schemas import Moved, Npy, Numbers, Sources
from controlgen.types import Direction, Features, Latents, Pixels
from controlgen.utils.cancellation import raise_if_cancelled

Floats = NDArray[np.float32]


@dataclass
class Reading:
    """One request as the Editor takes it. Raises ConfigError, DataError, Incompatible.

    `pixels` are those of all its images so far: a file of a few bytes may hold millions.
    """

    limits: Limits
    pixels: float = 0

    def files(self, served: Served, images: Mapping[str, str]) -> GivenFiles:
        """What came with the request by its names, and the directions kept."""
        self.at_most(len(images), self.limits.images, "images")
        contents = dict(served.directions)
        for name, text in images.items():
            contents[name] = self._image(text, name)
        return GivenFiles(contents)

    def images(self, images: Sequence[str], served: Served) -> Pixels:
        """Images as Pixels (n c h w) of the model's shape."""
        self.at_most(len(images), self.limits.images, "images")
        shape = served.editor.image_shape
        rows = []
        for at, text in enumerate(images):
            what = f"image {at + 1}"
            content = self._image(text, what)
            rows.append(serialization.to_pixels_of(content, what, shape, self.limits))
        return np.concatenate(rows)

    def direction(self, served: Served, asked: Moved) -> Direction:
        """A direction (d), of an expression or as numbers."""
        if isinstance(asked.direction, str):
            self.short([asked.direction])
            files = self.files(served, asked.images)
            return resolver.way(served.editor, asked.direction, asked.hold, files).direction
        if asked.direction is None:
            raise ConfigError("direction: none was given")
        row = self._numbers(asked.direction, "direction")
        if row.ndim != 1:
            raise Incompatible(f"direction of shape {row.shape}: give one row of numbers")
        return row

    def source(self, served: Served, source: Sources) -> Samples | Latents | Pixels:
        """What is edited."""
        if source.images is not None:
            self.at_most(len(source.images), self.limits.rows, "source.images")
            return self.images(source.images, served)
        if source.latents is not None:
            return self.rows(source.latents, "latents")
        self.at_most(source.n, self.limits.rows, "n")
        return served.editor.sample(source.n, source.seed or 0, source.start)

    def rows(self, numbers: Numbers, what: str) -> Features | Latents:
        """Rows of numbers (n k), one at least."""
        rows = self._numbers(numbers, what)
        if rows.ndim != 2 or not len(rows):
            raise Incompatible(f"{what} of shape {rows.shape}: give rows of numbers")
        self.at_most(len(rows), self.limits.rows, what)
        return rows

    def check(self, asked: Moved) -> None:
        """Raise where more steps are asked for than one request may have."""
        self.at_most(asked.refine, self.limits.refine, "refine")
        self.at_most(asked.corrections or 0, self.limits.corrections, "corrections")
        if asked.expression is not None:
            self.short([asked.expression])

    def short(self, texts: Sequence[str]) -> None:
        """Raise where a text is longer than an expression may be."""
        for text in texts:
            if len(text) > self.limits.expression:
                raise ConfigError(
                    f"text of {len(text)} characters; at most {self.limits.expression} are taken"
                )

    def at_most(self, value: int, most: int, what: str) -> None:
        """Raise where a number is beyond its limit."""
        if value > most:
            raise ConfigError(f"{what}: {value} is more than the {most} of one request")

    def _image(self, text: str, what: str) -> bytes:
        raise_if_cancelled()
        content = serialization.checked_image(
            serialization.from_base64(text, what), what, self.limits
        )
        self.pixels += serialization.header_of(content)[0]
        if self.pixels > self.limits.pixels:
            raise DataError(
                f"{what}: with it the images have {self.pixels} pixels; at most "
                f"{self.limits.pixels} of one request are decoded"
            )
        return content

    def _numbers(self, numbers: Numbers, what: str) -> Floats:
        if isinstance(numbers, Npy):
            array = serialization.from_npy(serialization.from_base64(numbers.npy, what), what)
        else:
            array = serialization.finite(numbers, what)
        return serialization.bounded(array, what)
