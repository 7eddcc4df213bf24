"""Recipes: the same picture byte for byte, from a file or a picture; another model is refused."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from controlgen import Editor
from controlgen.editing import Recipe
from controlgen.editing.expressions.files import sha256_of_bytes
from controlgen.errors import ConfigError, ControlGenError, DataError, Incompatible

ROOT = Path(__file__).parents[2]
EXPRESSION = 'seed(7) + 1.5 * (text("a digit eight") - mean("group/*.png"))'
PLAIN = Recipe(model="map", weights="0" * 12, expression="seed(7)")


@pytest.fixture
def group(line: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures in a folder of the folder that we are in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "group").mkdir()
    for index, plane in enumerate(line.run.train.dataset.open().pixels(np.arange(2))):
        Image.fromarray(plane[0]).save(tmp_path / "group" / f"{index}.png")
    return tmp_path / "group"


def replayed(*arguments: str, cwd: Path) -> None:
    """In a process of its own."""
    code = "from controlgen.cli.app import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, "edit", *arguments]
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_recipe_makes_the_same_bytes_in_another_process(
    controlgen: Callable[..., Any], line: Any, group: Path
) -> None:
    options = ("--steps", 2, "--amount", 0.5, "--residual", "--save-recipe", "made.toml")
    answer = controlgen("edit", line.map_folder, EXPRESSION, *options, "-o", "made.png")
    assert (answer.code, answer.err) == (0, ""), answer
    result = Path("made.png").read_bytes()
    replayed("--recipe", "made.toml", "-o", "from-file.png", cwd=group.parent)
    replayed("--recipe", "made.png", "-o", "from-picture.png", cwd=group.parent)
    assert Path("from-file.png").read_bytes() == Path("from-picture.png").read_bytes() == result
    recipe = Recipe.read(Path("made.toml"))
    assert recipe == Recipe.read(Path("made.png"))
    assert list(recipe.files) == ["group/0.png", "group/1.png"]
    recipe.write(Path("made.json"))
    assert Recipe.read(Path("made.json")) == recipe
    # A recipe can be altered by hand, and then makes another picture.
    altered = recipe.model_copy(update={"amount": 1.0})
    altered.write(Path("altered.toml"))
    answer = controlgen("edit", "--recipe", "altered.toml", "-o", "altered.png")
    assert (answer.code, answer.err) == (0, ""), answer
    assert Path("altered.png").read_bytes() != result


def test_a_recipe_of_before_may_leave_guidance_open_but_not_set_it(tmp_path: Path) -> None:
    old = {**PLAIN.to_dict(), "guidance": None}
    picture, chunks = tmp_path / "old.png", PngInfo()
    chunks.add_text("recipe", json.dumps(old))
    Image.new("L", (2, 2)).save(picture, pnginfo=chunks)
    assert Recipe.read(picture) == PLAIN
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**old, "guidance": 2.0}))
    with pytest.raises(
        ConfigError, match=r"old\.json: guidance: maps no longer support it"
    ) as refused:
        Recipe.read(path)
    assert "\n" not in str(refused.value)


def test_a_recipe_refuses_other_files_and_other_models(
    controlgen: Callable[..., Any], line: Any, group: Path, tmp_path: Path
) -> None:
    weights = Editor.load(line.map_folder).weights
    files = {
        str(path): sha256_of_bytes(path.read_bytes()) for path in (group / "0.png", group / "1.png")
    }
    recipe = PLAIN.model_copy(update={"weights": weights, "files": files})
    recipe.check(weights)
    with pytest.raises(Incompatible, match=f"fingerprint {weights}, but this one has 111"):
        recipe.check("1" * 12)
    (group / "0.png").write_bytes(b"another")
    with pytest.raises(Incompatible, match=r"0\.png: differs from"):
        recipe.check(weights)
    (group / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png: no such file"):
        recipe.check(weights)
    # The same through the command line, where the map is another one.
    recipe.model_copy(update={"files": {}}).write(Path("recipe.toml"))
    folder = line.refitted(tmp_path / "other", seed=5)
    answer = controlgen("edit", folder, "--recipe", "recipe.toml", "-o", "never.png")
    assert (answer.code, answer.out) == (2, "")
    assert "name the model it was made with" in answer.err
    assert not Path("never.png").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.toml", None, "cannot be read"),
        ("none.json", None, "cannot be read"),
        ("none.png", None, "no such file"),
        ("a.toml", "model = ", "not valid TOML"),
        ("a.json", "{", "its recipe is not a JSON object"),
        ("a.json", "[1]", "its recipe is not a JSON object"),
        ("a.json", "[" * 100_000, "its recipe is not a JSON object"),
        ("a.json", "\udcff", "not valid JSON"),
        ("a.png", "no picture", "cannot be read as an image"),
        ("a.toml", "model = 'x'", "weights is missing"),
        ("a.toml", PLAIN.toml() + "stesp = 3", "unknown key stesp"),
        ("a.toml", PLAIN.toml().replace("steps = 6", "steps = 600"), "steps"),
        ("a.toml", PLAIN.toml().replace("1.0", "nan"), "amount"),
        ("a.json", "x" * 1_000_001, "too large"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ControlGenError, match=says) as refused:
        Recipe.read(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_picture_without_a_recipe_says_so(tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "plain.png")
    with pytest.raises(ConfigError, match="holds no recipe"):
        Recipe.read(tmp_path / "plain.png")


TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40
)


@given(TEXT, TEXT, st.floats(-1e9, 1e9), st.one_of(st.none(), st.integers(0, 9)))
def test_any_recipe_reads_back_as_it_was_written(
    text: str, name: str, amount: float, corrections: int | None
) -> None:
    changes = {"expression": text, "amount": amount, "corrections": corrections}
    recipe = PLAIN.model_copy(update={**changes, "files": {name: "0" * 64}})
    assert Recipe.parse(tomllib.loads(recipe.toml())) == recipe
    assert Recipe.parse(json.loads(recipe.json_text())) == recipe
