"""Public names, the version, the citation and the shipped folders agree with each other."""

import ast
import inspect
import tomllib
from pathlib import Path

import pytest
import yaml

import controlgen
from documents import ROOT


def version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project.get("version", controlgen.__version__))


def test_every_exported_name_exists() -> None:
    for name in controlgen.__all__:
        assert getattr(controlgen, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = controlgen.nothing


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert controlgen.__version__ == version() == citation["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {version()}" in changelog


def test_the_citation_names_the_software_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["authors"] == [{"name": "controlgen developers"}]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Saladukha", "Kovalev"]


def test_shipped_folders_are_intact_and_state_their_limits() -> None:
    from controlgen.artifacts import verify

    for manifest in ROOT.glob("artifacts/pretrained/*/manifest.json"):
        assert verify(manifest.parent).files
        card = (manifest.parent / "README.md").read_text(encoding="utf-8")
        assert "## Limits" in card


@pytest.mark.parametrize("name", ["Editor", "Edit", "Samples", "Client", "Store", "ArtifactRef"])
def test_public_classes_and_their_methods_are_documented(name: str) -> None:
    owner = getattr(controlgen, name)
    members = {
        key: value
        for key, value in vars(owner).items()
        if key[0] != "_" and (callable(value) or isinstance(value, property))
    }
    assert owner.__doc__
    assert [key for key, value in members.items() if not inspect.getdoc(value)] == []


@pytest.mark.parametrize(
    "module",
    sorted((ROOT / "controlgen" / "metrics").glob("[a-z]*.py")),
    ids=lambda path: path.stem,
)
def test_every_metric_is_documented(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    definitions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [node for node in definitions if node.name[0] != "_"]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
