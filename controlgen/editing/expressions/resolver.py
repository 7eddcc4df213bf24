"""Resolve an expression for one model: its start point, direction and target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing.attribute_model import require_attributes
from controlgen.editing.directions.axes import FAMILIES
from controlgen.editing.directions.storage import MAX_FILE_BYTES, parse_direction
from controlgen.editing.expressions import parser
from controlgen.editing.expressions.evaluator import (
    Builtin,
    Builtins,
    Value,
    evaluate,
    held_attributes,
)
from controlgen.editing.expressions.files import FileSource, LocalFiles, sha256_of_bytes
from controlgen.editing.protocols import EditorProtocol
from controlgen.errors import ConfigError, DataError
from controlgen.image_io import MAX_BYTES, decode_and_resize
from controlgen.types import Direction, Features, Latents, Pixels
from controlgen.utils.cancellation import raise_if_cancelled
from controlgen.utils.rows import normalize_rows

BATCH_SIZE = 256  # files read and embedded at once


@dataclass(frozen=True)
class ResolvedEdit:
    """An expression resolved for one model.

    expression: in canonical form, with all of `hold`. source: Latents (1 z) or Pixels (1 c h w) of
    the start point; pixels (1 c h w) and features (1 d): its image. direction (d): from there,
    within the span of the bank. share: of the direction's squared length, 0..1, within that span,
    the rest is dropped; 0 for a zero direction. hold: measured attributes to keep constant. start:
    the start point in words. files: SHA-256 of every file that was read, by name.
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


class ResolvedDirection(NamedTuple):
    """A direction (d) within the span of the bank.

    share: of the squared length, 0..1, within that span. hold: measured attributes to keep
    constant. expression: in canonical form.
    """

    direction: Direction
    hold: tuple[str, ...]
    share: float
    expression: str


class StartPoint(NamedTuple):
    """Latents (1 z) or Pixels (1 c h w) to start from, a label, the image and its features (d)."""

    source: Latents | Pixels
    label: str
    pixels: Pixels
    features: Features


class ExpressionContext:
    """The language's builtins for one model.

    hold: attributes that attribute("NAME") keeps constant. file_hashes: SHA-256 of every file that
    the builtins have read, by name.
    """

    def __init__(
        self, model: EditorProtocol, hold: Sequence[str] = (), files: FileSource | None = None
    ) -> None:
        self.model, self.hold = model, tuple(hold)
        self.files = files or LocalFiles()
        self.file_hashes: dict[str, str] = {}
        functions = {
            "text": Builtin((str,), self._text, variadic=True),
            "attribute": Builtin((str,), self._attribute, names=self._attribute_names),
            "seed": Builtin((int, int), self._seed, optional=1),
            "bank": Builtin((int,), self._bank),
            "axis": Builtin((str, int), self._axis, names=lambda: tuple(FAMILIES)),
            "image": Builtin((str,), self._image),
            "direction": Builtin((str,), self._direction),
        }
        self.builtins = Builtins(functions, self._images, self._attribute_names)

    def _text(self, *texts: str) -> Value:
        return Value.point(self.model.embed_text(texts))

    def _attribute_names(self) -> tuple[str, ...]:
        return require_attributes(self.model.attributes).names

    def _attribute(self, name: str) -> Value:
        return Value.direction(self.model.attribute(name, self.hold))

    def _axis(self, family: str, index: int) -> Value:
        return Value.direction(self.model.axis(family, index).direction)

    def _direction(self, path: str) -> Value:
        space = self.model.space
        content = self._content(path, MAX_FILE_BYTES)
        stored = parse_direction(content, path, space.fingerprint, space.size)
        return Value.direction(stored.direction)

    def _seed(self, seed: int, index: int = 0) -> Value:
        sample = self.model.sample(1, seed, index)
        label = f"{seed}, sample {index}" if index else f"{seed}"
        return self._start(sample.latents, label, sample.pixels)

    def _bank(self, index: int) -> Value:
        sample = self.model.bank_items(index, index + 1)
        return self._start(sample.latents, f"bank item {index}", sample.pixels)

    def _image(self, path: str) -> Value:
        pixels = self._pixels(path)
        return self._start(pixels, f"image {PurePath(path).name}", pixels)

    def _start(self, source: Latents | Pixels, label: str, pixels: Pixels) -> Value:
        features = self.model.embed(pixels)
        return Value.point(features[0], StartPoint(source, label, pixels, features))

    def _images(self, pattern: str) -> NDArray[np.float32]:
        names, parts = self.files.glob(pattern), []
        for first in range(0, len(names), BATCH_SIZE):
            pixels = [self._pixels(name) for name in names[first : first + BATCH_SIZE]]
            parts.append(self.model.embed(np.concatenate(pixels)))
        return np.concatenate(parts)

    def _pixels(self, name: str) -> Pixels:
        raise_if_cancelled()
        content = self._content(name)
        try:
            return decode_and_resize(content, PurePath(name).suffix, self.model.image_shape)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None

    def _content(self, name: str, max_bytes: int = MAX_BYTES) -> bytes:
        content = self.files.read(name, max_bytes)
        self.file_hashes[name] = sha256_of_bytes(content)
        return content


def resolve_edit(
    model: EditorProtocol,
    text: str | parser.Expr,
    hold: Sequence[str] = (),
    files: FileSource | None = None,
) -> ResolvedEdit:
    """Resolve an image expression; `hold` adds to the expression's own hold().

    The start point is the first unscaled image, seed or bank term, else the bank mean. Raises
    ConfigError where the expression is a direction, also one between possible start points as in
    seed(7) - seed(8).
    """
    tree = parser.parse(text) if isinstance(text, str) else text
    explicit, hold = held_attributes(tree), _merge_hold(model, tree, hold)
    context = ExpressionContext(model, hold, files)
    value = _require_point(evaluate(tree, context.builtins))
    if value.start is not None:
        vector, start = value.start
        change = value.vector - vector
    else:
        latents = model.invert(normalize_rows(model.statistics.mean)[None])
        pixels = model.generate(latents)
        start = StartPoint(latents, "average", pixels, model.embed(pixels))
        change = value.vector / value.weight - start.features[0].astype(np.float64)
    direction = np.asarray(change, np.float32)
    expression = parser.format_expression(tree)
    if added := hold[len(explicit) :]:
        expression += f" + hold({', '.join(map(parser.quote, added))})"
    return ResolvedEdit(
        expression=expression,
        source=start.source,
        pixels=start.pixels,
        features=start.features,
        direction=model.constrain(direction, hold),
        share=model.statistics.explained_share(direction),
        hold=hold,
        start=start.label,
        files=context.file_hashes,
    )


def resolve_direction(
    model: EditorProtocol, text: str, hold: Sequence[str] = (), files: FileSource | None = None
) -> ResolvedDirection:
    """Resolve an expression as a direction (d); an image term counts as its feature vector."""
    tree = parser.parse(text)
    hold = _merge_hold(model, tree, hold)
    value = evaluate(tree, ExpressionContext(model, hold, files).builtins)
    direction = np.asarray(value.vector, np.float32)
    return ResolvedDirection(
        direction=model.constrain(direction, hold),
        hold=hold,
        share=model.statistics.explained_share(direction),
        expression=parser.format_expression(tree),
    )


def resolve_feature(
    model: EditorProtocol, text: str | parser.Expr, files: FileSource | None = None
) -> Direction:
    """Resolve an image expression as a unit feature (d). Raises ConfigError for a direction."""
    tree = parser.parse(text) if isinstance(text, str) else text
    value = _require_point(evaluate(tree, ExpressionContext(model, files=files).builtins))
    return np.asarray(Value.point(value.vector).vector, np.float32)


def _require_point(value: Value) -> Value:
    # A start point does not make an image of a sum that subtracts as many images as it adds.
    if not value.is_point:
        raise ConfigError(
            "expression: a direction, not an image, because its image terms cancel; add a start "
            'point, as in seed(7) + ..., image("FILE") + ...'
        )
    return value


def _merge_hold(model: EditorProtocol, tree: parser.Expr, hold: Sequence[str]) -> tuple[str, ...]:
    # The expression's own attributes first. Mistakes in the rest are reported without a column.
    if hold:
        require_attributes(model.attributes).indices(hold)
    explicit = held_attributes(tree)
    return (*explicit, *(name for name in hold if name not in explicit))
