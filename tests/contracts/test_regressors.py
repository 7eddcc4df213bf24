"""Every registered map passes scikit-learn's estimator checks and survives saving."""

from typing import get_args

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from controlgen import rng
from controlgen.errors import ArtifactCorrupt, ConfigError
from controlgen.regressors import SAMPLING_KINDS, AnyMap, SupportsSampling

MAPS = get_args(get_args(AnyMap)[0])
MANY_ANSWERS = [member for member in MAPS if member.model_fields["kind"].default in SAMPLING_KINDS]
QUICK = {
    "cycle-mlp": {"width": 32, "depth": 1, "batch_size": 16, "warm_steps": 80},
    "flow": {"width": 32, "depth": 1, "batch_size": 32, "match_steps": 80, "learning_rate": 1e-2},
}


def settings(member):
    return member(**QUICK.get(member.model_fields["kind"].default, {}))


def linear_problem(n=400, d=6, z=4):
    features = rng.normals(0, "features", 0, n, d)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features, features @ rng.normals(0, "weights", 0, d, z)


@parametrize_with_checks([settings(member).build() for member in MAPS])
def test_scikit_learn_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("member", MAPS)
def test_beats_the_mean_on_a_linear_problem(member):
    features, latents = linear_problem()
    fitted = settings(member).build().fit(features[:300], latents[:300])
    assert fitted.score(features[300:], latents[300:]) > 0.5


@pytest.mark.parametrize("member", MAPS)
def test_saved_arrays_restore_the_same_answers(member):
    features, latents = linear_problem()
    fitted = settings(member).build().fit(features, latents)
    again = settings(member).build().restore(fitted.arrays())
    np.testing.assert_array_equal(again.predict(features), fitted.predict(features))


@pytest.mark.parametrize("member", MAPS)
def test_missing_arrays_are_named_not_guessed(member):
    with pytest.raises(ArtifactCorrupt):
        settings(member).build().restore({})


@pytest.mark.parametrize("member", MAPS)
def test_same_seed_same_map(member):
    features, latents = linear_problem()
    first, second = (settings(member).build(seed=3).fit(features, latents) for _ in range(2))
    np.testing.assert_array_equal(first.predict(features), second.predict(features))


@pytest.mark.parametrize("member", MAPS)
def test_fit_steps_counts_up_to_one(member):
    features, latents = linear_problem()
    shares = list(settings(member).build().fit_steps(features, latents))
    assert shares == sorted(shares) and shares[-1] == 1.0


@pytest.mark.parametrize("member", MAPS)
def test_a_map_with_answers_is_listed_and_no_other(member):
    assert isinstance(member().build(), SupportsSampling) == (member in MANY_ANSWERS)


def uncertain_problem(n=300, d=6, z=4):
    features, latents = linear_problem(n, d, z)
    return features, latents + rng.normals(0, "what features leave open", 0, n, z)


@pytest.fixture(scope="module", params=MANY_ANSWERS)
def answering(request):
    features, latents = uncertain_problem()
    return settings(request.param), settings(request.param).build(seed=2).fit(features, latents)


def test_answers_are_finite_and_shaped(answering):
    actual = answering[1].answers(uncertain_problem()[0][:5], 3, seed=1)
    assert actual.shape == (5, 3, 4) and actual.dtype == np.float64
    assert np.isfinite(actual).all()


def test_answers_depend_on_seed_feature_and_number_alone(answering):
    fitted, features = answering[1], uncertain_problem()[0]
    many = fitted.answers(features, 6, seed=4)
    np.testing.assert_array_equal(fitted.answers(features, 6, seed=4), many)
    np.testing.assert_allclose(fitted.answers(features, 2, seed=4), many[:, :2], rtol=1e-9)
    np.testing.assert_allclose(fitted.answers(features[7:9], 6, seed=4), many[7:9], rtol=1e-9)
    turned = fitted.answers(features[::-1], 6, seed=4)[::-1]
    np.testing.assert_allclose(turned, many, rtol=1e-9)
    assert np.abs(fitted.answers(features, 6, seed=5) - many).min() > 0


def test_answers_to_one_feature_differ_from_each_other(answering):
    actual = answering[1].answers(uncertain_problem()[0][:4], 5)
    distances = np.linalg.norm(actual[:, :, None] - actual[:, None], axis=-1)
    assert distances[:, ~np.eye(5, dtype=bool)].min() > 0.1


def test_answers_survive_saving(answering):
    spec, fitted = answering
    features = uncertain_problem()[0]
    again = spec.build().restore(fitted.arrays())
    np.testing.assert_array_equal(again.answers(features, 2, 3), fitted.answers(features, 2, 3))


def test_no_answers_are_refused(answering):
    with pytest.raises(ConfigError, match="k must be at least 1, not 0"):
        answering[1].answers(uncertain_problem()[0], 0)
