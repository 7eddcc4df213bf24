"""What expressions mean: sums of pictures and of changes, as points and directions of features.

A picture (`image`, `seed`, `bank`, `text`, `mean`, `slerp`) is a unit row of weight 1, also where
it is the mean of several (`mean`, or `text` of several strings); a change (`attribute`, `axis`,
`direction`) has weight 0, and its length is its meaning. Sums add rows and weights, so that
`image("a.png") + 1.5 * (mean("new/*") - mean("old/*"))` weighs 1, a picture, and
`text("bold") - text("thin")` weighs 0, a change, and so does `seed(7) - seed(8)`. The first image,
seed or bank item that is added as it stands is where the picture starts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import feature_math
from controlgen.editing.expressions.parser import (
    Call,
    Combined,
    Negative,
    Node,
    Number,
    Words,
    at_column,
    calls,
    refusal,
)
from controlgen.errors import ConfigError, ControlGenError

Row = NDArray[np.float64]
USAGE = 'as in text("a digit eight") - text("a digit three")'
BALANCED = 1e-9  # weights below it are those of a change
NOTHING = np.zeros(1)  # added to any row
WHOLE = 2**53  # whole numbers are exact below it
SHAPES = {str: "a string", int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Value:
    """A row of features (d) and what it is.

    weight: how many pictures were added up, 0 for a change. sized: whether a change whose length
    means something is in it. start: the row and the origin of the picture that it starts from.
    hold: measured attributes to be left alone.
    """

    row: Row
    weight: float
    sized: bool = False
    start: tuple[Row, Any] | None = None
    hold: tuple[str, ...] = ()

    @property
    def is_picture(self) -> bool:
        """Whether more was added than taken away; else it is a change, or less than one."""
        return self.weight >= BALANCED


Names = Callable[[], Sequence[str]]


class Function(NamedTuple):
    """A name of the language: what it takes, and the Value that it makes of that.

    takes: str, int or float for each argument; the last `optional` of them may be left out. more:
    whether any number of further arguments of the last one's kind may follow. names: what the first
    argument may be, where only some strings have a meaning.
    """

    takes: tuple[type, ...]
    make: Callable[..., Value]
    optional: int = 0
    more: bool = False
    names: Names | None = None


class Vocabulary(NamedTuple):
    """What names there are beside mean, slerp and hold, and how image files are read.

    images: the rows (n d) of the files that a pattern matches. attributes: what can be held, where
    that is known.
    """

    functions: Mapping[str, Function]
    images: Callable[[str], NDArray[np.float32]]
    attributes: Names | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All that may be called."""
        return (*self.functions, "mean", "slerp", "hold")


def picture(row: NDArray[Any], origin: Any = None) -> Value:
    """A picture's unit row (d); with an `origin`, one that an edit may start from."""
    unit = _unit(np.asarray(row, np.float64))
    return Value(unit, 1.0, start=None if origin is None else (unit, origin))


def change(row: NDArray[Any]) -> Value:
    """A change (d) whose length is its meaning."""
    return Value(np.asarray(row, np.float64), 0.0, sized=True)


def evaluate(node: Node, vocabulary: Vocabulary) -> Value:
    """The value of a tree. Raises ConfigError, which says the column, and what the names raise."""
    # What is held changes what attribute("NAME") means, so a mistake there is told first.
    for call in calls(node, "hold"):
        for word in _words(call):
            _check_known(call, word, "attribute", vocabulary.attributes)
    with np.errstate(over="ignore", invalid="ignore"):
        found = _value(node, vocabulary)
    if isinstance(found, float):
        raise ConfigError(f"expression: {found:g} is a number, not a picture or a change; {USAGE}")
    if found.row.shape == NOTHING.shape and found.hold:
        raise ConfigError("expression: hold(...) alone changes nothing; add it to a change")
    return found


def held(node: Node) -> tuple[str, ...]:
    """The attributes that a tree asks to hold, each once. Raises ConfigError."""
    names: list[str] = []
    for call in calls(node, "hold"):
        names += [word.text for word in _words(call)]
    return tuple(dict.fromkeys(names))


def _words(call: Call) -> list[Words]:
    words = [one for one in call.arguments if isinstance(one, Words) and one.text.strip()]
    if not words or len(words) < len(call.arguments):
        raise refusal(call.column, 'hold takes names of attributes, as in hold("slant", "ink")')
    return words


def _value(node: Node, vocabulary: Vocabulary) -> Value | float:
    # Bounded at every step, so that the place is told where it became too large.
    found = _unbounded(node, vocabulary)
    sizes = found if isinstance(found, float) else np.append(found.row, found.weight)
    if not np.abs(sizes).max() <= feature_math.LARGEST:
        raise refusal(
            node.column, f"this is too large; numbers and sums go up to {feature_math.LARGEST:g}"
        )
    return found


def _unbounded(node: Node, vocabulary: Vocabulary) -> Value | float:
    match node:
        case Number(value):
            return value
        case Words(column=column):
            raise refusal(column, "a string stands inside a name's parentheses, " + USAGE)
        case Negative(value=inner, column=column):
            found = _value(inner, vocabulary)
            return -found if isinstance(found, float) else _scaled(found, -1.0, column)
        case Combined(sign, left, right, column):
            values = _value(left, vocabulary), _value(right, vocabulary)
            return _combined(sign, *values, column)
        case Call("mean"):
            return _mean(node, vocabulary)
        case Call("slerp"):
            return _slerp(node, vocabulary)
        case Call("hold"):
            return Value(NOTHING, 0.0, hold=tuple(word.text for word in _words(node)))
        case Call(name, column=column):
            function = vocabulary.functions.get(name)
            if function is None:
                raise refusal(column, f"unknown name {name!r}{_near(name, vocabulary.names)}")
            arguments = _literals(function, node)
            for first in node.arguments[:1]:
                if isinstance(first, Words):
                    _check_known(node, first, name, function.names)
            with _at(column):
                return function.make(*arguments)


def _near(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, names, 1)
    return f", did you mean {close[0]!r}?" if close else f"; there is {', '.join(sorted(names))}"


@contextmanager
def _at(column: int) -> Iterator[None]:
    # What a name's own work says is told with its column, as an error of the same kind.
    try:
        yield
    except ControlGenError as error:
        raise type(error)(at_column(column, str(error))) from None


def _check_known(call: Call, word: Words, what: str, names: Names | None) -> None:
    # Told with the column of the string itself, or of the call where no string would do.
    if names is None:
        return
    with _at(call.column):
        known = names()
    if word.text not in known:
        raise refusal(word.column, f"unknown {what} {word.text!r}{_near(word.text, known)}")


def _literals(function: Function, call: Call) -> list[Any]:
    takes, given = function.takes, call.arguments
    if function.more:
        takes += takes[-1:] * (len(given) - len(takes))
    if not len(function.takes) - function.optional <= len(given) <= len(takes):
        raise refusal(call.column, f"{call.name} takes {_told(function)}, not {len(given)}")
    return [_literal(one, wanted, call.name) for one, wanted in zip(given, takes, strict=False)]


def _told(function: Function) -> str:
    words = [SHAPES[one] for one in function.takes]
    most = len(words)
    kept = words[: most - function.optional]
    told = " and ".join(kept) + "".join(f" (and {one})" for one in words[len(kept) :])
    return f"{told} or more of them" if function.more else told


def _literal(node: Node, wanted: type, name: str) -> Any:
    sign = 1
    if isinstance(node, Negative) and isinstance(node.value, Number):
        node, sign = node.value, -1
    if wanted is str and isinstance(node, Words):
        return _said(node, name)
    if wanted is not str and isinstance(node, Number):
        value = sign * node.value
        if wanted is float:
            return value
        if value == int(value) and 0 <= value < WHOLE:
            return int(value)
    if wanted is int:
        raise refusal(node.column, f"{name} wants a whole number from 0 on here")
    raise refusal(node.column, f"{name} wants {SHAPES[wanted]} here")


def _said(node: Words, name: str) -> str:
    if not node.text.strip():
        raise refusal(node.column, f"{name} of an empty text; write something in it")
    return node.text


def _scaled(value: Value, factor: float, column: int) -> Value:
    if value.hold:
        raise refusal(column, "hold(...) can only be added")
    start = value.start if factor == 1 else None
    return replace(value, row=factor * value.row, weight=factor * value.weight, start=start)


def _combined(sign: str, left: Value | float, right: Value | float, column: int) -> Value | float:
    match sign, left, right:
        case "+", float(), float():
            return left + right
        case "-", float(), float():
            return left - right
        case "+" | "-", Value(), Value():
            return _sum(left, right if sign == "+" else _scaled(right, -1.0, column))
        case "+" | "-", _, _:
            raise refusal(column, f"{sign} between a picture and a number; write * to scale it")
        case "*", float(), float():
            return left * right
        case "*", float(), Value():
            return _scaled(right, left, column)
        case "*", Value(), float():
            return _scaled(left, right, column)
        case "/", _, float() if right == 0:
            raise refusal(column, "division by zero")
        case "/", float(), float():
            return left / right
        case "/", Value(), float():
            return _scaled(left, 1 / right, column)
    raise refusal(column, f"{sign} wants a number on {'its right' if sign == '/' else 'one side'}")


def _sum(left: Value, right: Value) -> Value:
    return Value(
        left.row + right.row,
        left.weight + right.weight,
        left.sized or right.sized,
        left.start or right.start,
        tuple(dict.fromkeys(left.hold + right.hold)),
    )


def _picture(node: Node, vocabulary: Vocabulary, name: str) -> Row:
    # The row of something that weighs as a picture does; a change would lose its length.
    found = _value(node, vocabulary)
    if isinstance(found, float) or found.sized or found.hold or not found.is_picture:
        raise refusal(node.column, f"{name} takes pictures here; add changes outside of it")
    return found.row


def _mean(call: Call, vocabulary: Vocabulary) -> Value:
    if not call.arguments:
        raise refusal(call.column, 'mean of nothing; give pictures, or files as in mean("new/*")')
    rows: list[Row] = []
    for node in call.arguments:
        rows += (
            _files(node, vocabulary)
            if isinstance(node, Words)
            else [_picture(node, vocabulary, "mean")]
        )
    return picture(np.mean(rows, axis=0))


def _files(node: Words, vocabulary: Vocabulary) -> list[Row]:
    # A blank pattern would be the folder that we are in, and nobody's wish.
    pattern = _said(node, "mean")
    with _at(node.column):
        return list(np.asarray(vocabulary.images(pattern), np.float64))


def _slerp(call: Call, vocabulary: Vocabulary) -> Value:
    if len(call.arguments) != 3:
        raise refusal(call.column, f"slerp takes two pictures and 0..1, not {len(call.arguments)}")
    ends = [picture(_picture(one, vocabulary, "slerp")).row for one in call.arguments[:2]]
    position = _value(call.arguments[2], vocabulary)
    if not isinstance(position, float) or not 0 <= position <= 1:
        raise refusal(call.arguments[2].column, "slerp wants a number from 0 to 1 here")
    start, end = (row[None].astype(np.float32) for row in ends)
    return picture(feature_math.slerp(start, end, position)[0])


def _unit(row: Row) -> Row:
    return np.asarray(row / max(float(np.linalg.norm(row)), feature_math.TINY))
