"""The spread of answers where the best one is known in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence
from torch.nn import functional

from controlgen import rng
from controlgen.regressors.cycle_mlp import CycleMLPRegressor
from controlgen.regressors.variational import VariationalRegressor, normal_gap, surprise

MEAN = CycleMLPRegressor(width=32, depth=1, batch_size=128, warm_steps=400, cycle_steps=0)


def roots(n: int, z: int) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    lower = torch.randn(n, z, z, generator=draws, dtype=torch.float64).tril(-1)
    return lower + torch.diag_embed(torch.rand(n, z, generator=draws, dtype=torch.float64) + 0.2)


def test_normal_gap_is_the_divergence_per_coordinate() -> None:
    root = roots(5, 3)
    zeros = torch.zeros(5, 3, dtype=torch.float64)
    unit = MultivariateNormal(zeros, torch.eye(3, dtype=torch.float64))
    wanted = kl_divergence(MultivariateNormal(zeros, scale_tril=root), unit).mean() / 3
    assert normal_gap(root).item() == pytest.approx(wanted.item())
    assert normal_gap(torch.eye(3)[None]).item() == 0


def test_surprise_is_the_log_density_per_coordinate() -> None:
    root, rows = roots(5, 3), roots(5, 3)[:, :, 0]
    density = MultivariateNormal(torch.zeros(3, dtype=torch.float64), scale_tril=root)
    wanted = -density.log_prob(rows).mean() / 3 - np.log(2 * np.pi) / 2
    assert surprise(rows, root).item() == pytest.approx(wanted.item())


def test_without_a_round_trip_the_spread_is_that_of_the_residuals() -> None:
    """Of f = -1 the residuals are narrow and correlated, of f = 1 wide and not."""
    sign = np.sign(rng.normals(0, "f", 0, 6000, 1))
    noise = rng.normals(0, "e", 0, 6000, 2)
    narrow = noise @ np.array([[0.4, 0.3], [0.0, 0.2]])
    latents = sign * [1.0, -2.0] + np.where(sign > 0, noise, narrow)
    fitted = VariationalRegressor(
        MEAN, width=16, batch_size=256, spread_steps=400, learning_rate=1e-2
    ).fit(sign, latents)
    asked = np.array([[-1.0], [1.0]])
    np.testing.assert_allclose(fitted.predict(asked), asked * [1.0, -2.0], atol=0.1)
    answers = fitted.answers(asked, 4000)
    np.testing.assert_allclose(answers.mean(1), asked * [1.0, -2.0], atol=0.12)
    np.testing.assert_allclose(np.cov(answers[0].T), [[0.16, 0.12], [0.12, 0.13]], atol=0.04)
    np.testing.assert_allclose(np.cov(answers[1].T), np.eye(2), atol=0.15)


class Angle:
    """The feature is the direction of (z_0, 1); z_1 is not seen."""

    def generate(self, latents: Tensor) -> Tensor:
        return torch.stack([latents[:, 0], torch.ones(len(latents))], 1)[:, None, None]

    def embed(self, images: Tensor) -> Tensor:
        return functional.normalize(images.flatten(1), dim=1)


def test_through_the_round_trip_answers_vary_where_the_feature_does_not_see() -> None:
    """1 - cos is about half the squared angle, dz_0 / (1 + z_0^2), so the best variance is known:

    insistence * v / (1 + z_0^2)^2 / 2 + (v - log v) / 4 is least at 1 / (1 + 2 insistence / ...).
    """
    latents = torch.from_numpy(rng.normals(0, "angle", 0, 4000, 2))
    features = Angle().embed(Angle().generate(latents)).numpy()
    fitted = VariationalRegressor(
        MEAN, width=16, batch_size=256, spread_steps=400, learning_rate=1e-2, arithmetic_share=0
    ).fit(features, latents.numpy(), Angle())
    asked = np.array([[z, 1] / np.hypot(z, 1) for z in (0.0, 0.8)])
    answers = fitted.answers(asked, 4000)
    wanted = [1 / (1 + 60 / (1 + z * z) ** 2) for z in (0.0, 0.8)]
    np.testing.assert_allclose(answers[:, :, 0].var(1), wanted, rtol=0.3)
    np.testing.assert_allclose(answers[:, :, 1].var(1), 1, rtol=0.15)
    for rows in answers:
        assert abs(np.corrcoef(rows.T)[0, 1]) < 0.15


def test_insistence_narrows_what_is_seen() -> None:
    latents = torch.from_numpy(rng.normals(0, "angle", 0, 1000, 2))
    features = Angle().embed(Angle().generate(latents)).numpy()
    spread = []
    for insistence in (3.0, 100.0):
        quick = VariationalRegressor(MEAN, width=16, spread_steps=150, insistence=insistence)
        answers = quick.fit(features, latents.numpy(), Angle()).answers(features[:20], 500)
        spread.append(answers[:, :, 0].std(1).mean())
    assert spread[1] < 0.6 * spread[0]


def test_the_mean_given_is_not_touched() -> None:
    features, latents = (rng.normals(0, name, 0, 40, 3) for name in "ab")
    mean = CycleMLPRegressor(width=8, depth=0, warm_steps=2)
    VariationalRegressor(mean, spread_steps=1).fit(features, latents)
    assert not hasattr(mean, "network_")
