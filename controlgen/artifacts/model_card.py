"""The model card of an artifact: a README.md on what it is and how far it can be trusted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controlgen.utils.files import write_text


def write_model_card(
    folder: Path,
    title: str,
    what: str,
    facts: Mapping[str, Any],
    limits: Sequence[str],
    command: str,
    pictures: Sequence[str] = (),
) -> None:
    """Write README.md: summary, facts as a table, limits, pictures, one command to reproduce."""
    lines = [f"# {title}", "", what, "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items()]
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in limits)]
    lines += ["", "## Made with", "", "```", command, "```", ""]
    for picture in pictures:
        lines += [f"![{picture}]({picture})", ""]
    write_text(folder / "README.md", "\n".join(lines))
