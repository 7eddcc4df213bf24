"""Speed as ratios from one run: training steps in bf16 and fp32, the map against optimisation.

python benchmarks/speed.py [MAP_FOLDER]
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from controlgen import Editor
from controlgen.config import TrainConfig
from controlgen.datasets import Digits
from controlgen.memory import keep_freed
from controlgen.spec import read_toml
from controlgen.training import TrainState, train

ROOT = Path(__file__).parents[1]
STEPS = 1000  # of the optimisation that the map replaces; 20 are timed


def seconds(action: Callable[[], object], repeats: int) -> np.ndarray:
    """Wall time of each call, after one that is not counted."""
    action()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return np.array(taken)


def training_rate(precision: str) -> float:
    """Images a second of the shipped network's training step, median of thirty steps."""
    settings = read_toml(ROOT / "configs" / "mnist.toml")["train"]
    config = TrainConfig.parse({**settings, "precision": precision, "device": "cpu"})
    dataset = Digits().open()
    steps = train(config, dataset, TrainState(config, dataset.image_shape))
    return config.batch_size / float(np.median(seconds(lambda: next(steps), 30)))


def edits(folder: str) -> None:
    """One edit, feature to image, and 1 000 steps of Adam on the latent instead."""
    editor = Editor.load(folder)
    samples = editor.sample(64, seed=1)
    features = editor.embed(samples.pixels)
    one = features[:1]
    by_map = 1000 * seconds(lambda: editor.generate(editor.invert(one)), 200)

    target = torch.from_numpy(one)
    latents = torch.zeros(1, editor.latent_size, requires_grad=True)
    adam = torch.optim.Adam([latents], lr=0.05)

    def step() -> None:
        adam.zero_grad()
        loss = 1 - (editor.features_of_latents(latents) * target).sum()
        loss.backward()
        adam.step()

    by_steps = 1000 * STEPS * float(np.median(seconds(step, 20)))
    p50, p95 = np.percentile(by_map, [50, 95])
    print(f"one edit by the map: p50 {p50:.1f} ms, p95 {p95:.1f} ms")
    print(f"optimisation of {STEPS} steps: {by_steps:.0f} ms, {by_steps / p50:.0f} times as long")
    batch = 1000 * float(np.median(seconds(lambda: editor.generate(editor.invert(features)), 5)))
    print(f"64 edits at once: {64 * p50 / batch:.1f} times faster than one by one")


def main() -> None:
    """Print every ratio."""
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    bf16, fp32 = training_rate("bf16"), training_rate("fp32")
    print(f"training: bf16 {bf16:.0f}, fp32 {fp32:.0f} images a second: ratio {bf16 / fp32:.2f}")
    edits(sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "artifacts" / "pretrained" / "mnist"))
    # Last, for it holds from then on; in what flows do it holds from the beginning.
    if keep_freed():
        kept = training_rate("bf16")
        print(f"training, freed memory kept: {kept:.0f} images a second: ratio {kept / bf16:.2f}")


if __name__ == "__main__":
    main()
