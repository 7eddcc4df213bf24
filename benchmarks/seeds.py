"""The protocol over seeds: what each report measured against its targets, and their spread.

python benchmarks/seeds.py REPORT REPORT ... [-o TABLE.md]

Reports of runs that differ in a seed alone, as in `--set fit.seed=1` (the map's) or
`--set train.seed=1` (everything's); evaluations with other settings are refused. Means with
Student's 95 % interval over the reports; what no seed touches has one of width zero. First the
targets, then every table of the protocol with its controls.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from controlgen.evaluation.markdown import shown, table
from controlgen.evaluation.objective_table import over_seeds
from controlgen.evaluation.slider_results import CORRECTED, HELD, PLAIN, PLAIN_CORRECTED

Rows = list[dict[str, Any]]
# A table of the protocol: where its rows are, what names a row, and what is measured.
TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "Inversion": (
        ("inversion",),
        ("targets", "map"),
        ("cosine_f1", "cosine_f2", "recall_at_1", "judge_agrees", "pixel_error", "shell_norm"),
    ),
    "Figure 3, each method at its best amount": (
        ("figure3", "best"),
        ("method",),
        ("amount", "flip", "identity", "identity_of_flipped", "cosine_f2", "pixel_error"),
    ),
    "Realism after edits, edited minus unedited": (
        ("figure3", "realism", "rows"),
        ("method",),
        ("kernel", "mmd", "nearest", "recall", "coverage"),
    ),
    "Analogies, c + (a - b)": (
        ("analogies", "rows"),
        ("method",),
        ("kept", "agreement", "back", "order"),
    ),
    "Several answers to one feature": (
        ("variety", "rows"),
        ("images",),
        ("cosine_f1", "cosine_f2", "diversity"),
    ),
    "Sliders": (("sliders", "rows"), ("attribute", "way"), ("spearman", "slope", "identity")),
    "Leakage": (("sliders", "leakage"), ("way",), ("share", "share_per_image", "into_stains")),
}


def rows_at(report: dict[str, Any], path: tuple[str, ...]) -> Rows:
    """The rows of a table; none where a report lacks it."""
    found: Any = report
    for key in path:
        found = (found or {}).get(key)
    return found or []


def number(value: Any) -> float | None:
    """A measured number: an interval's mean, or itself."""
    return value["mean"] if isinstance(value, dict) else value


def protocol(reports: list[dict[str, Any]]) -> list[str]:
    """Every table over the reports, those rows that all of them have."""
    parts = []
    for title, (path, named, measured) in TABLES.items():
        tables = [
            {tuple(row[key] for key in named): row for row in rows_at(one, path)} for one in reports
        ]
        shared = [name for name in tables[0] if all(name in one for one in tables)]
        lines = []
        for name in shared:
            cells = []
            for key in measured:
                values = [number(one[name].get(key)) for one in tables]
                known = [value for value in values if value is not None]
                cells.append(shown(over_seeds(known)) if len(known) == len(values) else "-")
            lines.append([*name, *cells])
        if lines:
            parts += [f"## {title}", table([*named, *measured], lines)]
    return parts


def goal(name: str) -> str:
    """A target's name without the way of moving a slider, of which a report counts the better."""
    ways = (PLAIN, PLAIN_CORRECTED, HELD, CORRECTED)
    return next((name.removesuffix(f", {way}") for way in ways if name.endswith(f", {way}")), name)


def targets(reports: list[dict[str, Any]]) -> str:
    """Every target that a report has, and what each of those measured."""
    found: dict[str, Rows] = {}
    for report in reports:
        for one in report["targets"]:
            found.setdefault(goal(one["name"]), []).append(one)
    lines = []
    for name, same in found.items():
        values = [one["measured"] for one in same]
        met = f"{sum(one['met'] for one in same)} of {len(same)}"
        each = ", ".join("-" if value is None else f"{value:.3f}" for value in values)
        spread = "-" if None in values else shown(over_seeds(values))
        names = {one["name"] for one in same}
        called = names.pop() if len(names) == 1 else f"{name}, the better way of each"
        lines.append([called, same[0]["wanted"], spread, each, met])
    return table(["target", "wanted", "measured", "of each", "met"], lines)


def differing(reports: list[dict[str, Any]]) -> set[str]:
    """Names of settings of the evaluation that are not the same in all reports."""
    settings = [report["config"] for report in reports]
    return {name for one in settings for name in one if one[name] != settings[0].get(name)}


def main() -> None:
    """Read, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("reports", type=Path, nargs="+", help="folders that hold a report.json")
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    reports = [json.loads((one / "report.json").read_text("utf-8")) for one in asked.reports]
    if others := differing(reports) - {"seed"}:
        parser.error(f"the reports differ in {', '.join(sorted(others))}, not in a seed alone")

    seeds = f"{len(reports)} reports, Student's 95 % interval over them"
    text = "\n\n".join([seeds, "## Targets", targets(reports), *protocol(reports)])
    print(text)
    if asked.output:
        asked.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
