"""Arithmetic on rows against closed forms and its own laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from controlgen.editing.feature_math import add_direction, lerp, mean, paired_cosine, slerp
from controlgen.utils.rows import normalize_rows

Rows = NDArray[np.float32]
ROW = arrays(np.float32, 5, elements=st.floats(-10, 10, width=32, allow_subnormal=False)).filter(
    lambda row: float(np.linalg.norm(row)) > 0.1
)
POSITION = st.floats(0, 1)
EAST, NORTH = np.eye(2, dtype=np.float32)


def norm(rows: Rows) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(rows.astype(np.float64), axis=-1))


def test_closed_forms() -> None:
    np.testing.assert_allclose(normalize_rows(np.float32([[3, 4], [0, 0]])), [[0.6, 0.8], [0, 0]])
    half = np.float32(np.sqrt(0.5))
    np.testing.assert_allclose(add_direction(EAST, NORTH), [half, half], rtol=1e-6)
    np.testing.assert_allclose(add_direction(EAST, NORTH, 0.75), [0.8, 0.6], rtol=1e-6)
    np.testing.assert_allclose(add_direction(EAST, NORTH, -0.75), [0.8, -0.6], rtol=1e-6)
    np.testing.assert_allclose(mean(np.stack([EAST, NORTH])), [half, half], rtol=1e-6)
    np.testing.assert_allclose(lerp(EAST, 3 * NORTH, 0.25), [0.75, 0.75])
    a, b = np.float32([[1, 0], [1, 0], [0, 0]]), np.float32([[1, 1], [-2, 0], [1, 0]])
    np.testing.assert_allclose(paired_cosine(a, b), [half, -1, 0], rtol=1e-6)


@pytest.mark.parametrize("position", [0.0, 0.25, 1 / 3, 0.5, 0.9, 1.0])
def test_slerp_rotates_by_a_share_of_the_angle(position: float) -> None:
    angle = np.pi / 2 * position
    expected = (2 + position) * np.array([np.cos(angle), np.sin(angle)])
    actual = slerp(2 * EAST, 3 * NORTH, position)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@given(ROW)
def test_normalised_rows_have_length_one_and_their_direction(row: Rows) -> None:
    actual = normalize_rows(row)
    assert actual.dtype == np.float32
    assert norm(actual) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(actual * norm(row), row, atol=1e-5)


@given(ROW, ROW, POSITION)
def test_slerp_interpolates_the_norm_linearly(a: Rows, b: Rows, position: float) -> None:
    if paired_cosine(a, b) < -0.99:
        return  # opposite rows are interpolated linearly, with smaller norms
    expected = (1 - position) * norm(a) + position * norm(b)
    assert norm(slerp(a, b, position)) == pytest.approx(expected, rel=1e-4)


@given(ROW, ROW)
def test_slerp_starts_and_ends_at_its_rows(a: Rows, b: Rows) -> None:
    np.testing.assert_allclose(slerp(a, b, 0), a, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slerp(a, b, 1), b, rtol=1e-5, atol=1e-5)


@given(ROW, st.floats(0.125, 8, width=32), POSITION)
def test_slerp_of_equal_and_opposite_rows_is_finite(a: Rows, factor: float, at: float) -> None:
    same = slerp(a, np.float32(factor) * a, at)
    np.testing.assert_allclose(same, (1 - at + at * factor) * a, rtol=1e-3, atol=1e-4)
    assert np.isfinite(slerp(a, -np.float32(factor) * a, at)).all()
    assert np.isfinite(slerp(a, np.zeros(5, np.float32), at)).all()


@given(ROW, ROW)
def test_a_minus_b_plus_b_is_a(a: Rows, b: Rows) -> None:
    a, b = normalize_rows(a), normalize_rows(b)
    np.testing.assert_allclose(normalize_rows((a - b) + b), a, atol=1e-6)
    # After a normalisation, the inverse is scaled by the length that was divided out.
    away = add_direction(a, b, -1)
    shrunk = norm(a - b)
    if shrunk > 1e-2:
        np.testing.assert_allclose(add_direction(away, b, 1 / shrunk), a, atol=1e-3)


@given(ROW, ROW, st.floats(-3, 3, width=32))
def test_adding_a_direction_is_subtracting_its_negative_and_stays_on_the_sphere(
    a: Rows, direction: Rows, amount: float
) -> None:
    row = normalize_rows(a)
    actual = add_direction(row, direction, amount)
    np.testing.assert_array_equal(actual, add_direction(row, -direction, -amount))
    assert norm(actual) == pytest.approx(1, abs=1e-5) or norm(actual) == 0


@given(st.lists(ROW, min_size=1, max_size=6))
def test_rows_are_independent(rows: list[Rows]) -> None:
    table = np.stack(rows)
    reversed_table = table[::-1].copy()
    together = slerp(table, reversed_table, 0.3)
    for index in range(len(rows)):
        alone = slerp(table[index : index + 1], reversed_table[index : index + 1], 0.3)
        np.testing.assert_allclose(together[index], alone[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mean(table), mean(reversed_table), atol=1e-4)
