"""What steps of refinement buy: quality against steps, and a long descent from a random start.

python benchmarks/refinement.py MAP [--targets 64] [--steps 0,5,10,20,50] [--cold 16] [-o FOLDER]

Targets are features of fresh samples, and the same with a difference of two others added. An edited
feature has no image of its own, so there is no audit cosine for it. A table goes to standard output
and, with a figure, into the folder.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from controlgen import Editor, __version__
from controlgen.editing import feature_math
from controlgen.evaluation.inversion import optimise_latents
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.features import EfficientNetLite0Config
from controlgen.figures import Point, quality_curves
from controlgen.metrics.bootstrap import Interval, mean_interval
from controlgen.metrics.inversion import paired_cosine, recall_at_1, relative_latent_norm
from controlgen.rng import normals
from controlgen.types import Features, Latents

SEED, SINGLES = 11, 5  # edits timed one at a time
TIMED = 20  # steps of the long descent timed, of one target alone; all cost the same
MEASURES = ("cosine f1", "cosine audit", "R@1", "norm over sqrt(z)")


class Row(NamedTuple):
    """One number of steps on one kind of target."""

    kind: str
    name: str
    steps: int
    values: dict[str, Interval | None]
    milliseconds: float | None


def measured(
    editor: Editor, latents: Latents, asked: Features, audit: Any, audit_features: Any
) -> dict[str, Interval | None]:
    """All measures of answers; R@1 is among the targets asked for."""
    pixels = editor.generate(latents)
    obtained = editor.embed(pixels)
    values = {
        "cosine f1": paired_cosine(asked, obtained),
        "cosine audit": None
        if audit_features is None
        else paired_cosine(audit_features, audit.embed(pixels)),
        "R@1": recall_at_1(asked, obtained),
        "norm over sqrt(z)": relative_latent_norm(latents),
    }
    return {
        name: None if value is None else mean_interval(value, SEED, 1000)
        for name, value in values.items()
    }


def timed(editor: Editor, asked: Features, steps: int) -> float:
    """Median milliseconds of one edit, feature to image, by itself."""
    taken = []
    for index in range(SINGLES + 1):
        row = asked[index % len(asked)][None]
        began = time.perf_counter()
        editor.generate(editor.refine(editor.invert(row), row, steps))
        taken.append(1000 * (time.perf_counter() - began))
    return float(np.median(taken[1:]))


def rows_of(editor: Editor, given: argparse.Namespace) -> list[Row]:
    """Every number of steps on both kinds of target, and the long descent on the first few."""
    n, audit = given.targets, EfficientNetLite0Config().open()
    pixels = editor.sample(3 * n, seed=SEED, start=100_000).pixels
    features = editor.embed(pixels)
    plain, a, b = features[:n], features[n : 2 * n], features[2 * n :]
    targets = {"sample": plain, "edited, c + (a - b)": feature_math.normalize_rows(plain + (a - b))}
    few, rows = min(given.cold, n), []
    for kind, asked in targets.items():
        recorded = audit.embed(pixels[:n]) if kind == "sample" else None
        start = editor.invert(asked)
        for steps in given.steps:
            actual = editor.refine(start, asked, steps)
            rows.append(
                Row(
                    kind,
                    f"{steps}",
                    steps,
                    measured(editor, actual, asked, audit, recorded),
                    timed(editor, asked, steps),
                )
            )
        # R@1 of few is among few, so the map is shown on the same ones.
        if few:
            cold = normals(SEED, "optimisation start", 0, few, editor.latent_size)
            actual = optimise_latents(editor, asked[:few], cold, given.cold_steps)
            began = time.perf_counter()
            optimise_latents(editor, asked[:1], cold[:1], TIMED)
            spent = 1000 * (time.perf_counter() - began) / TIMED * given.cold_steps
            some = asked[:few], audit, None if recorded is None else recorded[:few]
            name = f"{given.cold_steps} cold, {few} targets"
            rows.append(Row(kind, name, -1, measured(editor, actual, *some), spent))
            rows.append(Row(kind, f"0, same {few}", -2, measured(editor, start[:few], *some), None))
    return rows


def main() -> None:
    """Measure, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("map", type=Path)
    parser.add_argument("--targets", type=int, default=64)
    parser.add_argument(
        "--steps",
        default=[0, 5, 10, 20, 50],
        type=lambda text: sorted({0, *(int(count) for count in text.split(","))}),
    )
    parser.add_argument("--cold", type=int, default=16, help="targets of the long descent")
    parser.add_argument("--cold-steps", type=int, default=1000)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    rows = rows_of(Editor.load(given.map), given)

    base = {row.kind: row.milliseconds for row in rows if row.steps == 0}
    lines = []
    for row in rows:
        spent = row.milliseconds
        times = ["-", "-"]
        if spent is not None:
            times = [f"{spent:.1f}", f"{spent / (base[row.kind] or 1):.1f}"]
        lines.append(
            [row.kind, row.name, *(format_interval(row.values[m]) for m in MEASURES), *times]
        )
    head = ["targets", "steps", *MEASURES, "ms an edit", "times as long as the map"]
    text = f"n = {given.targets}, seed {SEED}\n\n{markdown_table(head, lines)}\n"
    print(text)
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
        (given.output / "refinement.md").write_text(text, encoding="utf-8")
        draw(given.output / "refinement.png", rows, {"model": given.map.name, "seed": SEED})


def draw(path: Path, rows: list[Row], provenance: dict[str, Any]) -> None:
    """Curves over the steps; the long descent is where the dashed lines are."""
    panels: dict[str, dict[str, list[Point]]] = {}
    ends: dict[str, dict[str, float]] = {}
    for row in rows:
        for measure in MEASURES[:3]:
            value = row.values[measure]
            if value is not None and row.steps >= 0:
                point = Point(row.steps, value.mean, value.low, value.high)
                panels.setdefault(measure, {}).setdefault(row.kind, []).append(point)
            elif value is not None and row.steps == -1 and measure != "R@1":
                ends.setdefault(measure, {})[row.kind] = value.mean
    recipe = "quality against steps of refinement; dashed: a long descent from a random start"
    origin = provenance | {"recipe": recipe, "version": __version__}
    quality_curves(path, panels, "steps", origin, ends)


if __name__ == "__main__":
    main()
