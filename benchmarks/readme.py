"""Rewrite the README's sections of numbers from the shipped reports and what benchmarks left in
docs/, so that no figure is typed.

Run after shipping: `python benchmarks/readme.py`. Each section lies between two marker comments.
"""

import json
from pathlib import Path
from typing import Any

from controlgen.config import CompareConfig
from controlgen.evaluation.tables import table
from controlgen.metrics import names

ROOT = Path(__file__).parents[1]
MARKERS = "<!-- {}: begin -->", "<!-- {}: end -->"
SHIPPED = "artifacts/pretrained/mnist"
TISSUE = "artifacts/pretrained/histology"
PROJECTED = ("cosine_f1", "cosine_f2", "perceptual", "judge_agrees")
VARIED = ("cosine_f1", "cosine_f2", "diversity")
SPACES = "artifacts/pretrained/spaces-histology"
COMPARED = ("artifacts/pretrained/compare-mnist", "artifacts/pretrained/compare-histology")
# Saladukha and Kovalev, table 1: 6 000 histology tiles; WGAN and WGAN-SN did not converge there.
PAPER = {
    "wgan-gp": (2.29, 273.5, 0.69, 1.5),
    "wgan-gp-sn": (1.18, 263.9, 0.70, 1.51),
    "r3gan": (2.10, 267.9, 0.67, 1.45),
}


def spread(value: dict[str, Any] | None, digits: int = 3) -> str:
    """A mean with its interval."""
    if value is None:
        return ""
    mean, low, high = (format(value[key], f".{digits}f") for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def inversion(rows: list[dict[str, Any]], map_name: str) -> str:
    """The generated targets of the inversion table."""
    header = ["map", "n", "cosine, steering", "cosine, audit", "R@1", "judge agrees", "pixel error"]
    shown = []
    for row in rows:
        if row["targets"] != "generated" or row["map"] == "asked":
            continue
        columns = ("cosine_f1", "cosine_f2", "recall_at_1", "judge_agrees")
        cells = [spread(row[column]) for column in columns]
        name = row["map"].replace(f"{map_name} ", f"{map_name}, ")
        shown.append([name, str(row["n"]), *cells, spread(row["pixel_error"])])
    return table(header, shown)


def distances(report: dict[str, Any]) -> str:
    """Both distances of the samples, each beside its floor."""
    quality, audit = report["quality"], report["audit_name"]
    told = [
        f"{short}-{audit} {spread(quality[key])}, real against real "
        f"{spread(quality[f'{key}_floor'])}"
        for short, key in (("FD", "frechet"), ("KD", "kernel"))
    ]
    return f"{'; '.join(told)}."


def few_images(report: dict[str, Any]) -> str:
    """What is to be said beside the Frechet distance; empty where there are images enough."""
    quality = report["quality"]
    told = names.few_images(quality["n"], quality["feature_size"])
    return f"FD-{report['audit_name']}: {told}." if told else ""


def figure3(figure: dict[str, Any]) -> str:
    """Every method at its best amount."""
    rows = [
        [
            best["method"],
            f"{best['amount']:g}",
            str(best["n"]),
            spread(best["flip"]),
            spread(best["identity"]),
        ]
        for best in figure["best"]
    ]
    return table(["method", "amount", "edits", "flip rate", "identity kept"], rows)


def every_draw(quality: dict[str, Any]) -> str:
    """What likeness refuses, and what there would be without it."""
    every = quality.get("every_draw")
    if every is None:
        return ""
    smallest = min(one["mean"] for one in every["class_shares"].values())
    return (
        f"Samples are kept by their likeness to real images: {spread(every['kept'])} of first "
        "draws are, the others are drawn again. Of every first draw, none refused, the judge is "
        f"confident on {spread(every['confident'])}; smallest class share {smallest:.3f}; FD "
        f"{spread(every['frechet'])}, KD {spread(every['kernel'])}. The rule was chosen while what "
        "another judge said of such samples was watched, so this is slightly optimistic."
    )


def digits(folder: Path) -> str:
    """The section on digits."""
    report = json.loads((folder / "report.json").read_text())
    run = json.loads((folder / "config.json").read_text())
    clip = json.loads((folder.parent / "clip-mini" / "scores.json").read_text())
    quality, timing, figure = report["quality"], report["timing"], report["figure3"]
    shares = quality["class_shares"]
    smallest = min(shares, key=lambda name: shares[name]["mean"])
    accuracy = report["judging"]["accuracy"]
    lines = [
        f"`{SHIPPED}` was made by `configs/{run['name']}.toml`: one training (seed "
        f"{run['train']['seed']}); brackets are 95 % intervals over images. The whole "
        f"report with all tables and pictures is [report.md]({SHIPPED}/report.md). Labels only "
        f"judge: a small classifier that reads {spread(accuracy)} of {accuracy['n']} real test "
        "images.",
        f"**Samples** (n {quality['n']}): the judge is confident (> 0.9) on "
        f"{spread(quality['confident'])} (of real images {spread(quality['confident_floor'])}); "
        f"smallest class share {spread(shares[smallest])} ({smallest}; of real images "
        f"{spread(quality['real_class_shares'][smallest])}); {distances(report)}",
        few_images(report),
        every_draw(quality),
        "**Inversion** of held-out generated images: is the image made from a feature the one "
        "that was asked for?",
        inversion(report["inversion"], report["map_name"]),
        f"**Figure 3 of the paper as a number**: {figure['edits']} edits b -> a over all ordered "
        f"pairs of digits, exemplars found by {figure['exemplars_by']}; each method at its best "
        "amount. Identity: audit cosine of source and result orthogonal to the class direction, "
        "centred (unrelated is about 0).",
        figure3(figure),
        f"One edit, feature to image, took {timing['map_p50_ms']:.1f} ms (p95 "
        f"{timing['map_p95_ms']:.1f}) in that run; {timing['optimisation_steps']} steps of "
        f"optimisation took {timing['ratio_alone']:.0f} times as long "
        "(`python benchmarks/speed.py` measures it again).",
        f"![Figure 3: one row a method]({SHIPPED}/figure3.png)",
        *realism(report),
        *related(report, SHIPPED),
        *varied(report, SHIPPED),
        *slid(report, SHIPPED, "digits"),
        targets(report),
        "The embedded CLIP reads "
        f"{spread(clip['MNIST zero-shot accuracy'])} of MNIST's test set through text alone, "
        "never having been trained on an MNIST image; its world was widened while that score was "
        "watched, so it is slightly optimistic "
        "([card](artifacts/pretrained/clip-mini/README.md)).",
    ]
    return "\n\n".join(line for line in lines if line)


def targets(report: dict[str, Any]) -> str:
    """What was missed."""
    missed = [one for one in report["targets"] if not one["met"]]
    lines = [f"Targets missed ({len(missed)} of {len(report['targets'])}):", ""]
    for one in missed:
        told = "not measured" if one["measured"] is None else f"measured {one['measured']:.3f}"
        lines.append(f"- {one['name']}: wanted {one['wanted']}, {told}")
    return "\n".join(lines)


def sliders(found: dict[str, Any]) -> str:
    """Spearman of every attribute's slider, with nothing and with the others held."""
    ways = list(dict.fromkeys(row["way"] for row in found["rows"]))
    cells = {(row["attribute"], row["way"]): spread(row["spearman"], 2) for row in found["rows"]}
    rows = [[name, *(cells.get((name, way), "refused") for way in ways)] for name in found["names"]]
    shares = {row["way"]: spread(row["share"], 2) for row in found["leakage"]}
    return table(["slider", *ways], [*rows, ["diagonal share", *(shares[way] for way in ways)]])


def slid(report: dict[str, Any], shipped: str, images: str) -> list[str]:
    """The paragraph on sliders; none where no attribute was measured."""
    found = report["sliders"]
    if not found:
        return []
    return [
        f"**Sliders** of measured attributes on {found['sources']} {images}: Spearman of the "
        "amount asked and the attribute measured, and the diagonal share of the leakage. "
        f"Corrected: {found['corrections']} rounds that measure the pictures and ask for what is "
        "missing.",
        sliders(found),
        f"![Sliders]({shipped}/sliders.png)",
    ]


def varied(report: dict[str, Any], shipped: str) -> list[str]:
    """The paragraph on several answers to one feature."""
    found = report["variety"]
    if not found:
        return []
    rows = [
        [row["images"], str(row["k"]), *(spread(row[key]) for key in VARIED)]
        for row in found["rows"]
    ]
    return [
        f"**Several answers** to the features of {found['n']} held-out generated images, and what "
        "no answer is: the nearest and any images of the bank. Diversity: mean distance of two, in "
        "the audit space.",
        table(["images", "k", "cosine, steering", "cosine, audit", "diversity"], rows),
        f"![A row a target, then answers to its feature]({shipped}/answers.png)",
    ]


def related(report: dict[str, Any], shipped: str) -> list[str]:
    """The paragraph on c + (a - b)."""
    found = report["analogies"]
    if not found:
        return []
    keys = ("kept", "agreement", "back", "order")
    rows = [[row["method"], *(spread(row[key]) for key in keys)] for row in found["rows"]]
    head = ["method", "class of c kept", "attributes", "there and back", "either order"]
    return [
        f"**Analogies** c + (a - b), {found['n']} of them, a and b of one class and c of another: "
        "is the answer still of c's class, do its measured attributes change as b's differ from "
        f"a's (mean correlation of {len(found['names'])}), what is left of c once the change is "
        "taken from the answer's picture again, and do two changes come to the same in either "
        f"order (audit cosines; another c has {spread(found['unrelated'])})?",
        table(head, rows),
        f"![Above a, b and c, below them the answers]({shipped}/analogies.png)",
    ]


def realism(report: dict[str, Any]) -> list[str]:
    """What edits cost in likeness to real images."""
    found = (report["figure3"] or {}).get("realism")
    if not found:
        return []
    told = [
        f"{row['method']} (amount {row['amount']:g}) {spread(row['kernel'])}"
        for row in found["rows"]
    ]
    return [
        f"**Realism after edits**, KD-{found['audit_name']} of edited less that of unedited images "
        f"against {found['n']} real ones (unedited {spread(found['unedited']['kernel'])}, real "
        f"against real {spread(found['floor']['kernel'])}): {'; '.join(told)}.",
    ]


def arithmetic(report: dict[str, Any]) -> list[str]:
    """Edits from class to class, or why there are none."""
    figure, shares = report["figure3"], report["quality"]["class_shares"]
    called = ", ".join(f"{name} {spread(share)}" for name, share in shares.items())
    title = f"**Benign to adenocarcinoma and back** (samples, as the probe calls them: {called})"
    if figure is None:
        return [f"{title}: not measured, for {report['no_edits']}."]
    equal = figure["equal_identity"]
    return [
        f"{title}: {figure['edits']} edits of {figure['sources']} generated tiles, "
        f"{report['config']['exemplars']} exemplars a side picked by {figure['exemplars_by']}; "
        "each method at its best amount.",
        figure3(figure),
        f"At equal identity ({equal['level']:.3f}) feature minus latent arithmetic is "
        f"{spread(equal['lead']) or 'not measured'}.",
    ]


def tissue(folder: Path) -> str:
    """The section on the tissue model."""
    report = json.loads((folder / "report.json").read_text())
    run = json.loads((folder / "config.json").read_text())
    quality, copies = report["quality"], report["copies"]["found"]
    accuracy = report["judging"]["accuracy"]
    trained_on = [(run["train"] | one)["total_images"] for one in (*run["warm_up"], {})]
    header = ["map", "n", "cosine, steering", "cosine, audit", "PD", "judge agrees"]
    inverted = [
        [row["map"], str(row["n"]), *(spread(row[key]) for key in PROJECTED)]
        for row in report["inversion"]
        if row["targets"] == "real"
    ]
    lines = [
        f"`{TISSUE}` was made by `configs/{run['name']}.toml` ({run['about']}): "
        f"{', then '.join(f'{shown:,}' for shown in trained_on)} images shown, one training (seed "
        f"{run['train']['seed']}); the report is [report.md]({TISSUE}/report.md). Labels only "
        f"judge: a linear probe on audit features reads {spread(accuracy)} of the real test tiles "
        f"({accuracy['n']} sources, none of which it learned from).",
        f"![Samples]({TISSUE}/samples.png)",
        f"**Samples** (n {quality['n']}): the probe is confident (> 0.9) on "
        f"{spread(quality['confident'])} (of real tiles {spread(quality['confident_floor'])}); "
        f"{distances(report)}",
        few_images(report),
        f"**Memorisation**: {copies['verdict']}; of {copies['samples']} samples "
        f"{spread(copies['share'])} lie nearer to a training tile than 99 % of held-out tiles do.",
        "**Real tiles projected** (held-out sources): what is left of them before any edit.",
        table(header, inverted),
        *arithmetic(report),
        *realism(report),
        *related(report, TISSUE),
        *varied(report, TISSUE),
        *slid(report, TISSUE, "tiles"),
        targets(report),
    ]
    return "\n\n".join(line for line in lines if line)


def spaces(folder: Path) -> str:
    """The section on feature spaces."""
    report = json.loads((folder / "report.json").read_text())
    measures = ("probe", "neighbour", "zero_shot")
    rows = [
        [one["name"], *(spread(one[key]) or "-" for key in measures)] for one in report["spaces"]
    ]
    return "\n\n".join(
        [
            table(["space", "linear probe", "nearest of another source", "zero-shot text"], rows),
            "A space learned from the images alone against the embedded CLIP, each with its own "
            "map of the shipped generator, under the whole protocol (`embed.space`, "
            "`benchmarks/side_by_side.py`): [digits](docs/self-supervised-mnist.md), "
            "[tissue](docs/self-supervised-histology.md); both of before likeness and corrections "
            "in a closed loop.",
        ]
    )


def compared(folder: Path) -> str:
    """One comparison of objectives, as it was made."""
    config = CompareConfig.parse(json.loads((folder / "config.json").read_text()))
    place = folder.relative_to(ROOT)
    lead = (
        f"`configs/{config.name}.toml`, {config.about}: {config.budget}. {len(config.seeds)} seeds "
        f"(Student's 95 % interval over them), {config.n} samples against as many test images "
        f"([every run and verdict]({place}/report.md)). So small a budget ranks how fast "
        "objectives learn. Classes and diversity (IS, PD) above those of real images are no merit, "
        "nor are short paths (PPL) of blurred ones."
    )
    return "\n\n".join(
        [
            lead,
            (folder / "table1.md").read_text().strip(),
            f"![Samples of each objective]({place}/samples.png)",
        ]
    )


def objectives() -> str:
    """The comparisons, and the table of the paper."""
    rows = [[name, *(f"{value:g}" for value in row)] for name, row in PAPER.items()]
    paper = table(["objective", "IS ↑", "FID ↓", "LPIPS", "PPL ↓"], rows)
    told = (
        "The paper's table, of 6 000 other tiles with other networks, extractors and budget, where "
        "WGAN and WGAN-SN did not converge: only the order of rows can be compared."
    )
    return "\n\n".join(
        [
            *(compared(ROOT / place) for place in COMPARED),
            told,
            paper,
            *known(),
        ]
    )


def known() -> list[str]:
    """Objectives where the truth is known."""
    return [
        "**Where the truth is known**, on points of the plane (`python benchmarks/toys.py`; the "
        "verdict as runs get it, `unfinished` is still falling):",
        printed("toys"),
        "![Real points, and samples of every objective](docs/toys.png)",
        "Modes of Stacked MNIST, three digits as three channels, at an equal small number of "
        "images shown to the critic, all else equal, so that WGAN-GP makes a fifth of the "
        "generator's updates (`python benchmarks/stacked_mnist.py`). Huang et al. (2024, table "
        "2) report, at a far larger budget, 1000 modes for the relativistic loss with R1 and "
        "R2, 693 for the classic one with both, and that the relativistic loss with R1 alone "
        "fails; here it has neither:",
        printed("stacked-mnist"),
    ]


def printed(name: str) -> str:
    """What a benchmark left in docs/."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8").strip()


def not_by_all(name: str) -> str:
    """Of a table over seeds: the targets that not every seed met, with what each measured."""
    targets, _, _ = printed(name).partition("## Inversion")
    lines = [line for line in targets.splitlines() if line.startswith("| ")][2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    short = [row for row in rows if len(set(row[4].split(" of "))) > 1]
    told = [f"{called} {wanted} ({each}: {met})" for called, wanted, _, each, met in short]
    return "; ".join(told) or "none"


def maps() -> str:
    """What benchmarks of the map measured on the shipped MNIST model."""
    return "\n\n".join(
        [
            "Rungs, pairs and real images are compared with the library's usual steps, 600 of the "
            "cycle, or half of them, where it says so; the shipped map has 8 000.",
            "Every rung of the ladder on the same pairs and targets, digits (`python "
            "benchmarks/maps.py --bank BANK --features FEATURES`, those of the shipped map; fit in "
            "processor seconds, p95 of one edit, f2 is the audit space; the last three columns are "
            "of k answers to each target):",
            printed("maps"),
            "How good a map becomes with the number of pairs it is fitted on "
            "([table](docs/pairs.md), `python benchmarks/pairs.py`):",
            "![Cosines, R@1 and pixel error against pairs](docs/pairs.png)",
            "What steps of refinement buy, and a long descent from a random start as its end "
            "([table](docs/refinement.md), `python benchmarks/refinement.py`):",
            "![Cosines and R@1 against steps](docs/refinement.png)",
            "What real images in the cycle are worth (`fit.real`; `python benchmarks/real.py`):",
            printed("real"),
            "What a flow map's guidance does, its weights and everything else the same: "
            "[digits](docs/guidance.md) (`--set 'fit.map={ kind = \"flow\" }' --set "
            "evaluate.guidance=2`). "
            "By most of its rows what was learned, 1, is best.",
            "The protocol over three seeds of the map, generator and features the same (`python "
            "benchmarks/seeds.py`). Targets that not every seed met:",
            f"- [digits](docs/seeds-mnist.md): {not_by_all('seeds-mnist')}\n"
            f"- [tissue](docs/seeds-histology.md): {not_by_all('seeds-histology')}",
        ]
    )


def sections() -> dict[str, str]:
    """Every section by the name in its markers."""
    return {
        "numbers": digits(ROOT / SHIPPED),
        "objectives": objectives(),
        "maps": maps(),
        "spaces": spaces(ROOT / SPACES),
        "tissue": tissue(ROOT / TISSUE),
    }


def main() -> None:
    """Put the sections between their markers in README.md."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name, told in sections().items():
        begin, end = (marker.format(name) for marker in MARKERS)
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        if not after:
            raise SystemExit(f"{readme}: the markers {begin} and {end} are missing")
        text = f"{before}{begin}\n\n{told}\n\n{end}{after}"
    readme.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
