"""Every command in the documents and in the Makefile exists and takes its options."""

import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from controlgen.cli.app import app
from documents import (
    DOCUMENTS,
    README,
    ROOT,
    all_commands,
    command_help,
    console_commands,
    load_settings,
    split_words,
)

OWN = [command for command in all_commands() if "flows." in command or "controlgen" in command]
MAKE = [command for command in all_commands() if split_words(command)[:1] == ["make"]]
SHARED = ("cli", "command", "prefect_ui", "report", "server")  # modules of flows that run nothing


def check_cli(words: list[str]) -> None:
    """Parse the arguments of `controlgen NAME ...` as its command does."""
    group: Any = typer.main.get_command(app)
    name, *arguments = words
    assert name in group.commands, f"controlgen {name}: no such command"
    group.commands[name].make_context(name, arguments)


def check_flow(words: list[str]) -> None:
    """Check the options and the settings of `python -m flows.NAME ...`."""
    given = {word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
    options = re.findall(r"(?<![\w-])-{1,2}[a-z][a-z-]*", command_help("-m", words[0]))
    assert given <= set(options), f"{' '.join(words)}: unknown {given - set(options)}"
    overrides = [after for word, after in itertools.pairwise(words) if word == "--set"]
    for word in words:
        if word.endswith(".toml"):
            load_settings(ROOT / word, overrides)


@pytest.mark.parametrize("command", OWN)
def test_own_commands_exist_and_take_their_options(command: str) -> None:
    words = split_words(command)
    if words[0] == "controlgen":
        check_cli(words[1:])
    elif words[1:2] == ["-m"] and words[2].startswith("flows."):
        check_flow(words[2:])
    elif words[0] not in ("grep", "touch", "curl") and "pytest" not in words:
        pytest.fail(f"{command}: neither controlgen nor a flow")


def test_the_installed_entry_point_lists_the_commands() -> None:
    listed = command_help("-c", "from controlgen.cli.app import main; main()")
    group: Any = typer.main.get_command(app)
    assert [name for name in group.commands if name not in listed] == []


def test_every_document_has_its_commands_checked() -> None:
    assert len(console_commands(README)) >= 2
    assert {path.stem for path in DOCUMENTS} >= {"README", "quickstart", "training", "histology"}


@pytest.mark.parametrize("command", MAKE)
def test_make_targets_exist(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    defined = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    targets = [word for word in split_words(command)[1:] if "=" not in word]
    assert set(targets) <= defined, command


def test_make_help_lists_the_targets_and_every_recipe_can_be_printed() -> None:
    command = ["make", "--no-print-directory", "help"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = {line.split()[0] for line in printed.splitlines() if line}
    assert {"setup", "demo", "test", "lint", "type", "docs", "ui"} <= listed
    process = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--always-make", *sorted(listed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("path", sorted(ROOT.glob("flows/[a-z]*.py")), ids=lambda path: path.stem)
def test_every_flow_has_a_command_line(path: Path) -> None:
    if path.stem in SHARED:
        return
    if path.stem == "pipeline":
        text = command_help("-m", "flows.pipeline")
        assert [part for part in ("--set", "--store", "--dry-run") if part not in text] == []
    else:
        assert "__main__" in path.read_text(encoding="utf-8")
