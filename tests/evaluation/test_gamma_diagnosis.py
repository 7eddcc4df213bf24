"""What is said of the critic beside a verdict: its drift, and signs of a wrong gamma."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlgen import figures, stages
from controlgen.artifacts import Store
from controlgen.config import TrainConfig
from controlgen.evaluation.convergence import verdict
from controlgen.evaluation.gamma_diagnosis import FEWEST, gamma_signs
from controlgen.schedules import Schedule
from controlgen.stages import training_monitor
from controlgen.stages.training_monitor import read_evidence
from controlgen.training.history import read_history
from training_curves import GIVEN_UP, GOOD, LN2, WATCH, history

# ---- the critic's drift, gap and slopes


def test_a_verdict_tells_the_slopes_the_gap_and_the_drift_that_a_gap_cannot_show() -> None:
    # Both outputs go down together from 3 at the middle to -4 at the end: the gap stays.
    outputs = [*([9.0] * 4), 3.0, 2.0, 0.5, -4.0]
    seen = [
        replace(GOOD, images_seen=at, critic_real=one, critic_fake=one - 1.5, slope_fake=0.25)
        for at, one in enumerate(outputs)
    ]
    found = verdict(seen)
    assert found.reasons[-1] == (
        "the critic's slope is 0.5 at reals and 0.25 at samples; its outputs lie 1.5 apart and "
        "drifted by -7 over the second half"
    )
    # It is said whatever the verdict, and decides none.
    assert found.name == verdict([GOOD] * 8).name == "converged"
    alike = [replace(one, spread=0.1) for one in seen]
    assert verdict(alike).name == "collapsed"
    assert verdict(alike).reasons[-1] == found.reasons[-1]
    broken = verdict(seen, stopped="a loss became nan")
    assert broken.reasons == ("a loss became nan", found.reasons[-1])
    assert verdict([], stopped="a loss became nan").reasons == ("a loss became nan",)


def test_the_picture_shows_the_output_at_reals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(
        "controlgen.figures.convergence.save", lambda figure, *_: kept.append(figure)
    )
    rows = [
        {**vars(GOOD), "images_seen": 1000 * at, "critic_real": 1.0 - at, "critic_fake": 0.8 - at}
        for at in range(6)
    ]
    figures.training_evidence(tmp_path / "none.png", {"one": [rows]}, {})
    lines = {axes.get_title(loc="left"): axes.lines[0] for axes in kept[0].axes}
    assert len(lines) == 9
    drift = lines["critic: output at reals (its drift)"]
    np.testing.assert_array_equal(drift.get_xdata(), range(6))
    np.testing.assert_array_equal(drift.get_ydata(), [1, 0, -1, -2, -3, -4])
    # In the gap it cancels.
    gap = lines["critic: output at reals - at samples"].get_ydata()
    np.testing.assert_allclose(gap, 0.2)


# ---- gamma, from constructed histories


def constant(value: float) -> Callable[[float], float]:
    return lambda _: value


def lowered(seen: float) -> float:
    """1 to 0.1, as the paper does it, over twenty rows."""
    return Schedule(start=1.0, end=0.1).at(seen / 20_000)


RUN_AWAY = {
    "pairing": np.geomspace(0.3, 0.01, 20).tolist(),
    "gap": np.linspace(1, 5, 20).tolist(),
    "slopes": np.geomspace(0.2, 0.8, 20).tolist(),
}
WELL = {
    "pairing": np.linspace(0.3, 0.5, 20).tolist(),
    "gap": np.linspace(1.6, 0.5, 20).tolist(),
    "slopes": np.geomspace(0.2, 0.5, 20).tolist(),
}


@pytest.mark.parametrize("gamma", [constant(2.0), lowered])
def test_a_critic_that_gives_up_is_a_sign_of_too_large_a_gamma(
    gamma: Callable[[float], float],
) -> None:
    (told,) = gamma_signs(history(**GIVEN_UP, gamma=gamma), gamma)
    assert told.startswith("signs that gamma is too large: ")
    assert "0.693 at the end" in told and "fell from 0.3 to 0.00" in told


@pytest.mark.parametrize("gamma", [constant(0.01), lowered])
def test_a_critic_that_runs_away_is_a_sign_of_too_small_a_gamma(
    gamma: Callable[[float], float],
) -> None:
    rows = history(**RUN_AWAY, gamma=gamma)
    if gamma is lowered:
        # The penalty itself falls with its weight; that is not the critic's doing.
        assert rows[-1]["penalty"] < rows[8]["penalty"]
    (told,) = gamma_signs(rows, gamma)
    assert told.startswith("signs that gamma is too small: ")
    assert "lie 4.58 apart" in told and "squared slopes grew from" in told


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # Loss at ln 2 with a penalty that is there, and a penalty that went at a loss below.
        {"pairing": [LN2] * 20},
        {"slopes": GIVEN_UP["slopes"]},
        # Far apart with slopes that stay, and slopes that grow at a usual distance.
        {"gap": RUN_AWAY["gap"], "slopes": [0.5] * 20},
        {"gap": [3.9] * 20},
        # Nothing was learned yet: slopes were never there.
        {"pairing": [LN2] * 20, "gap": [0.0] * 20, "slopes": [1e-3] * 20},
    ],
)
@pytest.mark.parametrize("gamma", [constant(1.0), lowered])
def test_one_sign_alone_is_none(
    changes: Mapping[str, list[float]], gamma: Callable[[float], float]
) -> None:
    assert gamma_signs(history(**{**WELL, **changes}, gamma=gamma), gamma) == ()


def test_little_history_and_a_weight_of_zero_say_nothing() -> None:
    rows = history(**RUN_AWAY, gamma=constant(0.01))
    assert gamma_signs([], constant(1.0)) == ()
    assert gamma_signs(rows[-FEWEST + 1 :], constant(0.01)) == ()
    assert gamma_signs(rows, lambda seen: 1 - seen / 20_000) == ()


@given(st.integers(FEWEST, 60), st.floats(1e-3, 100))
def test_signs_do_not_depend_on_how_long_it_took_or_on_the_weight(n: int, weight: float) -> None:
    """Of the distance of outputs; the penalty that is left in a loss has the loss's unit."""
    at = np.linspace(0, 19, n)
    stretched = {name: np.interp(at, np.arange(20), one) for name, one in RUN_AWAY.items()}
    gamma = constant(weight)
    (told,) = gamma_signs(history(**stretched, gamma=gamma), gamma)
    assert "too small" in told


# ---- in a watched run


@pytest.mark.parametrize("kind", ["r3gan", "non-saturating"])
def test_signs_stand_among_the_reasons_and_decide_nothing(
    tiny_config: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    asked: list[Any] = []

    def told(rows: Any, gamma_at: Callable[[float], float]) -> tuple[str, ...]:
        asked.append((rows, [gamma_at(seen) for seen in (0, 24, 48, 96)]))
        return ("signs of something",)

    monkeypatch.setattr(training_monitor, "gamma_signs", told)
    objective = {"kind": kind, "gamma": {"start": 1.0, "end": 0.1}}
    config = tiny_config(total_images=160, checkpoint_images=48, watch=WATCH, objective=objective)
    folder = Store(tmp_path).path(stages.train_gan("run", config, Store(tmp_path)))
    evidence = read_evidence(folder)
    assert evidence is not None
    seen, found = evidence
    by_evidence = verdict(seen)
    assert found.name == by_evidence.name
    if kind != "r3gan":
        assert (asked, found.reasons) == ([], by_evidence.reasons)
        return
    assert found.reasons == (*by_evidence.reasons, "signs of something")
    ((rows, weights),) = asked
    assert rows == read_history(folder / "history.jsonl")
    assert len(rows) > 1
    assert weights == pytest.approx([1.0, 0.55, 0.1, 0.1])
