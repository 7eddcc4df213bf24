"""Public names, the version, the citation and the shipped folders agree with each other."""

import tomllib

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
