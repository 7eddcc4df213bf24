"""What the controls of the page say, to and from the expression that is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from controlgen.editing.expressions.parser import (
    Call,
    Combined,
    Negative,
    Node,
    Number,
    Words,
    calls,
    parse,
    quoted,
    written,
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
        words = _said(parse(self.change))
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
        return text + (f" + hold({', '.join(map(quoted, self.hold))})" if self.hold else "")

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
        change = written(parse(change))
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
    whole = Wish(written(tree))
    start, hold, terms = None, [], []
    for amount, node in _terms(tree):
        if isinstance(node, Call) and node.name == "hold":
            hold += [one.text for one in node.arguments if isinstance(one, Words)]
            if amount != 1 or len(hold) != len(dict.fromkeys(hold)):
                return whole
        elif start is None and amount == 1 and isinstance(node, Call) and node.name in STARTS:
            start = written(node)
        else:
            terms.append((amount, node))
    parts = tuple(_paired(terms))
    if start is None or len(parts) > MOST or any(_has_hold(parse(one.change)) for one in parts):
        return whole
    if len({part.change for part in parts}) < len(parts):
        return whole
    return Wish(start, parts, tuple(hold))


def named(text: str, names: Iterator[str] | list[str]) -> list[str]:
    """Those of the names that an expression can mean by any of its strings."""
    said = [one.text for one in _strings(parse(text))]
    return [
        name
        for name in names
        if any(
            name == one or fnmatchcase(name, one) or name.startswith(one.rstrip("/") + "/")
            for one in said
        )
    ]


def _terms(node: Node, sign: float = 1.0) -> Iterator[tuple[float, Node]]:
    # The terms of a sum, each with its number. A sum with a number of its own is one term.
    match node:
        case Combined("+" | "-" as between, left, right) if sign == 1:
            yield from _terms(left)
            yield from _terms(right, 1.0 if between == "+" else -1.0)
        case _:
            yield _scaled(node, sign)


def _scaled(node: Node, amount: float) -> tuple[float, Node]:
    match node:
        case Negative(value):
            return _scaled(value, -amount)
        case Combined("*", Number(value), other) | Combined("*", other, Number(value)):
            return _scaled(other, amount * value)
        case Combined("/", other, Number(value)) if value:
            return _scaled(other, amount / value)
        case _:
            return amount, node


def _paired(terms: list[tuple[float, Node]]) -> Iterator[Part]:
    # A picture less another one, with one number, is one direction.
    rest = list(terms)
    while rest:
        amount, node = rest.pop(0)
        if rest and _is_picture(node) and _is_picture(rest[0][1]) and rest[0][0] == -amount:
            node = Combined("-", node, rest.pop(0)[1])
        yield Part(written(node), amount)


def _is_picture(node: Node) -> bool:
    return isinstance(node, Call) and node.name in PICTURES


def _has_hold(node: Node) -> bool:
    return next(calls(node, "hold"), None) is not None


def _strings(node: Node) -> Iterator[Words]:
    match node:
        case Words():
            yield node
        case Call(_, arguments):
            for one in arguments:
                yield from _strings(one)
        case Negative(value):
            yield from _strings(value)
        case Combined(_, left, right):
            yield from _strings(left)
            yield from _strings(right)


def _plain(amount: float) -> str:
    # As few digits as say it exactly, never with an exponent.
    text = f"{amount:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _atom(change: str) -> str:
    return change if isinstance(parse(change), Call) else f"({change})"


def _said(node: Node) -> str:
    match node:
        case Combined("-", Call("text", (Words(more),)), Call("text", (Words(less),))):
            return f"“{more}”, less “{less}”"
        case Call("text", (Words(more),)):
            return f"“{more}”"
        case Combined("-", Call("mean", (Words(more),)), Call("mean", (Words(less),))):
            return f"pictures {more.partition('/')[0]}, less {less.partition('/')[0]}"
        case Call("axis", (Words(family), Number(index))):
            return f"{family}, axis {index:g} (in sigmas)"
        case Call("attribute", (Words(name),)):
            return f"measured {name.replace('_', ' ')} (in sigmas)"
        case Call("direction", (Words(name),)):
            return f"saved {name.removesuffix('.safetensors')}"
        case _:
            return written(node)
