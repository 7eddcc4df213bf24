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

from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.evaluation.objective_table import mean_over_seeds
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
    actual: Any = report
    for key in path:
        actual = (actual or {}).get(key)
    return actual or []


def number(value: Any) -> float | None:
    """A measured number: an interval's mean, or itself."""
    return value["mean"] if isinstance(value, dict) else value


def protocol(reports: list[dict[str, Any]]) -> list[str]:
    """Every table over the reports, those rows that all of them have."""
    parts = []
    for title, (path, by_name, measured) in TABLES.items():
        tables = [
            {tuple(row[key] for key in by_name): row for row in rows_at(report, path)}
            for report in reports
        ]
        shared = [name for name in tables[0] if all(name in report for report in tables)]
        lines = []
        for name in shared:
            cells = []
            for key in measured:
                values = [number(report[name].get(key)) for report in tables]
                reference = [value for value in values if value is not None]
                cells.append(
                    format_interval(mean_over_seeds(reference))
                    if len(reference) == len(values)
                    else "-"
                )
            lines.append([*name, *cells])
        if lines:
            parts += [f"## {title}", markdown_table([*by_name, *measured], lines)]
    return parts


def goal(name: str) -> str:
    """A target's name without the way of moving a slider, of which a report counts the better."""
    ways = (PLAIN, PLAIN_CORRECTED, HELD, CORRECTED)
    return next(
        (name.removesuffix(f", {mode}") for mode in ways if name.endswith(f", {mode}")), name
    )


def targets(reports: list[dict[str, Any]]) -> str:
    """Every target that a report has, and what each of those measured."""
    actual: dict[str, Rows] = {}
    for report in reports:
        for target in report["targets"]:
            actual.setdefault(goal(target["name"]), []).append(target)
    lines = []
    for name, same in actual.items():
        values = [target["measured"] for target in same]
        met = f"{sum(target['met'] for target in same)} of {len(same)}"
        each = ", ".join("-" if value is None else f"{value:.3f}" for value in values)
        spread = "-" if None in values else format_interval(mean_over_seeds(values))
        names = {target["name"] for target in same}
        called = names.pop() if len(names) == 1 else f"{name}, the better way of each"
        lines.append([called, same[0]["wanted"], spread, each, met])
    return markdown_table(["target", "wanted", "measured", "of each", "met"], lines)


def differing(reports: list[dict[str, Any]]) -> set[str]:
    """Names of settings of the evaluation that are not the same in all reports."""
    settings = [report["config"] for report in reports]
    return {
        name for setting in settings for name in setting if setting[name] != settings[0].get(name)
    }


def main() -> None:
    """Read, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("reports", type=Path, nargs="+", help="folders that hold a report.json")
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    reports = [json.loads((report / "report.json").read_text("utf-8")) for report in asked.reports]
    if others := differing(reports) - {"seed"}:
        parser.error(f"the reports differ in {', '.join(sorted(others))}, not in a seed alone")

    seeds = f"{len(reports)} reports, Student's 95 % interval over them"
    text = "\n\n".join([seeds, "## Targets", targets(reports), *protocol(reports)])
    print(text)
    if asked.output:
        asked.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
