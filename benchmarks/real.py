"""What real images in a map's cycle are worth: inversion of held-out real images before and after.

python benchmarks/real.py [MAP_FOLDER] [--config CONFIG] [--set KEY=VALUE ...] [--real 4000]

Generator and feature space are those of MAP_FOLDER, the shipped MNIST model unless another is
named; the real images are the training and test splits of the config's data. The same map is fitted
on the same pairs twice, without real images and with --real of the training split, of which no
latent is known; then both are asked for real images of the test split and for generated ones that
neither was fitted on. Intervals are over images, or their sources (bootstrap, 95 %), of the mean
over seeds; the last row of each kind is the difference, image by image. f2 is the audit space.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from maps import LADDER, ROOT, quicker
from pairs import MEASURES, SEED, Targets, pairs_of

from controlgen import Editor
from controlgen.config import RunConfig
from controlgen.datasets import with_content_hash
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.images import to_signed_float
from controlgen.metrics.bootstrap import mean_interval
from controlgen.metrics.classifier import source_ids
from controlgen.regressors import RealTargets
from controlgen.rng import stream
from controlgen.stages.fit_map import FrozenRoundTrip
from controlgen.utils.progress import TqdmReporter


def main() -> None:
    """Fit twice, try on both kinds, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("map", nargs="?", default=ROOT / "artifacts" / "pretrained" / "mnist")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "mnist.toml")
    parser.add_argument("--set", nargs="+", default=[], dest="overrides")
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--real", type=int, default=4_000, help="images of the training split")
    parser.add_argument("--n", type=int, default=1_000, help="targets of each kind at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the steps of every fit")
    parser.add_argument("-o", "--output", type=Path, help="folder for real.md")
    asked = parser.parse_args()

    editor = Editor.load(asked.map)
    data = with_content_hash(RunConfig.load(asked.config, asked.overrides).train.dataset)
    train, test = data.open(), data.with_split("test").open()
    some = np.sort(stream(SEED, "real targets").permutation(len(train))[: asked.real])
    held = np.sort(stream(SEED, "real test").permutation(len(test))[: asked.n])
    pixels = train.pixels(some)
    real = RealTargets(torch.from_numpy(editor.embed(pixels)), to_signed_float(pixels))
    latents, features = pairs_of(editor, asked.pairs)
    targets = {
        "real": (Targets(editor, test.pixels(held)), source_ids(test, held)),
        "generated": (Targets(editor, editor.sample(asked.n, SEED + 1).pixels), None),
    }
    ways = {"pairs alone": None, f"and {len(some):,} real images": real}
    actual: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}
    fits = [(seed, name) for seed in asked.seeds for name in ways]
    with TqdmReporter().start("fits", len(fits), unit="fits") as meter:
        for done, (seed, name) in enumerate(fits, 1):
            fitted = quicker(LADDER["cycle-mlp"], asked.share).build(seed)
            fitted.fit(
                features, latents, FrozenRoundTrip(editor.generator, editor.space, ways[name])
            )
            for kind, (attempts, _) in targets.items():
                actual.setdefault((kind, name), []).append(attempts.of(fitted))
            meter.update_to(done)

    lines = []
    for kind, (_, sources) in targets.items():
        means = [
            {
                measure: np.mean([run[measure] for run in actual[kind, name]], 0)
                for measure in MEASURES
            }
            for name in ways
        ]
        rows = dict(zip(ways, means, strict=True))
        rows["difference"] = {
            measure: means[1][measure] - means[0][measure] for measure in MEASURES
        }
        for name, row in rows.items():
            cells = (
                format_interval(mean_interval(row[measure], SEED, 1000, sources))
                for measure in MEASURES
            )
            lines.append([kind, name, str(len(row["R@1"])), *cells])
    text = f"{len(features):,} pairs, seeds {asked.seeds}, {asked.share:g} of the usual steps\n\n"
    text += markdown_table(["targets", "fitted on", "n", *MEASURES], lines) + "\n"
    print(text)
    if asked.output:
        (asked.output / "real.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
