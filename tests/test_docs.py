"""What the README and the Makefile tell people to type exists, and its options are known."""

import ast
import contextlib
import functools
import itertools
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import controlgen

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SERVED = "http://127.0.0.1:8000"  # where the README's examples find a server
CHAINS = re.compile(r"\s*(?:&&|;|\|\|?)\s*")


def blocks(kind: str) -> list[str]:
    """The fenced blocks of a language in README.md."""
    text = README.read_text() if README.is_file() else ""
    return [body for language, body in BLOCK.findall(text) if language == kind]


def console_commands() -> list[str]:
    """Each command of the README's console blocks on one line: no prompt, comment or output."""
    found = []
    for body in blocks("console"):
        lines = body.replace("\\\n", " ").splitlines()
        prompted = any(line.startswith("$ ") for line in lines)
        for line in lines:
            if line.strip() and not line.startswith("#") and (not prompted or line[:2] == "$ "):
                found.append(line.removeprefix("$ ").strip())
    return found


def makefile_commands() -> list[str]:
    """The recipe lines of the Makefile."""
    lines = (ROOT / "Makefile").read_text().replace("\\\n", " ").splitlines()
    return [line.strip().lstrip("@-") for line in lines if line.startswith("\t")]


def arguments(command: str) -> list[str]:
    """The words of a command without environment assignments and `.venv/bin`."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    if words:
        words[0] = words[0].removeprefix(".venv/bin/").removeprefix("$(BIN)/")
    return words


ALL_LINES = [*console_commands(), *makefile_commands()]
EVERY = [part for line in ALL_LINES for part in CHAINS.split(line) if part]


@functools.cache
def help_of(*command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "TERM": "dumb"}
    ended = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def check_options(words: list[str], told: str) -> None:
    given = {word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
    known = set(re.findall(r"(?<![\w-])-{1,2}[a-z][a-z-]*", told))
    assert given <= known, f"{' '.join(words)}: unknown {given - known}"


def check_configs(words: list[str]) -> None:
    overrides = [after for word, after in itertools.pairwise(words) if word == "--set"]
    for word in words:
        if word.endswith(".toml"):
            load_config(ROOT / word, overrides)


def load_config(path: Path, overrides: list[str]) -> None:
    from controlgen.config import (
        ClipConfig,
        CompareConfig,
        EncoderConfig,
        RunConfig,
        SpacesConfig,
    )

    kinds: dict[str, Any] = {
        "clip": ClipConfig,
        "spaces": SpacesConfig,
        "compare": CompareConfig,
        "encoder": EncoderConfig,
    }
    settings = kinds.get(path.stem.partition("-")[0], RunConfig).load(path, overrides)
    assert settings.name == path.stem


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_config_is_one_and_named_after_its_file(path: Path) -> None:
    load_config(path, [])


@contextlib.contextmanager
def serving(name: str) -> Iterator[str]:
    """The address of a shipped model."""
    from controlgen.serve.api import create_app
    from controlgen.serve.models import open_models
    from served_running import running

    models = open_models([ROOT / "artifacts" / "pretrained" / name], None, 8)
    with running(create_app(models), models[name]) as server:
        yield server.url


@pytest.mark.skipif(not README.is_file(), reason="this tree has no README.md yet")
def test_the_readme_shows_commands_and_python() -> None:
    assert len(console_commands()) >= 2
    assert blocks("python")


@pytest.mark.parametrize("command", [c for c in EVERY if "flows." in c or "controlgen" in c])
def test_our_own_commands_exist_and_know_their_options(command: str) -> None:
    words = arguments(command)
    if words[0] == "controlgen":
        entry = "from controlgen.cli import main; main()"
        name = [words[1]] if len(words) > 1 and not words[1].startswith("-") else []
        check_options(words[1:], help_of("-c", entry, *name))
    elif words[1:2] == ["-m"] and words[2].startswith("flows."):
        check_options(words[3:], help_of("-m", words[2]))
        check_configs(words)
    elif words[0] not in ("grep", "touch"):
        pytest.fail(f"{command}: neither controlgen nor a flow")


@pytest.mark.parametrize("command", [c for c in console_commands() if arguments(c)[:1] == ["make"]])
def test_make_targets_exist(command: str) -> None:
    defined = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    targets = [word for word in arguments(command)[1:] if "=" not in word]
    assert set(targets) <= defined, command


def test_make_promises_the_targets_of_the_house_and_help_lists_them() -> None:
    command = ["make", "--no-print-directory", "help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in told.stdout.splitlines() if line}
    assert {"setup", "demo", "test", "lint", "type", "ui"} <= listed
    ran = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--always-make", *sorted(listed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("path", sorted(ROOT.glob("flows/[a-z]*.py")), ids=lambda path: path.stem)
def test_every_flow_has_a_command_line(path: Path) -> None:
    if path.stem in ("command", "report", "server"):  # what the flows share
        return
    told = help_of("-m", f"flows.{path.stem}") if path.stem == "pipeline" else path.read_text()
    for part in ("--set", "--store", "--dry-run") if path.stem == "pipeline" else ("__main__",):
        assert part in told


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip()[:30])
def test_python_examples_use_names_that_exist(code: str) -> None:
    """Parsed here; run against the shipped model below, where there is one."""
    tree = ast.parse(code)
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "controlgen"
    }
    assert [name for name in used if not hasattr(controlgen, name)] == []


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip()[:30])
def test_python_examples_run(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = re.findall(r"[\"'](artifacts/[\w/-]+)[\"']", code)
    absent = [path for path in wanted if not (ROOT / path / "manifest.json").is_file()]
    if absent:
        pytest.skip(f"this tree holds no {absent[0]}")
    monkeypatch.chdir(ROOT)
    with contextlib.ExitStack() as stack:
        if SERVED in code:
            code = code.replace(SERVED, stack.enter_context(serving("mnist")))
        run(code)


def run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_shipped_folders_are_whole() -> None:
    from controlgen.artifacts import verify

    for manifest in ROOT.glob("artifacts/pretrained/*/manifest.json"):
        assert verify(manifest.parent).files
        text = (manifest.parent / "README.md").read_text()
        assert "## Limits" in text


def test_the_first_expression_does_what_it_says() -> None:
    """The README's bold digit is thicker than where it started, and is to be believed."""
    command = next(one for one in console_commands() if "a bold digit" in one)
    _, model, expression = arguments(command)[1:4]
    edit = controlgen.Editor.load(ROOT / model).answer(expression)
    assert edit.attributes is not None and edit.model is not None
    names, before, after = edit.attributes
    moved = dict(zip(names, edit.model.in_sigmas(after - before)[0], strict=True))
    assert moved["thickness"] > 0.3, moved
    assert edit.agreement[0] > 0.95 and edit.warnings == ("",)


def test_pictures_that_the_readme_shows_exist() -> None:
    if not README.is_file():
        pytest.skip("this tree has no README.md yet")
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README.read_text())
    assert [path for path in shown if "://" not in path and not (ROOT / path).is_file()] == []


def test_every_name_the_library_exports_is_there() -> None:
    for name in controlgen.__all__:
        assert getattr(controlgen, name) is not None
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert controlgen.__version__ == version
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = controlgen.nothing


@pytest.mark.parametrize("text", blocks("toml"), ids=lambda text: text.strip()[:30])
def test_toml_examples_are_valid_settings(text: str) -> None:
    from controlgen.config import RunConfig

    parsed = RunConfig.parse({"name": "example", **tomllib.loads(text)})
    assert parsed.train.dataset.kind == "folder"


@pytest.mark.parametrize("name", ["maps", "numbers", "objectives", "spaces", "tissue"])
def test_the_numbers_are_those_of_the_shipped_reports(name: str) -> None:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    shown = README.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    sections = runpy.run_path(str(ROOT / "benchmarks" / "readme.py"))["sections"]
    assert shown.strip() == sections()[name]
