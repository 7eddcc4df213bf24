"""Which source an image was cut from, and how splits go by source."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen import rng
from controlgen.errors import DataError

GROUPS = "groups.csv"
NAMED = 3  # so many names are told in an error; the rest is a number


class Source(NamedTuple):
    """What groups.csv says of a file."""

    label: str
    group: str


def read_groups(root: Path, files: Iterable[str]) -> dict[str, Source] | None:
    """The lines of `groups.csv` in `root` by file (relative to root); None where there is none.

    Columns `file` and `source_tile`, and `class` where classes are told. Raises DataError where it
    is no such table, names a file twice, leaves a cell empty, or names a file that is not there.
    """
    path = root / GROUPS
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            table = csv.DictReader(opened, strict=True)
            columns = set(table.fieldnames or ())
            if missing := {"file", "source_tile"} - columns:
                raise DataError(
                    f"{path}: has no column {' and no column '.join(sorted(missing))}; the first "
                    "line is file,class,source_tile"
                )
            rows = ((table.line_num, row) for row in table)
            found = _lines(path, rows, "class" in columns)
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as comma-separated UTF-8 ({error}); write it again or remove "
            "it"
        ) from None
    if absent := sorted(set(found) - set(files)):
        raise DataError(
            f"{path}: names {in_short(absent)}, not to be found below {root}; "
            "correct the table or bring the files back"
        )
    return found


def _lines(
    path: Path, rows: Iterable[tuple[int, dict[Any, Any]]], classes: bool
) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for number, row in rows:
        name, group = row["file"], row["source_tile"]
        label = row["class"] if classes else ""
        if not name or not group or (classes and not label) or None in row:
            raise DataError(
                f"{path} line {number}: a cell is empty or one too many; give every file "
                "its class and source_tile"
            )
        if name in found:
            raise DataError(f"{path} line {number}: {name} comes twice; keep one line")
        found[name] = Source(label, group)
    return found


def joined(groups: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, str]:
    """Groups by file, those that share a file's bytes (SHA-256 by file) made one group.

    A joined group bears the name that sorts first.
    """
    parent = {group: group for group in groups.values()}

    def root_of(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    holder: dict[str, str] = {}
    for name, group in groups.items():
        first, other = sorted((root_of(holder.setdefault(digests[name], group)), root_of(group)))
        parent[other] = first
    return {name: root_of(group) for name, group in groups.items()}


def in_test(groups: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Which items (one group name each) are of the test split: whole groups, close to `share`.

    Groups stand in the order of a keyed hash of their names; the test split is the beginning of
    that order whose number of items is closest to `share`, at least one group and never all. So
    files that are added can move the groups at the border only. A single group is all train.
    """
    names, counts = np.unique(np.asarray(groups, object).astype(str), return_counts=True)
    if len(names) < 2:
        return np.zeros(len(groups), bool)
    order = sorted(range(len(names)), key=lambda place: rng.key(0, f"split {names[place]}"))
    sizes = np.cumsum(counts[order])[:-1]
    border = int(np.abs(sizes - share * len(groups)).argmin()) + 1
    return np.isin(np.asarray(groups, object).astype(str), names[order[:border]])


def in_short(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
