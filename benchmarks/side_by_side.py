"""Reports of the protocol side by side: feature spaces, or whatever else differs.

python benchmarks/side_by_side.py NAME=REPORT NAME=REPORT ... [-o TABLE.md]

Each REPORT is a folder that holds a report.json; the same evaluation of the same generator, else
they are refused. Only what each map itself did is told: its controls stand in its own report.
Intervals are those of the reports, 95 % over images.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controlgen.evaluation.markdown import markdown_table

# What may differ between reports that are compared: none of it is a target or a budget.
FREE = ("seed", "exemplars_by", "optimisation_targets", "optimisation_steps")
INVERTED = ("cosine_f1", "cosine_f2", "recall_at_1", "judge_agrees", "pixel_error")
EDITED = ("flip", "identity", "identity_of_flipped", "cosine_f2")
TITLE = {
    "cosine_f1": "cosine, own space",
    "cosine_f2": "cosine, audit",
    "recall_at_1": "R@1, own space",
    "judge_agrees": "judge agrees",
    "pixel_error": "pixel error",
    "flip": "flip rate",
    "identity": "identity kept",
    "identity_of_flipped": "identity of flipped",
    "kept": "class of c kept",
    "agreement": "attributes follow",
    "back": "there and back",
    "order": "either order",
}
WAYS = ("nothing held", "others held", "others held, corrected")
Report = dict[str, Any]


def spread(value: Mapping[str, float] | None) -> str:
    """A mean with its interval; empty if absent."""
    if value is None:
        return ""
    return "{mean:.3f} ({low:.3f} to {high:.3f})".format(**value)


def row_of(rows: list[Report] | None, **by_name: Any) -> Report:
    """The row with these values; an empty one where there is none."""
    return next(
        (row for row in rows or [] if all(row[key] == value for key, value in by_name.items())), {}
    )


def cells(row: Report, keys: tuple[str, ...]) -> list[str]:
    """Numbers with their intervals, "-" where absent."""
    return [spread(row.get(key)) or "-" for key in keys]


def inversion(reports: dict[str, Report]) -> str:
    """Held-out generated images, then real ones."""
    rows = []
    for targets in ("generated", "real"):
        for name, report in reports.items():
            row = row_of(report["inversion"], targets=targets, map=report["map_name"])
            if row:
                rows.append([targets, name, str(row["n"]), *cells(row, INVERTED)])
    return markdown_table(["images", "map", "n", *(TITLE[key] for key in INVERTED)], rows)


def edits(reports: dict[str, Report]) -> str:
    """Feature arithmetic at its best amount, and what it costs in likeness to real images."""
    rows = []
    for name, report in reports.items():
        figure = report["figure3"]
        if figure is None:
            continue
        best = row_of(figure["best"], method="feature arithmetic")
        real = row_of((figure["realism"] or {}).get("rows"), method="feature arithmetic")
        text = [name, figure["exemplars_by"], f"{best['amount']:g}", str(best["n"])]
        rows.append([*text, *cells(best, EDITED), *cells(real, ("kernel", "recall"))])
    head = ["map", "exemplars by", "amount", "edits", *(TITLE[key] for key in EDITED)]
    return markdown_table([*head, "KD edited minus unedited", "recall"], rows)


def sliders(reports: dict[str, Report]) -> str:
    """Spearman of each attribute's slider with nothing held, and diagonal shares."""
    names = next(iter(reports.values()))["sliders"]["names"]
    rows = []
    for name, report in reports.items():
        actual = report["sliders"]
        shifted = [row_of(actual["rows"], attribute=item, way=WAYS[0]) for item in names]
        shares = [row_of(actual["leakage"], way=mode) for mode in WAYS]
        text = [spread(row.get("spearman")) or "-" for row in shifted]
        rows.append([name, *text, *(spread(row.get("share")) or "-" for row in shares)])
    return markdown_table(["map", *names, *(f"diagonal share, {mode}" for mode in WAYS)], rows)


def analogies(reports: dict[str, Report]) -> str:
    """c + (a - b) by feature arithmetic."""
    keys = ("kept", "agreement", "back", "order")
    rows = [
        [
            name,
            *cells(
                row_of((report["analogies"] or {}).get("rows"), method="feature arithmetic"), keys
            ),
        ]
        for name, report in reports.items()
    ]
    return markdown_table(["map", *(TITLE[key] for key in keys)], rows)


def variety(reports: dict[str, Report]) -> str:
    """Several answers to one feature."""
    keys = ("cosine_f1", "cosine_f2", "diversity")
    rows = [
        [name, row["images"], str(row["k"]), *cells(row, keys)]
        for name, report in reports.items()
        for row in (report["variety"] or {}).get("rows", [])
        if "bank" not in row["images"]
    ]
    return markdown_table(
        ["map", "answers", "k", "cosine, own space", "cosine, audit", "diversity"], rows
    )


def targets(reports: dict[str, Report]) -> str:
    """Every target that all have, and what each measured; those missed are in brackets."""
    first = next(iter(reports.values()))["targets"]
    rows = []
    for item in first:
        same = [row_of(report["targets"], name=item["name"]) for report in reports.values()]
        if all(row and row["measured"] is not None for row in same):
            displayed = [f"{row['measured']:.3f}" for row in same]
            reported = [
                text if row["met"] else f"({text})"
                for text, row in zip(displayed, same, strict=True)
            ]
            rows.append([item["name"], item["wanted"], *reported])
    return markdown_table(["target (missed in brackets)", "wanted", *reports], rows)


TABLES = {
    "Targets": targets,
    "Inversion": inversion,
    "Edits from class to class": edits,
    "Analogies, c + (a - b)": analogies,
    "Several answers to one feature": variety,
    "Sliders, Spearman": sliders,
}


def differing(reports: dict[str, Report]) -> set[str]:
    """Names of settings of the evaluation that are not the same in all reports."""
    settings = [report["config"] for report in reports.values()]
    names = {name for setting in settings for name in setting}
    return {
        name for name in names for setting in settings if setting.get(name) != settings[0].get(name)
    }


def main() -> None:
    """Read, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("reports", nargs="+", metavar="NAME=REPORT")
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    reports = {}
    for item in asked.reports:
        name, _, folder = item.partition("=")
        reports[name] = json.loads((Path(folder) / "report.json").read_text("utf-8"))
    if others := differing(reports) - set(FREE):
        parser.error(f"the reports differ in {', '.join(sorted(others))}")
    samples = {json.dumps(report["quality"]["confident"]) for report in reports.values()}
    if len(samples) > 1:
        parser.error("the reports are of different generators: their samples are not judged alike")
    parts = [f"**{title}**\n\n{table(reports)}" for title, table in TABLES.items()]
    text = "\n\n".join(parts)
    print(text)
    if asked.output:
        asked.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
