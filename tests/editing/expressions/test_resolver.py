"""Expressions read by a real model in a real folder: what they refuse, where, and in one line."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from controlgen import Editor
from controlgen.editing.directions.storage import save_direction
from controlgen.editing.expressions import files
from controlgen.editing.expressions.files import LocalFiles
from controlgen.editing.feature_math import LARGEST
from controlgen.errors import ConfigError, ControlGenError, DataError

DIFFERENCE = 'text("a digit eight") - text("a digit three")'


@pytest.fixture(scope="module")
def editor(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Editor:
    """The tiny line's, fitted again with measured attributes."""
    root = tmp_path_factory.mktemp("measured") / "store"
    return Editor.load(line.refitted(root, attributes={"kind": "strokes"}))


@pytest.fixture(scope="module", autouse=True)
def folder(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all tests here are: a folder that holds one image, a.png, and nothing else."""
    here = tmp_path_factory.mktemp("here")
    plane = line.run.train.dataset.open().pixels(np.arange(1))[0, 0]
    Image.fromarray(plane).save(here / "a.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        yield here


@pytest.mark.parametrize(
    ("expression", "column", "says"),
    [
        ('mean("")', 6, "mean of an empty text"),
        ('seed(7) + mean("a.png", " \t")', 25, "mean of an empty text"),
        ('seed(7) + attribute("inkk")', 21, "unknown attribute 'inkk', did you mean 'ink'?"),
        ('seed(7) + attribute("size")', 21, "unknown attribute 'size'; there is height, ink"),
        ('seed(7) + hold("inkk")', 16, "unknown attribute 'inkk', did you mean 'ink'?"),
        ('attribute("ink") + seed(7) + hold("slant", "inkk")', 44, "unknown attribute 'inkk'"),
        ('seed(7) + axis("sefb", 1)', 16, "unknown axis 'sefb', did you mean 'sefa'?"),
        ('seed(7) + text("\udcff")', 11, r"text '\udcff': holds bytes that are no letters"),
        ("seed(7) + 1000001 * seed(8)", 11, "this is too large; numbers and sums go up to 1e+06"),
        ("seed(7) + 1e19 * seed(8)", 11, "this is too large"),
        ("seed(7) + 1e3 * (1e4 * seed(8))", 15, "this is too large"),
        ("seed(7) + seed(8) / 1e-300", 19, "this is too large"),
        ("seed(7) + (1e4 * 1e4 / 1e8) * seed(8)", 16, "this is too large"),
        ("600000 * seed(7) + 600000 * seed(8)", 18, "this is too large"),
        ('seed(7) + direction("huge.safetensors")', 11, "this is too large"),
        ('seed(7) + mean("a\nb")', 16, r"a\nb: matches no image file"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_where_it_is(
    editor: Editor, expression: str, column: int, says: str
) -> None:
    huge = np.full(editor.space.size, 1e30, np.float32)
    note = {"name": "huge", "made_by": "hand", "space": editor.space.fingerprint}
    save_direction("huge.safetensors", huge, share_inside=1, **note)
    for ask in (editor.query, editor.parse, editor.feature):
        with pytest.raises(ControlGenError) as refused:
            ask(expression)
        assert str(refused.value).startswith(f"expression, column {column}: {says}")
        assert "\n" not in str(refused.value)


def test_large_numbers_that_scale_nothing_are_read(editor: Editor) -> None:
    """A seed is a name, and may have as many digits as it likes."""
    found = editor.query(f"seed(9007199254740991) + {LARGEST:.0f} * ({DIFFERENCE})")
    assert found.start == "9007199254740991"
    assert 0 < found.share <= 1
    edit = editor.answer(found)
    assert np.isfinite(edit.agreement).all()
    np.testing.assert_allclose(np.linalg.norm(edit.asked, axis=1), 1, atol=1e-5)


def test_names_outside_the_expression_are_told_without_a_column(editor: Editor) -> None:
    with pytest.raises(ConfigError, match="^attribute 'inkk': there is"):
        editor.query('seed(7) + attribute("ink")', hold="inkk")


@pytest.mark.parametrize(
    "expression",
    [
        "seed(7) - seed(8)",
        "-seed(8) + seed(7)",
        "seed(7) - 2 * seed(8)",
        'image("a.png") - text("a digit three")',
        'seed(7) + attribute("ink") - bank(1)',
        'attribute("ink")',
    ],
)
def test_a_change_is_no_picture_though_it_names_a_start(editor: Editor, expression: str) -> None:
    for ask in (editor.query, editor.answer, editor.feature):
        with pytest.raises(ConfigError, match="a change, not a picture, .* add what it starts"):
            ask(expression)
    # It is a change all the same, and one that can be added to a picture.
    assert editor.parse(expression).any()
    assert editor.query(f"seed(9) + seed(7) + {expression}").start == "9"


def test_a_start_given_beside_the_change_makes_it_a_picture(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path
) -> None:
    command = ("edit", line.map_folder, "-o", tmp_path / "edit.png")
    told = controlgen(*command, "--seed", 7, "--add", "seed(8)-seed(9)", "--steps", 1)
    assert (told.code, told.err) == (0, "")
    for expression in ("seed(7) - seed(8)", f'seed(7) - mean("{"x" * 300}")'):
        told = controlgen(*command[:2], expression, "-o", tmp_path / "none.png")
        assert (told.code, told.err.count("\n")) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["edit.png"]


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/*.png", "\0", "\ud800/*", "*/" * 1_500])
def test_a_pattern_that_can_be_no_file_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(DataError):
        LocalFiles().matching(name)


def test_a_folder_that_may_not_be_read_is_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def closed(folder: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(DataError, match=r"\.: cannot be looked for \(Permission denied\)"):
        LocalFiles().matching(".")


def test_no_more_files_are_looked_at_than_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def endless(pattern: str, recursive: bool) -> Iterator[str]:
        while True:
            seen.append(pattern)
            yield "a.png"

    monkeypatch.setattr(files, "MOST_FILES", 5)
    monkeypatch.setattr(files.glob, "iglob", endless)
    with pytest.raises(DataError, match="matches more than 5 images"):
        LocalFiles().matching("/**/*.png")
    assert len(seen) == 6


STRINGS = st.sampled_from(
    ["", " ", "a.png", "*", "**/*.png", ".", "b.png", "[", "~", "\0", "\udcff", "\ud800/*", "a\nb",
     "x" * 300, "ink", "slant", "inkk", "sefa", "pca", "a digit"]
) | st.text(st.characters(exclude_characters="/"), max_size=8)  # fmt: skip
ESCAPES = str.maketrans({'"': r"\"", "\\": "\\\\"})
QUOTED = STRINGS.map(lambda text: f'"{text.translate(ESCAPES)}"')
NUMBERS = st.sampled_from(
    [
        "0",
        "1",
        "2",
        "0.5",
        "7",
        "40",
        "1e-300",
        "1e-9",
        "1e6",
        "1e19",
        "9007199254740991",
        "9" * 320,
    ]
)
CALLED = st.sampled_from(
    ["text", "image", "mean", "attribute", "hold", "axis", "direction", "seed", "bank", "slerp"]
)
LEAVES = st.one_of(NUMBERS, NUMBERS.map("seed({})".format), QUOTED.map("mean({})".format),
                   st.builds("{}({})".format, CALLED, QUOTED),
                   st.builds("axis({}, {})".format, QUOTED, NUMBERS))  # fmt: skip
SPOKEN = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
        st.builds("{} {} {}".format, inner, st.sampled_from("+-*/"), inner),
        st.builds("{}({}, {})".format, CALLED, inner, inner),
        inner.map("seed(7) + {}".format),
    ),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(SPOKEN, st.text(max_size=40)))
@example('seed(7) + mean("a.png") - text("a digit") + hold("ink")')
@example('seed(7) + 1e6 * attribute("ink")')
@example("1e-8 * seed(7)")
def test_any_text_is_answered_or_refused_in_a_line(editor: Editor, expression: str) -> None:
    """By all that reads expressions: as a picture to be made, as a change, and as a feature."""
    for ask in (editor.answer, editor.parse, editor.feature):
        try:
            found = ask(expression)
        except ControlGenError as error:
            assert "\n" not in str(error)
        else:
            assert np.isfinite(found if isinstance(found, np.ndarray) else found.agreement).all()
            if not isinstance(found, np.ndarray):
                assert np.linalg.norm(found.asked) == pytest.approx(1, abs=1e-5)
