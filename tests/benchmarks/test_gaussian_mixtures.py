"""Gaussian mixtures: modes at the published places, and verdicts on generators of known truth."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from controlgen.evaluation.convergence import TrainingObserver, classify_run
from controlgen.metrics.mode_coverage import mixture_modes
from controlgen.networks import MLPConfig
from controlgen.rng import torch_stream

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # scripts, not a package
from gaussian_mixtures import GaussianMixtureDataset, fourier_features, to_points


@pytest.mark.parametrize(("layout", "modes"), [("ring", 8), ("grid", 25)])
def test_points_lie_in_their_modes(layout: Any, modes: int) -> None:
    toy = GaussianMixtureDataset(layout, n=20_000, seed=1)
    assert toy.image_shape == (2, 1, 1)
    assert toy.centres.shape == (modes, 2)
    assert np.abs(toy.centres).max() == pytest.approx(0.8)
    calls = mixture_modes(to_points(toy.pixels(np.arange(len(toy)))), toy.centres, toy.spread)
    # 1 - exp(-9/2) of a planar Gaussian lies within three deviations.
    lost = (calls < 0).mean()
    assert lost == pytest.approx(math.exp(-4.5), abs=0.01)
    shares = np.bincount(calls[calls >= 0], minlength=modes) / len(calls)
    assert shares == pytest.approx(np.full(modes, (1 - lost) / modes), abs=0.01)


def test_modes_are_as_wide_as_published() -> None:
    ring, grid = GaussianMixtureDataset("ring"), GaussianMixtureDataset("grid")
    # Radius 2 and deviation 0.02; step 2 and deviation 0.05.
    assert np.linalg.norm(ring.centres, axis=1) / ring.spread == pytest.approx(np.full(8, 100))
    assert np.unique(grid.centres[:, 0].round(9)) / grid.spread == pytest.approx(
        [-80, -40, 0, 40, 80]
    )
    points = to_points(ring.pixels(np.arange(len(ring))))
    calls = mixture_modes(points, ring.centres, ring.spread, within=10)
    apart = points - ring.centres[calls]
    lattice = (1 / 127.5) ** 2 / 12
    assert apart.var() == pytest.approx(ring.spread**2 + lattice, rel=0.05)


def test_a_point_outside_every_mode_has_no_mode() -> None:
    centres = np.array([[0.0, 0.0], [1.0, 0.0]])
    points = np.array([[0.1, 0.0], [0.95, 0.0], [0.5, 0.0], [0.0, 0.31]])
    assert mixture_modes(points, centres, 0.1).tolist() == [0, 1, -1, -1]


def test_features_approximate_the_gaussian_kernel() -> None:
    pixels = GaussianMixtureDataset("grid", n=200).pixels(np.arange(200))
    points, features = to_points(pixels), fourier_features(pixels)
    apart = np.square(points[:, None] - points[None]).sum(2)
    assert features @ features.T == pytest.approx(np.exp(-apart / (2 * 0.3**2)), abs=0.35)
    assert np.abs(features @ features.T - np.exp(-apart / (2 * 0.3**2))).mean() < 0.08


class Points(nn.Module):
    """A "generator" that returns given points for any latents."""

    def __init__(self, points: np.ndarray) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.from_numpy(points).float(), requires_grad=False)
        self.at = 0

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        first, self.at = self.at, (self.at + len(latents)) % len(self.points)
        return self.points[first : first + len(latents)][..., None, None]


def sample_from(toy: GaussianMixtureDataset, modes: list[int], seed: int) -> Points:
    """400 true points of these modes alone."""
    draws = np.random.default_rng(seed)
    centres = toy.centres[draws.choice(modes, 400)]
    return Points(centres + toy.spread * draws.standard_normal((400, 2)))


def verdict_on(layout: Any, moments: list[Points]) -> str:
    """The verdict on a training that had these generators, after one of noise."""
    toy = GaussianMixtureDataset(layout, n=2000)
    noise = Points(0.3 * np.random.default_rng(0).standard_normal((400, 2)))
    observer = TrainingObserver(toy, fourier_features, noise, latent_size=2, n=400, seed=0)
    critic = MLPConfig(width=8, depth=1).critic(2, torch_stream(0, "critic"))
    recorded = [
        observer.observe(number, moment, moment, critic)
        for number, moment in enumerate([noise, *moments])
    ]
    return classify_run(recorded).name


@pytest.mark.parametrize("layout", ["ring", "grid"])
def test_verdicts_on_generators_of_known_truth(layout: Any) -> None:
    toy = GaussianMixtureDataset(layout)
    every = list(range(len(toy.centres)))
    perfect = [sample_from(toy, every, seed) for seed in range(12)]
    assert verdict_on(layout, perfect) == "converged"
    few = [sample_from(toy, every[:2], seed) for seed in range(12)]
    assert verdict_on(layout, few) == "collapsed"
    noise = [
        Points(0.3 * np.random.default_rng(seed).standard_normal((400, 2))) for seed in range(12)
    ]
    assert verdict_on(layout, noise) == "diverged"
    # Modes are lost in turn, most are there at any time.
    coming = [
        sample_from(toy, every if number % 2 else every[: len(every) * 3 // 4], number)
        for number in range(12)
    ]
    assert verdict_on(layout, coming) == "oscillating"
    # A mode more each time.
    growing = [sample_from(toy, every[: 1 + len(every) * at // 12], at) for at in range(12)]
    assert verdict_on(layout, growing) == "unfinished"
