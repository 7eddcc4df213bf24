"""Attribute directions on synthetic data, against closed forms and constrained minimisation."""

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
class ToyAttributes:
    """Attributes without images: their values are given."""

    names: tuple[str, ...] = NAMES


@dataclass(frozen=True)
class Problem:
    """Features (n d) are rotated attributes (n 3), which correlate, and nuisance variables."""

    values: Floats
    features: NDArray[np.float32]
    truth: Floats  # d 3: attributes of a change of features
    model: AttributeModel


def make_problem(seed: int = 0, n: int = 600, d: int = 7) -> Problem:
    rng = np.random.default_rng(seed)
    # Attributes and nuisance variables correlate, which causes leakage.
    hidden = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) * 0.1
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    scale = np.array([3.0, 0.2, 40.0])
    hidden[:, 1:3] += hidden[:, :1] * [0.5, -0.5]
    values = hidden[:, :3] * scale + np.array([5.0, -1.0, 100.0])
    features = (hidden @ rotation.T).astype(np.float32)
    settings: Any = ToyAttributes()
    model = AttributeModel.fit(settings, values, features)
    return Problem(values, features, rotation[:, :3] * scale, model)


PROBLEM = make_problem()


def covariance(model: AttributeModel) -> Floats:
    rows = model.statistics.components.astype(np.float64)
    return np.asarray((rows.T * model.statistics.variances) @ rows)


def mahalanobis(model: AttributeModel, direction: Floats) -> float:
    return float(direction @ np.linalg.pinv(covariance(model), hermitian=True) @ direction)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("hold", [(), ("tilt",), ("tilt", "shade")])
def test_a_direction_changes_its_attribute_by_one_sigma_and_no_held_one(
    seed: int, hold: tuple[str, ...]
) -> None:
    problem = make_problem(seed)
    shifted = problem.model.direction("size", hold) @ problem.truth / problem.values.std(0)
    assert shifted[0] == pytest.approx(1, abs=2e-3)
    for name in hold:
        assert shifted[NAMES.index(name)] == pytest.approx(0, abs=2e-3)
    # Without hold the others change by their correlation in the bank.
    free = problem.model.direction("size") @ problem.truth / problem.values.std(0)
    correlations = np.corrcoef(problem.values.T)[0]
    np.testing.assert_allclose(free, correlations, atol=0.01)
    assert np.abs(correlations[1:]).max() > 0.2
    assert problem.model.r2.min() > 0.999


def test_without_hold_a_direction_is_the_pattern_of_the_weights() -> None:
    """Haufe et al. 2014: the covariance of the features with the prediction."""
    for column, name in enumerate(NAMES):
        predicted = PROBLEM.features @ PROBLEM.model.weights[column]
        pattern = np.cov(PROBLEM.features.T, predicted)[:-1, -1] / predicted.var(ddof=1)
        # The components leave out 0.1 % of the variance.
        actual = PROBLEM.model.direction(name)
        np.testing.assert_allclose(actual, pattern, atol=0.01 * np.linalg.norm(pattern))


@pytest.mark.parametrize("hold", [(), ("shade",), ("size", "shade")])
def test_a_direction_is_the_shortest_by_constrained_minimisation(hold: tuple[str, ...]) -> None:
    model = PROBLEM.model
    rows = model.weights[[NAMES.index(name) for name in ("tilt", *hold)]]
    expected = np.eye(len(rows))[0]
    # The variable is a change along the components, each in its own sigma.
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
def test_projecting_out_is_idempotent_and_changes_nothing_held(
    direction: Any, hold: list[str]
) -> None:
    model = PROBLEM.model
    actual = model.project_out(direction, hold)
    columns = [NAMES.index(name) for name in hold]
    # In sigmas, relative to the change of the direction; float32 has seven digits.
    scale = 1e-5 * (1 + np.abs(model.weights).sum())
    np.testing.assert_allclose(model.weights[columns] @ actual, 0, atol=scale)
    again = model.project_out(actual, hold)
    np.testing.assert_allclose(again, actual, atol=1e-5)
    assert actual.dtype == again.dtype == np.float32


@given(directions, directions, holds.filter(bool))
def test_no_other_direction_with_hold_is_nearer(
    direction: Any, other: Any, hold: list[str]
) -> None:
    """Projecting out makes the smallest change; `other` gives a rival."""
    model = PROBLEM.model
    inside = model.statistics.project(direction)
    actual = model.project_out(inside, hold).astype(float)
    rival = actual + model.project_out(model.statistics.project(other), hold)
    nearest = mahalanobis(model, actual - inside)
    assert nearest <= mahalanobis(model, rival - inside) * (1 + 1e-3) + 1e-4


@pytest.mark.parametrize("hold", [("tilt",), ("tilt", "shade")])
def test_projecting_out_later_gives_the_same_line(hold: tuple[str, ...]) -> None:
    later = PROBLEM.model.project_out(PROBLEM.model.direction("size"), hold)
    expected = PROBLEM.model.direction("size", hold)
    cosine = later @ expected / np.linalg.norm(later) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1, abs=1e-5)
    # It is worth less than a sigma: a part was along the held attributes.
    assert np.linalg.norm(later) < np.linalg.norm(expected)


def _ridge_by_hand(features: Floats, values: Floats, penalty: float) -> tuple[Floats, Floats]:
    """Weights (d a) of ridge regression, and the squared leave-one-out error (a)."""

    def fit(rows: Floats, targets: Floats) -> Floats:
        x, y = rows - rows.mean(0), targets - targets.mean(0)
        return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)

    errors = np.zeros(values.shape[1])
    for item in range(len(features)):
        rest = np.arange(len(features)) != item
        weights = fit(features[rest], values[rest])
        predicted = (features[item] - features[rest].mean(0)) @ weights + values[rest].mean(0)
        errors += (values[item] - predicted) ** 2
    return fit(features, values), errors


@pytest.mark.parametrize("noise", [0.001, 0.05, 1.0, 30.0])
def test_weights_and_r2_are_those_of_leave_one_out(noise: float) -> None:
    rng = np.random.default_rng(4)
    features = (rng.standard_normal((300, 12)) * np.logspace(-0.5, -3, 12) + 0.2).astype(np.float32)
    values = features @ rng.standard_normal((12, 3)) + noise * rng.standard_normal((300, 3))
    attributes: Any = ToyAttributes()
    model = AttributeModel.fit(attributes, values, features)
    standard = (values - values.mean(0)) / values.std(0)
    table = features.astype(np.float64)
    fits = [_ridge_by_hand(table[:270], standard[:270], penalty) for penalty in PENALTIES * 270]
    best = np.argmin([errors for _, errors in fits], axis=0)
    weights = np.stack([fits[index][0][:, column] for column, index in enumerate(best)])
    np.testing.assert_allclose(model.weights, weights, rtol=1e-6, atol=1e-7)
    predictions = (table[270:] - table[:270].mean(0)) @ weights.T + standard[:270].mean(0)
    expected = r2_score(standard[270:], predictions, multioutput="raw_values")
    np.testing.assert_allclose(model.r2, expected, atol=1e-6)
    if noise < 0.01:
        assert (model.r2 > 0.99).all()
    if noise > 10:
        assert (model.r2 < 0.3).all()


def test_a_constant_attribute_has_no_sigma_and_no_direction() -> None:
    values = PROBLEM.values.copy()
    values[:, 1] = 0.1
    attributes: Any = ToyAttributes()
    model = AttributeModel.fit(attributes, values, PROBLEM.features)
    assert (model.spread[1], model.r2[1]) == (0, 0)
    np.testing.assert_array_equal(model.to_sigmas(np.array([[3.0, 3.0, 3.0]]))[:, 1], 0)
    np.testing.assert_allclose(model.direction("size"), PROBLEM.model.direction("size"), rtol=1e-5)
    for attempt in (
        lambda: model.direction("tilt"),
        lambda: model.direction("size", ("tilt",)),
        lambda: model.project_out(PROBLEM.features[0], ("shade", "tilt")),
    ):
        with pytest.raises(ConfigError, match="^tilt: does not show in the features"):
            attempt()


def test_inseparable_attributes_are_named_and_refused() -> None:
    values = PROBLEM.values.copy()
    values[:, 2] = 3 - 2 * values[:, 0]
    attributes: Any = ToyAttributes()
    model = AttributeModel.fit(attributes, values, PROBLEM.features)
    assert np.isfinite(model.direction("size", ("tilt",))).all()
    with pytest.raises(ConfigError, match="^size, shade: the features cannot separate these"):
        model.direction("size", ("tilt", "shade"))
    with pytest.raises(ConfigError, match="^size, shade: "):
        model.project_out(PROBLEM.features[0], ("size", "shade"))


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
        PROBLEM.model.direction(name, hold)
    assert "\n" not in str(refused.value)


def test_a_single_name_may_be_a_string() -> None:
    single, listed = (PROBLEM.model.direction("size", hold) for hold in ("tilt", ["tilt"]))
    np.testing.assert_array_equal(single, listed)


def test_too_few_and_mismatched_images_are_refused() -> None:
    attributes: Any = ToyAttributes()
    with pytest.raises(ConfigError, match="31 images are too few"):
        AttributeModel.fit(attributes, PROBLEM.values[:31], PROBLEM.features[:31])
    with pytest.raises(Incompatible, match="600 images, features of 599"):
        AttributeModel.fit(attributes, PROBLEM.values, PROBLEM.features[1:])


def digits(n: int) -> Any:
    images = load_digits().images[:n] * (255 / 16)
    return images.astype(np.uint8)[:, None]


def test_a_model_of_images_standardises_them_and_is_restored() -> None:
    pixels = digits(MEASURE_BATCH + 100)
    features = (pixels.reshape(len(pixels), -1) / 255).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    model = AttributeModel.fit_from_images(StrokeAttributes(), pixels, features)
    assert model.names == StrokeAttributes().names
    standard = model.standardize(pixels)
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(standard.std(0), 1, atol=1e-9)
    np.testing.assert_array_equal(model.measure(pixels), StrokeAttributes().measure(pixels))
    # Batches change nothing and report progress.
    batches = list(measure_batched(StrokeAttributes(), pixels))
    assert [done for done, _ in batches] == [MEASURE_BATCH, MEASURE_BATCH + 100]
    np.testing.assert_allclose(np.concatenate([rows for _, rows in batches]), model.measure(pixels))

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
    arrays = PROBLEM.model.arrays()
    arrays[name] = arrays[name][:-1]
    if missing:
        del arrays[name]
    attributes: Any = ToyAttributes()
    with pytest.raises(ArtifactCorrupt, match=f"attributes' {name} is missing or not of shape"):
        AttributeModel.restore(attributes, arrays, PROBLEM.model.statistics)
