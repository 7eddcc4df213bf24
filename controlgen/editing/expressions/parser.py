"""The grammar of expressions: `seed(7) + 1.5 * (text("a digit eight") - mean("threes/*.png"))`.

    sum      = product {("+" | "-") product}
    product  = signed {("*" | "/") signed}
    signed   = {"-" | "+"} primary
    primary  = number | string | name "(" [sum {"," sum}] ")" | "(" sum ")"

Strings stand in single or double quotes; a backslash takes its meaning from a quote and from
another backslash only. What names mean is said in `meaning`. Nothing is ever run as code.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from controlgen.errors import ConfigError

LONGEST = 4_000  # characters
DEEPEST = 40  # parentheses, calls and signs inside one another
MOST = 200  # numbers, strings and names
LARGEST = 1e30  # number that is read; `meaning` bounds those that scale something
LEXEME = re.compile(
    r"""\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>[^\W\d]\w*)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<sign>[-+*/(),])
    |(?P<end>$))""",
    re.VERBOSE | re.DOTALL,
)
ESCAPED = re.compile(r"""\\([\\"'])""")


@dataclass(frozen=True)
class Number:
    """A finite number."""

    value: float
    column: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Words:
    """A string."""

    text: str
    column: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Call:
    """A name and what stands in its parentheses."""

    name: str
    arguments: tuple["Node", ...]
    column: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Negative:
    """The negative of a value."""

    value: "Node"
    column: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Combined:
    """Two values and the sign between them, one of + - * /."""

    sign: str
    left: "Node"
    right: "Node"
    column: int = field(default=1, compare=False)


Node = Number | Words | Call | Negative | Combined


class _Token(NamedTuple):
    kind: str  # number, name, string, sign or end
    text: str
    column: int  # from 1


def parse(text: str) -> Node:
    """The tree that an expression means. Raises ConfigError, which says the column."""
    if len(text) > LONGEST:
        raise ConfigError(f"expression: {len(text)} characters are too many; use at most {LONGEST}")
    return _Parser(text).whole()


def written(node: Node) -> str:
    """An expression that `parse` reads as the same tree."""
    match node:
        case Number(value):
            return repr(value) if value != int(value) else f"{int(value)}"
        case Words(text):
            return quoted(text)
        case Call(name, arguments):
            return f"{name}({', '.join(map(written, arguments))})"
        case Negative(value):
            return f"-{_inside(value, 3)}"
        case Combined(sign, left, right):
            level = 1 if sign in "+-" else 2
            return f"{_inside(left, level)} {sign} {_inside(right, level + 1)}"


def quoted(text: str) -> str:
    """A string as it stands in an expression. Raises ConfigError where it is no text.

    Names of files that are not UTF-8 come with stand-ins for their bytes, which no recipe can hold.
    """
    if not is_text(text):
        raise ConfigError(
            f"expression: {text!a} is not text in UTF-8; write it again, or rename the file"
        )
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_text(text: str) -> bool:
    """Whether a string is whole characters, and not stand-ins for bytes that are not UTF-8."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def calls(node: Node, name: str) -> Iterator[Call]:
    """Every call of this name in a tree, from left to right."""
    match node:
        case Call():
            if node.name == name:
                yield node
            for argument in node.arguments:
                yield from calls(argument, name)
        case Negative(value):
            yield from calls(value, name)
        case Combined(_, left, right):
            yield from calls(left, name)
            yield from calls(right, name)


def refusal(column: int, what: str) -> ConfigError:
    """The error that says what is wrong in an expression, and where (columns count from 1)."""
    return ConfigError(at_column(column, what))


def at_column(column: int, what: str) -> str:
    """What is said of a place in an expression, on one line whatever it repeats of a user's own."""
    told = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in what)
    return f"expression, column {column}: {told}"


def _inside(node: Node, level: int) -> str:
    # In parentheses where the sign around it binds more tightly: sums 1, products 2, negatives 3.
    match node:
        case Combined(sign):
            own = 1 if sign in "+-" else 2
        case Negative():
            own = 3
        case _:
            own = 4
    return written(node) if own >= level else f"({written(node)})"


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while not found or found[-1].kind != "end":
        matched = LEXEME.match(text, at)
        if matched is None:
            raise _unreadable(text, at)
        kind = str(matched.lastgroup)
        found.append(_Token(kind, matched[kind], matched.start(kind) + 1))
        at = matched.end()
    if sum(token.kind in ("number", "name", "string") for token in found) > MOST:
        raise ConfigError(f"expression: more than {MOST} terms; write it as several")
    return found


def _unreadable(text: str, at: int) -> ConfigError:
    column = at + len(text[at:]) - len(text[at:].lstrip()) + 1
    letter = text[column - 1]
    if letter in "\"'":
        return refusal(column, "a string begins here and does not end")
    return refusal(column, f"{json.dumps(letter)} has no meaning here")


class _Parser:
    """Recursive descent; one token is looked at, and `_next` takes it."""

    def __init__(self, text: str) -> None:
        self._rest = iter(_tokens(text))
        self._token = next(self._rest)
        self._depth = 0

    def whole(self) -> Node:
        node = self._sum()
        if self._token.kind != "end":
            raise self._unexpected("+, -, * or /")
        return node

    def _next(self) -> _Token:
        token = self._token
        self._token = next(self._rest, token)
        return token

    def _at(self, signs: str) -> bool:
        return self._token.kind == "sign" and self._token.text in signs

    def _take(self, sign: str, wanted: str) -> None:
        if not self._at(sign):
            raise self._unexpected(wanted)
        self._next()

    def _unexpected(self, wanted: str) -> ConfigError:
        found = "the end" if self._token.kind == "end" else self._token.text
        shown = found if len(found) <= 30 else f"{found[:27]}..."
        return refusal(self._token.column, f"expected {wanted}, found {shown}")

    def _sum(self) -> Node:
        node = self._product()
        while self._at("+-"):
            sign = self._next()
            node = Combined(sign.text, node, self._product(), sign.column)
        return node

    def _product(self) -> Node:
        node = self._signed()
        while self._at("*/"):
            sign = self._next()
            node = Combined(sign.text, node, self._signed(), sign.column)
        return node

    def _signed(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise refusal(self._token.column, f"more than {DEEPEST} levels inside one another")
        if self._at("-"):
            sign = self._next()
            node: Node = Negative(self._signed(), sign.column)
        elif self._at("+"):
            self._next()
            node = self._signed()
        else:
            node = self._primary()
        self._depth -= 1
        return node

    def _primary(self) -> Node:
        kind, text, column = self._token
        if kind == "number":
            self._next()
            if not abs(float(text)) <= LARGEST:
                raise refusal(column, "this number is too large")
            return Number(float(text), column)
        if kind == "string":
            self._next()
            return Words(ESCAPED.sub(r"\1", text[1:-1]), column)
        if kind == "name":
            self._next()
            self._take("(", f"( after {text}")
            return Call(text, self._arguments(), column)
        self._take("(", "a number, a name or (")
        node = self._sum()
        self._take(")", ") or another term")
        return node

    def _arguments(self) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self._at(")"):
            if found:
                self._take(",", ", or )")
            found.append(self._sum())
        self._next()
        return tuple(found)
