"""What the documents say: code blocks, commands and links of README.md, docs/ and the Makefile."""

import functools
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
# Tables that benchmarks write are no documents.
DOCUMENTS = [
    README,
    ROOT / "CONTRIBUTING.md",
    *sorted(
        path
        for path in ROOT.glob("docs/**/*.md")
        if path.read_text(encoding="utf-8").startswith(("# ", "<!-- "))
    ),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CHAIN = re.compile(r"\s*(?:&&|;|\|\|?)\s*")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def code_blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a document."""
    blocks = BLOCK.findall(document.read_text(encoding="utf-8"))
    return [body for name, body in blocks if name == language]


def console_commands(document: Path) -> list[str]:
    """Each command of a document's console blocks, on one line, without comments."""
    lines = "".join(code_blocks(document, "console")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def makefile_commands() -> list[str]:
    """The recipe lines of the Makefile."""
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [line.strip().lstrip("@-") for line in lines if line.startswith("\t")]


def all_commands() -> list[str]:
    """Every command of every document and of the Makefile, chains taken apart, each once."""
    lines = [*itertools.chain(*map(console_commands, DOCUMENTS)), *makefile_commands()]
    return list(dict.fromkeys(part for line in lines for part in CHAIN.split(line) if part))


def split_words(command: str) -> list[str]:
    """The words of a command without environment assignments and `.venv/bin`."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    if words:
        words[0] = words[0].removeprefix(".venv/bin/").removeprefix("$(BIN)/")
    return words


def relative_links(document: Path) -> list[str]:
    """The files that a document links to or shows, without anchors."""
    links = LINK.findall(document.read_text(encoding="utf-8"))
    return [link.partition("#")[0] for link in links if "://" not in link and link[0] != "#"]


@functools.cache
def command_help(*command: str) -> str:
    """What `python COMMAND --help` prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "TERM": "dumb"}
    process = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def load_settings(path: Path, overrides: list[str]) -> Any:
    """A file of configs/ as the settings of its kind."""
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
    return kinds.get(path.stem.partition("-")[0], RunConfig).load(path, overrides)
