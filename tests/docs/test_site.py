"""The documentation builds without a warning, and asks no other host for anything."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import controlgen
from documents import DOCUMENTS, ROOT, code_blocks, relative_links

LOADING = {"src", "href", "srcset", "data", "poster", "action", "content"}
OUTSIDE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
EXPRESSIONS = "".join(code_blocks(ROOT / "docs" / "expressions.md", "expression")).splitlines()
SCHEMA_MARKS = re.compile(r"<!-- generated:")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning fails the build."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    process = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return folder


class LoadedAddresses(HTMLParser):
    """Addresses that a browser loads by itself: of everything but links to click."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            values = [value for name, value in attrs if name in LOADING and value]
            self.outside += [f"{tag} {value}" for value in values if OUTSIDE.match(value)]


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        parser = LoadedAddresses()
        text = page.read_text(encoding="utf-8")
        parser.feed(text)
        assert parser.outside == [], page
        assert not re.search(r'class="[^"]*\bmermaid\b', text), "mermaid loads a script"
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//|@import", text), sheet


def test_every_generated_part_is_in_place(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not SCHEMA_MARKS.search(page.read_text(encoding="utf-8")), page


@pytest.mark.parametrize(
    ("page", "part"),
    [
        ("cli", 'id="controlgen-edit"'),
        ("python-api", 'id="controlgen.Editor.edit"'),
        ("python-api", 'id="controlgen.Client.sweep"'),
        ("python-api", 'id="controlgen.metrics.frechet.frechet_distance"'),
        ("python-api", 'id="controlgen.regressors.CycleMLPRegressor"'),
        ("http-api", 'id="post-v1edit"'),
        ("configuration", 'id="trainconfig"'),
        ("results/index", "0.976 (0.970 to 0.982)"),
        ("results/mnist/report", "Inversion"),
    ],
)
def test_references_hold_what_they_should(site: Path, page: str, part: str) -> None:
    assert part in (site / f"{page}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_links_lead_to_files(document: Path) -> None:
    for link in relative_links(document):
        shipped = ROOT / "artifacts" / "pretrained"
        places = (document.parent / link, shipped / link)  # reports are added to docs/results
        assert any(place.exists() for place in places), link


@pytest.fixture(scope="module")
def digits() -> controlgen.Editor:
    return controlgen.Editor.load(ROOT / "artifacts" / "pretrained" / "mnist")


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_examples_of_expressions_have_a_meaning(digits: controlgen.Editor, expression: str) -> None:
    assert digits.resolve(expression).source.ndim in (2, 4)
