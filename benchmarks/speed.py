"""Speed as ratios from one run: training steps in bf16 and fp32, the map against optimisation.

python benchmarks/speed.py [MAP_FOLDER]
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from controlgen import Editor
from controlgen.base_config import read_toml
from controlgen.config import TrainConfig
from controlgen.datasets import Digits
from controlgen.training import TrainState, train
from controlgen.utils.malloc import retain_freed_memory

ROOT = Path(__file__).parents[1]
STEPS = 1000  # of the optimisation that the map replaces; 20 are timed
RETAINED, GIVEN_BACK, ROUNDS = "--kept", "--given-back", 5


def seconds(action: Callable[[], object], repeats: int) -> np.ndarray:
    """Wall time of each call, after one that is not counted."""
    action()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return np.array(taken)


def training_rate(precision: str, run: str = "mnist") -> float:
    """Images a second of the training step of a run, median of thirty steps."""
    settings = read_toml(ROOT / "configs" / f"{run}.toml")["train"]
    config = TrainConfig.parse({**settings, "precision": precision, "device": "cpu"})
    dataset = Digits().open()
    steps = train(config, dataset, TrainState(config, dataset.image_shape))
    return config.batch_size / float(np.median(seconds(lambda: next(steps), 30)))


def memory() -> None:
    """The demo's training with freed memory kept, as flows keep it, and given back; in turns.

    What a process once kept it keeps, and what it freed before lies about, so each has its own.
    """
    rates: dict[str, list[float]] = {RETAINED: [], GIVEN_BACK: []}
    for _ in range(ROUNDS):
        for how, actual in rates.items():
            command = [sys.executable, __file__, how]
            actual.append(float(subprocess.check_output(command, text=True)))
    ratios = np.divide(rates[RETAINED], rates[GIVEN_BACK])
    print(
        f"training, freed memory kept {np.median(rates[RETAINED]):.0f}, given back "
        f"{np.median(rates[GIVEN_BACK]):.0f} images a second: ratio {np.median(ratios):.2f} "
        f"({ratios.min():.2f} to {ratios.max():.2f}, {ROUNDS} rounds)"
    )


def edits(folder: str) -> None:
    """One edit, feature to image, and 1 000 steps of Adam on the latent instead."""
    editor = Editor.load(folder)
    samples = editor.sample(64, seed=1)
    features = editor.embed(samples.pixels)
    single = features[:1]
    by_map = 1000 * seconds(lambda: editor.generate(editor.invert(single)), 200)

    target = torch.from_numpy(single)
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
    if sys.argv[1:] in ([RETAINED], [GIVEN_BACK]):
        if sys.argv[1] == RETAINED and not retain_freed_memory():
            sys.exit("this system's allocator takes no such wish")
        print(training_rate("bf16", "mnist-quick"))
        return

    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    bf16, fp32 = training_rate("bf16"), training_rate("fp32")
    print(f"training: bf16 {bf16:.0f}, fp32 {fp32:.0f} images a second: ratio {bf16 / fp32:.2f}")
    memory()
    edits(sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "artifacts" / "pretrained" / "mnist"))


if __name__ == "__main__":
    main()
