"""How good a map becomes with the number of pairs it is fitted on: a table and a figure.

python benchmarks/pairs.py [MAP_FOLDER] [--pairs 1000 ... 200000] [--seeds 0] [-o FOLDER]

Generator and feature space are those of MAP_FOLDER, the shipped MNIST model unless another is
named. Every budget is the first so many pairs of one bank, tried on the same held-out targets, and
a map takes as many steps with few pairs as with many. Intervals are over the targets (bootstrap, 95
%), of the mean over seeds. f2 is the audit space, which no map was taught with. --share 0.1 takes a
tenth of the steps of every fit.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from maps import LADDER, ROOT, quicker

from controlgen import Editor, __version__
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.features import EfficientNetLite0Config
from controlgen.figures import Point, quality_curves
from controlgen.metrics.bootstrap import Interval, mean_interval
from controlgen.metrics.inversion import paired_cosine, pixel_error, recall_at_1
from controlgen.regressors import Regressor
from controlgen.stages.fit_map import FrozenRoundTrip
from controlgen.types import Pixels
from controlgen.utils.progress import TqdmReporter

BUDGETS = [1_000, 3_000, 10_000, 30_000, 100_000, 200_000]
MAPS = ["retrieval", "ridge", "cycle-mlp"]
MEASURES = ("cosine f1", "cosine f2", "R@1", "pixel error")
AT_ONCE = 1_000  # pairs drawn between two looks of the bar
SEED = 1  # of the pairs


def pairs_of(editor: Editor, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents (n z) and the features (n d) of their images."""
    latents, features = [], []
    with TqdmReporter().start("pairs", n, unit="pairs") as meter:
        for first in range(0, n, AT_ONCE):
            samples = editor.sample(min(AT_ONCE, n - first), SEED, first)
            latents.append(samples.latents)
            features.append(editor.embed(samples.pixels))
            meter.update_to(min(first + AT_ONCE, n))
    return np.concatenate(latents), np.concatenate(features)


class Targets:
    """Pictures (n c h w) that no map was fitted on, and how near to them a map comes."""

    def __init__(self, editor: Editor, pixels: Pixels) -> None:
        self.editor, self.pixels = editor, pixels
        self.asked = editor.embed(self.pixels)
        self.audit = EfficientNetLite0Config().open()
        self.audit_asked = self.audit.embed(self.pixels)

    def of(self, fitted: Regressor) -> dict[str, np.ndarray]:
        """Each measure of each target (n)."""
        result = self.editor.generate(np.asarray(fitted.predict(self.asked), np.float32))
        obtained = self.editor.embed(result)
        return {
            "cosine f1": paired_cosine(self.asked, obtained),
            "cosine f2": paired_cosine(self.audit_asked, self.audit.embed(result)),
            "R@1": recall_at_1(self.asked, obtained),
            "pixel error": pixel_error(self.pixels, result),
        }


def main() -> None:
    """Fit, try, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("map", nargs="?", default=ROOT / "artifacts" / "pretrained" / "mnist")
    parser.add_argument("--pairs", type=int, nargs="+", default=BUDGETS)
    parser.add_argument("--n", type=int, default=1_000, help="targets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the steps of every fit")
    parser.add_argument("--maps", nargs="+", choices=LADDER, default=MAPS)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()

    editor = Editor.load(asked.map)
    latents, features = pairs_of(editor, max(asked.pairs))
    targets = Targets(editor, editor.sample(asked.n, SEED + 1).pixels)
    actual: dict[tuple[str, int], dict[str, Interval]] = {}
    with TqdmReporter().start("fits", len(asked.maps) * len(asked.pairs), unit="fits") as meter:
        for name in asked.maps:
            for budget in asked.pairs:
                attempts = []
                for seed in asked.seeds:
                    fitted = quicker(LADDER[name], asked.share).build(seed)
                    fitted.fit(
                        features[:budget],
                        latents[:budget],
                        FrozenRoundTrip(editor.generator, editor.space),
                    )
                    attempts.append(targets.of(fitted))
                actual[name, budget] = {
                    measure: mean_interval(np.mean([item[measure] for item in attempts], 0), SEED)
                    for measure in MEASURES
                }
                meter.update_to(len(actual))

    lines = [
        [name, f"{budget:,}", *(format_interval(row[measure]) for measure in MEASURES)]
        for (name, budget), row in actual.items()
    ]
    text = f"{asked.n} targets, seeds {asked.seeds}, {asked.share:g} of the usual steps\n\n"
    text += markdown_table(["map", "pairs", *MEASURES], lines) + "\n"
    print(text)
    if asked.output:
        asked.output.mkdir(parents=True, exist_ok=True)
        (asked.output / "pairs.md").write_text(text, encoding="utf-8")
        origin = {"model": Path(asked.map).name, "seed": SEED, "version": __version__}
        draw(asked.output / "pairs.png", actual, origin | {"recipe": "quality against pairs"})


def draw(
    path: Path,
    results: Mapping[tuple[str, int], Mapping[str, Interval]],
    origin: Mapping[str, object],
) -> None:
    """A panel a measure, a curve a map."""
    panels: dict[str, dict[str, list[Point]]] = {measure: {} for measure in MEASURES}
    for (name, budget), row in results.items():
        for measure, value in row.items():
            point = Point(budget, value.mean, value.low, value.high)
            panels[measure].setdefault(name, []).append(point)
    quality_curves(path, panels, "pairs", origin, logarithmic=True)


if __name__ == "__main__":
    main()
