"""Ridge with the spread of its residuals, against closed forms."""

import numpy as np
import pytest

from controlgen import rng
from controlgen.regressors.gaussian import GaussianRegressor
from controlgen.regressors.ridge import RidgeRegressor

A = rng.normals(0, "weights", 0, 5, 3).astype(np.float64)
B = np.array([[0.5, 0.0, 0.0], [0.4, 0.3, 0.0], [0.0, -0.2, 0.7]])


def linear_problem(n: int) -> tuple[np.ndarray, np.ndarray]:
    features, hidden = rng.normals(0, "f", 0, n, 5), rng.normals(0, "e", 0, n, 3)
    return features.astype(np.float64), features @ A + hidden @ B.T + 0.5


def test_covariances_of_means_and_residuals_sum_to_that_of_the_latents() -> None:
    features, latents = linear_problem(400)
    fitted = GaussianRegressor(alpha=0).fit(features, latents)
    means = fitted.predict(features)
    total = np.cov(means.T, ddof=0) + fitted.spread_ @ fitted.spread_
    np.testing.assert_allclose(total, np.cov(latents.T, ddof=0), atol=1e-10)


def test_answers_over_the_bank_are_spread_as_the_latents_are() -> None:
    features, latents = linear_problem(2000)
    answers = GaussianRegressor(alpha=0).fit(features, latents).answers(features, 500)
    found = np.cov(answers.reshape(-1, 3).T)
    # 500 draws of the residual: its covariance is known to about 6 %.
    np.testing.assert_allclose(found, np.cov(latents.T), rtol=0.05, atol=0.05)


def test_answers_to_one_feature_have_the_known_mean_and_covariance() -> None:
    features, latents = linear_problem(20_000)
    answers = GaussianRegressor().fit(features, latents).answers(features[:1], 20_000)[0]
    np.testing.assert_allclose(answers.mean(0), features[0] @ A + 0.5, atol=0.03)
    np.testing.assert_allclose(np.cov(answers.T), B @ B.T, atol=0.03)


@pytest.mark.parametrize("rescale", [False, True])
def test_predictions_are_those_of_ridge(rescale: bool) -> None:
    features, latents = linear_problem(100)
    settings = {"alpha": 0.1, "rescale": rescale}
    wanted = RidgeRegressor(**settings).fit(features, latents).predict(features)
    found = GaussianRegressor(**settings).fit(features, latents).predict(features)
    np.testing.assert_array_equal(found, wanted)


def test_what_features_determine_is_not_spread() -> None:
    features, latents = linear_problem(200)
    latents[:, 1] = features[:, 0]
    answers = GaussianRegressor(alpha=0).fit(features, latents).answers(features[:3], 4)
    np.testing.assert_allclose(answers[:, :, 1], features[:3, :1].repeat(4, 1), atol=1e-6)
    assert answers[:, :, 0].std(1).min() > 0.1
