"""README.md is short, and what it says of its examples and of the models is true."""

import re
import runpy
from typing import Any

import pytest

import controlgen
from documents import README, ROOT, console_commands, split_words


def text() -> str:
    return README.read_text(encoding="utf-8")


def expression_of(command: str) -> tuple[str, str]:
    """The model and the expression of an `edit` command."""
    words = split_words(command)
    if "--add" in words:
        seed, direction = words[words.index("--seed") + 1], words[words.index("--add") + 1]
        return words[2], f"seed({seed}) + ({direction})"
    return words[2], words[3]


def test_it_has_at_most_250_lines() -> None:
    assert len(text().splitlines()) <= 250


def test_the_first_edits_come_before_the_demo() -> None:
    commands = [command.replace(".venv/bin/", "") for command in console_commands(README)]
    assert commands[0] == "make setup"
    assert commands[1].startswith("controlgen edit")
    assert commands.index("make demo") > 1


def test_the_bold_digit_is_bolder_and_reliable() -> None:
    command = next(command for command in console_commands(README) if "a bold digit" in command)
    model, expression = expression_of(command)
    edit = controlgen.Editor.load(ROOT / model).apply(expression)
    assert edit.attributes is not None and edit.model is not None
    names, before, after = edit.attributes
    sigmas: Any = (after - before)[0] / edit.model.spread
    assert dict(zip(names, sigmas, strict=True))["thickness"] > 0.3
    assert edit.target_similarity[0] > 0.95 and edit.warnings == ("",)


def test_the_figures_beside_the_first_edits_are_theirs() -> None:
    commands = [c for c in console_commands(README) if "controlgen edit" in c][:2]
    edits = []
    for command in commands:
        model, expression = expression_of(command)
        edits.append(controlgen.Editor.load(ROOT / model).apply(expression))
    agreements = " and ".join(f"{edit.agreement[0]:.2f}" for edit in edits)
    confidences = " and ".join(f"{float(edit.reachability[0]):.2f}" for edit in edits)  # type: ignore[index]
    flat = " ".join(text().split())
    assert agreements in flat and f"({confidences})" in flat
    assert "lies outside" in edits[0].warnings[0]


def test_the_table_is_that_of_the_shipped_reports() -> None:
    results = runpy.run_path(str(ROOT / "benchmarks" / "results.py"))
    table = text().partition(results["BEGIN"])[2].partition(results["END"])[0]
    assert table.strip() == results["summary"]()
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 8 and "**missed**" in table


@pytest.mark.parametrize("word", ["reachability", "likeness", "believed", "so many"])
def test_coined_words_stay_out(word: str) -> None:
    """Concepts defines them where settings or fields are called so."""
    assert not re.search(rf"\b{word}\b", text())
