"""Modes of Stacked MNIST that objectives reach at an equal small budget: the order of an ablation.

python benchmarks/stacked_mnist.py [IMAGES] [SEEDS] [STORE] [OUT]

Huang et al. 2024, table 2, on a small ResNet: relativistic + R1 + R2 reaches 1000 modes (KL 0.078),
the classic loss with R1 + R2 693 (0.927), the relativistic loss with R1 alone fails. Here the same
network, rate and images for all; digits are read channel by channel by a judge taught on MNIST's
labels. Prints a markdown table of modes and KL over 26 000 samples, with what a perfect generator
gives at that number, and writes it as OUT/stacked-mnist.md where OUT is named. Runs are kept in
STORE and gone on with.
"""

import sys
from pathlib import Path

import numpy as np

from controlgen import stages
from controlgen.artifacts import Store
from controlgen.config import TrainConfig
from controlgen.datasets import MNIST
from controlgen.editing.checkpoint import load_generator
from controlgen.errors import Diverged
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.evaluation.objective_table import mean_over_seeds
from controlgen.images import generate_pixels
from controlgen.metrics.classifier import Judge, train_judge
from controlgen.metrics.mode_coverage import ModeCoverage, mode_coverage, stacked_mnist_modes
from controlgen.rng import normals

OBJECTIVES = {
    "relativistic + R1 + R2": {"kind": "r3gan", "gamma": 1.0},
    "relativistic": {"kind": "r3gan", "gamma": 0.0},
    "non-saturating + R1 + R2": {"kind": "non-saturating", "gamma": 1.0},
    "non-saturating": {"kind": "non-saturating", "gamma": 0.0},
    "WGAN-GP": {"kind": "wgan-gp"},
}
SAMPLES, BATCH = 26_000, 500  # as published


def settings(objective: dict, images: int, seed: int) -> TrainConfig:
    """Equal in everything but the objective."""
    return TrainConfig.parse(
        {
            "dataset": {"kind": "stacked-mnist"},
            "network": {"kind": "r3gan", "widths": [96, 96, 48], "blocks": 1, "patch": 2},
            "objective": objective,
            "batch_size": 16,
            "total_images": images,
            "burn_in_images": images,
            "learning_rate": {"start": 5e-4, "end": 1e-4},
            "beta2": {"start": 0.9, "end": 0.99},
            "ema_half_life": {"start": 0, "end": 2_000},
            "seed": seed,
        }
    )


def modes_of(gan: Path, judge: Judge) -> ModeCoverage:
    """The modes among samples, each channel read as a digit."""
    generator, _ = load_generator(gan)
    calls = []
    for first in range(0, SAMPLES, BATCH):
        latents = normals(0, "stacked samples", first, first + BATCH, generator.latent_size)
        pixels = generate_pixels(generator, latents)
        digits = judge.probabilities(pixels.reshape(-1, 1, 32, 32)).argmax(1)
        calls.append(stacked_mnist_modes(digits.reshape(-1, 3)))
    return mode_coverage(np.concatenate(calls), seed=0)


def main() -> None:
    """Train, count, print."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 40_000
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    store = Store(Path(sys.argv[3] if len(sys.argv) > 3 else "artifacts"))
    judge, actual = train_judge(MNIST().open(), 3, 0), {name: [] for name in OBJECTIVES}
    for seed in range(seeds):
        for name, objective in OBJECTIVES.items():
            try:
                ref = stages.train_gan("stacked", settings(objective, images, seed), store)
            except Diverged as error:
                print(f"{name}, seed {seed}: {error}", file=sys.stderr)
                continue
            actual[name].append(modes_of(store.path(ref), judge))
    rows = [
        [
            name,
            f"{len(runs)} of {seeds}",
            format_interval(mean_over_seeds([item.covered for item in runs]), 0) if runs else "-",
            format_interval(mean_over_seeds([item.kl.mean for item in runs])) if runs else "-",
        ]
        for name, runs in actual.items()
    ]
    any_run = next(run for runs in actual.values() for run in runs)
    perfect = ["a perfect generator", "-", f"{any_run.perfect_seen:.0f}"]
    rows.append([*perfect, f"{any_run.perfect_kl:.3f}"])
    reported = (
        f"{images:,} images, {seeds} seeds, {SAMPLES:,} samples, Student's 95 % interval over seeds"
    )
    text = (
        f"{reported}\n\n{markdown_table(['objective', 'finished', 'modes of 1000', 'KL'], rows)}\n"
    )
    print(text)
    if len(sys.argv) > 4:
        (Path(sys.argv[4]) / "stacked-mnist.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
