"""The grammar of expressions: `seed(7) + 1.5 * (text("a digit eight") - mean("threes/*.png"))`.

    sum      = product {("+" | "-") product}
    product  = signed {("*" | "/") signed}
    signed   = {"-" | "+"} primary
    primary  = number | string | name "(" [sum {"," sum}] ")" | "(" sum ")"

Strings use single or double quotes; a backslash escapes only quotes and backslashes. `evaluator`
defines what the names mean. No part of an expression is ever run as code.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from controlgen.errors import ConfigError

MAX_LENGTH = 4_000  # characters
MAX_DEPTH = 40  # nested parentheses, calls and signs
MAX_TERMS = 200  # numbers, strings and names
MAX_NUMBER = 1e30  # of a literal; the evaluator limits values further
TOKEN = re.compile(
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
    """A finite number literal."""

    value: float
    column: int = field(default=1, compare=False)


@dataclass(frozen=True)
class String:
    """A string literal, unescaped."""

    text: str
    column: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Call:
    """A name and its arguments."""

    name: str
    arguments: tuple["Expr", ...]
    column: int = field(default=1, compare=False)


@dataclass(frozen=True)
class UnaryMinus:
    """A negated expression."""

    value: "Expr"
    column: int = field(default=1, compare=False)


@dataclass(frozen=True)
class BinaryOp:
    """Two expressions joined by +, -, * or /."""

    operator: str
    left: "Expr"
    right: "Expr"
    column: int = field(default=1, compare=False)


Expr = Number | String | Call | UnaryMinus | BinaryOp


class _Token(NamedTuple):
    kind: str  # number, name, string, sign or end
    text: str
    column: int  # from 1


def parse(text: str) -> Expr:
    """Parse an expression into a tree. Raises ConfigError with the column of a mistake."""
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"expression: {len(text)} characters; use at most {MAX_LENGTH}")
    return _Parser(text).parse()


def format_expression(node: Expr) -> str:
    """The text of a tree; `parse` turns it back into an equal tree."""
    match node:
        case Number(value):
            return repr(value) if value != int(value) else f"{int(value)}"
        case String(text):
            return quote(text)
        case Call(name, arguments):
            return f"{name}({', '.join(map(format_expression, arguments))})"
        case UnaryMinus(value):
            return f"-{_parenthesize(value, 3)}"
        case BinaryOp(sign, left, right):
            level = 1 if sign in "+-" else 2
            return f"{_parenthesize(left, level)} {sign} {_parenthesize(right, level + 1)}"


def quote(text: str) -> str:
    """Quote a string for an expression. Raises ConfigError where it is not valid UTF-8.

    Python decodes file names that are not UTF-8 with surrogates, which no recipe can hold.
    """
    if not is_valid_utf8(text):
        raise ConfigError(
            f"expression: {text!a} is not valid UTF-8; correct the text or rename the file"
        )
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_valid_utf8(text: str) -> bool:
    """Whether a string can be encoded as UTF-8, that is, holds no surrogates."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def iter_calls(node: Expr, name: str) -> Iterator[Call]:
    """Yield every call of `name` in a tree, from left to right."""
    match node:
        case Call():
            if node.name == name:
                yield node
            for argument in node.arguments:
                yield from iter_calls(argument, name)
        case UnaryMinus(value):
            yield from iter_calls(value, name)
        case BinaryOp(_, left, right):
            yield from iter_calls(left, name)
            yield from iter_calls(right, name)


def syntax_error(column: int, message: str) -> ConfigError:
    """An error at a column (from 1) of an expression."""
    return ConfigError(with_column(column, message))


def with_column(column: int, message: str) -> str:
    """Prefix a message with its column; unprintable characters of user input are escaped."""
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in message)
    return f"expression, column {column}: {text}"


def _parenthesize(node: Expr, level: int) -> str:
    # Parentheses where the context binds more tightly: sums 1, products 2, negations 3.
    match node:
        case BinaryOp(operator):
            precedence = 1 if operator in "+-" else 2
        case UnaryMinus():
            precedence = 3
        case _:
            precedence = 4
    text = format_expression(node)
    return text if precedence >= level else f"({text})"


def _tokenize(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while not tokens or tokens[-1].kind != "end":
        match = TOKEN.match(text, position)
        if match is None:
            raise _unreadable(text, position)
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match[kind], match.start(kind) + 1))
        position = match.end()
    if sum(token.kind in ("number", "name", "string") for token in tokens) > MAX_TERMS:
        raise ConfigError(f"expression: more than {MAX_TERMS} terms; split it into several")
    return tokens


def _unreadable(text: str, position: int) -> ConfigError:
    rest = text[position:].lstrip()
    column = len(text) - len(rest) + 1
    if rest[0] in "\"'":
        return syntax_error(column, "this string has no closing quote")
    return syntax_error(column, f"unexpected character {json.dumps(rest[0])}")


class _Parser:
    """Recursive descent with one token of lookahead."""

    def __init__(self, text: str) -> None:
        self._tokens = iter(_tokenize(text))
        self._token = next(self._tokens)
        self._depth = 0

    def parse(self) -> Expr:
        node = self._sum()
        if self._token.kind != "end":
            raise self._unexpected("+, -, * or /")
        return node

    def _next(self) -> _Token:
        token = self._token
        self._token = next(self._tokens, token)
        return token

    def _at(self, signs: str) -> bool:
        return self._token.kind == "sign" and self._token.text in signs

    def _expect(self, sign: str, expected: str) -> None:
        if not self._at(sign):
            raise self._unexpected(expected)
        self._next()

    def _unexpected(self, expected: str) -> ConfigError:
        text = "the end" if self._token.kind == "end" else self._token.text
        text = text if len(text) <= 30 else f"{text[:27]}..."
        return syntax_error(self._token.column, f"expected {expected}, not {text}")

    def _sum(self) -> Expr:
        node = self._product()
        while self._at("+-"):
            sign = self._next()
            node = BinaryOp(sign.text, node, self._product(), sign.column)
        return node

    def _product(self) -> Expr:
        node = self._signed()
        while self._at("*/"):
            sign = self._next()
            node = BinaryOp(sign.text, node, self._signed(), sign.column)
        return node

    def _signed(self) -> Expr:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise syntax_error(self._token.column, f"more than {MAX_DEPTH} nested levels")
        if self._at("-"):
            sign = self._next()
            node: Expr = UnaryMinus(self._signed(), sign.column)
        elif self._at("+"):
            self._next()
            node = self._signed()
        else:
            node = self._primary()
        self._depth -= 1
        return node

    def _primary(self) -> Expr:
        kind, text, column = self._token
        if kind == "number":
            self._next()
            if not abs(float(text)) <= MAX_NUMBER:
                raise syntax_error(column, "this number is too large")
            return Number(float(text), column)
        if kind == "string":
            self._next()
            return String(ESCAPED.sub(r"\1", text[1:-1]), column)
        if kind == "name":
            self._next()
            self._expect("(", f"( after {text}")
            return Call(text, self._arguments(), column)
        self._expect("(", "a number, a name or (")
        node = self._sum()
        self._expect(")", ") or another term")
        return node

    def _arguments(self) -> tuple[Expr, ...]:
        arguments: list[Expr] = []
        while not self._at(")"):
            if arguments:
                self._expect(",", ", or )")
            arguments.append(self._sum())
        self._next()
        return tuple(arguments)
