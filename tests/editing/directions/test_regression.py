"""Directions of what a user has measured: against closed forms, and on a tiny model."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from controlgen.artifacts.bank import SampleBank
from controlgen.attributes import StrokeAttributes
from controlgen.attributes.strokes import NAMES
from controlgen.editing import Editor
from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.directions.regression import ValuesLike, direction_from_values
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ConfigError, ControlGenError, Incompatible

D, N = 6, 400


@dataclass(frozen=True)
class Linear:
    """An editor that looks features up by the first two pixels of an image."""

    features: NDArray[np.float32]
    statistics: FeaturePCA
    attributes: AttributeModel | None = None

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        flat = pixels.reshape(len(pixels), -1).astype(int)
        return self.features[flat[:, 0] + 256 * flat[:, 1]]


def images(n: int = N) -> NDArray[np.uint8]:
    at = np.arange(n)
    return np.stack([at % 256, at // 256], 1).astype(np.uint8)[:, None, None]


def world(seed: int) -> Linear:
    draws = np.random.default_rng(seed)
    spread = draws.standard_normal((D, D)) * 0.2
    features = (draws.standard_normal((N, D)) @ spread).astype(np.float32)
    return Linear(features, FeaturePCA.fit(features))


def fit_direction(model: Any, values: ValuesLike, hold: Any = (), of: Any = None) -> Any:
    return direction_from_values(model, values, images() if of is None else of, hold)


@pytest.mark.parametrize("seed", range(4))
def test_direction_of_linear_values_has_a_closed_form(seed: int) -> None:
    """S w / sqrt(w' S w): the shortest Mahalanobis change that moves w' x by one sigma."""
    model = world(seed)
    w = np.random.default_rng(100 + seed).standard_normal(D)
    table = model.features.astype(np.float64)
    actual = fit_direction(model, table @ w + 3.0)
    covariance = np.cov(table.T)
    expected = covariance @ w / np.sqrt(w @ covariance @ w)
    # The principal components omit 0.1 % of the variance.
    np.testing.assert_allclose(actual, expected, atol=0.02 * np.linalg.norm(expected))
    assert actual @ w == pytest.approx(float((table @ w).std()), rel=0.01)
    assert actual.dtype == np.float32


def test_direction_with_hold_changes_values_only() -> None:
    model = world(7)
    draws = np.random.default_rng(8)
    turns = draws.standard_normal((D, len(NAMES)))
    table = model.features.astype(np.float64)
    reference = AttributeModel.fit(
        StrokeAttributes(), table @ turns, model.features, model.statistics
    )
    w = turns[:, 0] + 0.3 * draws.standard_normal(D)
    actual = fit_direction(replace(model, attributes=reference), table @ w, hold=("ink", "width"))
    assert actual @ w == pytest.approx(float((table @ w).std()), rel=0.01)
    for name in ("ink", "width"):
        column = NAMES.index(name)
        assert actual @ turns[:, column] == pytest.approx(0, abs=0.01 * reference.spread[column])
    # A single name is allowed.
    single = fit_direction(replace(model, attributes=reference), table @ w, hold="ink")
    assert single @ turns[:, 0] == pytest.approx(0, abs=0.01 * reference.spread[0])
    assert (
        abs(single @ turns[:, NAMES.index("width")]) > 0.05 * reference.spread[NAMES.index("width")]
    )


WORLD = world(1)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(1e-150, 1e150),
    st.booleans(),
    st.floats(-100, 100),
)
def test_direction_is_invariant_to_unit_and_offset_and_odd_in_sign(
    unit: float, negative: bool, zero: float
) -> None:
    values = WORLD.features[:, 0].astype(np.float64) + 0.3 * WORLD.features[:, 1] ** 2
    actual = fit_direction(WORLD, (-unit if negative else unit) * (values + zero))
    expected = -fit_direction(WORLD, values) if negative else fit_direction(WORLD, values)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_sorted_values_are_fitted_as_well_as_shuffled_ones() -> None:
    # Two groups in order: a fit on the first rows alone would learn nothing.
    order = np.argsort(WORLD.features[:, 0], kind="stable")
    values = np.arange(N) >= N - 35
    actual = fit_direction(WORLD, values.astype(float), of=images()[order])
    along = actual / np.linalg.norm(actual) @ (fit_direction(WORLD, WORLD.features[:, 0]))
    assert along > 0.8 * np.linalg.norm(fit_direction(WORLD, WORLD.features[:, 0]))


@pytest.mark.parametrize(
    ("values", "of", "kind", "message"),
    [
        (np.arange(39), images(40), ConfigError, r"shape \(39,\) for 40 images; give one number"),
        (np.ones((40, 1)), images(40), ConfigError, r"shape \(40, 1\) for 40 images"),
        (3.0, images(40), ConfigError, r"shape \(\) for 40 images"),
        (np.arange(31), images(31), ConfigError, "31 values are too few; give at least 32"),
        ([], images(0), ConfigError, "0 values are too few"),
        ([np.nan, np.inf, *range(38)], images(40), ConfigError, "2 of 40 values are not finite"),
        ([0.1] * 40, images(40), ConfigError, "all 40 values are equal"),
        ([0.0] * 40, images(40), ConfigError, "all 40 values are equal"),
        (["dark"] * 40, images(40), ConfigError, "values= must be one number"),
        ([[1], [1, 2]], images(2), ConfigError, "values= must be one number"),
        (np.arange(40), images(40) / 255, Incompatible, "uint8"),
        (np.arange(40), images(40)[0], Incompatible, "uint8"),
    ],
)
def test_invalid_values_are_rejected_in_one_line(
    values: Any, of: Any, kind: type[ControlGenError], message: str
) -> None:
    with pytest.raises(kind, match=message) as error:
        fit_direction(WORLD, values, of=of)
    assert "\n" not in str(error.value)


def test_undetermined_values_and_hold_without_attributes_are_rejected() -> None:
    flat = Linear(np.zeros((N, D), np.float32), WORLD.statistics)
    with pytest.raises(ConfigError, match="the given values: does not show in the features"):
        fit_direction(flat, np.arange(N))
    with pytest.raises(ConfigError, match="no measured attributes"):
        fit_direction(WORLD, np.arange(N), hold="ink")


# ---- on a tiny model


@pytest.fixture(scope="module")
def measuring(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Editor:
    """The tiny run's map with stroke attributes."""
    root: Path = tmp_path_factory.mktemp("strokes") / "store"
    return Editor.load(line.refitted(root, attributes={"kind": "strokes"}))


def test_values_of_an_attribute_give_its_direction(line: Any, measuring: Editor) -> None:
    assert measuring.bank is not None and measuring.attributes is not None
    # The images that the map's attributes were fitted on.
    train = SampleBank.open(line.store.path(line.bank), line.store.path(line.features), 160).train
    pixels = measuring.bank_items(0, measuring.bank.n).pixels[train]
    values = measuring.attributes.measure(pixels)[:, NAMES.index("ink")]
    actual = measuring.direction(values=values, of=pixels)
    expected = measuring.direction(attribute="ink")
    assert cosine(actual, expected) > 0.98
    assert np.linalg.norm(actual) == pytest.approx(float(np.linalg.norm(expected)), rel=0.05)
    held = measuring.direction(values=values, of=pixels, hold="slant")
    assert cosine(held, measuring.direction(attribute="ink", hold="slant")) > 0.98
    # It lies within the bank's span, as every direction does.
    assert measuring.statistics.explained_share(actual) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ConfigError, match="attribute 'age': there is ink"):
        measuring.direction(values=values, of=pixels, hold="age")


def cosine(a: Any, b: Any) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_values_need_images_and_exclude_other_arguments(measuring: Editor) -> None:
    pixels = measuring.sample(40, 3).pixels
    values = np.arange(40.0)
    for arguments in (
        {"values": values},
        {"of": pixels},
        {"values": values, "of": pixels, "attribute": "ink"},
        {"values": values, "more": pixels},
    ):
        with pytest.raises(ConfigError, match="or values= and of="):
            measuring.direction(**arguments)
