"""What an edit costs in likeness to real images: on a toy, against the metrics' own functions."""

from typing import Any

import numpy as np
import pytest

from controlgen.evaluation.class_edits import figure3
from controlgen.evaluation.edit_pairs import pick_edits
from controlgen.evaluation.realism import FEWEST, Realism, one_each, realism
from controlgen.metrics.cmmd import SCALE, cmmd
from controlgen.metrics.kernel import kernel_distance
from controlgen.rng import stream
from toy_protocol import make_subject


@pytest.fixture(scope="module")
def subject() -> Any:
    return make_subject()


@pytest.fixture(scope="module")
def edits(subject: Any) -> Any:
    return pick_edits(subject)[0]


def noise(pixels: np.ndarray) -> np.ndarray:
    """Pixels in which nothing is left."""
    return stream(0, "noise").integers(0, 256, pixels.shape).astype(np.uint8)


@pytest.fixture(scope="module")
def found(subject: Any, edits: Any) -> Realism:
    made = {
        "feature arithmetic": (1.0, lambda chosen: edits.pixels[chosen]),
        "noise": (2.0, lambda chosen: noise(edits.pixels[chosen])),
    }
    told = realism(subject, edits, made)
    assert told is not None
    return told


def test_every_source_is_edited_once_and_targets_are_even(edits: Any) -> None:
    chosen = one_each(edits)
    assert sorted(edits.source[chosen]) == sorted(set(edits.source.tolist()))
    pairs = list(zip(edits.before[chosen], edits.after[chosen], strict=True))
    counts = [pairs.count(pair) for pair in set(zip(edits.before, edits.after, strict=True))]
    assert len(counts) == 6 and max(counts) - min(counts) <= 2


def test_what_was_not_changed_costs_nothing(found: Realism) -> None:
    row = found.rows[0]
    for value in (row.kernel, row.mmd, row.nearest):
        assert (value.mean, value.low, value.high) == (0, 0, 0)
    assert row.recall == found.unedited["recall"]
    assert row.coverage == found.unedited["coverage"]
    (target,) = found.targets()
    assert target.met and target.measured == 0


def test_noise_costs_what_the_distances_say(found: Realism, subject: Any, edits: Any) -> None:
    row, n = found.rows[1], found.n
    assert row.kernel.low > 0 and row.mmd.low > 0 and row.nearest.low > 0
    assert row.coverage.mean < found.unedited["coverage"].mean
    chosen = one_each(edits)[:n]
    data = subject.real_test
    order = stream(0, "realism test").permutation(len(data))[:n]
    real = subject.audit.embed(data.pixels(np.sort(order)))
    sides = [
        subject.audit.embed(one) for one in (noise(edits.pixels[chosen]), edits.pixels[chosen])
    ]
    scale = np.sqrt(real.shape[1])
    after, before = (kernel_distance(one * scale, real * scale, 0, 10).mean for one in sides)
    assert row.kernel.mean == pytest.approx(after - before, rel=1e-9)
    assert found.unedited["kernel"].mean == pytest.approx(before, rel=1e-9)
    # The V-statistic of CMMD is the unbiased estimate and a bias that both sides share nearly.
    after, before = (cmmd(one, real, 0, 10).mean for one in sides)
    assert row.mmd.mean == pytest.approx(after - before, rel=0.05)
    assert SCALE * (2 - 2 * np.exp(-0.02)) > row.mmd.mean


def test_real_images_are_the_floor(found: Realism) -> None:
    floor = found.floor["kernel"]
    assert floor.low < 0 < floor.high
    assert found.floor["coverage"].mean > 0.8


def test_few_sources_say_nothing() -> None:
    few = make_subject(sources=2)
    assert len(pick_edits(few)[0]) < FEWEST
    assert realism(few, pick_edits(few)[0], {}) is None
    assert figure3(few).realism is None


def test_figure_3_tells_it_of_every_method(subject: Any) -> None:
    figure = figure3(subject)
    told = figure.realism
    assert told is not None
    best = {row.method: row.amount for row in figure.best}
    assert {row.method: row.amount for row in told.rows} == {
        name: amount for name, amount in best.items() if name not in ("no edit", "optimisation")
    }
    text = "\n".join(told.markdown())
    assert all(f"| {row.method} |" in text for row in told.rows)
