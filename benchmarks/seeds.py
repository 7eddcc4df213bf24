"""The protocol over seeds: what each report measured against its targets, and their spread.

python benchmarks/seeds.py REPORT REPORT ... [-o TABLE.md]

Reports of runs that differ in a seed alone, as in `--set fit.seed=1` (the map's) or
`--set train.seed=1` (everything's); evaluations with other settings are refused. Means with
Student's 95 % interval over the reports.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from controlgen.evaluation.comparison import over_seeds
from controlgen.evaluation.tables import shown, table


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

    rows = []
    for first in reports[0]["targets"]:
        same = [
            one for report in reports for one in report["targets"] if one["name"] == first["name"]
        ]
        values = [one["measured"] for one in same]
        met = sum(one["met"] for one in same)
        each = ", ".join(f"{value:.3f}" for value in values)
        found = shown(over_seeds(values))
        rows.append([first["name"], first["wanted"], found, each, f"{met} of {len(same)}"])
    text = table(["target", "wanted", "measured", "of each", "met"], rows)
    print(text)
    if asked.output:
        asked.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
