"""Files of settings: each is valid, and the JSON schemas that editors read say the same."""

import json
import runpy
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from controlgen.config import RunConfig
from documents import DOCUMENTS, ROOT, code_blocks, load_settings

CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
BLOCKS = [block for document in DOCUMENTS for block in code_blocks(document, "toml")]
UPDATE = "run `python docs/generate.py`"


def schema_of(path: Path) -> Any:
    """The schema that the first line of a settings file names."""
    directive, name = path.read_text(encoding="utf-8").splitlines()[0].split()
    assert directive == "#:schema"
    return json.loads((path.parent / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_file_is_valid_and_has_its_own_name(path: Path) -> None:
    assert load_settings(path, []).name == path.stem


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_file_satisfies_the_schema_that_it_names(path: Path) -> None:
    jsonschema.Draft202012Validator(schema_of(path)).validate(tomllib.loads(path.read_text()))


def test_the_schemas_are_those_of_the_code() -> None:
    schemas = runpy.run_path(str(ROOT / "docs" / "generate.py"))["config_schemas"]()
    for name, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        written = json.loads((ROOT / "configs" / name).read_text(encoding="utf-8"))
        assert written == json.loads(json.dumps(schema)), UPDATE
    assert {path.name for path in (ROOT / "configs").glob("*.json")} == set(schemas)


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"warm_up": {"total_images": 5}}, True),
        ({"warm_up": [{"total_images": 5}, {"learning_rate": 1e-3}]}, True),
        ({"warm_up": {"total_imagse": 5}}, False),
        ({"fit": {"map": {"width": 32}}}, True),
        ({"fit": {"map": {"kind": "variational"}}}, False),
        ({"sample": {"n": 1}}, False),
        ({"smaple": {}}, False),
    ],
)
def test_the_schema_accepts_what_the_parser_accepts(change: Any, valid: bool) -> None:
    values = {**tomllib.loads((ROOT / "configs" / "tiny.toml").read_text()), **change}
    if "fit" in change or "sample" in change:
        values.update(fit={"held_out": 16, **change.get("fit", {})})
    validator = jsonschema.Draft202012Validator(schema_of(ROOT / "configs" / "tiny.toml"))
    assert validator.is_valid(values) is valid
    if valid:
        RunConfig.parse(values)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip()[:30])
def test_blocks_in_the_documents_are_valid(block: str) -> None:
    parsed = RunConfig.parse({"name": "example", **tomllib.loads(block)})
    assert parsed.train.dataset.kind == "folder"
