"""Recipes: the same image byte for byte, from a file or a PNG; other models are refused."""

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
    """Two images in a folder of the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "group").mkdir()
    for index, plane in enumerate(line.run.train.dataset.open().pixels(np.arange(2))):
        Image.fromarray(plane[0]).save(tmp_path / "group" / f"{index}.png")
    return tmp_path / "group"


def run_in_process(*arguments: str, cwd: Path) -> None:
    """Run `controlgen edit` in a new process."""
    code = "from controlgen.cli.app import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, "edit", *arguments]
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_recipe_reproduces_the_bytes_in_another_process(
    controlgen: Callable[..., Any], line: Any, group: Path
) -> None:
    options = ("--steps", 2, "--amount", 0.5, "--residual", "--save-recipe", "made.toml")
    answer = controlgen("edit", line.map_folder, EXPRESSION, *options, "-o", "made.png")
    assert (answer.code, answer.err) == (0, ""), answer
    result = Path("made.png").read_bytes()
    run_in_process("--recipe", "made.toml", "-o", "from-file.png", cwd=group.parent)
    run_in_process("--recipe", "made.png", "-o", "from-picture.png", cwd=group.parent)
    assert Path("from-file.png").read_bytes() == Path("from-picture.png").read_bytes() == result
    recipe = Recipe.read(Path("made.toml"))
    assert recipe == Recipe.read(Path("made.png"))
    assert list(recipe.files) == ["group/0.png", "group/1.png"]
    recipe.write(Path("made.json"))
    assert Recipe.read(Path("made.json")) == recipe
    # An edited recipe gives another image.
    altered = recipe.model_copy(update={"amount": 1.0})
    altered.write(Path("altered.toml"))
    answer = controlgen("edit", "--recipe", "altered.toml", "-o", "altered.png")
    assert (answer.code, answer.err) == (0, ""), answer
    assert Path("altered.png").read_bytes() != result


def test_an_older_recipe_may_have_guidance_null_but_not_set(tmp_path: Path) -> None:
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
    # The command line with another map.
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
def test_an_invalid_recipe_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ControlGenError, match=says) as refused:
        Recipe.read(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_an_image_without_a_recipe_is_refused(tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "plain.png")
    with pytest.raises(ConfigError, match="holds no recipe"):
        Recipe.read(tmp_path / "plain.png")


TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40
)


@given(TEXT, TEXT, st.floats(-1e9, 1e9), st.one_of(st.none(), st.integers(0, 9)))
def test_any_recipe_is_read_back_as_written(
    text: str, name: str, amount: float, corrections: int | None
) -> None:
    changes = {"expression": text, "amount": amount, "corrections": corrections}
    recipe = PLAIN.model_copy(update={**changes, "files": {name: "0" * 64}})
    assert Recipe.parse(tomllib.loads(recipe.toml())) == recipe
    assert Recipe.parse(json.loads(recipe.json_text())) == recipe
