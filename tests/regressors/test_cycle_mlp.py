"""The cycle: what it adds to least squares, on a generator and a feature space of a few numbers."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from controlgen.regressors import RealTargets
from controlgen.regressors._mlp import half_whitening, one_cycle_adamw
from controlgen.regressors.cycle_mlp import CycleMLPRegressor, moment_distance, moment_loss

LATENT, SIZE, FEATURE = 4, 4, 5


class Toy:
    """A folded line of a generator, seen through features that cannot tell all of it.

    The images depend on |z_0|: two latents share each image, so that least squares answers the
    mean of both, which makes another image.
    """

    real: RealTargets | None = None

    def __init__(self, visible_pixels: int = SIZE * SIZE) -> None:
        draws = torch.Generator().manual_seed(0)
        self.mixing = torch.randn(LATENT, SIZE * SIZE, generator=draws) / 2
        self.projection = torch.randn(SIZE * SIZE, FEATURE, generator=draws)
        self.projection[visible_pixels:] = 0

    def generate(self, latents: Tensor) -> Tensor:
        folded = torch.cat([latents[:, :1].abs(), latents[:, 1:]], 1)
        return torch.tanh(folded @ self.mixing).view(-1, 1, SIZE, SIZE)

    def embed(self, images: Tensor) -> Tensor:
        return functional.normalize(images.flatten(1) @ self.projection, dim=1)

    def pairs(self, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        latents = torch.randn(n, LATENT, generator=torch.Generator().manual_seed(seed))
        images = self.generate(latents)
        return self.embed(images), latents, images


def fit_and_score(toy: Toy, cycle_steps: int, **settings: float) -> tuple[float, float]:
    """Mean round-trip cosine and squared pixel error on fresh pairs after fitting."""
    features, latents, _ = toy.pairs(2000, 1)
    fitted = CycleMLPRegressor(
        width=48, depth=1, batch_size=64, warm_steps=300, cycle_steps=cycle_steps, **settings
    ).fit(features.numpy(), latents.numpy(), toy)
    targets, _, displayed = toy.pairs(500, 2)
    images = toy.generate(torch.from_numpy(fitted.predict(targets.numpy())).float())
    cosine = functional.cosine_similarity(toy.embed(images), targets).mean()
    return float(cosine), float((images - displayed).square().mean())


def test_the_cycle_answers_where_least_squares_averages() -> None:
    plain, _ = fit_and_score(Toy(), 0)
    cycled, _ = fit_and_score(Toy(), 300)
    assert plain < 0.97
    assert 1 - cycled < 0.5 * (1 - plain)


def test_the_pixel_term_brings_back_what_features_do_not_insist_on() -> None:
    # A scale is lost in unit features: without pixels nothing in the cycle asks for it.
    toy = Toy(visible_pixels=10)
    _, without = fit_and_score(toy, 300, pixel_weight=0.0, latent_weight=0.0)
    _, with_pixels = fit_and_score(toy, 300, pixel_weight=1.0, latent_weight=0.0)
    assert with_pixels < 0.7 * without


def test_without_a_round_trip_only_least_squares_is_run() -> None:
    features, latents, _ = Toy().pairs(200, 1)
    shares = [
        len(list(CycleMLPRegressor(**steps).fit_steps(features.numpy(), latents.numpy())))
        for steps in ({"warm_steps": 7, "cycle_steps": 0}, {"warm_steps": 7, "cycle_steps": 90})
    ]
    assert shares == [7, 7]


def test_moment_gap_is_zero_for_standard_moments_and_counts_what_is_off() -> None:
    rows = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) * 0.5**0.5  # variance 1 with n - 1
    assert moment_loss(rows).item() == pytest.approx(0, abs=1e-6)
    assert moment_loss(rows + 3).item() == pytest.approx(9, rel=1e-5)
    assert moment_loss(rows * 2).item() == pytest.approx(9, rel=1e-5)


def test_moment_difference_sees_a_shift_and_a_scale_and_nothing_else() -> None:
    rows = torch.randn(400, 3, generator=torch.Generator().manual_seed(3))
    assert moment_distance(rows.flip(0), rows).item() == pytest.approx(0, abs=1e-10)
    assert moment_distance(rows + 2, rows).item() == pytest.approx(4, rel=1e-5)
    variances = rows.var(0)
    expected = ((9 - 1) * variances).square().mean().item()
    still = rows - rows.mean(0)
    assert moment_distance(3 * still, still).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("deviations", [(4.0, 1.0, 0.25), (1.0, 1.0, 1.0), (100.0, 10.0, 1.0)])
def test_half_whitening_takes_the_root_of_every_deviation(deviations: tuple[float, ...]) -> None:
    draws = np.random.default_rng(0)
    white = draws.standard_normal((5000, 3))
    white = (white - white.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T, ddof=0)).T)
    turn = np.linalg.qr(draws.standard_normal((3, 3)))[0]
    features = torch.from_numpy((white * deviations) @ turn + 7).float()
    result = (features - features.mean(0)) @ half_whitening(features)
    actual = result.double().T @ result.double() / len(result)
    # Uncorrelated, of mean variance 1, and as variances the old deviations.
    expected = np.sort(deviations) / np.mean(deviations)
    np.testing.assert_allclose(actual.numpy(), np.diag(expected), atol=2e-3)


def test_half_whitening_of_features_without_spread_is_finite() -> None:
    flat = half_whitening(torch.ones(10, 4))
    assert torch.isfinite(flat).all()
    one_axis = torch.zeros(10, 4)
    one_axis[:, 0] = torch.arange(10)
    result = (one_axis - one_axis.mean(0)) @ half_whitening(one_axis)
    assert torch.isfinite(result).all() and result.std() < 3


@pytest.mark.parametrize("steps", [1, 2, 8, 9, 10, 11, 300])
def test_the_rate_rises_and_falls_to_nearly_nothing_in_any_number_of_steps(steps: int) -> None:
    adam, decay = one_cycle_adamw(torch.nn.Linear(1, 1), 0.5, steps)
    rates = []
    for _ in range(steps):
        rates.append(decay.get_last_lr()[0])
        adam.step()
        decay.step()
    assert max(rates) <= 0.5 and min(rates) > 0
    if steps > 20:
        assert max(rates) == pytest.approx(0.5, rel=0.01)
        assert np.argmax(rates) == pytest.approx(0.1 * steps, abs=2)
        assert rates[-1] < 0.001


def test_real_images_outside_the_pairs_are_learned_by_the_cycle_alone() -> None:
    """Pairs are known of one half of the images; real ones are of the other half."""
    toy, fitted = Toy(), {}
    features, latents, images = toy.pairs(4000, 1)
    reference = latents[:, 1] > 0.3
    unseen = ~reference & (latents[:, 1] < -0.3)
    targets, _, displayed = toy.pairs(1000, 2)
    fresh = toy.pairs(1000, 2)[1][:, 1] < -0.3
    for real in (None, RealTargets(features[unseen], images[unseen])):
        toy.real = real
        regressor = CycleMLPRegressor(
            width=48, depth=1, batch_size=64, warm_steps=200, cycle_steps=300
        ).fit(features[reference].numpy(), latents[reference].numpy(), toy)
        result = toy.generate(torch.from_numpy(regressor.predict(targets[fresh].numpy())).float())
        fitted[real is not None] = float((result - displayed[fresh]).square().mean())
    assert fitted[True] < 0.6 * fitted[False]
