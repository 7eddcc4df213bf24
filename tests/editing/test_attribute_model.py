"""Directions of attributes in worlds whose truth is known, against constrained minimisation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.metrics import r2_score

from controlgen.attributes import StrokeAttributes
from controlgen.editing.attribute_model import (
    MEASURE_BATCH,
    PENALTIES,
    AttributeModel,
    measure_batched,
)
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ArtifactCorrupt, ConfigError, Incompatible

Floats = NDArray[np.float64]
NAMES = ("size", "tilt", "shade")


@dataclass(frozen=True)
class Toy:
    """Attributes of no image: their values are given."""

    names: tuple[str, ...] = NAMES


@dataclass(frozen=True)
class World:
    """Features (n d) are a turn of three correlated attributes (n 3) and some nuisance."""

    values: Floats
    features: NDArray[np.float32]
    truth: Floats  # d 3: attributes of a change of features
    model: AttributeModel


def world(seed: int = 0, n: int = 600, d: int = 7) -> World:
    rng = np.random.default_rng(seed)
    # Attributes that go together, and nuisance that goes with them: what makes leakage.
    hidden = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) * 0.1
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    scale = np.array([3.0, 0.2, 40.0])
    hidden[:, 1:3] += hidden[:, :1] * [0.5, -0.5]
    values = hidden[:, :3] * scale + np.array([5.0, -1.0, 100.0])
    features = (hidden @ turn.T).astype(np.float32)
    settings: Any = Toy()
    model = AttributeModel.fit(settings, values, features)
    return World(values, features, turn[:, :3] * scale, model)


WORLD = world()


def covariance(model: AttributeModel) -> Floats:
    parts = model.statistics
    rows = parts.components.astype(np.float64)
    return np.asarray((rows.T * parts.variances) @ rows)


def mahalanobis(model: AttributeModel, direction: Floats) -> float:
    return float(direction @ np.linalg.pinv(covariance(model), hermitian=True) @ direction)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("hold", [(), ("tilt",), ("tilt", "shade")])
def test_a_direction_moves_the_true_attribute_by_one_sigma_and_no_held_one(
    seed: int, hold: tuple[str, ...]
) -> None:
    result = world(seed)
    shifted = result.model.direction("size", hold) @ result.truth / result.values.std(0)
    assert shifted[0] == pytest.approx(1, abs=2e-3)
    for name in hold:
        assert shifted[NAMES.index(name)] == pytest.approx(0, abs=2e-3)
    # Where nothing is held the others come along as they do in the bank: by their correlation.
    free = result.model.direction("size") @ result.truth / result.values.std(0)
    correlations = np.corrcoef(result.values.T)[0]
    np.testing.assert_allclose(free, correlations, atol=0.01)
    assert np.abs(correlations[1:]).max() > 0.2
    assert result.model.r2.min() > 0.999


def test_without_hold_it_is_the_mean_change_of_features_with_the_attribute() -> None:
    """Haufe et al. 2014: the covariance of features and what the weights read off them."""
    for column, name in enumerate(NAMES):
        read = WORLD.features @ WORLD.model.weights[column]
        pattern = np.cov(WORLD.features.T, read)[:-1, -1] / read.var(ddof=1)
        # The statistics leave out 0.1 % of the variance.
        actual = WORLD.model.direction(name)
        np.testing.assert_allclose(actual, pattern, atol=0.01 * np.linalg.norm(pattern))


@pytest.mark.parametrize("hold", [(), ("shade",), ("size", "shade")])
def test_a_direction_is_the_least_one_that_an_optimiser_finds(hold: tuple[str, ...]) -> None:
    model = WORLD.model
    rows = model.weights[[NAMES.index(name) for name in ("tilt", *hold)]]
    expected = np.eye(len(rows))[0]
    # The free variable is a change along the components, each in its own sigma.
    basis = model.statistics.components.T * np.sqrt(model.statistics.variances)
    solved = minimize(
        lambda x: (x @ x, 2 * x),
        np.zeros(basis.shape[1]),
        jac=True,
        constraints={
            "type": "eq",
            "fun": lambda x: rows @ basis @ x - expected,
            "jac": lambda x: rows @ basis,
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert solved.success
    actual = model.direction("tilt", hold)
    np.testing.assert_allclose(actual, basis @ solved.x, atol=1e-5 * np.linalg.norm(actual))
    assert mahalanobis(model, actual.astype(float)) == pytest.approx(solved.fun, rel=1e-4)


directions = st.lists(st.floats(-2, 2, width=32), min_size=7, max_size=7).map(np.float32)
holds = st.lists(st.sampled_from(NAMES), unique=True, max_size=3)


@given(directions, holds)
def test_a_held_direction_moves_nothing_held_and_stays_when_held_again(
    direction: Any, hold: list[str]
) -> None:
    model = WORLD.model
    actual = model.project_out(direction, hold)
    columns = [NAMES.index(name) for name in hold]
    # In sigmas, beside what the direction itself moves; float32 has seven digits.
    scale = 1e-5 * (1 + np.abs(model.weights).sum())
    np.testing.assert_allclose(model.weights[columns] @ actual, 0, atol=scale)
    again = model.project_out(actual, hold)
    np.testing.assert_allclose(again, actual, atol=1e-5)
    assert actual.dtype == again.dtype == np.float32


@given(directions, directions, holds.filter(bool))
def test_no_other_direction_that_holds_is_nearer(
    direction: Any, other: Any, hold: list[str]
) -> None:
    """The change that holding makes is the shortest; `other`, itself held, tries to beat it."""
    model = WORLD.model
    inside = model.statistics.project(direction)
    actual = model.project_out(inside, hold).astype(float)
    rival = actual + model.project_out(model.statistics.project(other), hold)
    nearest = mahalanobis(model, actual - inside)
    assert nearest <= mahalanobis(model, rival - inside) * (1 + 1e-3) + 1e-4


@pytest.mark.parametrize("hold", [("tilt",), ("tilt", "shade")])
def test_a_free_direction_held_later_is_along_the_one_that_holds(hold: tuple[str, ...]) -> None:
    later = WORLD.model.project_out(WORLD.model.direction("size"), hold)
    expected = WORLD.model.direction("size", hold)
    cosine = later @ expected / np.linalg.norm(later) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1, abs=1e-5)
    # It is worth less than a sigma: some of the free one went with what is now held.
    assert np.linalg.norm(later) < np.linalg.norm(expected)


def _ridge_by_hand(features: Floats, values: Floats, penalty: float) -> tuple[Floats, Floats]:
    """Weights (d a) of ridge regression, and the squared error (a) of leaving out each in turn."""

    def fitted(rows: Floats, targets: Floats) -> Floats:
        x, y = rows - rows.mean(0), targets - targets.mean(0)
        return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)

    missed = np.zeros(values.shape[1])
    for item in range(len(features)):
        rest = np.arange(len(features)) != item
        weights = fitted(features[rest], values[rest])
        text = (features[item] - features[rest].mean(0)) @ weights + values[rest].mean(0)
        missed += (values[item] - text) ** 2
    return fitted(features, values), missed


@pytest.mark.parametrize("noise", [0.001, 0.05, 1.0, 30.0])
def test_weights_and_r2_are_those_of_leaving_each_item_out(noise: float) -> None:
    rng = np.random.default_rng(4)
    features = (rng.standard_normal((300, 12)) * np.logspace(-0.5, -3, 12) + 0.2).astype(np.float32)
    values = features @ rng.standard_normal((12, 3)) + noise * rng.standard_normal((300, 3))
    toy: Any = Toy()
    model = AttributeModel.fit(toy, values, features)
    standard = (values - values.mean(0)) / values.std(0)
    table = features.astype(np.float64)
    fits = [_ridge_by_hand(table[:270], standard[:270], item) for item in PENALTIES * 270]
    chosen = np.argmin([missed for _, missed in fits], axis=0)
    weights = np.stack([fits[at][0][:, column] for column, at in enumerate(chosen)])
    np.testing.assert_allclose(model.weights, weights, rtol=1e-6, atol=1e-7)
    answers = (table[270:] - table[:270].mean(0)) @ weights.T + standard[:270].mean(0)
    expected = r2_score(standard[270:], answers, multioutput="raw_values")
    np.testing.assert_allclose(model.r2, expected, atol=1e-6)
    # What cannot be learned is said to be so.
    assert (model.r2 > 0.99).all() if noise < 0.01 else True
    assert (model.r2 < 0.3).all() if noise > 10 else True


def test_what_never_varies_has_no_sigma_and_no_direction() -> None:
    values = WORLD.values.copy()
    values[:, 1] = 0.1
    toy: Any = Toy()
    model = AttributeModel.fit(toy, values, WORLD.features)
    assert (model.spread[1], model.r2[1]) == (0, 0)
    np.testing.assert_array_equal(model.to_sigmas(np.array([[3.0, 3.0, 3.0]]))[:, 1], 0)
    np.testing.assert_allclose(model.direction("size"), WORLD.model.direction("size"), rtol=1e-5)
    for attempt in (
        lambda: model.direction("tilt"),
        lambda: model.direction("size", ("tilt",)),
        lambda: model.project_out(WORLD.features[0], ("shade", "tilt")),
    ):
        with pytest.raises(ConfigError, match="^tilt: does not show in the features"):
            attempt()


def test_what_the_features_cannot_tell_apart_is_named_and_refused() -> None:
    values = WORLD.values.copy()
    values[:, 2] = 3 - 2 * values[:, 0]
    toy: Any = Toy()
    model = AttributeModel.fit(toy, values, WORLD.features)
    assert np.isfinite(model.direction("size", ("tilt",))).all()
    with pytest.raises(ConfigError, match="^size, shade: the features cannot separate these"):
        model.direction("size", ("tilt", "shade"))
    with pytest.raises(ConfigError, match="^size, shade: "):
        model.project_out(WORLD.features[0], ("size", "shade"))


@pytest.mark.parametrize(
    ("name", "hold", "says"),
    [
        ("sise", (), "'sise': there is size, tilt, shade"),
        ("size", ("tlt",), "'tlt': there is size, tilt, shade"),
        ("size", ("",), "'': there is size, tilt, shade"),
        ("size", ("size",), "'size' cannot change and be held; hold some of tilt, shade"),
        ("size", "size", "'size' cannot change and be held"),
        ("size", ("tilt", "tilt"), "name each one once"),
    ],
)
def test_misuse_is_refused_in_one_line(name: str, hold: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        WORLD.model.direction(name, hold)
    assert "\n" not in str(refused.value)


def test_one_name_may_be_given_without_a_list() -> None:
    single, listed = (WORLD.model.direction("size", hold) for hold in ("tilt", ["tilt"]))
    np.testing.assert_array_equal(single, listed)


def test_too_few_images_and_other_images_are_refused() -> None:
    toy: Any = Toy()
    with pytest.raises(ConfigError, match="31 images are too few"):
        AttributeModel.fit(toy, WORLD.values[:31], WORLD.features[:31])
    with pytest.raises(Incompatible, match="600 images, features of 599"):
        AttributeModel.fit(toy, WORLD.values, WORLD.features[1:])


def digits(n: int) -> Any:
    images = load_digits().images[:n] * (255 / 16)
    return images.astype(np.uint8)[:, None]


def test_a_model_of_images_measures_them_in_bank_sigmas_and_comes_back_whole() -> None:
    pixels = digits(MEASURE_BATCH + 100)
    features = (pixels.reshape(len(pixels), -1) / 255).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    model = AttributeModel.fit_from_images(StrokeAttributes(), pixels, features)
    assert model.names == StrokeAttributes().names
    standard = model.standardize(pixels)
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(standard.std(0), 1, atol=1e-9)
    np.testing.assert_array_equal(model.measure(pixels), StrokeAttributes().measure(pixels))
    # Blocks change nothing, and say how far they are.
    blocks = list(measure_batched(StrokeAttributes(), pixels))
    assert [done for done, _ in blocks] == [MEASURE_BATCH, MEASURE_BATCH + 100]
    np.testing.assert_allclose(np.concatenate([b for _, b in blocks]), model.measure(pixels))

    again = AttributeModel.restore(StrokeAttributes(), model.arrays(), FeaturePCA.fit(features))
    for name, value in model.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], value)
    hold = ("slant", "height")
    np.testing.assert_array_equal(
        again.direction("thickness", hold), model.direction("thickness", hold)
    )


@settings(max_examples=20)
@given(st.sampled_from(["mean", "spread", "weights", "r2"]), st.booleans())
def test_arrays_that_do_not_fit_are_refused(name: str, missing: bool) -> None:
    arrays = WORLD.model.arrays()
    arrays[name] = arrays[name][:-1]
    if missing:
        del arrays[name]
    toy: Any = Toy()
    with pytest.raises(ArtifactCorrupt, match=f"attributes' {name} is missing or not of shape"):
        AttributeModel.restore(toy, arrays, WORLD.model.statistics)
