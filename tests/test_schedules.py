"""Schedules and the averaging decay against their closed forms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlgen.errors import ConfigError
from controlgen.schedules import CosineSchedule
from controlgen.training.gan import ema_decay

values = st.floats(-1e6, 1e6)


@given(values, values)
def test_start_midpoint_and_end(start: float, end: float) -> None:
    schedule = CosineSchedule(start=start, end=end)
    size = max(abs(start), abs(end), 1e-12)
    assert schedule.at(0) == start
    assert schedule.at(0.5) == pytest.approx((start + end) / 2, abs=1e-9 * size)
    assert schedule.at(1) == pytest.approx(end, abs=1e-9 * size)


@given(values, values, st.floats(1, 1e9))
def test_constant_after_the_burn_in(start: float, end: float, late: float) -> None:
    schedule = CosineSchedule(start=start, end=end)
    assert schedule.at(late) == schedule.at(1.0)


@given(st.floats(0, 1), st.floats(0, 1))
def test_moves_one_way_along_a_cosine(first: float, second: float) -> None:
    schedule = CosineSchedule(start=2.0, end=-1.0)
    early, late = sorted((first, second))
    assert schedule.at(early) >= schedule.at(late)
    assert schedule.at(early) == pytest.approx(0.5 + 1.5 * math.cos(math.pi * early))


def test_a_bare_number_is_constant() -> None:
    schedule = CosineSchedule.model_validate(0.25)
    assert [schedule.at(x) for x in (0, 0.3, 1, 9)] == [0.25] * 4


@pytest.mark.parametrize("bad", [{"start": 1}, {"start": 1, "end": float("nan")}, {"stop": 1}])
def test_refuses_what_is_not_a_schedule(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        CosineSchedule.parse(bad)


def test_ema_decay_of_the_paper() -> None:
    assert round(ema_decay(512, 5e6), 7) == 0.9999290


@given(st.integers(1, 4096), st.integers(1, 2000))
def test_ema_decay_halves_over_a_half_life(batch: int, steps: int) -> None:
    assert ema_decay(batch, float(batch * steps)) ** steps == pytest.approx(0.5)


def test_ema_half_life_zero_keeps_nothing() -> None:
    assert ema_decay(512, 0.0) == 0.0
