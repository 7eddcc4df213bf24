"""What an expression asks of one model: where the picture starts, and which way it goes."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.control import algebra, expression
from controlgen.control.direction_files import load_direction
from controlgen.control.meaning import Function, Value, Vocabulary, change, evaluate, held, picture
from controlgen.control.model import Model
from controlgen.errors import ConfigError, DataError
from controlgen.images import SUFFIXES, image_files, read_image
from controlgen.types import Direction, Latents, Pixels

MOST_FILES = 10_000  # that one pattern may match
BLOCK = 256  # files read and embedded at once


@dataclass(frozen=True)
class Query:
    """An expression as one model understands it.

    expression: in one spelling, with all that is held. source: Latents (1 z) or Pixels (1 c h w)
    that the picture starts from. direction (d): the way from there, inside what the bank's images
    span. share: squared length of the way that they span, 0..1, the rest was left out; 0 where
    there is no way. hold: measured attributes to be left alone. start: where it starts, in words.
    files: what was read.
    """

    expression: str
    source: Latents | Pixels
    direction: Direction
    share: float = 1.0
    hold: tuple[str, ...] = ()
    start: str = ""
    files: tuple[Path, ...] = ()


class Start(NamedTuple):
    """Where a picture starts: Latents (1 z) or Pixels (1 c h w), and a word for it."""

    source: Latents | Pixels
    words: str


class Reading:
    """The names of the language for one model; `files` gathers what they read.

    hold: attributes that attribute("NAME") then leaves alone. local: whether files may be read.
    """

    def __init__(self, model: Model, hold: Sequence[str] = (), local: bool = True) -> None:
        self.model, self.hold = model, tuple(hold)
        self.files: list[Path] = []
        functions = {
            "text": Function((str,), lambda *words: picture(model.embed_text(words)), more=True),
            "attribute": Function((str,), self._attribute),
            "seed": Function((int, int), self._seed, optional=1),
            "bank": Function((int,), self._bank),
            "axis": Function((str, int), self._axis),
        }
        if local:
            functions |= {
                "image": Function((str,), self._image),
                "direction": Function((str,), self._direction),
            }
        self.vocabulary = Vocabulary(functions, self._images if local else None)

    def _attribute(self, name: str) -> Value:
        return change(self.model.attribute(name, self.hold))

    def _axis(self, family: str, index: int) -> Value:
        return change(self.model.axis(family, index).direction)

    def _direction(self, path: str) -> Value:
        space = self.model.space
        saved = load_direction(Path(path), space.fingerprint, space.size)
        self.files.append(Path(path))
        return change(saved.direction)

    def _seed(self, seed: int, index: int = 0) -> Value:
        sample = self.model.sample(1, seed, index)
        words = f"{seed}, sample {index}" if index else f"{seed}"
        return picture(self.model.embed(sample.pixels)[0], Start(sample.latents, words))

    def _bank(self, index: int) -> Value:
        sample = self.model.bank_items(index, index + 1)
        start = Start(sample.latents, f"bank item {index}")
        return picture(self.model.embed(sample.pixels)[0], start)

    def _image(self, path: str) -> Value:
        pixels = read_image(path, self.model.image_shape)
        self.files.append(Path(path))
        start = Start(pixels, f"image {Path(path).name}")
        return picture(self.model.embed(pixels)[0], start)

    def _images(self, pattern: str) -> NDArray[np.float32]:
        files = matching(pattern)
        self.files += files
        shape, parts = self.model.image_shape, []
        for first in range(0, len(files), BLOCK):
            pixels = [read_image(path, shape) for path in files[first : first + BLOCK]]
            parts.append(self.model.embed(np.concatenate(pixels)))
        return np.concatenate(parts)


def matching(pattern: str) -> list[Path]:
    """The image files that a pattern such as new/*.png matches, or a folder holds, by name.

    Raises DataError where there is none, or more than 10 000.
    """
    if Path(pattern).is_dir():
        return image_files(Path(pattern))
    found = sorted(Path(one) for one in glob.iglob(pattern, recursive=True))
    files = [one for one in found if one.suffix.lower() in SUFFIXES and one.is_file()]
    if not files:
        raise DataError(f"{pattern}: matches no image file ({', '.join(SUFFIXES)})")
    if len(files) > MOST_FILES:
        raise DataError(f"{pattern}: matches {len(files)} files, at most {MOST_FILES} are read")
    return files


def ask(
    model: Model, text: str | expression.Node, hold: Sequence[str] = (), local: bool = True
) -> Query:
    """What an expression asks of this model, `hold` beside the expression's own hold().

    The picture starts from the first image, seed or bank item that is added as it stands; without
    one, from the bank's average. Raises ConfigError where the expression is a change of nothing.
    """
    tree = expression.parse(text) if isinstance(text, str) else text
    own, hold = held(tree), _held(tree, hold)
    reading = Reading(model, hold, local)
    value = evaluate(tree, reading.vocabulary)
    if value.start is not None:
        row, start = value.start
        wanted = value.row - row
    elif value.weight > 0 and not value.is_change:
        start = Start(model.invert(algebra.unit(model.statistics.mean)[None]), "average")
        row = model.embed(model.generate(start.source))[0].astype(np.float64)
        wanted = value.row / value.weight - row
    else:
        raise ConfigError(
            "expression: a change, not a picture; add what it starts from, as in seed(7) + ..., "
            'image("FILE") + ...'
        )
    found = np.asarray(wanted, np.float32)
    share, direction = model.statistics.share_inside(found), model.within(found, hold)
    written = expression.written(tree)
    if later := hold[len(own) :]:
        written += f" + hold({', '.join(map(expression.quoted, later))})"
    files = tuple(reading.files)
    return Query(written, start.source, direction, share, hold, start.words, files)


class Way(NamedTuple):
    """A change (d) inside what the bank's images span, and the share of its squared length that is.

    hold: measured attributes to be left alone. expression: in one spelling.
    """

    direction: Direction
    hold: tuple[str, ...]
    share: float
    expression: str


def way(model: Model, text: str, hold: Sequence[str] = ()) -> Way:
    """An expression as a change (d): every picture in it counts as its feature."""
    tree = expression.parse(text)
    hold = _held(tree, hold)
    value = evaluate(tree, Reading(model, hold).vocabulary)
    found = np.asarray(value.row, np.float32)
    share = model.statistics.share_inside(found)
    return Way(model.within(found, hold), hold, share, expression.written(tree))


def feature_of(model: Model, text: str | expression.Node) -> Direction:
    """An expression as one unit feature (d). Raises ConfigError where it is a change."""
    tree = expression.parse(text) if isinstance(text, str) else text
    value = evaluate(tree, Reading(model).vocabulary)
    if value.is_change or value.weight < 0:
        raise ConfigError("expression: a change, not a picture; add what it starts from")
    return np.asarray(picture(value.row).row, np.float32)


def _held(tree: expression.Node, hold: Sequence[str]) -> tuple[str, ...]:
    # What the expression itself holds comes first.
    own = held(tree)
    return (*own, *(name for name in hold if name not in own))
