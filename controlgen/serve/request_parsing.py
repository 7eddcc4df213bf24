"""Parse and limit the contents of a request. No file of the machine is ever read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import Editor, Samples
from controlgen.editing.expressions import resolver
from controlgen.editing.expressions.files import UploadedFiles
from controlgen.errors import ConfigError, DataError, Incompatible
from controlgen.serve import serialization
from controlgen.serve.limits import Limits
from controlgen.serve.registry import ServedModel
from controlgen.serve.schemas import EditBase, Npy, Numbers, Sources
from controlgen.types import Direction, Features, Latents, Pixels
from controlgen.utils.cancellation import raise_if_cancelled


@dataclass
class RequestParser:
    """Parses one request to a model. Raises ConfigError, DataError, Incompatible.

    `pixels` counts those of all images so far: a file of a few bytes may hold millions.
    """

    model: ServedModel
    limits: Limits
    pixels: float = 0

    @property
    def editor(self) -> Editor:
        """The model's editor."""
        return self.model.editor

    def files(self, images: Mapping[str, str]) -> UploadedFiles:
        """The images of the request by name, and the saved directions."""
        self.limit(len(images), self.limits.images, "images")
        contents = dict(self.model.directions)
        for name, text in images.items():
            contents[name] = self._decode_file(text, name)
        return UploadedFiles(contents)

    def images(self, images: Sequence[str] | None) -> Pixels:
        """Images as Pixels (n c h w) of the model's shape."""
        images = images or []
        self.limit(len(images), self.limits.images, "images")
        rows = []
        for index, text in enumerate(images):
            name = f"image {index + 1}"
            content = self._decode_file(text, name)
            shape = self.editor.image_shape
            rows.append(serialization.decode_image(content, name, shape, self.limits))
        return np.concatenate(rows)

    def direction(self, request: EditBase) -> Direction:
        """A direction (d), from an expression or numbers."""
        if isinstance(request.direction, str):
            self.limit_text([request.direction])
            files = self.files(request.images)
            return resolver.resolve_direction(
                self.editor, request.direction, request.hold, files
            ).direction
        if request.direction is None:
            raise ConfigError("direction: missing")
        row = self._numbers(request.direction, "direction")
        if row.ndim != 1:
            raise Incompatible(f"direction of shape {row.shape}: give one row of numbers")
        return row

    def source(self, source: Sources) -> Samples | Latents | Pixels:
        """The sources of an edit."""
        if source.images is not None:
            self.limit(len(source.images), self.limits.rows, "source.images")
            return self.images(source.images)
        if source.latents is not None:
            return self.rows(source.latents, "latents")
        self.limit(source.n, self.limits.rows, "n")
        return self.editor.sample(source.n, source.seed or 0, source.start)

    def rows(self, numbers: Numbers, name: str) -> Features | Latents:
        """Rows of numbers (n k), at least one row."""
        rows = self._numbers(numbers, name)
        if rows.ndim != 2 or not len(rows):
            raise Incompatible(f"{name} of shape {rows.shape}: give rows of numbers")
        self.limit(len(rows), self.limits.rows, name)
        return rows

    def limit_steps(self, request: EditBase) -> None:
        """Raise ConfigError if the request asks for too many steps or too long an expression."""
        self.limit(request.refine, self.limits.refine, "refine")
        self.limit(request.corrections or 0, self.limits.corrections, "corrections")
        if request.expression is not None:
            self.limit_text([request.expression])

    def limit_text(self, texts: Sequence[str]) -> None:
        """Raise ConfigError if a text is longer than an expression may be."""
        for text in texts:
            if len(text) > self.limits.expression:
                raise ConfigError(
                    f"text of {len(text)} characters; at most {self.limits.expression} are allowed"
                )

    def limit(self, value: int, maximum: int, name: str) -> None:
        """Raise ConfigError if a number is beyond its limit."""
        if value > maximum:
            raise ConfigError(f"{name}: {value} is more than the {maximum} that a request may have")

    def _decode_file(self, text: str, name: str) -> bytes:
        raise_if_cancelled()
        content = serialization.from_base64(text, name)
        serialization.validate_image(content, name, self.limits)
        self.pixels += serialization.image_header(content)[0]
        if self.pixels > self.limits.pixels:
            raise DataError(
                f"{name}: the images up to this one have {self.pixels} pixels; at most "
                f"{self.limits.pixels} are decoded for a request"
            )
        return content

    def _numbers(self, numbers: Numbers, name: str) -> NDArray[np.float32]:
        if isinstance(numbers, Npy):
            content = serialization.from_base64(numbers.npy, name)
            values: Any = serialization.decode_npy(content, name)
        else:
            values = numbers
        return serialization.require_bounded(serialization.require_finite(values, name), name)
