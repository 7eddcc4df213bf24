"""Every registered map passes scikit-learn's estimator checks and survives saving."""

from typing import get_args

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from controlgen import rng
from controlgen.errors import ArtifactCorrupt
from controlgen.regressors import AnyMap

MAPS = get_args(get_args(AnyMap)[0])
QUICK = {"cycle-mlp": {"width": 32, "depth": 1, "batch_size": 16, "warm_steps": 80}}


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
