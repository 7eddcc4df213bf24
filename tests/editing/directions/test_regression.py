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
from controlgen.attributes import Strokes
from controlgen.attributes.strokes import NAMES
from controlgen.editing import Editor
from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.directions.regression import Given, direction_of_values
from controlgen.editing.feature_pca import Statistics
from controlgen.errors import ConfigError, ControlGenError, Incompatible

D, N = 6, 400


@dataclass(frozen=True)
class Linear:
    """Its images are numbered by their first two pixels, and their features are drawn."""

    features: NDArray[np.float32]
    statistics: Statistics
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
    return Linear(features, Statistics.of(features))


def made(model: Any, values: Given, hold: Any = (), of: Any = None) -> Any:
    return direction_of_values(model, values, images() if of is None else of, hold)


@pytest.mark.parametrize("seed", range(4))
def test_of_a_linear_number_it_is_the_most_likely_change_in_closed_form(seed: int) -> None:
    """S w / sqrt(w' S w): the least Mahalanobis change that moves w' x by its own deviation."""
    model = world(seed)
    w = np.random.default_rng(100 + seed).standard_normal(D)
    table = model.features.astype(np.float64)
    found = made(model, table @ w + 3.0)
    covariance = np.cov(table.T)
    wanted = covariance @ w / np.sqrt(w @ covariance @ w)
    # The statistics leave out 0.1 % of the variance.
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.linalg.norm(wanted))
    assert found @ w == pytest.approx(float((table @ w).std()), rel=0.01)
    assert found.dtype == np.float32


def test_with_hold_it_moves_the_number_by_one_sigma_and_nothing_that_is_held() -> None:
    model = world(7)
    draws = np.random.default_rng(8)
    turns = draws.standard_normal((D, len(NAMES)))
    table = model.features.astype(np.float64)
    known = AttributeModel.fitted(Strokes(), table @ turns, model.features, model.statistics)
    w = turns[:, 0] + 0.3 * draws.standard_normal(D)
    found = made(replace(model, attributes=known), table @ w, hold=("ink", "width"))
    assert found @ w == pytest.approx(float((table @ w).std()), rel=0.01)
    for name in ("ink", "width"):
        column = NAMES.index(name)
        assert found @ turns[:, column] == pytest.approx(0, abs=0.01 * known.spread[column])
    # A name alone is a list of one.
    one = made(replace(model, attributes=known), table @ w, hold="ink")
    assert one @ turns[:, 0] == pytest.approx(0, abs=0.01 * known.spread[0])
    assert abs(one @ turns[:, NAMES.index("width")]) > 0.05 * known.spread[NAMES.index("width")]


WORLD = world(1)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(1e-150, 1e150),
    st.booleans(),
    st.floats(-100, 100),
)
def test_the_unit_and_zero_of_a_number_do_not_matter_and_its_sign_turns_the_direction(
    unit: float, negative: bool, zero: float
) -> None:
    values = WORLD.features[:, 0].astype(np.float64) + 0.3 * WORLD.features[:, 1] ** 2
    found = made(WORLD, (-unit if negative else unit) * (values + zero))
    wanted = -made(WORLD, values) if negative else made(WORLD, values)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_sorted_values_are_as_good_as_mixed_ones() -> None:
    # Two groups one after the other: a fit that never saw the second could say nothing.
    order = np.argsort(WORLD.features[:, 0], kind="stable")
    values = np.arange(N) >= N - 35
    found = made(WORLD, values.astype(float), of=images()[order])
    along = found / np.linalg.norm(found) @ (made(WORLD, WORLD.features[:, 0]))
    assert along > 0.8 * np.linalg.norm(made(WORLD, WORLD.features[:, 0]))


@pytest.mark.parametrize(
    ("values", "of", "error", "says"),
    [
        (np.arange(39), images(40), ConfigError, r"shape \(39,\) for 40 images; give one number"),
        (np.ones((40, 1)), images(40), ConfigError, r"shape \(40, 1\) for 40 images"),
        (3.0, images(40), ConfigError, r"shape \(\) for 40 images"),
        (np.arange(31), images(31), ConfigError, "31 values are too few; give at least 32"),
        ([], images(0), ConfigError, "0 values are too few"),
        ([np.nan, np.inf, *range(38)], images(40), ConfigError, "2 of 40 values are not finite"),
        ([0.1] * 40, images(40), ConfigError, "all 40 values are alike"),
        ([0.0] * 40, images(40), ConfigError, "all 40 values are alike"),
        (["dark"] * 40, images(40), ConfigError, "values= must be numbers"),
        ([[1], [1, 2]], images(2), ConfigError, "values= must be numbers"),
        (np.arange(40), images(40) / 255, Incompatible, "uint8"),
        (np.arange(40), images(40)[0], Incompatible, "uint8"),
    ],
)
def test_what_makes_no_direction_is_one_line(
    values: Any, of: Any, error: type[ControlGenError], says: str
) -> None:
    with pytest.raises(error, match=says) as refused:
        made(WORLD, values, of=of)
    assert "\n" not in str(refused.value)


def test_a_number_that_features_do_not_show_and_a_hold_without_attributes_are_refused() -> None:
    flat = Linear(np.zeros((N, D), np.float32), WORLD.statistics)
    with pytest.raises(ConfigError, match="the given values: does not show in the features"):
        made(flat, np.arange(N))
    with pytest.raises(ConfigError, match="no measured attributes"):
        made(WORLD, np.arange(N), hold="ink")


# ---- on a tiny model


@pytest.fixture(scope="module")
def measuring(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Editor:
    """The tiny run's map with what is measured on strokes."""
    root: Path = tmp_path_factory.mktemp("strokes") / "store"
    return Editor.load(line.refitted(root, attributes={"kind": "strokes"}))


def test_the_values_of_a_known_attribute_give_its_own_direction(
    line: Any, measuring: Editor
) -> None:
    assert measuring.bank is not None and measuring.attributes is not None
    # The very images that the map's own attributes were fitted on, but for the tenth kept back.
    train = SampleBank.open(line.store.path(line.bank), line.store.path(line.features), 160).train
    pixels = measuring.bank_items(0, measuring.bank.n).pixels[train]
    values = measuring.attributes.measure(pixels)[:, NAMES.index("ink")]
    found = measuring.direction(values=values, of=pixels)
    wanted = measuring.direction(attribute="ink")
    assert cosine(found, wanted) > 0.98
    assert np.linalg.norm(found) == pytest.approx(float(np.linalg.norm(wanted)), rel=0.05)
    held = measuring.direction(values=values, of=pixels, hold="slant")
    assert cosine(held, measuring.direction(attribute="ink", hold="slant")) > 0.98
    # It lies inside what the bank's images span, as every direction does.
    assert measuring.statistics.share_inside(found) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ConfigError, match="attribute 'age': there is ink"):
        measuring.direction(values=values, of=pixels, hold="age")


def cosine(a: Any, b: Any) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_values_go_with_their_images_and_with_nothing_else(measuring: Editor) -> None:
    pixels = measuring.sample(40, 3).pixels
    values = np.arange(40.0)
    for given_ones in (
        {"values": values},
        {"of": pixels},
        {"values": values, "of": pixels, "attribute": "ink"},
        {"values": values, "more": pixels},
    ):
        with pytest.raises(ConfigError, match="or values= and of="):
            measuring.direction(**given_ones)
