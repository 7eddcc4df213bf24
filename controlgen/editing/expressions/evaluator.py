"""Evaluate expressions: sums of images and of directions, as vectors in feature space.

An image term (`image`, `seed`, `bank`, `text`, `mean`, `slerp`) is a unit vector of weight 1, also
where it averages several (`mean`, or `text` of several strings). A direction (`attribute`, `axis`,
`direction`) has weight 0, and its length counts. Sums add vectors and weights, so that
`image("a.png") + 1.5 * (mean("new/*") - mean("old/*"))` has weight 1 and is an image, while
`text("bold") - text("thin")` and `seed(7) - seed(8)` have weight 0 and are directions. The first
unscaled image, seed or bank term is the start point.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import feature_math
from controlgen.editing.expressions.parser import (
    BinaryOp,
    Call,
    Expr,
    Number,
    String,
    UnaryMinus,
    iter_calls,
    syntax_error,
    with_column,
)
from controlgen.errors import ConfigError, ControlGenError
from controlgen.utils.rows import EPS

Vector = NDArray[np.float64]
Names = Callable[[], Sequence[str]]
USAGE = 'as in text("a digit eight") - text("a digit three")'
MIN_WEIGHT = 1e-9  # a value of smaller weight is a direction
NEUTRAL = np.zeros(1)  # broadcasts to zeros in a sum
MAX_EXACT_INT = 2**53  # float64 holds all integers below it
TYPE_NAMES = {str: "a string", int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Value:
    """A feature vector and its role.

    vector: (d). weight: the number of images added up, 0 for a direction. has_length: whether a
    direction whose length counts is part of it. start: vector and origin of the start point. hold:
    measured attributes to keep constant.
    """

    vector: Vector
    weight: float
    has_length: bool = False
    start: tuple[Vector, Any] | None = None
    hold: tuple[str, ...] = ()

    @classmethod
    def point(cls, vector: NDArray[Any], origin: Any = None) -> Self:
        """An image's vector (d), scaled to unit length; an edit can start from its `origin`."""
        unit = _normalize(np.asarray(vector, np.float64))
        return cls(unit, 1.0, start=None if origin is None else (unit, origin))

    @classmethod
    def direction(cls, vector: NDArray[Any]) -> Self:
        """A direction (d) whose length counts."""
        return cls(np.asarray(vector, np.float64), 0.0, has_length=True)

    @property
    def is_point(self) -> bool:
        """Whether more images are added than subtracted."""
        return self.weight >= MIN_WEIGHT


class Builtin(NamedTuple):
    """A function of the language.

    arg_types: str, int or float for each argument; the last `optional` ones may be omitted.
    variadic: whether more arguments of the last type may follow. names: the values that the first
    argument can have, None for any string.
    """

    arg_types: tuple[type, ...]
    call: Callable[..., Value]
    optional: int = 0
    variadic: bool = False
    names: Names | None = None


class Builtins(NamedTuple):
    """The functions of the language besides mean, slerp and hold, and a reader of image files.

    images: features (n d) of the files that match a pattern. attributes: the names that hold(...)
    accepts, None for any.
    """

    functions: Mapping[str, Builtin]
    images: Callable[[str], NDArray[np.float32]]
    attributes: Names | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All function names."""
        return (*self.functions, "mean", "slerp", "hold")


def evaluate(node: Expr, builtins: Builtins) -> Value:
    """The value of a tree.

    Raises ConfigError with the column of a mistake; errors of builtins keep their type.
    """
    # hold(...) affects attribute("NAME"), so its mistakes are reported first.
    for call in iter_calls(node, "hold"):
        for name in _hold_strings(call):
            _check_name(call, name, "attribute", builtins.attributes)
    with np.errstate(over="ignore", invalid="ignore"):
        value = _evaluate(node, builtins)
    if isinstance(value, float):
        raise ConfigError(f"expression: {value:g} is a number, not an image or direction; {USAGE}")
    if value.vector.shape == NEUTRAL.shape and value.hold:
        raise ConfigError("expression: hold(...) alone changes nothing; add it to a direction")
    return value


def held_attributes(node: Expr) -> tuple[str, ...]:
    """The attributes in the hold(...) calls of a tree, without duplicates. Raises ConfigError."""
    names: list[str] = []
    for call in iter_calls(node, "hold"):
        names += [name.text for name in _hold_strings(call)]
    return tuple(dict.fromkeys(names))


def _hold_strings(call: Call) -> list[String]:
    names = [node for node in call.arguments if isinstance(node, String) and node.text.strip()]
    if not names or len(names) < len(call.arguments):
        raise syntax_error(
            call.column, 'hold takes names of attributes, as in hold("slant", "ink")'
        )
    return names


def _evaluate(node: Expr, builtins: Builtins) -> Value | float:
    # The limit is checked at every node, so that the error has the column of the first excess.
    value = _evaluate_unbounded(node, builtins)
    sizes = value if isinstance(value, float) else np.append(value.vector, value.weight)
    if not np.abs(sizes).max() <= feature_math.MAX_MAGNITUDE:
        raise syntax_error(
            node.column,
            f"this is too large; numbers and sums go up to {feature_math.MAX_MAGNITUDE:g}",
        )
    return value


def _evaluate_unbounded(node: Expr, builtins: Builtins) -> Value | float:
    match node:
        case Number(value):
            return value
        case String(column=column):
            raise syntax_error(column, f"a string must be the argument of a function, {USAGE}")
        case UnaryMinus(value=operand, column=column):
            positive = _evaluate(operand, builtins)
            return -positive if isinstance(positive, float) else _scale(positive, -1.0, column)
        case BinaryOp(operator, left, right, column):
            operands = _evaluate(left, builtins), _evaluate(right, builtins)
            return _apply_operator(operator, *operands, column)
        case Call("mean"):
            return _mean(node, builtins)
        case Call("slerp"):
            return _slerp(node, builtins)
        case Call("hold"):
            return Value(NEUTRAL, 0.0, hold=tuple(name.text for name in _hold_strings(node)))
        case Call():
            return _call(node, builtins)


def _call(node: Call, builtins: Builtins) -> Value:
    function = builtins.functions.get(node.name)
    if function is None:
        suggestion = _suggest(node.name, builtins.names)
        raise syntax_error(node.column, f"unknown name {node.name!r}{suggestion}")
    arguments = _literals(function, node)
    if node.arguments and isinstance(node.arguments[0], String):
        _check_name(node, node.arguments[0], node.name, function.names)
    with _errors_at(node.column):
        return function.call(*arguments)


def _suggest(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, names, 1)
    return f", did you mean {close[0]!r}?" if close else f"; choose from {', '.join(sorted(names))}"


@contextmanager
def _errors_at(column: int) -> Iterator[None]:
    # Errors of a builtin get its column and keep their type.
    try:
        yield
    except ControlGenError as error:
        raise type(error)(with_column(column, str(error))) from None


def _check_name(call: Call, string: String, role: str, names: Names | None) -> None:
    # Errors have the column of the string, or of the call where no string would be valid.
    if names is None:
        return
    with _errors_at(call.column):
        choices = names()
    if string.text not in choices:
        suggestion = _suggest(string.text, choices)
        raise syntax_error(string.column, f"unknown {role} {string.text!r}{suggestion}")


def _literals(function: Builtin, call: Call) -> list[Any]:
    types, nodes = function.arg_types, call.arguments
    if function.variadic:
        types += types[-1:] * (len(nodes) - len(types))
    if not len(function.arg_types) - function.optional <= len(nodes) <= len(types):
        signature = _signature(function)
        raise syntax_error(call.column, f"{call.name} takes {signature}, not {len(nodes)}")
    return [_literal(node, kind, call.name) for node, kind in zip(nodes, types, strict=False)]


def _signature(function: Builtin) -> str:
    words = [TYPE_NAMES[kind] for kind in function.arg_types]
    required = words[: len(words) - function.optional]
    optional = "".join(f" (and {word})" for word in words[len(required) :])
    signature = " and ".join(required) + optional
    return f"{signature} or more of them" if function.variadic else signature


def _literal(node: Expr, kind: type, name: str) -> Any:
    sign = 1
    if isinstance(node, UnaryMinus) and isinstance(node.value, Number):
        node, sign = node.value, -1
    if kind is str and isinstance(node, String):
        return _non_blank(node, name)
    if kind is not str and isinstance(node, Number):
        value = sign * node.value
        if kind is float:
            return value
        if value == int(value) and 0 <= value < MAX_EXACT_INT:
            return int(value)
    if kind is int:
        raise syntax_error(node.column, f"{name} needs a whole number, 0 or more, here")
    raise syntax_error(node.column, f"{name} needs {TYPE_NAMES[kind]} here")


def _non_blank(node: String, name: str) -> str:
    if not node.text.strip():
        raise syntax_error(node.column, f"{name} needs text that is not blank")
    return node.text


def _scale(value: Value, factor: float, column: int) -> Value:
    if value.hold:
        raise syntax_error(column, "hold(...) can only be added")
    start = value.start if factor == 1 else None
    return replace(value, vector=factor * value.vector, weight=factor * value.weight, start=start)


def _apply_operator(
    operator: str, left: Value | float, right: Value | float, column: int
) -> Value | float:
    match operator, left, right:
        case "+", float(), float():
            return left + right
        case "-", float(), float():
            return left - right
        case "+" | "-", Value(), Value():
            return _add(left, right if operator == "+" else _scale(right, -1.0, column))
        case "+" | "-", _, _:
            raise syntax_error(
                column, f"{operator} between an image and a number; write * to scale it"
            )
        case "*", float(), float():
            return left * right
        case "*", float(), Value():
            return _scale(right, left, column)
        case "*", Value(), float():
            return _scale(left, right, column)
        case "/", _, float() if right == 0:
            raise syntax_error(column, "division by zero")
        case "/", float(), float():
            return left / right
        case "/", Value(), float():
            return _scale(left, 1 / right, column)
    side = "its right" if operator == "/" else "at least one side"
    raise syntax_error(column, f"{operator} needs a number on {side}")


def _add(left: Value, right: Value) -> Value:
    return Value(
        left.vector + right.vector,
        left.weight + right.weight,
        left.has_length or right.has_length,
        left.start or right.start,
        tuple(dict.fromkeys(left.hold + right.hold)),
    )


def _point_vector(node: Expr, builtins: Builtins, name: str) -> Vector:
    # mean and slerp normalise their arguments; a direction would lose its length.
    value = _evaluate(node, builtins)
    if isinstance(value, float) or value.has_length or value.hold or not value.is_point:
        raise syntax_error(node.column, f"{name} takes images here; add directions outside of it")
    return value.vector


def _mean(call: Call, builtins: Builtins) -> Value:
    if not call.arguments:
        raise syntax_error(
            call.column, 'mean needs arguments: images, or files as in mean("new/*")'
        )
    vectors: list[Vector] = []
    for node in call.arguments:
        if isinstance(node, String):
            pattern = _non_blank(node, "mean")  # a blank pattern would match the current folder
            with _errors_at(node.column):
                vectors += list(np.asarray(builtins.images(pattern), np.float64))
        else:
            vectors.append(_point_vector(node, builtins, "mean"))
    return Value.point(np.mean(vectors, axis=0))


def _slerp(call: Call, builtins: Builtins) -> Value:
    if len(call.arguments) != 3:
        raise syntax_error(
            call.column, f"slerp takes two images and a number 0..1, not {len(call.arguments)}"
        )
    first, second, last = call.arguments
    ends = [_normalize(_point_vector(node, builtins, "slerp")) for node in (first, second)]
    position = _evaluate(last, builtins)
    if not isinstance(position, float) or not 0 <= position <= 1:
        raise syntax_error(last.column, "slerp needs a number from 0 to 1 here")
    start, end = (vector[None].astype(np.float32) for vector in ends)
    return Value.point(feature_math.slerp(start, end, position)[0])


def _normalize(vector: Vector) -> Vector:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), EPS))
