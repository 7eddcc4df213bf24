"""The command line and flows: listing, checks, and one-line errors."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from command_lines import TO_EIGHT, assert_rejected
from controlgen import __version__, stages
from controlgen.artifacts import ArtifactRef, Store

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "configs" / "tiny.toml")


@pytest.fixture
def damaged(line: Any, tmp_path: Path) -> Path:
    """A store in which one byte of the map's weights is flipped."""
    shutil.copytree(line.store.root, tmp_path / "damaged")
    path = Store(tmp_path / "damaged").path(line.map) / "map.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    return tmp_path / "damaged"


def test_version_is_printed(controlgen: Callable[..., Any]) -> None:
    answer = controlgen("--version")
    assert (answer.code, answer.out, answer.err) == (0, f"controlgen {__version__}\n", "")


def test_list_names_every_artifact(controlgen: Callable[..., Any], line: Any) -> None:
    answer = controlgen("list", "--store", line.store.root)
    assert answer.code == 0
    for ref in line.store.refs():
        assert str(ref) in answer.out
    assert f"gan {line.gan}" in answer.out
    assert answer.err == ""


def test_list_does_not_wrap_names_on_a_narrow_terminal(
    controlgen: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users copy names from here into `show`."""
    monkeypatch.setenv("COLUMNS", "80")
    store, parent = Store(tmp_path), ArtifactRef("gan", f"compare-mnist-{'hinge-' * 4}{'0' * 12}")
    names = [ArtifactRef("map", f"{'long-' * 8}{at}-{'1' * 12}") for at in range(2)]
    for ref in names:
        assert len(ref.name) > 40
        with store.create(ref, {"gan": parent, "bank": parent, "features": parent}):
            pass
    answer = controlgen("list", "--store", tmp_path)
    lines = answer.out.splitlines()
    assert [text.split()[0] for text in lines] == ["artifact", *map(str, names)]
    assert all(text.count(str(parent)) == 3 for text in lines[1:])


def test_list_of_an_empty_store_suggests_make_demo(
    controlgen: Callable[..., Any], tmp_path: Path
) -> None:
    assert_rejected(controlgen("list", "--store", tmp_path / "none"), "make demo")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("form", ["kind/name", "name", "path"])
def test_show_prints_manifest_and_card(
    controlgen: Callable[..., Any], line: Any, form: str
) -> None:
    names = {"kind/name": line.map, "name": line.map.name, "path": line.map_folder}
    answer = controlgen("show", names[form], "--store", line.store.root)
    assert answer.code == 0
    assert f"from gan {line.gan}" in answer.out
    assert "generator.safetensors" in answer.out
    assert f"# Map {line.map.name}" in answer.out


def test_check_verifies_one_artifact_or_all(controlgen: Callable[..., Any], line: Any) -> None:
    answer = controlgen("check", line.map, "--store", line.store.root)
    assert answer.code == 0
    assert "all intact" in answer.out
    answer = controlgen("check", "--store", line.store.root)
    assert answer.out.count("all intact") == len(line.store.refs())


def test_check_detects_a_flipped_byte(
    controlgen: Callable[..., Any], damaged: Path, line: Any
) -> None:
    assert_rejected(controlgen("check", line.map, "--store", damaged), "map.safetensors: differs")
    answer = controlgen("check", "--store", damaged)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert answer.out.count("all intact") == len(line.store.refs()) - 1


@pytest.fixture(scope="module")
def other_gan(line: Any) -> Any:
    shorter = line.run.train.model_copy(update={"total_images": 32})
    store = Store(line.store.root.parent / "other")
    return store.path(stages.train_gan("other", shorter, store))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"map": "map/nothing-123"}, "map/nothing-123: no such artifact"),
        ({"map": "artifacts/pretrained/nothing"}, "no such artifact"),
        ({"map": "GAN"}, "not a map"),
        ({"--image": "missing.png"}, "missing.png: no such file"),
        ({"--image": "text.png"}, "text.png: text, not an image"),
        ({"--add": 'text("")'}, "expression, column 6: text needs text that is not blank"),
        ({"--add": 'text("  ") - text("a")'}, "column 6: text needs text that is not blank"),
        ({"--add": ""}, "column 1: expected a number, a name or (, not the end"),
        ({"--add": "eight"}, "column 6: expected ( after eight"),
        ({"--add": 'tex("a")'}, "column 1: unknown name 'tex', did you mean 'text'?"),
        (
            {"--add": "__import__('os').system('touch owned')"},
            '17: unexpected character "."',
        ),
        ({"--add": 'text("a") * text("b")'}, "column 11: * needs a number on at least one side"),
        ({"--add": "(" * 3000}, "more than 40 nested levels"),
        ({"--add": "(" * 5000}, "5000 characters; use at most"),
        ({"--add": "bank(99999)"}, "there is no item 99999"),
        ({"expression": "seed(1)"}, "give an expression, as in"),
        ({"--recipe": "text.png"}, "--recipe defines the whole edit; leave --add out"),
        ({"--save-recipe": "recipe.txt"}, "ends in .toml or .json"),
        ({"--save-recipe": "nowhere/recipe.toml"}, "the folder nowhere does not exist"),
        ({"--add": 'image("text.png")'}, "text, not an image"),
        ({"-o": "edit.jpg"}, "name a file that ends in .png"),
        ({"-o": "folder.png"}, "name a file that ends in .png"),
        ({"-o": "nowhere/edit.png"}, "the folder nowhere does not exist"),
        ({"--generator": "OTHER"}, "was fitted to another generator"),
        ({"--generator": "gan/nothing-1"}, "no such artifact"),
        ({"--amount": "nan"}, "must be a finite number"),
        ({"--amount": "1e39"}, "must be a finite number"),
        ({"--seed": "3", "--image": "text.png"}, "only one of them"),
        ({"--hold": "ink"}, "no measured attributes"),
        ({"--add": 'attribute("ink")'}, "no measured attributes"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_edit_mistake_prints_one_line_exits_2_and_writes_nothing(
    controlgen: Callable[..., Any],
    line: Any,
    other_gan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    placeholders = {"GAN": str(line.gan), "OTHER": str(other_gan)}
    given = {"map": str(line.map), "--add": TO_EIGHT, "-o": "edit.png"}
    given |= {key: placeholders.get(value, value) for key, value in arguments.items()}
    positional = [given.pop("map"), *([given.pop("expression")] if "expression" in given else [])]
    command = [*positional, *(part for pair in given.items() for part in pair)]
    assert_rejected(controlgen("edit", "--store", line.store.root, *command), message)
    assert sorted(tmp_path.rglob("*")) == before


def test_damaged_map_is_rejected(
    controlgen: Callable[..., Any], damaged: Path, line: Any, tmp_path: Path
) -> None:
    answer = controlgen(
        "edit", line.map, "--store", damaged, "--add", TO_EIGHT, "-o", tmp_path / "a.png"
    )
    assert_rejected(answer, "map.safetensors: differs from its SHA-256")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("command", ["show", "check"])
@pytest.mark.parametrize("name", ["gan/nothing-1", "nothing", "../../etc", "/"])
def test_missing_artifact_prints_one_line(
    controlgen: Callable[..., Any], line: Any, command: str, name: str
) -> None:
    assert_rejected(controlgen(command, name, "--store", line.store.root), "no such artifact")


def process(*command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_process_prints_one_line_without_a_traceback(tmp_path: Path) -> None:
    """Each command line once as a real process."""
    completed = process("-m", "flows.pipeline", TINY, "--set", "train.gama=1", cwd=tmp_path)
    assert (completed.returncode, completed.stdout) == (2, "")
    assert completed.stderr == f"ConfigError: {TINY}: unknown key train.gama\n"
    code = "from controlgen.cli.app import main; main()"
    completed = process("-c", code, "show", "gan/none-1", cwd=tmp_path)
    assert (completed.returncode, completed.stdout) == (2, "")
    assert completed.stderr.startswith("controlgen: gan/none-1: no such artifact")
    assert completed.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def pipeline(command_line: Callable[..., Any]) -> Callable[..., Any]:
    """Runs `python -m flows.pipeline ...` in this process."""
    pytest.importorskip("prefect")
    from flows.cli import run_with_export
    from flows.pipeline import main

    return partial(command_line, partial(run_with_export, main), "flows.pipeline")


@pytest.mark.parametrize(
    ("config", "override", "message"),
    [
        (
            "name = 'x'\n[train]\ndataset = {kind = 'digits'}\nbatchsize = 3",
            None,
            "train.batchsize",
        ),
        ("name = 'x'\n[trian]\n", None, "unknown key trian"),
        ("name = 'x'", None, "train is missing"),
        ("name = 'x", None, "not valid TOML"),
        ("name = '../x'\n[train]\ndataset = {kind = 'digits'}", None, "name: "),
        (None, "train.objective.gama=0.5", "unknown key train.objective.r3gan.gama"),
        (None, "sample.n=few", "sample.n"),
        (None, "sample.n=-5", "sample.n"),
        (None, "sample", "write it as section.key=value"),
        (None, "name.x=1", "name is a value, not a section"),
        (None, "train.dataset.kind=mnits", "train.dataset"),
        (None, "fit.held_out=201", "leaves less than half of sample.n = 400"),
        (None, "train.learning_rate.start=nan", "learning_rate"),
        ("MISSING", None, "cannot be read"),
    ],
    ids=str,
)
def test_config_mistake_prints_one_line_and_creates_no_store(
    pipeline: Callable[..., Any],
    tmp_path: Path,
    config: str | None,
    override: str | None,
    message: str,
) -> None:
    path = tmp_path / "run.toml"
    if config != "MISSING":
        path.write_text(Path(TINY).read_text() if config is None else config)
    store = tmp_path / "store"
    text = pipeline(path, *(["--set", override] if override else []), "--store", store)
    assert text.code == 2
    assert text.out == ""
    assert message in text.err
    assert text.err.startswith("ConfigError: ")
    assert text.err.count("\n") == 1
    assert not store.exists()


def test_dry_run_prints_the_config_and_writes_nothing(
    pipeline: Callable[..., Any], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    text = pipeline(TINY, "--set", "train.objective.gamma=0.25", "--store", store, "--dry-run")
    assert (text.code, text.err) == (0, "")
    displayed = json.loads(text.out)
    assert displayed["name"] == "tiny"
    assert displayed["train"]["objective"]["gamma"] == {"start": 0.25, "end": 0.25}
    assert displayed["train"]["precision"] == "auto"  # a default that the file does not mention
    assert displayed["sample"]["n"] == 400
    assert list(tmp_path.iterdir()) == []
