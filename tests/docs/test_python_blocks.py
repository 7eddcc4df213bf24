"""The Python in the documents runs, against the shipped models and a server of them."""

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import controlgen
from documents import DOCUMENTS, README, ROOT, code_blocks

SERVER = "http://127.0.0.1:8000"  # where the examples expect a server
WITH_PYTHON = [document for document in DOCUMENTS if code_blocks(document, "python")]


@contextmanager
def serving(name: str) -> Iterator[str]:
    """The address of a server of a shipped model."""
    from controlgen.serve.app import create_app
    from controlgen.serve.registry import open_models
    from running_server import run_server

    models = open_models([ROOT / "artifacts" / "pretrained" / name], None, 8)
    with run_server(create_app(models), models[name]) as server:
        yield server.url


def test_the_readme_has_python() -> None:
    assert README in WITH_PYTHON


@pytest.mark.parametrize("document", WITH_PYTHON, ids=lambda path: path.stem)
def test_names_of_the_library_exist(document: Path) -> None:
    attributes = {
        node.attr
        for code in code_blocks(document, "python")
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "controlgen"
    }
    assert [name for name in attributes if not hasattr(controlgen, name)] == []


@pytest.mark.parametrize("document", WITH_PYTHON, ids=lambda path: path.stem)
def test_the_blocks_of_a_document_run_one_after_another(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "\n".join(code_blocks(document, "python"))
    artifacts = re.findall(r"[\"'](artifacts/[\w/-]+)[\"']", code)
    missing = [path for path in artifacts if not (ROOT / path / "manifest.json").is_file()]
    if missing:
        pytest.skip(f"this tree has no {missing[0]}")
    (tmp_path / "artifacts").symlink_to(ROOT / "artifacts")
    monkeypatch.chdir(tmp_path)
    if SERVER in code:
        with serving("mnist") as url:
            run(code.replace(SERVER, url), document)
    else:
        run(code, document)


def run(code: str, document: Path) -> None:
    exec(compile(code, document.name, "exec"), {"__name__": document.stem})
