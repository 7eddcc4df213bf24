"""Arithmetic on the sphere against closed forms and its own laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from controlgen.editing import feature_math

Rows = NDArray[np.float32]
ROW = arrays(np.float32, 5, elements=st.floats(-10, 10, width=32, allow_subnormal=False)).filter(
    lambda row: float(np.linalg.norm(row)) > 0.1
)
POSITION = st.floats(0, 1)
EAST, NORTH = np.eye(2, dtype=np.float32)


def norm(rows: Rows) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(rows.astype(np.float64), axis=-1))


def test_closed_forms() -> None:
    np.testing.assert_allclose(
        feature_math.normalize_rows(np.float32([[3, 4], [0, 0]])), [[0.6, 0.8], [0, 0]]
    )
    half = np.float32(np.sqrt(0.5))
    np.testing.assert_allclose(feature_math.add_direction(EAST, NORTH), [half, half], rtol=1e-6)
    np.testing.assert_allclose(feature_math.add_direction(EAST, NORTH, 0.75), [0.8, 0.6], rtol=1e-6)
    np.testing.assert_allclose(feature_math.subtract(EAST, NORTH, 0.75), [0.8, -0.6], rtol=1e-6)
    np.testing.assert_allclose(feature_math.mean(np.stack([EAST, NORTH])), [half, half], rtol=1e-6)
    np.testing.assert_allclose(feature_math.lerp(EAST, 3 * NORTH, 0.25), [0.75, 0.75])
    a, b = np.float32([[1, 0], [1, 0], [0, 0]]), np.float32([[1, 1], [-2, 0], [1, 0]])
    np.testing.assert_allclose(feature_math.paired_cosine(a, b), [half, -1, 0], rtol=1e-6)


@pytest.mark.parametrize("position", [0.0, 0.25, 1 / 3, 0.5, 0.9, 1.0])
def test_slerp_turns_by_the_share_of_the_angle(position: float) -> None:
    angle = np.pi / 2 * position
    expected = (2 + position) * np.array([np.cos(angle), np.sin(angle)])
    actual = feature_math.slerp(2 * EAST, 3 * NORTH, position)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@given(ROW)
def test_unit_rows_have_length_one_and_point_the_same_way(row: Rows) -> None:
    actual = feature_math.normalize_rows(row)
    assert actual.dtype == np.float32
    assert norm(actual) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(actual * norm(row), row, atol=1e-5)


@given(ROW, ROW, POSITION)
def test_slerp_moves_the_norm_linearly(a: Rows, b: Rows, position: float) -> None:
    if (
        feature_math.paired_cosine(a, b) < -0.99
    ):  # opposite rows go the straight way, through smaller norms
        return
    expected = (1 - position) * norm(a) + position * norm(b)
    assert norm(feature_math.slerp(a, b, position)) == pytest.approx(expected, rel=1e-4)


@given(ROW, ROW)
def test_slerp_starts_and_ends_where_it_is_told(a: Rows, b: Rows) -> None:
    np.testing.assert_allclose(feature_math.slerp(a, b, 0), a, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(feature_math.slerp(a, b, 1), b, rtol=1e-5, atol=1e-5)


@given(ROW, st.floats(0.125, 8, width=32), POSITION)
def test_slerp_of_equal_and_opposite_rows_is_finite(a: Rows, factor: float, at: float) -> None:
    same = feature_math.slerp(a, np.float32(factor) * a, at)
    np.testing.assert_allclose(same, (1 - at + at * factor) * a, rtol=1e-3, atol=1e-4)
    assert np.isfinite(feature_math.slerp(a, -np.float32(factor) * a, at)).all()
    assert np.isfinite(feature_math.slerp(a, np.zeros(5, np.float32), at)).all()


@given(ROW, ROW)
def test_a_minus_b_plus_b_is_a(a: Rows, b: Rows) -> None:
    a, b = feature_math.normalize_rows(a), feature_math.normalize_rows(b)
    np.testing.assert_allclose(feature_math.normalize_rows((a - b) + b), a, atol=1e-6)
    # Through the sphere, the way back has to be scaled by the length that `subtract` took away.
    away = feature_math.subtract(a, b)
    shrunk = norm(a - b)
    if shrunk > 1e-2:
        np.testing.assert_allclose(feature_math.add_direction(away, b, 1 / shrunk), a, atol=1e-3)


@given(ROW, ROW, st.floats(-3, 3, width=32))
def test_adding_is_subtracting_the_negative_and_stays_on_the_sphere(
    a: Rows, direction: Rows, amount: float
) -> None:
    actual = feature_math.add_direction(feature_math.normalize_rows(a), direction, amount)
    np.testing.assert_array_equal(
        actual, feature_math.subtract(feature_math.normalize_rows(a), direction, -amount)
    )
    np.testing.assert_array_equal(
        actual, feature_math.subtract(feature_math.normalize_rows(a), -direction, amount)
    )
    assert norm(actual) == pytest.approx(1, abs=1e-5) or norm(actual) == 0


@given(st.lists(ROW, min_size=1, max_size=6))
def test_rows_do_not_see_each_other(rows: list[Rows]) -> None:
    table = np.stack(rows)
    turned = table[::-1].copy()
    together = feature_math.slerp(table, turned, 0.3)
    for index in range(len(rows)):
        alone = feature_math.slerp(table[index : index + 1], turned[index : index + 1], 0.3)
        np.testing.assert_allclose(together[index], alone[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(feature_math.mean(table), feature_math.mean(turned), atol=1e-4)
