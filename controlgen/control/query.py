"""A small language for directions: text("a digit eight") - 0.5 * image("three.png").

attribute("thickness") is one bank sigma of what is measured: 2 * attribute("ink") is two of them.
"""

import ast
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from controlgen.control.algebra import unit
from controlgen.errors import ConfigError

Row = NDArray[np.float32]
USAGE = (
    'write sums of text("..."), image("FILE") and attribute("NAME"), as in '
    'text("a digit eight")-text("a digit three")'
)


def evaluate(expression: str, sources: dict[str, Callable[[str], Row]]) -> Row:
    """The feature (d) that an expression means.

    `sources` maps a function's name to what embeds its one string. Allowed are +, -, numbers times
    terms, mean(...) and parentheses; the text is parsed, never run. mean() scales to length 1, so
    it takes no attribute(...), whose length is its meaning. Raises ConfigError.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        with np.errstate(over="ignore", invalid="ignore"):
            value = _value(tree, expression, sources)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        raise ConfigError(f"{_shortened(expression)} is not an expression; {USAGE}") from None
    if isinstance(value, float):
        raise ConfigError(f"{expression!r} is a number, not a direction; {USAGE}")
    if not np.isfinite(value).all():
        raise ConfigError(f"{expression!r}: a number in it is too large; {USAGE}")
    return value


def _shortened(expression: str) -> str:
    return repr(expression if len(expression) <= 100 else f"{expression[:100]}...")


def _value(
    node: ast.expr, expression: str, sources: dict[str, Callable[[str], Row]]
) -> Row | float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, expression, sources)
        case ast.BinOp(left=left, op=op, right=right):
            return _combine(
                op,
                _value(left, expression, sources),
                _value(right, expression, sources),
                expression,
            )
        case ast.Call(func=ast.Name(id="mean"), args=[_, *_] as terms, keywords=[]):
            if any(_is_attribute(node) for term in terms for node in ast.walk(term)):
                raise ConfigError(f"{expression!r}: mean() takes no attribute(); add them instead")
            values = [_value(term, expression, sources) for term in terms]
            rows = [value for value in values if not isinstance(value, float)]
            if len(rows) < len(values):
                raise ConfigError(f"{expression!r}: mean() takes texts and images; {USAGE}")
            return unit(np.mean(rows, axis=0))
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(words))], keywords=[]):
            if name in sources:
                return sources[name](words)
    raise ConfigError(f"{expression!r}: {ast.unparse(node)} is not understood; {USAGE}")


def _is_attribute(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "attribute"


def _combine(
    op: ast.operator, left: Row | float, right: Row | float, expression: str
) -> Row | float:
    numbers = isinstance(left, float) + isinstance(right, float)
    match op:
        case ast.Add() if numbers != 1:
            return left + right
        case ast.Sub() if numbers != 1:
            return left - right
        case ast.Mult() if numbers:
            return left * right
        case ast.Div() if isinstance(right, float) and right != 0:
            return left / right
    raise ConfigError(f"{expression!r}: only sums and numbers times terms have a meaning; {USAGE}")
