"""Every picture of the command line holds the command that reproduces it, byte for byte."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from command_lines import TO_EIGHT
from controlgen.editing import Editor
from controlgen.images import write_png
from controlgen.utils.files import reproduction_command


@pytest.fixture
def photographs(line: Any, tmp_path: Path) -> Path:
    """A folder of two images, with a name that needs shell quoting."""
    folder = tmp_path / "real ones; two"
    folder.mkdir()
    for at, pixels in enumerate(Editor.load(line.map_folder).sample(2, 11).pixels):
        write_png(folder / f"{at}.png", pixels[None], {})
    return folder


def command_words(kind: str, line: Any, photographs: Path) -> list[object]:
    """The words of a command, without -o."""
    options: dict[str, list[object]] = {
        "sheet": [
            "sheet",
            "--add",
            TO_EIGHT,
            "--amounts=-1,0.5",
            "--n",
            3,
            "--seed",
            7,
            "--residual",
        ],
        "sheet of images": ["sheet", "--add", TO_EIGHT, "--images", photographs],
        "sheet with tiles": [
            "sheet",
            "--add",
            TO_EIGHT,
            "--tiles",
            photographs,
            "--refine",
            1,
        ],
        "nearest": ["nearest", "seed(7) + 0.5 * (" + TO_EIGHT + ")", "--n", 3, "--among", 40],
        "axes": ["axes", "--family", "pca", "--n", 2, "--seed", 3],
        "project": ["project", photographs],
    }
    verb, *rest = options[kind]
    return [verb, line.map_folder, *rest]


@pytest.mark.parametrize(
    "kind", ["sheet", "sheet of images", "sheet with tiles", "nearest", "axes", "project"]
)
def test_command_in_a_picture_reproduces_it(
    kind: str, controlgen: Callable[..., Any], line: Any, photographs: Path, tmp_path: Path
) -> None:
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    answer = controlgen(*command_words(kind, line, photographs), "-o", first)
    assert answer.code == 0, answer.err
    with Image.open(first) as opened:
        text = dict(opened.text)  # type: ignore[attr-defined]
    assert text["weights"] == Editor.load(line.map_folder).weights
    program, *words = shlex.split(text["recipe"])
    assert program == "controlgen"
    assert controlgen(*words, "-o", again).code == 0
    assert again.read_bytes() == first.read_bytes()

    # As an edit's recipe it is rejected, with the command to run.
    answer = controlgen("edit", "--recipe", first, "-o", tmp_path / "edit.png")
    assert answer.code == 2
    assert answer.err.strip().endswith(
        f"first.png: is not an edit; make it again with: {text['recipe']} -o FILE"
    )
    assert not (tmp_path / "edit.png").exists()


def test_command_is_quoted_and_omits_defaults() -> None:
    result = reproduction_command(
        "sheet", Path("a b"), add="x - 'y'", seed=0, hold="", tiles=None, residual=True
    )
    assert shlex.split(result) == [
        "controlgen",
        "sheet",
        "a b",
        "--add=x - 'y'",
        "--seed=0",
        "--residual",
    ]
    assert reproduction_command("nearest", "m", plain=False) == "controlgen nearest m"
