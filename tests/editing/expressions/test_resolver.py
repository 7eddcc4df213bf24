"""Expressions resolved by a tiny model in a folder with one image: results and errors."""

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
from controlgen.editing.feature_math import MAX_MAGNITUDE
from controlgen.errors import ConfigError, ControlGenError, DataError

DIFFERENCE = 'text("a digit eight") - text("a digit three")'


@pytest.fixture(scope="module")
def editor(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Editor:
    """The tiny run's editor, fitted again with measured attributes."""
    root = tmp_path_factory.mktemp("measured") / "store"
    return Editor.load(line.refitted(root, attributes={"kind": "strokes"}))


@pytest.fixture(scope="module", autouse=True)
def folder(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory of all tests here: a folder with one image, a.png."""
    path = tmp_path_factory.mktemp("folder")
    plane = line.run.train.dataset.open().pixels(np.arange(1))[0, 0]
    Image.fromarray(plane).save(path / "a.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield path


@pytest.mark.parametrize(
    ("expression", "column", "message"),
    [
        ('mean("")', 6, "mean needs text that is not blank"),
        ('seed(7) + mean("a.png", " \t")', 25, "mean needs text that is not blank"),
        ('seed(7) + attribute("inkk")', 21, "unknown attribute 'inkk', did you mean 'ink'?"),
        ('seed(7) + attribute("size")', 21, "unknown attribute 'size'; choose from height, ink"),
        ('seed(7) + hold("inkk")', 16, "unknown attribute 'inkk', did you mean 'ink'?"),
        ('attribute("ink") + seed(7) + hold("slant", "inkk")', 44, "unknown attribute 'inkk'"),
        ('seed(7) + axis("sefb", 1)', 16, "unknown axis 'sefb', did you mean 'sefa'?"),
        ('seed(7) + text("\udcff")', 11, r"text '\udcff': is not valid UTF-8"),
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
def test_errors_have_columns(editor: Editor, expression: str, column: int, message: str) -> None:
    huge = np.full(editor.space.size, 1e30, np.float32)
    metadata = {"name": "huge", "made_by": "hand", "space": editor.space.fingerprint}
    save_direction("huge.safetensors", huge, share_inside=1, **metadata)
    for method in (
        editor.resolve,
        editor.direction_from_expression,
        editor.feature_from_expression,
    ):
        with pytest.raises(ControlGenError) as error:
            method(expression)
        assert str(error.value).startswith(f"expression, column {column}: {message}")
        assert "\n" not in str(error.value)


def test_large_numbers_are_valid_where_they_scale_nothing(editor: Editor) -> None:
    """A seed is a name; its size is not limited."""
    resolved = editor.resolve(f"seed(9007199254740991) + {MAX_MAGNITUDE:.0f} * ({DIFFERENCE})")
    assert resolved.start == "9007199254740991"
    assert 0 < resolved.share <= 1
    edit = editor.apply(resolved)
    assert np.isfinite(edit.target_similarity).all()
    np.testing.assert_allclose(np.linalg.norm(edit.target_features, axis=1), 1, atol=1e-5)


def test_errors_in_hold_argument_have_no_column(editor: Editor) -> None:
    with pytest.raises(ConfigError, match="^attribute 'inkk': there is"):
        editor.resolve('seed(7) + attribute("ink")', hold="inkk")


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
def test_balanced_sum_is_a_direction_despite_a_start_point(editor: Editor, expression: str) -> None:
    for method in (editor.resolve, editor.apply, editor.feature_from_expression):
        with pytest.raises(ConfigError, match="a direction, not an image, .* add a start"):
            method(expression)
    # It is still a valid direction and can be added to an image.
    assert editor.direction_from_expression(expression).any()
    assert editor.resolve(f"seed(9) + seed(7) + {expression}").start == "9"


def test_cli_start_option_turns_a_direction_into_an_image(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path
) -> None:
    command = ("edit", line.map_folder, "-o", tmp_path / "edit.png")
    result = controlgen(*command, "--seed", 7, "--add", "seed(8)-seed(9)", "--steps", 1)
    assert (result.code, result.err) == (0, "")
    for expression in ("seed(7) - seed(8)", f'seed(7) - mean("{"x" * 300}")'):
        result = controlgen(*command[:2], expression, "-o", tmp_path / "none.png")
        assert (result.code, result.err.count("\n")) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["edit.png"]


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/*.png", "\0", "\ud800/*", "*/" * 1_500])
def test_invalid_pattern_raises_data_error(name: str) -> None:
    with pytest.raises(DataError):
        LocalFiles().glob(name)


def test_unreadable_folder_raises_data_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def deny(folder: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", deny)
    with pytest.raises(DataError, match=r"\.: cannot be searched \(Permission denied\)"):
        LocalFiles().glob(".")


def test_search_stops_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []

    def endless(pattern: str, recursive: bool) -> Iterator[str]:
        while True:
            searched.append(pattern)
            yield "a.png"

    monkeypatch.setattr(files, "MAX_MATCHES", 5)
    monkeypatch.setattr(files.glob, "iglob", endless)
    with pytest.raises(DataError, match="matches more than 5 images"):
        LocalFiles().glob("/**/*.png")
    assert len(searched) == 6


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
NAMES = st.sampled_from(
    ["text", "image", "mean", "attribute", "hold", "axis", "direction", "seed", "bank", "slerp"]
)
LEAVES = st.one_of(NUMBERS, NUMBERS.map("seed({})".format), QUOTED.map("mean({})".format),
                   st.builds("{}({})".format, NAMES, QUOTED),
                   st.builds("axis({}, {})".format, QUOTED, NUMBERS))  # fmt: skip
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
        st.builds("{} {} {}".format, inner, st.sampled_from("+-*/"), inner),
        st.builds("{}({}, {})".format, NAMES, inner, inner),
        inner.map("seed(7) + {}".format),
    ),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(EXPRESSIONS, st.text(max_size=40)))
@example('seed(7) + mean("a.png") - text("a digit") + hold("ink")')
@example('seed(7) + 1e6 * attribute("ink")')
@example("1e-8 * seed(7)")
def test_any_text_is_evaluated_or_rejected(editor: Editor, expression: str) -> None:
    """As an edit, a direction and a feature."""
    for method in (editor.apply, editor.direction_from_expression, editor.feature_from_expression):
        try:
            result = method(expression)
        except ControlGenError as error:
            assert "\n" not in str(error)
        else:
            assert np.isfinite(
                result if isinstance(result, np.ndarray) else result.target_similarity
            ).all()
            if not isinstance(result, np.ndarray):
                assert np.linalg.norm(result.target_features) == pytest.approx(1, abs=1e-5)
