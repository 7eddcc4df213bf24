"""The flow's answers where their distribution is known, and what the cycle adds to them."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from controlgen import rng
from controlgen.regressors.flow import FlowRegressor
from controlgen.regressors.ridge import RidgeRegressor

# z = A f + B e with f and e standard normal: everything about z given f is known.
A = np.array([[0.9, -0.3], [0.2, 0.6]])
B = np.array([[0.5, 0.0], [0.4, 0.3]])
TARGETS = np.array([[1.0, 0.0], [1.0, 1.0]])
DRAWS = 3000
# The error of what is learned; that of a mean of 3 000 draws is below 0.02.
MEAN, COVARIANCE = 0.12, 0.12
Table = NDArray[np.float64]


@pytest.fixture(scope="module")
def linear() -> FlowRegressor:
    features, hidden = (rng.normals(0, name, 0, 8000, 2) for name in ("features", "hidden"))
    flow = FlowRegressor(
        width=48,
        depth=1,
        batch_size=256,
        match_steps=600,
        learning_rate=5e-3,
        sampler_steps=12,
        drop_share=0.25,
        noise_share=0.4,
    )
    return flow.fit(features, features @ A.T + hidden @ B.T)


def sample_table(flow: FlowRegressor, level: float = 0.0) -> Table:
    return flow.sampled(TARGETS, rng.normals(1, "draws", 0, DRAWS, 2), level)


def moments(answers: Table) -> tuple[Table, Table]:
    """Mean (z) and covariance (z z) of the answers to one feature."""
    return answers.mean(0), np.cov(answers.T)


def test_answers_have_the_conditional_mean_and_covariance(linear: FlowRegressor) -> None:
    for feature, answers in zip(TARGETS, sample_table(linear), strict=True):
        mean, covariance = moments(answers)
        np.testing.assert_allclose(mean, A @ feature, atol=MEAN)
        np.testing.assert_allclose(covariance, B @ B.T, atol=COVARIANCE)


def test_predict_follows_noise_zero_to_the_conditional_mean(linear: FlowRegressor) -> None:
    np.testing.assert_allclose(linear.predict(TARGETS), TARGETS @ A.T, atol=MEAN)


def test_a_level_means_that_the_feature_is_that_uncertain(linear: FlowRegressor) -> None:
    """Errors in variables: at level 1 half of the variance seen is noise."""
    for feature, answers in zip(TARGETS, sample_table(linear, level=1.0), strict=True):
        mean, covariance = moments(answers)
        np.testing.assert_allclose(mean, A @ feature / 2, atol=MEAN)
        np.testing.assert_allclose(covariance, B @ B.T + A @ A.T / 2, atol=COVARIANCE)


def test_two_modes_are_both_answered_in_their_shares() -> None:
    """z is 2 or -2; the feature says how likely each is, but never which."""
    draws = np.random.default_rng(0)
    features = draws.choice([-1.0, 1.0], (6000, 1))
    likely = np.where(features > 0, 0.7, 0.2)
    latents = np.where(draws.random((6000, 1)) < likely, 2.0, -2.0)
    flow = FlowRegressor(
        width=48, depth=1, match_steps=600, learning_rate=5e-3, sampler_steps=12, noise_share=0
    )
    targets = np.array([[-1.0], [1.0]])
    # Ridge answers the mean, which is no latent at all.
    useless = RidgeRegressor().fit(features, latents).predict(targets)[:, 0]
    np.testing.assert_allclose(useless, [-1.2, 0.8], atol=0.1)
    answers = flow.fit(features, latents).answers(targets, 2000)[:, :, 0]
    assert (np.abs(np.abs(answers) - 2) < 0.5).mean() > 0.85
    np.testing.assert_allclose((answers > 0).mean(1), [0.2, 0.7], atol=0.07)


class Folded:
    """Images of three numbers, of z_1 and of the distance of z_0 from 0: its sign is not seen."""

    def generate(self, latents: Tensor) -> Tensor:
        folded = torch.stack([latents[:, 0].abs(), latents[:, 1], torch.ones(len(latents))], 1)
        return torch.tanh(folded / 2)[:, None, None]

    def embed(self, images: Tensor) -> Tensor:
        return functional.normalize(images.flatten(1), dim=1)


def test_the_cycle_brings_the_round_trip_and_keeps_the_answers_apart() -> None:
    latents = torch.from_numpy(rng.normals(0, "folded", 0, 3000, 2))
    round_trip = Folded()
    features = round_trip.embed(round_trip.generate(latents)).numpy()
    settings: dict[str, Any] = {"width": 48, "depth": 1, "batch_size": 64, "match_steps": 200}
    targets = np.repeat(features[:100], 16, axis=0)

    def fitted(cycle_steps: int) -> tuple[float, Table]:
        flow = FlowRegressor(**settings, cycle_steps=cycle_steps)
        answers = flow.fit(features, latents.numpy(), round_trip).answers(features[:100], 16)
        rows = torch.from_numpy(answers.reshape(-1, 2)).float()
        result = round_trip.embed(round_trip.generate(rows)).numpy()
        return float((result * targets).sum(1).mean()), answers

    plain, _ = fitted(0)
    cycled, answers = fitted(150)
    assert 1 - cycled < 0.5 * (1 - plain)
    # Where z_0 is well away from 0, both of its signs are answered.
    far = np.abs(latents[:100, 0].numpy()) > 0.7
    positive = (answers[far, :, 0] > 0).mean(1)
    assert ((positive > 0.1) & (positive < 0.9)).mean() > 0.8


def test_without_a_round_trip_only_flow_matching_is_run() -> None:
    features, latents = (rng.normals(0, name, 0, 50, 3) for name in "ab")
    shares = list(FlowRegressor(match_steps=5, cycle_steps=90).fit_steps(features, latents))
    assert len(shares) == 5 and shares[-1] == 1.0


@pytest.mark.parametrize(("k", "n"), [(1, 3), (7, 5), (5000, 2)])
def test_answers_do_not_depend_on_how_rows_are_split(linear: FlowRegressor, k: int, n: int) -> None:
    noise = rng.normals(2, "rows", 0, k, 2)
    features = rng.normals(3, "rows", 0, n, 2)
    full = linear.sampled(features, noise)
    for i in range(n):
        single = linear.sampled(features[i : i + 1], noise[-1:])
        np.testing.assert_allclose(single[0, 0], full[i, -1], rtol=1e-9)
