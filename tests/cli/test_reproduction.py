"""Every picture of the command line tells the command that makes it again, byte for byte."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from controlgen.editing import Editor
from controlgen.images import write_png
from controlgen.utils.files import reproduction_command

EIGHT = 'text("a digit eight")-text("a digit three")'


@pytest.fixture
def photographs(line: Any, tmp_path: Path) -> Path:
    """A folder of two images, whose name a shell would part."""
    folder = tmp_path / "real ones; two"
    folder.mkdir()
    for at, pixels in enumerate(Editor.load(line.map_folder).sample(2, 11).pixels):
        write_png(folder / f"{at}.png", pixels[None], {})
    return folder


def asked(kind: str, line: Any, photographs: Path) -> list[object]:
    """The words of a command, without -o."""
    given: dict[str, list[object]] = {
        "sheet": ["sheet", "--add", EIGHT, "--amounts=-1,0.5", "--n", 3, "--seed", 7, "--residual"],
        "sheet of images": ["sheet", "--add", EIGHT, "--images", photographs],
        "sheet with tiles": ["sheet", "--add", EIGHT, "--tiles", photographs, "--refine", 1],
        "nearest": ["nearest", "seed(7) + 0.5 * (" + EIGHT + ")", "--n", 3, "--among", 40],
        "axes": ["axes", "--family", "pca", "--n", 2, "--seed", 3],
        "project": ["project", photographs],
    }
    verb, *rest = given[kind]
    return [verb, line.map_folder, *rest]


@pytest.mark.parametrize(
    "kind", ["sheet", "sheet of images", "sheet with tiles", "nearest", "axes", "project"]
)
def test_the_command_inside_a_picture_makes_it_again(
    kind: str, controlgen: Callable[..., Any], line: Any, photographs: Path, tmp_path: Path
) -> None:
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    answer = controlgen(*asked(kind, line, photographs), "-o", first)
    assert answer.code == 0, answer.err
    with Image.open(first) as opened:
        text = dict(opened.text)  # type: ignore[attr-defined]
    assert text["weights"] == Editor.load(line.map_folder).weights
    program, *words = shlex.split(text["recipe"])
    assert program == "controlgen"
    assert controlgen(*words, "-o", again).code == 0
    assert again.read_bytes() == first.read_bytes()

    # As an edit's recipe it is refused, with the command to be run.
    answer = controlgen("edit", "--recipe", first, "-o", tmp_path / "edit.png")
    assert answer.code == 2
    assert answer.err.strip().endswith(
        f"first.png: is no edit; what made it was: {text['recipe']} -o FILE"
    )
    assert not (tmp_path / "edit.png").exists()


def test_a_command_is_quoted_and_leaves_out_what_was_not_said() -> None:
    made = reproduction_command(
        "sheet", Path("a b"), add="x - 'y'", seed=0, hold="", tiles=None, residual=True
    )
    assert shlex.split(made) == [
        "controlgen",
        "sheet",
        "a b",
        "--add=x - 'y'",
        "--seed=0",
        "--residual",
    ]
    assert reproduction_command("nearest", "m", plain=False) == "controlgen nearest m"
