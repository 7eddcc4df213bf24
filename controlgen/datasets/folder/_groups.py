"""The sources that images were cut from, and splits that keep each source together."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen import rng
from controlgen.errors import DataError

GROUPS = "groups.csv"
MAX_LISTED = 3  # names in an error message; the rest is a count


class FileGroup(NamedTuple):
    """The class and the source of a file, as in groups.csv."""

    label: str
    group: str


def read_groups(root: Path, files: Iterable[str]) -> dict[str, FileGroup] | None:
    """The rows of `groups.csv` in `root` by file (relative to root); None without that table.

    Columns `file` and `source_tile`, and optionally `class`. Raises DataError if it is not such a
    table, names a file twice, leaves a cell empty, or names a file that does not exist.
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
            groups = _parse_rows(path, rows, "class" in columns)
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as comma-separated UTF-8 ({error}); write it again or remove "
            "it"
        ) from None
    if absent := sorted(set(groups) - set(files)):
        raise DataError(
            f"{path}: names {ellipsize(absent)}, which do not exist below {root}; "
            "correct the table or bring the files back"
        )
    return groups


def _parse_rows(
    path: Path, rows: Iterable[tuple[int, dict[Any, Any]]], classes: bool
) -> dict[str, FileGroup]:
    groups: dict[str, FileGroup] = {}
    for number, row in rows:
        name, group = row["file"], row["source_tile"]
        label = row["class"] if classes else ""
        if not name or not group or (classes and not label) or None in row:
            raise DataError(
                f"{path} line {number}: an empty cell or a cell too many; give every file "
                "its class and source_tile"
            )
        if name in groups:
            raise DataError(f"{path} line {number}: {name} comes twice; keep one line")
        groups[name] = FileGroup(label, group)
    return groups


def merge_duplicates(groups: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, str]:
    """Groups by file, where groups that share a file's bytes (SHA-256 by file) are merged.

    A merged group has the name that sorts first.
    """
    parent = {group: group for group in groups.values()}

    def root_of(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    first_group: dict[str, str] = {}
    for name, group in groups.items():
        holder = first_group.setdefault(digests[name], group)
        first, other = sorted((root_of(holder), root_of(group)))
        parent[other] = first
    return {name: root_of(group) for name, group in groups.items()}


def assign_test_groups(groups: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Which items (one group name each) are in the test split: whole groups, close to `share`.

    Groups are ordered by a keyed hash of their names; the test split is the start of that order
    whose number of items is closest to `share`, at least one group and never all. So added files
    move only groups at the border. A single group is all train.
    """
    of_item = np.asarray(groups, object).astype(str)
    names, counts = np.unique(of_item, return_counts=True)
    if len(names) < 2:
        return np.zeros(len(groups), bool)
    order = sorted(range(len(names)), key=lambda index: rng.key(0, f"split {names[index]}"))
    sizes = np.cumsum(counts[order])[:-1]
    border = int(np.abs(sizes - share * len(groups)).argmin()) + 1
    return np.isin(of_item, names[order[:border]])


def ellipsize(names: Sequence[str]) -> str:
    """The first few names, and the number of the others."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
