"""history.jsonl: training metrics, one row per interval of images."""

import json
from collections.abc import Sequence
from pathlib import Path

from controlgen.training.gan import Progress
from controlgen.training.vicreg import EncoderProgress

Row = dict[str, float]


def read_history(path: Path, images_seen: int | None = None) -> list[Row]:
    """The rows up to `images_seen`; later ones belong to a run that was killed before it saved."""
    if not path.is_file():
        return []
    rows: list[Row] = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [row for row in rows if images_seen is None or row["images_seen"] <= images_seen]


def to_text(rows: list[Row]) -> str:
    """One JSON object per line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def mean_row(steps: Sequence[Progress] | Sequence[EncoderProgress]) -> Row:
    """The mean of consecutive steps, at the last step's images_seen."""
    row: Row = {"images_seen": steps[-1].images_seen}
    for name in steps[-1]._fields[1:]:
        row[name] = sum(getattr(step, name) for step in steps) / len(steps)
    return row
