"""Toys: blobs where they should be, and the verdict on generators whose truth is known."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from controlgen.datasets.gaussian_mixtures import Toy, points_of, toy_features
from controlgen.evaluation.convergence import Watcher, verdict
from controlgen.metrics.mode_coverage import blob_calls
from controlgen.networks import MLPNetwork
from controlgen.rng import torch_stream


@pytest.mark.parametrize(("layout", "modes"), [("ring", 8), ("grid", 25)])
def test_points_lie_in_their_blobs(layout: Any, modes: int) -> None:
    toy = Toy(layout, n=20_000, seed=1)
    assert toy.image_shape == (2, 1, 1)
    assert toy.centres.shape == (modes, 2)
    assert np.abs(toy.centres).max() == pytest.approx(0.8)
    calls = blob_calls(points_of(toy.pixels(np.arange(len(toy)))), toy.centres, toy.spread)
    # Of a Gaussian of the plane, 1 - exp(-9/2) lies within three deviations.
    lost = (calls < 0).mean()
    assert lost == pytest.approx(math.exp(-4.5), abs=0.01)
    shares = np.bincount(calls[calls >= 0], minlength=modes) / len(calls)
    assert shares == pytest.approx(np.full(modes, (1 - lost) / modes), abs=0.01)


def test_the_blobs_are_as_wide_as_published() -> None:
    ring, grid = Toy("ring"), Toy("grid")
    # Radius 2 and deviation 0.02; step 2 and deviation 0.05.
    assert np.linalg.norm(ring.centres, axis=1) / ring.spread == pytest.approx(np.full(8, 100))
    assert np.unique(grid.centres[:, 0].round(9)) / grid.spread == pytest.approx(
        [-80, -40, 0, 40, 80]
    )
    points = points_of(ring.pixels(np.arange(len(ring))))
    calls = blob_calls(points, ring.centres, ring.spread, within=10)
    apart = points - ring.centres[calls]
    lattice = (1 / 127.5) ** 2 / 12
    assert apart.var() == pytest.approx(ring.spread**2 + lattice, rel=0.05)


def test_a_point_in_no_blob_is_called_so() -> None:
    centres = np.array([[0.0, 0.0], [1.0, 0.0]])
    points = np.array([[0.1, 0.0], [0.95, 0.0], [0.5, 0.0], [0.0, 0.31]])
    assert blob_calls(points, centres, 0.1).tolist() == [0, 1, -1, -1]


def test_features_are_of_the_gaussian_kernel() -> None:
    pixels = Toy("grid", n=200).pixels(np.arange(200))
    points, features = points_of(pixels), toy_features(pixels)
    apart = np.square(points[:, None] - points[None]).sum(2)
    assert features @ features.T == pytest.approx(np.exp(-apart / (2 * 0.3**2)), abs=0.35)
    assert np.abs(features @ features.T - np.exp(-apart / (2 * 0.3**2))).mean() < 0.08


class Points(nn.Module):
    """A "generator" that returns given points, whatever it is asked."""

    def __init__(self, points: np.ndarray) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.from_numpy(points).float(), requires_grad=False)
        self.at = 0

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        first, self.at = self.at, (self.at + len(latents)) % len(self.points)
        return self.points[first : first + len(latents)][..., None, None]


def drawn_from(toy: Toy, blobs: list[int], seed: int) -> Points:
    """400 true points of these blobs alone."""
    draws = np.random.default_rng(seed)
    centres = toy.centres[draws.choice(blobs, 400)]
    return Points(centres + toy.spread * draws.standard_normal((400, 2)))


def judged(layout: Any, moments: list[Points]) -> str:
    """The verdict on a training that had these generators, after one of noise."""
    toy = Toy(layout, n=2000)
    noise = Points(0.3 * np.random.default_rng(0).standard_normal((400, 2)))
    watcher = Watcher(toy, toy_features, noise, latent_size=2, n=400, seed=0)
    critic = MLPNetwork(width=8, depth=1).critic(2, torch_stream(0, "critic"))
    seen = [
        watcher.look(number, moment, moment, critic)
        for number, moment in enumerate([noise, *moments])
    ]
    return verdict(seen).name


@pytest.mark.parametrize("layout", ["ring", "grid"])
def test_the_verdict_on_generators_whose_truth_is_known(layout: Any) -> None:
    toy = Toy(layout)
    every = list(range(len(toy.centres)))
    perfect = [drawn_from(toy, every, seed) for seed in range(12)]
    assert judged(layout, perfect) == "converged"
    few = [drawn_from(toy, every[:2], seed) for seed in range(12)]
    assert judged(layout, few) == "collapsed"
    noise = [
        Points(0.3 * np.random.default_rng(seed).standard_normal((400, 2))) for seed in range(12)
    ]
    assert judged(layout, noise) == "diverged"
    # Blobs it has and loses in turn: never the same ones missing, and most are there.
    coming = [
        drawn_from(toy, every if number % 2 else every[: len(every) * 3 // 4], number)
        for number in range(12)
    ]
    assert judged(layout, coming) == "oscillating"
    # Each moment a blob more: it is not done.
    growing = [drawn_from(toy, every[: 1 + len(every) * at // 12], at) for at in range(12)]
    assert judged(layout, growing) == "unfinished"
