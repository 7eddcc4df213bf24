"""The language of directions: what it means, what it refuses, and that it never runs code."""

import builtins
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlgen.control.query import evaluate
from controlgen.errors import ConfigError, ControlGenError

A, B = np.float32([1, 0, 0]), np.float32([0, 1, 0])
SOURCES = {
    "text": {"a": A, "b": B}.__getitem__,
    "image": lambda path: np.float32([0, 0, len(path)]),
    "attribute": lambda name: np.float32([len(name), 0, 0]),
}


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ('text("a")', [1, 0, 0]),
        ("text('a')", [1, 0, 0]),
        ('-text("a")', [-1, 0, 0]),
        ('text("a") - text("b")', [1, -1, 0]),
        ('text("a")-text("b")+text("b")', [1, 0, 0]),
        ('text("a") - (text("b") - text("a"))', [2, -1, 0]),
        ('0.5 * text("a") + text("b") / 4', [0.5, 0.25, 0]),
        ('2 * (text("a") + 3 * text("b"))', [2, 6, 0]),
        ('text("a") * -2', [-2, 0, 0]),
        ('(1 + 2) * text("a")', [3, 0, 0]),
        ('mean(text("a"), text("b"))', [0.5**0.5, 0.5**0.5, 0]),
        ('mean(text("a"), text("a"), image("four"))', [2 / 20**0.5, 0, 4 / 20**0.5]),
        ('  image("four.png") - text("a")  ', [-1, 0, 8]),
        ('attribute("ink")-0.5*attribute("width")', [0.5, 0, 0]),
        ('mean(text("b"), text("b")) + attribute("ink")', [3, 1, 0]),
    ],
)
def test_what_an_expression_means(expression: str, wanted: list[float]) -> None:
    np.testing.assert_allclose(evaluate(expression, SOURCES), wanted, rtol=1e-6)


REFUSED = [
    "",
    "   ",
    "text",
    "text()",
    "text(a)",
    'text("a", "b")',
    'text(words="a")',
    'text("a"',
    'sound("a")',
    'text("a") text("b")',
    'text("a") * text("b")',
    'text("a") / text("b")',
    '1 / text("a")',
    'text("a") / 0',
    'text("a") + 1',
    '1 - text("a")',
    'text("a") ** 2',
    'text("a") @ text("b")',
    'text("a")[0]',
    'text("a").T',
    'text(f"{1}")',
    'text(b"a")',
    'text("a") if 1 else text("b")',
    'lambda: text("a")',
    '[text("a")]',
    'True * text("a")',
    '1j * text("a")',
    "mean()",
    "mean(1, 2)",
    'mean(text("a"), 1)',
    'mean(*text("a"))',
    'mean(attribute("ink"))',
    'mean(text("a"), -(2 * attribute("ink")))',
    "attribute(ink)",
    'attribute("ink", "width")',
    "3",
    "1 + 2",
    'text("a"); text("b")',
    'x = text("a")',
    'text("a")\x00',
    '1e999 * text("a")',
    f'{"9" * 400} * text("a")',
    f'{"9" * 5000} * text("a")',
    '1e39 * text("a")',
]


@pytest.mark.parametrize("expression", REFUSED, ids=lambda e: e[:30])
def test_what_has_no_meaning_is_refused_in_one_line(expression: str) -> None:
    with pytest.raises(ConfigError) as refused:
        evaluate(expression, SOURCES)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__[0].__subclasses__()",
        "print('x')",
        "open('x')",
        "mean(print('x'))",
        'text(__import__("os").name)',
        '(lambda: print("x"))()',
        'text("a") + [print(i) for i in (1,)]',
        "eval('1')",
    ],
)
def test_code_is_never_run(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    for name in ("print", "open", "eval", "exec", "compile"):
        monkeypatch.setattr(builtins, name, _recording(name, getattr(builtins, name), ran))
    with pytest.raises(ConfigError):
        evaluate(expression, SOURCES)
    monkeypatch.undo()
    assert ran == []


def _recording(name: str, real: Any, ran: list[Any]) -> Any:
    def recorded(*args: Any, **settings: Any) -> Any:
        # ast.parse compiles to a tree only, and opens nothing.
        if name != "compile" or not args[3] & 0x400:
            ran.append((name, args))
        return real(*args, **settings)

    return recorded


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 5000 + 'text("a")' + ")" * 5000,
        "-" * 5000 + 'text("a")',
        'text("a")' + '+text("a")' * 20_000,
        "mean(" * 90 + "1" + ")" * 90,
        "mean(" * 3000 + 'text("a")' + ")" * 3000,
    ],
    ids=["parentheses", "signs", "sum", "means", "deep means"],
)
def test_deep_nesting_is_refused_not_crashed(expression: str) -> None:
    with pytest.raises(ConfigError):
        evaluate(expression, SOURCES)


@given(st.text(max_size=60))
def test_any_text_is_answered_or_refused(expression: str) -> None:
    try:
        evaluate(expression, SOURCES)
    except ControlGenError as error:
        assert "\n" not in str(error)
    except KeyError:  # a text that this toy space does not know
        assert "text(" in expression


def test_errors_of_a_source_are_its_own() -> None:
    def empty(words: str) -> Any:
        raise ConfigError("text: empty or blank")

    with pytest.raises(ConfigError, match="empty or blank"):
        evaluate('text("")', {"text": empty})
