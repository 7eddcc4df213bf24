"""The report on an image folder: every file as JSON, files with remarks as a table."""

import json
from pathlib import Path

from controlgen.base_config import BaseConfig
from controlgen.errors import ConfigError

REPORT_JSON, REPORT_TABLE = "report.json", "report.md"


class FileReport(BaseConfig):
    """A file: its number of images (0: left out, and `why`), and the conversions applied to it."""

    file: str
    pieces: int = 0
    sha256: str = ""
    label: str = ""
    group: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()


class ImportReport(BaseConfig):
    """Every file below a root, sorted by name; `listing` is a hash of names, sizes and times.

    `hidden` counts entries that were skipped because their names begin with a dot.
    """

    root: str
    listing: str
    files: tuple[FileReport, ...]
    hidden: int = 0


def load_report(folder: Path, listing: str) -> ImportReport | None:
    """The report in `folder`; None if it is absent, damaged or of another listing."""
    try:
        text = (folder / REPORT_JSON).read_text(encoding="utf-8")
        report = ImportReport.parse(json.loads(text))
    except (OSError, ValueError, ConfigError):
        return None
    return report if report.listing == listing else None


def render_reports(report: ImportReport) -> dict[str, str]:
    """Name and text of the two report files."""
    remarkable = [file for file in report.files if file.why or file.notes]
    used = sum(file.pieces > 0 for file in report.files)
    images = sum(file.pieces for file in report.files)
    lines = [
        f"# Files of {_cell(report.root)}",
        "",
        f"{used} of {len(report.files)} files are used and give {images} images. "
        f"{'Files with remarks:' if remarkable else 'No file has a remark.'}",
    ]
    if remarkable:
        lines += ["", "| file | remark | result |", "|---|---|---|"]
    for file in remarkable:
        result = "used" if file.pieces else "left out"
        remarks = "; ".join((file.why, *file.notes) if file.why else file.notes)
        lines.append(f"| {_cell(file.file)} | {_cell(remarks)} | {result} |")
    if report.hidden:
        entries = "entry" if report.hidden == 1 else "entries"
        lines += [
            "",
            f"{report.hidden} hidden {entries} (an image file or a folder whose name begins with a "
            "dot) skipped.",
        ]
    return {
        REPORT_JSON: json.dumps(report.to_dict(), indent=1) + "\n",
        REPORT_TABLE: "\n".join(lines) + "\n",
    }


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
