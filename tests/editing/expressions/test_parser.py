"""Expressions: grammar, values, and errors with their columns."""

import builtins
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlgen.editing.expressions.evaluator import (
    Builtin,
    Builtins,
    Value,
    evaluate,
    held_attributes,
)
from controlgen.editing.expressions.parser import (
    MAX_LENGTH,
    BinaryOp,
    Call,
    Expr,
    Number,
    String,
    UnaryMinus,
    format_expression,
    iter_calls,
    parse,
)
from controlgen.errors import ConfigError, ControlGenError, DataError

A, B = np.float32([1, 0, 0]), np.float32([0, 1, 0])
C = np.float32([0, 0, 1])


def text(*words: str) -> Value:
    for word in words:
        if word not in ("a", "b"):
            raise ConfigError(f"{word!r} is not in the vocabulary")
    return Value.point(sum(A if word == "a" else B for word in words))


def files(pattern: str) -> Any:
    if pattern != "new/*":
        raise DataError(f"{pattern}: matches no image file")
    return np.stack([A, B])


WORDS = Builtins(
    {
        "text": Builtin((str,), text, variadic=True),
        "image": Builtin((str,), lambda path: Value.point(C, path)),
        "seed": Builtin(
            (int, int), lambda seed, index=0: Value.point(A, (seed, index)), optional=1
        ),
        "attribute": Builtin((str,), lambda name: Value.direction([len(name), 0, 0])),
    },
    files,
)


def value_of(expression: str) -> Value:
    return evaluate(parse(expression), WORDS)


@pytest.mark.parametrize(
    ("expression", "expected"),
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
        ('text("a", "b")', [0.5**0.5, 0.5**0.5, 0]),
        ("text('b', 'a', 'a') - text(\"a\")", [2 / 5**0.5 - 1, 1 / 5**0.5, 0]),
        ('mean(text("a"), text("b"))', [0.5**0.5, 0.5**0.5, 0]),
        ('mean(text("a"), text("a"), image("c"))', [2 / 5**0.5, 0, 1 / 5**0.5]),
        ('mean("new/*")', [0.5**0.5, 0.5**0.5, 0]),
        ('mean("new/*", text("a"))', [2 / 5**0.5, 1 / 5**0.5, 0]),
        ('  image("four.png")\n - text("a")  ', [-1, 0, 1]),
        ('attribute("ink")-0.5*attribute("width")', [0.5, 0, 0]),
        ('mean(text("b"), text("b")) + attribute("ink")', [3, 1, 0]),
        ('slerp(text("a"), text("b"), 0.5)', [0.5**0.5, 0.5**0.5, 0]),
        ('slerp(text("a"), text("b"), 1/3)', [3**0.5 / 2, 0.5, 0]),
        ('seed(7) + seed(7, 3) + hold("ink")', [2, 0, 0]),
        ('+ .5e1 * text("a")', [5, 0, 0]),
    ],
)
def test_expression_has_expected_vector(expression: str, expected: list[float]) -> None:
    np.testing.assert_allclose(value_of(expression).vector, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("expression", "weight", "start", "hold"),
    [
        ('text("a") - text("b")', 0, None, ()),
        ('text("a", "b", "b")', 1, None, ()),
        ('image("c") + 1.5 * (mean("new/*") - text("a"))', 1, "c", ()),
        ('text("a") - text("b") + image("c")', 1, "c", ()),
        ('image("c") - image("d") + image("e")', 1, "c", ()),
        ('-image("c") + image("d")', 0, "d", ()),
        ('2 * image("c")', 2, None, ()),
        ('1 * image("c")', 1, "c", ()),
        ('(image("c") + image("d")) / 2', 1, None, ()),
        ('mean(image("c"), image("d"))', 1, None, ()),
        ('seed(3) + 2 * attribute("ink") + hold("slant", "width") + hold("slant")', 1, (3, 0),
         ("slant", "width")),
        ('slerp(image("c"), text("a"), 0.3) - text("b")', 0, None, ()),
    ],
)  # fmt: skip
def test_weight_start_and_hold_of_an_expression(
    expression: str, weight: float, start: Any, hold: tuple[str, ...]
) -> None:
    value = value_of(expression)
    assert value.weight == pytest.approx(weight)
    assert (value.start and value.start[1]) == start
    assert value.hold == held_attributes(parse(expression)) == hold


INVALID = [
    "",
    "   ",
    "text",
    "text()",
    "text(a)",
    'text("a", b)',
    'text("a", 1)',
    'text("a", "")',
    'text("a", text("b"))',
    'text("a", )',
    'text("a", *"b")',
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
    'mean(text("a"), )',
    'mean(text("a") - text("b"))',
    'mean("old/*")',
    'mean("")',
    'slerp(text("a"), text("b"))',
    'slerp(text("a"), text("b"), 2)',
    'slerp(text("a"), text("b"), text("a"))',
    'slerp(text("a"), attribute("ink"), 0.5)',
    'slerp(text("a"), 1, 0.5)',
    'hold("ink")',
    "hold()",
    "hold(ink)",
    'hold("")',
    'hold("ink", 1) + text("a")',
    'text("a") - hold("ink")',
    '2 * (text("a") + hold("ink"))',
    'mean(text("a") + hold("ink"))',
    "seed()",
    "seed(1.5)",
    "seed(-1)",
    "seed(1, 2, 3)",
    "seed(1e300)",
    'seed("a")',
    '"a"',
    '"a" + text("a")',
    'text("a") + "b"',
    'text("a\n',
    'text("")',
    "'",
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


@pytest.mark.parametrize("expression", INVALID, ids=lambda e: e[:30])
def test_invalid_expression_raises_one_line_error(expression: str) -> None:
    with pytest.raises(ControlGenError) as error:
        value_of(expression)
    assert "\n" not in str(error.value)


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
    calls: list[Any] = []
    for name in ("print", "open", "eval", "exec", "compile"):
        monkeypatch.setattr(builtins, name, _recording(name, getattr(builtins, name), calls))
    with pytest.raises(ConfigError):
        value_of(expression)
    monkeypatch.undo()
    assert calls == []


def _recording(name: str, function: Any, calls: list[Any]) -> Any:
    def recorded(*args: Any, **settings: Any) -> Any:
        calls.append((name, args))
        return function(*args, **settings)

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
def test_deep_nesting_raises_config_error(expression: str) -> None:
    with pytest.raises(ConfigError):
        value_of(expression)


@given(st.text(max_size=60))
def test_any_text_is_evaluated_or_rejected(expression: str) -> None:
    try:
        value_of(expression)
    except ControlGenError as error:
        assert "\n" not in str(error)


def test_format_rejects_invalid_utf8() -> None:
    with pytest.raises(ConfigError, match="is not valid UTF-8"):
        format_expression(String("\udcff.png"))
    assert format_expression(String("\U0001f600é")) == '"\U0001f600é"'


def test_length_limit() -> None:
    longest = 'text("a")'.ljust(MAX_LENGTH)
    assert value_of(longest).weight == 1
    with pytest.raises(ConfigError, match="use at most"):
        parse(longest + " ")


@pytest.mark.parametrize(
    ("expression", "column", "message"),
    [
        ('text("a") + 2 * meen("new/*")', 17, "unknown name 'meen', did you mean 'mean'?"),
        ('sound("a")', 1, "choose from attribute, hold, image, mean, seed, slerp, text"),
        ('text("a") + "b"', 13, "a string must be the argument"),
        ('text("a") $', 11, 'unexpected character "\\$"'),
        ('text("a', 6, "no closing quote"),
        ("seed(7", 7, "expected , or \\), not the end"),
        ('text("a") text("b")', 11, "not text"),
        ('text("a") + text("c")', 13, "'c' is not in the vocabulary"),
        ('text("a") + text("a", "c")', 13, "'c' is not in the vocabulary"),
        ('text("a", "b", "")', 16, "text needs text that is not blank"),
        ('text("a", 3)', 11, "text needs a string here"),
        ('text("a", image("c"))', 11, "text needs a string here"),
        ('text("a", "b" "b")', 15, 'expected , or \\), not "b"'),
        ("2 * text()", 5, "text takes a string or more of them, not 0"),
        ('attribute("ink", "width")', 1, "attribute takes a string, not 2"),
        ("seed(1, 2, 3)", 1, r"seed takes a whole number \(and a whole number\), not 3"),
        ('mean(text("a"), "old/*")', 17, "matches no image file"),
        ('text("a") * (1 + text("b"))', 16, "\\+ between an image and a number"),
        ('text("a") * text("b")', 11, "needs a number on at least one side"),
        ('text("a") / (1 - 1)', 11, "division by zero"),
        ("seed(2.5)", 6, "a whole number"),
        ("slerp(seed(1), seed(2), 1.5)", 25, "from 0 to 1"),
        ('text("a") - hold("b")', 11, "only be added"),
        ('"é" + text("a")', 1, "a string must be the argument"),
        ('text("é") + x', 14, "expected \\( after x, not the end"),
    ],
)
def test_errors_have_columns(expression: str, column: int, message: str) -> None:
    with pytest.raises(ControlGenError, match=message) as error:
        value_of(expression)
    assert str(error.value).startswith(f"expression, column {column}: ")


def test_builtin_errors_keep_their_type() -> None:
    with pytest.raises(DataError, match="column 6: old/"):
        value_of('mean("old/*")')


NAMES = st.sampled_from(["text", "mean", "seed", "hold", "naïve_1"])
STRINGS = st.text(max_size=8).map(String)
LEAVES = st.one_of(st.floats(0, 1e20).map(Number), STRINGS, NAMES.map(lambda n: Call(n, ())))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(UnaryMinus),
        st.builds(Call, NAMES, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Call, st.just("text"), st.lists(STRINGS, min_size=2, max_size=6).map(tuple)),
        st.builds(BinaryOp, st.sampled_from("+-*/"), inner, inner),
    ),
    max_leaves=12,
)


@given(TREES)
def test_formatted_tree_parses_to_the_same_tree(tree: Expr) -> None:
    try:
        parsed = parse(format_expression(tree))
    except ConfigError as error:
        assert "levels" in str(error)  # deeper than allowed
    else:
        assert parsed == tree
        assert format_expression(parsed) == format_expression(tree)
        assert list(iter_calls(parsed, "text")) == list(iter_calls(tree, "text"))


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=8))
def test_text_of_several_strings_is_the_mean_of_each(words: list[str]) -> None:
    joined = ", ".join(f'"{word}"' for word in words)
    each = ", ".join(f'text("{word}")' for word in words)
    value = value_of(f"text({joined})")
    np.testing.assert_allclose(value.vector, value_of(f"mean({each})").vector, atol=1e-7)
    assert (value.weight, value.start, value.has_length) == (1, None, False)
    assert format_expression(parse(f"text({joined})")) == f"text({joined})"


TERMS = st.sampled_from(
    ['text("a")', 'text("b", "a")', 'image("c")', "seed(1)", 'attribute("ink")']
)
SCALED = st.builds("{} * {}".format, st.floats(-4, 4).map("({:.3f})".format), TERMS)


@given(st.lists(SCALED, min_size=2, max_size=6), st.randoms())
def test_sums_form_a_vector_space(terms: list[str], random: Any) -> None:
    total = value_of(" + ".join(terms))
    shuffled = list(terms)
    random.shuffle(shuffled)
    reordered = value_of(" + ".join(shuffled))
    np.testing.assert_allclose(reordered.vector, total.vector, atol=1e-12)
    assert reordered.weight == pytest.approx(total.weight, abs=1e-12)
    # a - b + b = a and -(-a) = a.
    first, rest = terms[0], " + ".join(terms[1:])
    back = value_of(f"{first} - ({rest}) + ({rest})")
    np.testing.assert_allclose(back.vector, value_of(first).vector, atol=1e-12)
    np.testing.assert_allclose(value_of(f"-(-({rest}))").vector, value_of(rest).vector, atol=1e-12)


PIECES = ["text", "(", ")", '"a"', ",", "+", "-", "*", "/", "mean", "slerp", "hold", "seed", "7",
          "0.5", '"new/*"', " ", "image", "'", '"', "\\", "1e9", "attribute", '"ink"']  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_token_sequence_is_evaluated_or_rejected(expression: str) -> None:
    try:
        value = value_of(expression)
    except ControlGenError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(value.vector).all()
