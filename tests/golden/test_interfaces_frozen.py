"""Interfaces: HTTP, command line, settings, public names, and the keys of random streams."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import controlgen
from controlgen.cli.app import app
from controlgen.config import (
    ClipConfig,
    CompareConfig,
    EncoderConfig,
    RunConfig,
    SpacesConfig,
)
from golden import FOLDER, check_golden, without_words

ROOT = Path(__file__).parents[2]
CONFIGS = (RunConfig, CompareConfig, SpacesConfig, ClipConfig, EncoderConfig)
DRAWS = ("stream", "torch_stream", "normals", "key")  # of controlgen.rng; each takes a purpose


def test_the_http_interface_differs_in_words_only(line: Any) -> None:
    from controlgen import Editor
    from controlgen.serve.app import create_app
    from controlgen.serve.registry import ServedModel

    served = ServedModel("tiny", Editor.load(line.map_folder), "# A card", 4)
    check_golden("openapi.json", without_words(create_app({"tiny": served}).openapi()))


def test_the_settings_are_the_same() -> None:
    check_golden(
        "settings.json",
        {config.__name__: without_words(config.model_json_schema()) for config in CONFIGS},
    )


def test_the_command_line_is_the_same() -> None:
    group: Any = typer.main.get_command(app)
    commands = {}
    for name, command in sorted(group.commands.items()):
        commands[name] = [
            {
                "kind": parameter.param_type_name,
                "names": [*parameter.opts, *parameter.secondary_opts],
                **{key: getattr(parameter, key, None) for key in ("min", "max", "multiple")},
                "required": parameter.required,
                "default": str(parameter.default),
            }
            for parameter in command.params
        ]
    check_golden("commands.json", commands)


def members(owner: type) -> set[str]:
    return {*dir(owner), *getattr(owner, "__dataclass_fields__", {})}


def test_public_names_and_their_methods_are_there() -> None:
    """New names may come; none of these may go."""
    frozen = json.loads((FOLDER / "public.json").read_text())
    missing = {
        name: sorted(set(methods) - members(getattr(controlgen, name)))
        for name, methods in frozen.items()
    }
    assert missing == {name: [] for name in frozen}


def templates(node: ast.AST) -> Iterator[str]:
    """Every string of a tree, f-strings with {} for what they compute."""
    inside = set()
    for part in ast.walk(node):
        if isinstance(part, ast.JoinedStr):
            inside |= {id(value) for value in part.values}
            yield "".join(
                str(value.value) if isinstance(value, ast.Constant) else "{}"
                for value in part.values
            )
        elif (
            isinstance(part, ast.Constant)
            and isinstance(part.value, str)
            and id(part) not in inside
        ):
            yield part.value


def purposes(tree: ast.AST) -> Iterator[str]:
    """The purposes that are written where a random stream is asked for."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        if called in DRAWS and len(node.args) >= 2:
            text = next(templates(node.args[1]), None)
            if text is not None:
                yield text


@pytest.fixture(scope="module")
def trees() -> list[ast.AST]:
    paths = [*ROOT.glob("controlgen/**/*.py"), *ROOT.glob("flows/*.py")]
    return [ast.parse(path.read_text(encoding="utf-8")) for path in paths]


def test_the_purposes_of_random_streams_are_keys(trees: list[ast.AST]) -> None:
    """A purpose that is reworded draws other numbers: every recipe and fingerprint would lie."""
    written = sorted({text for tree in trees for text in purposes(tree)})
    check_golden("purposes.json", written)


# Purposes that reach a stream through a name or a parameter.
CONSTANT_PURPOSES = (
    "samples", "answers", "image source", "quality samples", "memorisation", "glyphs", "tissue",
    "nearest", "{}, draw {}",
)  # fmt: skip


def test_purposes_that_stand_in_constants_are_the_same(trees: list[ast.AST]) -> None:
    strings = {text for tree in trees for text in templates(tree)}
    assert [text for text in CONSTANT_PURPOSES if text not in strings] == []
