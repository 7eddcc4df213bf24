"""Tables of the documentation and of the README, generated from the shipped reports.

`python benchmarks/results.py` rewrites the table between the markers in README.md; run it after a
model is exported. docs/generate.py inserts the other sections into docs/results/*.md.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from controlgen.config import CompareConfig

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "artifacts" / "pretrained"
HISTORY = ROOT / "docs" / "results"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
# Saladukha and Kovalev, table 1: 6 000 histology tiles; WGAN and WGAN-SN did not converge there.
PAPER = {
    "wgan-gp": (2.29, 273.5, 0.69, 1.5),
    "wgan-gp-sn": (1.18, 263.9, 0.70, 1.51),
    "r3gan": (2.10, 267.9, 0.67, 1.45),
}
Report = dict[str, Any]
Interval = dict[str, Any]


def read_json(model: str, name: str = "report.json") -> Report:
    """A JSON file of a shipped folder."""
    content: Report = json.loads((SHIPPED / model / name).read_text(encoding="utf-8"))
    return content


def format_interval(value: Interval | None, digits: int = 3) -> str:
    """A mean with its interval; "-" where nothing was measured."""
    if value is None:
        return "-"
    mean, low, high = (format(value[key], f".{digits}f") for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def join(*parts: str) -> str:
    """Paragraphs, the empty ones left out."""
    return "\n\n".join(part for part in parts if part)


# The README's table: eight measures of both models, each with its baseline.


def inversion_row(report: Report, name: str, targets: str = "generated") -> Report:
    """The row of one map in the inversion table."""
    return next(
        row for row in report["inversion"] if (row["targets"], row["map"]) == (targets, name)
    )


def inversion_pair(key: str) -> Callable[[Report], tuple[Interval, Interval]]:
    """Of a report: a column for the shipped map and for the better of its two baselines."""

    def pair(report: Report) -> tuple[Interval, Interval]:
        baselines = (inversion_row(report, name)[key] for name in ("retrieval", "ridge"))
        best: Interval = max(baselines, key=lambda value: value["mean"])
        return inversion_row(report, report["map_name"])[key], best

    return pair


def edit_pair(key: str, baseline: str) -> Callable[[Report], tuple[Interval, Interval]]:
    """Of a report: a column of class edits for feature arithmetic and for a baseline."""

    def pair(report: Report) -> tuple[Interval, Interval]:
        best = {row["method"]: row[key] for row in report["figure3"]["best"]}
        return best["feature arithmetic"], best[baseline]

    return pair


def quality_pair(key: str) -> Callable[[Report], tuple[Interval, Interval]]:
    """Of a report: a column for the samples and for real images."""
    return lambda report: (report["quality"][key], report["quality"][f"{key}_floor"])


def slider_pair(report: Report) -> tuple[Interval, Interval]:
    """Rank correlation of one attribute's slider, corrected, and along a random direction."""
    name = "thickness" if "thickness" in report["sliders"]["names"] else "nuclear_area"
    values = {
        row["way"]: row["spearman"] for row in report["sliders"]["rows"] if row["attribute"] == name
    }
    return values["nothing held, corrected"], values["random direction"]


def copies_pair(report: Report) -> tuple[Interval | None, None]:
    """Share of samples that lie very near to a training image."""
    return (report["copies"]["found"]["share"] if report["copies"] else None), None


MEASURES: tuple[tuple[str, str, Callable[[Report], tuple[Any, Any]]], ...] = (
    (
        "Samples the judge is sure of (baseline: real images) ↑",
        "judge confident on samples",
        quality_pair("confident"),
    ),
    ("Kernel distance of samples to real images (real to real) ↓", "", quality_pair("kernel")),
    (
        "Inversion: audit cosine (best of retrieval and ridge) ↑",
        "map minus the better of retrieval and ridge: audit cosine",
        inversion_pair("cosine_f2"),
    ),
    (
        "Inversion: recall at 1 (best of retrieval and ridge) ↑",
        "map minus the better of retrieval and ridge: R@1",
        inversion_pair("recall_at_1"),
    ),
    (
        "Class edits that reach the target class (latent arithmetic) ↑",
        "feature arithmetic: best flip rate",
        edit_pair("flip", "latent arithmetic"),
    ),
    (
        "Identity kept by these edits (retrieval) ↑",
        "identity of flipped, feature arithmetic minus",
        edit_pair("identity_of_flipped", "retrieval"),
    ),
    (
        "Slider of thickness / nuclear area: rank correlation (random direction) ↑",
        "slider of ",
        slider_pair,
    ),
    (
        "Samples nearer to a training image than 99 % of held-out images ↓",
        "samples nearer to a training image",
        copies_pair,
    ),
)


def summary() -> str:
    """Eight measures of both shipped models; a missed goal is marked."""
    reports = [read_json("mnist"), read_json("histology")]
    rows = []
    for label, goal, measure in MEASURES:
        cells = [label]
        for report in reports:
            value, baseline = measure(report)
            missed = any(
                goal and target["name"].startswith(goal) and not target["met"]
                for target in report["targets"]
            )
            cells += [format_interval(value) + " **missed**" * missed, format_interval(baseline)]
        rows.append(cells)
    header = ["measure", "digits", "baseline", "tissue", "baseline"]
    counts = [
        f"{sum(not target['met'] for target in report['targets'])} of {len(report['targets'])}"
        for report in reports
    ]
    return join(
        markdown_table(header, rows),
        f"Goals missed in all: {counts[0]} on digits, {counts[1]} on tissue.",
    )


# Pages of docs/results.


def model_page(model: str) -> str:
    """Origin and acceptance goals of one shipped model; its report.md holds all tables."""
    report, run = read_json(model), read_json(model, "config.json")
    phases = [{**run["train"], **phase}["total_images"] for phase in (*run["warm_up"], {})]
    judging = report["judging"]
    missed = [target for target in report["targets"] if not target["met"]]
    rows = [
        [
            target["name"],
            target["wanted"],
            "-" if target["measured"] is None else f"{target['measured']:.3f}",
            "met" if target["met"] else "**missed**",
        ]
        for target in sorted(report["targets"], key=lambda target: target["met"])
    ]
    return join(
        f"`artifacts/pretrained/{model}` comes from `configs/{run['name']}.toml`. Data: "
        f"{run['about']}. Training: {', then '.join(f'{images:,}' for images in phases)} images "
        f"shown to the critic, one seed ({run['train']['seed']}). Intervals are 95 % bootstrap "
        "intervals over images, not over trainings. Labels are used by the judge only: a "
        f"{judging['kind']} that classifies {format_interval(judging['accuracy'])} of the real "
        f"test set correctly (n {judging['accuracy']['n']}).",
        f"- [Full report]({model}/report.md): every table and picture of the protocol\n"
        f"- [Model card]({model}/README.md)",
        f"## Goals: {len(missed)} of {len(rows)} missed",
        markdown_table(["goal", "bound", "measured", ""], rows),
        f"![Samples]({model}/samples.png)",
        f"![Edits from class to class, one row for each method]({model}/figure3.png)",
    )


def spaces() -> str:
    """Feature spaces on tissue."""
    keys = ("probe", "neighbour", "zero_shot")
    rows = [
        [space["name"], *(format_interval(space[key]) for key in keys)]
        for space in read_json("spaces-histology")["spaces"]
    ]
    return markdown_table(
        ["space", "linear probe ↑", "nearest neighbour of another source ↑", "zero-shot text ↑"],
        rows,
    )


def comparison(name: str) -> str:
    """One comparison of objectives."""
    config = CompareConfig.parse(read_json(name, "config.json"))
    return join(
        f"`configs/{config.name}.toml`: {config.about}. Budget: {config.budget}. "
        f"{len(config.seeds)} seeds (95 % Student intervals over them), {config.n} samples against "
        f"as many test images. [Every run and its verdict]({name}/report.md).",
        (SHIPPED / name / "table1.md").read_text(encoding="utf-8").strip(),
        f"![Samples of each objective]({name}/samples.png)",
    )


def paper() -> str:
    """Table 1 of the paper."""
    rows = [[name, *(f"{value:g}" for value in values)] for name, values in PAPER.items()]
    return markdown_table(["objective", "IS ↑", "FID ↓", "LPIPS", "PPL ↓"], rows)


def history(name: str) -> str:
    """A table that a benchmark wrote."""
    return (HISTORY / f"{name}.md").read_text(encoding="utf-8").strip()


def goals_over_seeds(name: str) -> str:
    """Of a table over seeds: the goals that not every seed meets."""
    table, _, _ = history(name).partition("## Inversion")
    lines = [line for line in table.splitlines() if line.startswith("| ")][2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    missed = [row for row in rows if len(set(row[4].split(" of "))) > 1]
    return markdown_table(
        ["goal", "bound", "each seed", "met"], [[row[0], row[1], row[3], row[4]] for row in missed]
    )


SECTIONS: dict[str, Callable[[], str]] = {
    "summary": summary,
    "digits": lambda: model_page("mnist"),
    "tissue": lambda: model_page("histology"),
    "objectives on digits": lambda: comparison("compare-mnist"),
    "objectives on tissue": lambda: comparison("compare-histology"),
    "paper": paper,
    "toys": lambda: history("toys"),
    "stacked-mnist": lambda: history("stacked-mnist"),
    "spaces": spaces,
    "real": lambda: history("real"),
    "goals over seeds on digits": lambda: goals_over_seeds("seeds-mnist"),
    "goals over seeds on tissue": lambda: goals_over_seeds("seeds-histology"),
}


def main() -> None:
    """Put the summary between its markers in README.md."""
    readme = ROOT / "README.md"
    before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{readme}: the markers {BEGIN} and {END} are missing")
    readme.write_text(f"{before}{begin}\n\n{summary()}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
