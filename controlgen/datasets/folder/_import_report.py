"""What was found in a folder of images: kept as JSON, and as a table to be read."""

import json
from pathlib import Path

from controlgen.base_config import BaseConfig
from controlgen.errors import ConfigError

JSON, TABLE = "report.json", "report.md"


class Seen(BaseConfig):
    """One file: how many images it gives (0: left out, and `why`), and what was done to it."""

    file: str
    pieces: int = 0
    sha256: str = ""
    label: str = ""
    group: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()


class Survey(BaseConfig):
    """Every file below a root, sorted by name; `listing` is the digest of names, sizes, times.

    `hidden` counts what was passed over because its name begins with a dot.
    """

    root: str
    listing: str
    files: tuple[Seen, ...]
    hidden: int = 0


def kept_survey(folder: Path, listing: str) -> Survey | None:
    """The survey that was kept in `folder`; None where there is none or it is damaged."""
    try:
        survey = Survey.parse(json.loads((folder / JSON).read_text(encoding="utf-8")))
    except (OSError, ValueError, ConfigError):
        return None
    return survey if survey.listing == listing else None


def reports(survey: Survey) -> dict[str, str]:
    """Name and text of the two reports: all that is known as JSON, what is remarkable as table."""
    told = [seen for seen in survey.files if seen.why or seen.notes]
    used = sum(seen.pieces > 0 for seen in survey.files)
    images = sum(seen.pieces for seen in survey.files)
    lines = [
        f"# Files of {_cell(survey.root)}",
        "",
        f"{used} of {len(survey.files)} files are used and give {images} images. "
        f"{'These' if told else 'None'} had something to be told:",
        "",
        "| file | what was found | what was done |",
        "|---|---|---|",
    ]
    for seen in told:
        done = "used" if seen.pieces else "left out"
        found = "; ".join((seen.why, *seen.notes) if seen.why else seen.notes)
        lines.append(f"| {_cell(seen.file)} | {_cell(found)} | {done} |")
    lines = lines if told else lines[:3]
    if survey.hidden:
        passed = "entry" if survey.hidden == 1 else "entries"
        lines += [
            "",
            f"{survey.hidden} hidden {passed} (an image file or a folder whose name begins with a "
            "dot) not looked at.",
        ]
    table = "\n".join(lines) + "\n"
    return {JSON: json.dumps(survey.effective(), indent=1) + "\n", TABLE: table}


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
