"""Objectives on the ring of eight and the grid of twenty-five Gaussians, where the truth is known.

python benchmarks/toys.py [STEPS] [OUT]

The same fully connected networks, learning rate and number of generator steps for every objective,
one seed. Prints a markdown table (blobs reached, share of samples within three deviations of one,
verdict), and writes it as OUT/toys.md and the samples as OUT/toys.png beside the real points. About
a minute and a half a cell for 12 000 steps on one core.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from gaussian_mixtures import GaussianMixtureDataset, fourier_features, to_points

from controlgen import __version__, figures
from controlgen.config import TrainConfig
from controlgen.errors import Diverged
from controlgen.evaluation.convergence import TrainingObserver, classify_run, verdict_label
from controlgen.evaluation.markdown import markdown_table
from controlgen.images import to_pixels
from controlgen.metrics.mode_coverage import mixture_modes
from controlgen.rng import normals, torch_stream
from controlgen.training import TrainState, train

OBJECTIVES = {
    "R3GAN": {"kind": "r3gan", "gamma": 0.02},
    "WGAN-GP": {"kind": "wgan-gp", "critic_steps": 2},
    "WGAN": {"kind": "wgan", "critic_steps": 2},
    "WGAN-SN": {"kind": "wgan-sn", "critic_steps": 2},
    "non-saturating": {"kind": "non-saturating", "gamma": 0},
    "non-saturating + R1 + R2": {"kind": "non-saturating", "gamma": 0.02},
}
LAYOUTS = ("ring", "grid")
BATCH, LOOKS, N_SAMPLES = 128, 25, 2_000


def settings(objective: dict, steps: int) -> TrainConfig:
    """Equal in everything but the objective; `steps` are the generator's."""
    images = BATCH * steps * objective.get("critic_steps", 1)
    rate = 1e-4 if objective["kind"] == "wgan" else 2e-3
    return TrainConfig.parse(
        {
            "dataset": {"kind": "digits"},  # unused: the loop is given the toy
            "network": {"kind": "mlp", "width": 128, "depth": 4, "latent_size": 2},
            "objective": objective,
            "batch_size": BATCH,
            "total_images": images,
            "burn_in_images": images,
            "learning_rate": {"start": rate, "end": rate / 20},
            "beta2": {"start": 0.9, "end": 0.99},
            "ema_half_life": {"start": 0, "end": 50 * BATCH},
            "precision": "fp32",
        }
    )


def outcome(toy: GaussianMixtureDataset, config: TrainConfig) -> tuple[np.ndarray, str]:
    """Points of the averaged generator (n 2) and the verdict on its training."""
    state = TrainState(config, toy.image_shape)
    size = config.network.latent_size
    untrained = config.network.generator(2, torch_stream(0, "untrained weights"))
    watcher = TrainingObserver(toy, fourier_features, untrained, size, 500, 0)
    recorded, stopped = [], None
    due = 0
    try:
        for step in train(config, toy, state):
            if step.images_seen >= due:
                due += config.total_images // LOOKS
                recorded.append(
                    watcher.observe(step.images_seen, state.generator, state.average, state.critic)
                )
    except Diverged as error:
        stopped = str(error)
    with torch.no_grad():
        samples = state.average(torch.from_numpy(normals(1, "toy samples", 0, N_SAMPLES, size)))
    return to_points(to_pixels(samples)), verdict_label(classify_run(recorded, stopped), recorded)


def main() -> None:
    """Train, print, draw."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 12_000
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "docs/results")
    out.mkdir(parents=True, exist_ok=True)  # before, for what is drawn takes long
    clouds, rows = {}, []
    for layout in LAYOUTS:
        toy = GaussianMixtureDataset(layout)
        clouds[layout] = {"real points": to_points(toy.pixels(np.arange(N_SAMPLES)))}
        for name, objective in OBJECTIVES.items():
            points, reported = outcome(toy, settings(objective, steps))
            calls = mixture_modes(points, toy.centres, toy.spread)
            reached, modes = len(set(calls[calls >= 0].tolist())), len(toy.centres)
            clouds[layout][f"{name}: {reported}"] = points
            rows.append(
                [layout, name, f"{reached} of {modes}", f"{(calls >= 0).mean():.2f}", reported]
            )
            print(rows[-1], file=sys.stderr, flush=True)
    head = ["toy", "objective", "blobs reached", "within 3 deviations", "verdict"]
    budget = f"{steps:,} steps of the generator, {N_SAMPLES:,} samples, one seed"
    text = f"{budget}\n\n{markdown_table(head, rows)}\n"
    print(text)
    (out / "toys.md").write_text(text, encoding="utf-8")
    recipe = f"benchmarks/toys.py {steps}"
    origin = {"synthetic": "true", "recipe": recipe, "seed": "0", "version": __version__}
    figures.point_clouds(out / "toys.png", clouds, origin)


if __name__ == "__main__":
    main()
