"""The language of expressions: its grammar, what it means, what it refuses, and where."""

import builtins
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlgen.editing.expressions.evaluator import (
    Function,
    Value,
    Vocabulary,
    change,
    evaluate,
    held,
    picture,
)
from controlgen.editing.expressions.parser import (
    LONGEST,
    Call,
    Combined,
    Negative,
    Node,
    Number,
    Words,
    calls,
    parse,
    written,
)
from controlgen.errors import ConfigError, ControlGenError, DataError

A, B = np.float32([1, 0, 0]), np.float32([0, 1, 0])
C = np.float32([0, 0, 1])


def text(*words: str) -> Value:
    for word in words:
        if word not in ("a", "b"):
            raise ConfigError(f"{word!r} is no word of this space")
    return picture(sum(A if word == "a" else B for word in words))


def files(pattern: str) -> Any:
    if pattern != "new/*":
        raise DataError(f"{pattern}: matches no image file")
    return np.stack([A, B])


WORDS = Vocabulary(
    {
        "text": Function((str,), text, more=True),
        "image": Function((str,), lambda path: picture(C, path)),
        "seed": Function((int, int), lambda seed, index=0: picture(A, (seed, index)), optional=1),
        "attribute": Function((str,), lambda name: change([len(name), 0, 0])),
    },
    files,
)


def value_of(expression: str) -> Value:
    return evaluate(parse(expression), WORDS)


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
def test_what_an_expression_means(expression: str, wanted: list[float]) -> None:
    np.testing.assert_allclose(value_of(expression).row, wanted, rtol=1e-6, atol=1e-7)


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
def test_pictures_weigh_one_and_start_where_they_stand_alone(
    expression: str, weight: float, start: Any, hold: tuple[str, ...]
) -> None:
    value = value_of(expression)
    assert value.weight == pytest.approx(weight)
    assert (value.start and value.start[1]) == start
    assert value.hold == held(parse(expression)) == hold


REFUSED = [
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


@pytest.mark.parametrize("expression", REFUSED, ids=lambda e: e[:30])
def test_what_has_no_meaning_is_refused_in_one_line(expression: str) -> None:
    with pytest.raises(ControlGenError) as refused:
        value_of(expression)
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
        value_of(expression)
    monkeypatch.undo()
    assert ran == []


def _recording(name: str, real: Any, ran: list[Any]) -> Any:
    def recorded(*args: Any, **settings: Any) -> Any:
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
        value_of(expression)


@given(st.text(max_size=60))
def test_any_text_is_answered_or_refused(expression: str) -> None:
    try:
        value_of(expression)
    except ControlGenError as error:
        assert "\n" not in str(error)


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        written(Words("\udcff.png"))
    assert written(Words("\U0001f600é")) == '"\U0001f600é"'


def test_nothing_longer_than_the_limit_is_read() -> None:
    longest = 'text("a")'.ljust(LONGEST)
    assert value_of(longest).weight == 1
    with pytest.raises(ConfigError, match="too many"):
        parse(longest + " ")


@pytest.mark.parametrize(
    ("expression", "column", "says"),
    [
        ('text("a") + 2 * meen("new/*")', 17, "unknown name 'meen', did you mean 'mean'?"),
        ('sound("a")', 1, "there is attribute, hold, image, mean, seed, slerp, text"),
        ('text("a") + "b"', 13, "a string stands inside"),
        ('text("a") $', 11, '"\\$" has no meaning'),
        ('text("a', 6, "does not end"),
        ("seed(7", 7, "expected , or \\), found the end"),
        ('text("a") text("b")', 11, "found text"),
        ('text("a") + text("c")', 13, "'c' is no word"),
        ('text("a") + text("a", "c")', 13, "'c' is no word"),
        ('text("a", "b", "")', 16, "text of an empty text"),
        ('text("a", 3)', 11, "text wants a string here"),
        ('text("a", image("c"))', 11, "text wants a string here"),
        ('text("a", "b" "b")', 15, 'expected , or \\), found "b"'),
        ("2 * text()", 5, "text takes a string or more of them, not 0"),
        ('attribute("ink", "width")', 1, "attribute takes a string, not 2"),
        ("seed(1, 2, 3)", 1, r"seed takes a whole number \(and a whole number\), not 3"),
        ('mean(text("a"), "old/*")', 17, "matches no image file"),
        ('text("a") * (1 + text("b"))', 16, "\\+ between a picture and a number"),
        ('text("a") * text("b")', 11, "wants a number on one side"),
        ('text("a") / (1 - 1)', 11, "division by zero"),
        ("seed(2.5)", 6, "a whole number"),
        ("slerp(seed(1), seed(2), 1.5)", 25, "from 0 to 1"),
        ('text("a") - hold("b")', 11, "only be added"),
        ('"é" + text("a")', 1, "a string stands inside"),
        ('text("é") + x', 14, "expected \\( after x, found the end"),
    ],
)
def test_errors_say_where(expression: str, column: int, says: str) -> None:
    with pytest.raises(ControlGenError, match=says) as refused:
        value_of(expression)
    assert str(refused.value).startswith(f"expression, column {column}: ")


def test_what_a_name_raises_keeps_its_kind() -> None:
    with pytest.raises(DataError, match="column 6: old/"):
        value_of('mean("old/*")')


NAMES = st.sampled_from(["text", "mean", "seed", "hold", "naïve_1"])
SOME_WORDS = st.text(max_size=8).map(Words)
LEAVES = st.one_of(st.floats(0, 1e20).map(Number), SOME_WORDS, NAMES.map(lambda n: Call(n, ())))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(Negative),
        st.builds(Call, NAMES, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Call, st.just("text"), st.lists(SOME_WORDS, min_size=2, max_size=6).map(tuple)),
        st.builds(Combined, st.sampled_from("+-*/"), inner, inner),
    ),
    max_leaves=12,
)


@given(TREES)
def test_what_is_written_reads_as_the_same_tree(tree: Node) -> None:
    try:
        again = parse(written(tree))
    except ConfigError as error:
        assert "levels" in str(error)  # deeper than is allowed
    else:
        assert again == tree
        assert written(again) == written(tree)
        assert list(calls(again, "text")) == list(calls(tree, "text"))


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=8))
def test_several_texts_are_the_mean_of_each(words: list[str]) -> None:
    said = ", ".join(f'"{word}"' for word in words)
    each = ", ".join(f'text("{word}")' for word in words)
    found = value_of(f"text({said})")
    np.testing.assert_allclose(found.row, value_of(f"mean({each})").row, atol=1e-7)
    assert (found.weight, found.start, found.sized) == (1, None, False)
    assert written(parse(f"text({said})")) == f"text({said})"


CHANGES = st.sampled_from(
    ['text("a")', 'text("b", "a")', 'image("c")', "seed(1)", 'attribute("ink")']
)
SCALED = st.builds("{} * {}".format, st.floats(-4, 4).map("({:.3f})".format), CHANGES)


@given(st.lists(SCALED, min_size=2, max_size=6), st.randoms())
def test_sums_are_those_of_a_vector_space(terms: list[str], random: Any) -> None:
    total = value_of(" + ".join(terms))
    shuffled = list(terms)
    random.shuffle(shuffled)
    again = value_of(" + ".join(shuffled))
    np.testing.assert_allclose(again.row, total.row, atol=1e-12)
    assert again.weight == pytest.approx(total.weight, abs=1e-12)
    # a - b + b is a, and the negative of a negative is the thing itself.
    first, rest = terms[0], " + ".join(terms[1:])
    back = value_of(f"{first} - ({rest}) + ({rest})")
    np.testing.assert_allclose(back.row, value_of(first).row, atol=1e-12)
    np.testing.assert_allclose(value_of(f"-(-({rest}))").row, value_of(rest).row, atol=1e-12)


PIECES = ["text", "(", ")", '"a"', ",", "+", "-", "*", "/", "mean", "slerp", "hold", "seed", "7",
          "0.5", '"new/*"', " ", "image", "'", '"', "\\", "1e9", "attribute", '"ink"']  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_pieces_are_answered_or_refused(expression: str) -> None:
    try:
        value = value_of(expression)
    except ControlGenError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(value.row).all()
