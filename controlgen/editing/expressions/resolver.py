"""What an expression asks of one model: where the picture starts, and which way it goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import feature_math
from controlgen.editing.attribute_model import required
from controlgen.editing.directions.axes import FAMILIES
from controlgen.editing.directions.storage import LARGEST_FILE, direction_of
from controlgen.editing.expressions import parser
from controlgen.editing.expressions.evaluator import (
    Function,
    Value,
    Vocabulary,
    change,
    evaluate,
    held,
    picture,
)
from controlgen.editing.expressions.files import Files, LocalFiles, digest
from controlgen.editing.protocols import Model
from controlgen.errors import ConfigError, DataError
from controlgen.image_io import LARGEST_BYTES, image_of
from controlgen.types import Direction, Features, Latents, Pixels
from controlgen.utils.cancellation import raise_if_cancelled

BLOCK = 256  # files read and embedded at once


@dataclass(frozen=True)
class Query:
    """An expression as one model understands it.

    expression: in one spelling, with all that is held. source: Latents (1 z) or Pixels (1 c h w)
    that the picture starts from; pixels (1 c h w) and features (1 d): what is seen there.
    direction (d): the way from there, inside what the bank's images span. share: squared length of
    the way that they span, 0..1, the rest was left out; 0 where there is no way. hold: measured
    attributes to be left alone. start: where it starts, in words. files: what was read, by name
    with its SHA-256.
    """

    expression: str
    source: Latents | Pixels
    pixels: Pixels
    features: Features
    direction: Direction
    share: float = 1.0
    hold: tuple[str, ...] = ()
    start: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


class Start(NamedTuple):
    """Where a picture starts: Latents (1 z) or Pixels (1 c h w), what is seen there, a word for it.

    Pixels (1 c h w), and their Features (1 d).
    """

    source: Latents | Pixels
    words: str
    pixels: Pixels
    features: Features


class Reading:
    """The names of the language for one model; `read` gathers what they read, with its SHA-256.

    hold: attributes that attribute("NAME") then leaves alone. files: where names of files lead.
    """

    def __init__(self, model: Model, hold: Sequence[str] = (), files: Files | None = None) -> None:
        self.model, self.hold = model, tuple(hold)
        self.files = files or LocalFiles()
        self.read: dict[str, str] = {}
        functions = {
            "text": Function((str,), lambda *words: picture(model.embed_text(words)), more=True),
            "attribute": Function((str,), self._attribute, names=self._measured),
            "seed": Function((int, int), self._seed, optional=1),
            "bank": Function((int,), self._bank),
            "axis": Function((str, int), self._axis, names=lambda: tuple(FAMILIES)),
            "image": Function((str,), self._image),
            "direction": Function((str,), self._direction),
        }
        self.vocabulary = Vocabulary(functions, self._images, self._measured)

    def _measured(self) -> tuple[str, ...]:
        return required(self.model.attributes).names

    def _attribute(self, name: str) -> Value:
        return change(self.model.attribute(name, self.hold))

    def _axis(self, family: str, index: int) -> Value:
        return change(self.model.axis(family, index).direction)

    def _direction(self, path: str) -> Value:
        space = self.model.space
        content = self._content(path, LARGEST_FILE)
        saved = direction_of(content, path, space.fingerprint, space.size)
        return change(saved.direction)

    def _seed(self, seed: int, index: int = 0) -> Value:
        sample = self.model.sample(1, seed, index)
        words = f"{seed}, sample {index}" if index else f"{seed}"
        return self._started(sample.latents, words, sample.pixels)

    def _bank(self, index: int) -> Value:
        sample = self.model.bank_items(index, index + 1)
        return self._started(sample.latents, f"bank item {index}", sample.pixels)

    def _image(self, path: str) -> Value:
        pixels = self._pixels(path)
        return self._started(pixels, f"image {PurePath(path).name}", pixels)

    def _started(self, source: Latents | Pixels, words: str, pixels: Pixels) -> Value:
        features = self.model.embed(pixels)
        return picture(features[0], Start(source, words, pixels, features))

    def _images(self, pattern: str) -> NDArray[np.float32]:
        names, parts = self.files.matching(pattern), []
        for first in range(0, len(names), BLOCK):
            pixels = [self._pixels(name) for name in names[first : first + BLOCK]]
            parts.append(self.model.embed(np.concatenate(pixels)))
        return np.concatenate(parts)

    def _pixels(self, name: str) -> Pixels:
        raise_if_cancelled()
        content = self._content(name)
        try:
            return image_of(content, PurePath(name).suffix, self.model.image_shape)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None

    def _content(self, name: str, most: int = LARGEST_BYTES) -> bytes:
        content = self.files.read(name, most)
        self.read[name] = digest(content)
        return content


def ask(
    model: Model,
    text: str | parser.Node,
    hold: Sequence[str] = (),
    files: Files | None = None,
) -> Query:
    """What an expression asks of this model, `hold` beside the expression's own hold().

    The picture starts from the first image, seed or bank item that is added as it stands; without
    one, from the bank's average. Raises ConfigError where the expression is a change, also where
    that is between pictures that it could start from, as in seed(7) - seed(8).
    """
    tree = parser.parse(text) if isinstance(text, str) else text
    own, hold = held(tree), _held(model, tree, hold)
    reading = Reading(model, hold, files)
    value = _picture(evaluate(tree, reading.vocabulary))
    if value.start is not None:
        row, start = value.start
        wanted = value.row - row
    else:
        latents = model.invert(feature_math.unit(model.statistics.mean)[None])
        pixels = model.generate(latents)
        start = Start(latents, "average", pixels, model.embed(pixels))
        wanted = value.row / value.weight - start.features[0].astype(np.float64)
    found = np.asarray(wanted, np.float32)
    share, direction = model.statistics.share_inside(found), model.within(found, hold)
    written = parser.written(tree)
    if later := hold[len(own) :]:
        written += f" + hold({', '.join(map(parser.quoted, later))})"
    seen = (start.source, start.pixels, start.features)
    return Query(written, *seen, direction, share, hold, start.words, reading.read)


class Way(NamedTuple):
    """A change (d) inside what the bank's images span, and the share of its squared length that is.

    hold: measured attributes to be left alone. expression: in one spelling.
    """

    direction: Direction
    hold: tuple[str, ...]
    share: float
    expression: str


def way(model: Model, text: str, hold: Sequence[str] = (), files: Files | None = None) -> Way:
    """An expression as a change (d): every picture in it counts as its feature."""
    tree = parser.parse(text)
    hold = _held(model, tree, hold)
    value = evaluate(tree, Reading(model, hold, files).vocabulary)
    found = np.asarray(value.row, np.float32)
    share = model.statistics.share_inside(found)
    return Way(model.within(found, hold), hold, share, parser.written(tree))


def feature_of(model: Model, text: str | parser.Node, files: Files | None = None) -> Direction:
    """An expression as one unit feature (d). Raises ConfigError where it is a change."""
    tree = parser.parse(text) if isinstance(text, str) else text
    value = _picture(evaluate(tree, Reading(model, files=files).vocabulary))
    return np.asarray(picture(value.row).row, np.float32)


def _picture(value: Value) -> Value:
    # A start alone makes no picture of a sum that takes it away again.
    if not value.is_picture:
        raise ConfigError(
            "expression: a change, not a picture, for it adds no more pictures than it takes away; "
            'add what it starts from, as in seed(7) + ..., image("FILE") + ...'
        )
    return value


def _held(model: Model, tree: parser.Node, hold: Sequence[str]) -> tuple[str, ...]:
    # What the expression itself holds comes first; the rest has no column to be told with.
    if hold:
        required(model.attributes).columns(hold)
    own = held(tree)
    return (*own, *(name for name in hold if name not in own))
