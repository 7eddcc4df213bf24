"""What the controls of the page say, to and from the expression that is drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from controlgen.editing.expressions.parser import (
    BinaryOp,
    Call,
    Expr,
    Number,
    String,
    UnaryMinus,
    format_expression,
    iter_calls,
    parse,
    quote,
)
from controlgen.errors import ConfigError

STARTS = ("seed", "image", "bank")  # a picture starts from the first of these
PICTURES = (*STARTS, "text", "mean", "slerp")
MOST = 8  # directions with a slider of their own


@dataclass(frozen=True)
class Part:
    """One direction, and how far its slider stands."""

    change: str
    amount: float = 1.0

    def __str__(self) -> str:
        return f"{_plain(self.amount)} * {_atom(self.change)}"

    @property
    def label(self) -> str:
        """The direction in few words."""
        words = _describe(parse(self.change))
        return words if len(words) <= 90 else f"{words[:87]}..."


@dataclass(frozen=True)
class Wish:
    """A start, directions with their amounts, and measured attributes that are held."""

    start: str = "seed(7)"
    parts: tuple[Part, ...] = ()
    hold: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = self.start
        for part in self.parts:
            text += f" {'-' if part.amount < 0 else '+'} {replace(part, amount=abs(part.amount))}"
        return text + (f" + hold({', '.join(map(quote, self.hold))})" if self.hold else "")

    @property
    def seed(self) -> int | None:
        """The seed that it starts from, if it is one."""
        tree = parse(self.start)
        if isinstance(tree, Call) and tree.name == "seed" and len(tree.arguments) == 1:
            given = tree.arguments[0]
            return int(given.value) if isinstance(given, Number) else None
        return None

    @property
    def moves(self) -> bool:
        """Whether anything is asked for beside the start."""
        tree = parse(self.start)
        return bool(self.parts) or not (isinstance(tree, Call) and tree.name in STARTS)

    def with_part(self, change: str, amount: float = 1.0) -> "Wish":
        """With one more direction. Raises ConfigError beyond the eighth, or for one of them."""
        change = format_expression(parse(change))
        if any(part.change == change for part in self.parts):
            raise ConfigError("this direction is there already; move its slider")
        if len(self.parts) >= MOST:
            raise ConfigError(f"{MOST} directions have a slider here; remove one first")
        return replace(self, parts=(*self.parts, Part(change, amount)))

    def changes(self) -> str:
        """All directions as one change. Raises ConfigError where there is none."""
        if not self.parts:
            raise ConfigError("there is no direction yet; add one first")
        return " + ".join(str(part) if part.amount >= 0 else f"({part})" for part in self.parts)


def read(text: str) -> Wish:
    """The wish that an expression says; what has no sliders is all of it a start.

    Raises ConfigError with the column of a mistake.
    """
    tree = parse(text)
    full = Wish(format_expression(tree))
    start, hold, terms = None, [], []
    for amount, node in _terms(tree):
        if isinstance(node, Call) and node.name == "hold":
            hold += [argument.text for argument in node.arguments if isinstance(argument, String)]
            if amount != 1 or len(hold) != len(dict.fromkeys(hold)):
                return full
        elif start is None and amount == 1 and isinstance(node, Call) and node.name in STARTS:
            start = format_expression(node)
        else:
            terms.append((amount, node))
    parts = tuple(_paired(terms))
    if start is None or not _fit_sliders(parts):
        return full
    return Wish(start, parts, tuple(hold))


def _fit_sliders(parts: Sequence[Part]) -> bool:
    changes = [part.change for part in parts]
    holds = any(_has_hold(parse(change)) for change in changes)
    return len(parts) <= MOST and not holds and len(set(changes)) == len(changes)


def names_in(text: str, names: Iterator[str] | list[str]) -> list[str]:
    """Those of the names that an expression can mean by any of its strings."""
    message = [string.text for string in _strings(parse(text))]
    return [
        name
        for name in names
        if any(
            name == string or fnmatchcase(name, string) or name.startswith(string.rstrip("/") + "/")
            for string in message
        )
    ]


def _terms(node: Expr, sign: float = 1.0) -> Iterator[tuple[float, Expr]]:
    # The terms of a sum, each with its number. A sum with a number of its own is one term.
    match node:
        case BinaryOp("+" | "-" as between, left, right) if sign == 1:
            yield from _terms(left)
            yield from _terms(right, 1.0 if between == "+" else -1.0)
        case _:
            yield _scaled(node, sign)


def _scaled(node: Expr, amount: float) -> tuple[float, Expr]:
    match node:
        case UnaryMinus(value):
            return _scaled(value, -amount)
        case BinaryOp("*", Number(value), other) | BinaryOp("*", other, Number(value)):
            return _scaled(other, amount * value)
        case BinaryOp("/", other, Number(value)) if value:
            return _scaled(other, amount / value)
        case _:
            return amount, node


def _paired(terms: list[tuple[float, Expr]]) -> Iterator[Part]:
    # A picture less another one, with one number, is one direction.
    rest = list(terms)
    while rest:
        amount, node = rest.pop(0)
        if rest and _is_picture(node) and _is_picture(rest[0][1]) and rest[0][0] == -amount:
            node = BinaryOp("-", node, rest.pop(0)[1])
        yield Part(format_expression(node), amount)


def _is_picture(node: Expr) -> bool:
    return isinstance(node, Call) and node.name in PICTURES


def _has_hold(node: Expr) -> bool:
    return next(iter_calls(node, "hold"), None) is not None


def _strings(node: Expr) -> Iterator[String]:
    match node:
        case String():
            yield node
        case Call(_, arguments):
            for argument in arguments:
                yield from _strings(argument)
        case UnaryMinus(value):
            yield from _strings(value)
        case BinaryOp(_, left, right):
            yield from _strings(left)
            yield from _strings(right)


def _plain(amount: float) -> str:
    # As few digits as say it exactly, never with an exponent.
    text = f"{amount:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _atom(change: str) -> str:
    return change if isinstance(parse(change), Call) else f"({change})"


def _describe(node: Expr) -> str:
    match node:
        case BinaryOp("-", Call("text", (String(more),)), Call("text", (String(less),))):
            return f"“{more}”, less “{less}”"
        case Call("text", (String(more),)):
            return f"“{more}”"
        case BinaryOp("-", Call("mean", (String(more),)), Call("mean", (String(less),))):
            return f"pictures {more.partition('/')[0]}, less {less.partition('/')[0]}"
        case Call("axis", (String(family), Number(index))):
            return f"{family}, axis {index:g} (in sigmas)"
        case Call("attribute", (String(name),)):
            return f"measured {name.replace('_', ' ')} (in sigmas)"
        case Call("direction", (String(name),)):
            return f"saved {name.removesuffix('.safetensors')}"
        case _:
            return format_expression(node)
