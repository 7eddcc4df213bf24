"""Realism after edits on a toy, against the metrics' own functions."""

from typing import Any

import numpy as np
import pytest

from controlgen.evaluation.class_edits import evaluate_class_edits
from controlgen.evaluation.edit_pairs import select_edit_pairs
from controlgen.evaluation.realism import (
    MIN_SOURCES,
    Realism,
    evaluate_realism,
    one_edit_per_source,
)
from controlgen.metrics.cmmd import SCALE, cmmd
from controlgen.metrics.kernel import kernel_distance
from controlgen.rng import stream
from toy_protocol import make_context


@pytest.fixture(scope="module")
def context() -> Any:
    return make_context()


@pytest.fixture(scope="module")
def edits(context: Any) -> Any:
    return select_edit_pairs(context)[0]


def noise(pixels: np.ndarray) -> np.ndarray:
    """Random pixels of the same shape."""
    return stream(0, "noise").integers(0, 256, pixels.shape).astype(np.uint8)


@pytest.fixture(scope="module")
def realism(context: Any, edits: Any) -> Realism:
    methods = {
        "feature arithmetic": (1.0, lambda selection: edits.pixels[selection]),
        "noise": (2.0, lambda selection: noise(edits.pixels[selection])),
    }
    results = evaluate_realism(context, edits, methods)
    assert results is not None
    return results


def test_every_source_has_one_edit_and_pairs_are_even(edits: Any) -> None:
    selection = one_edit_per_source(edits)
    assert sorted(edits.source[selection]) == sorted(set(edits.source.tolist()))
    pairs = list(zip(edits.before[selection], edits.after[selection], strict=True))
    counts = [pairs.count(pair) for pair in set(zip(edits.before, edits.after, strict=True))]
    assert len(counts) == 6 and max(counts) - min(counts) <= 2


def test_unchanged_images_have_no_cost(realism: Realism) -> None:
    row = realism.rows[0]
    for value in (row.kernel, row.mmd, row.nearest):
        assert (value.mean, value.low, value.high) == (0, 0, 0)
    assert row.recall == realism.unedited["recall"]
    assert row.coverage == realism.unedited["coverage"]
    (goal,) = realism.goals()
    assert goal.met and goal.measured == 0


def test_cost_of_noise_agrees_with_the_distances(
    realism: Realism, context: Any, edits: Any
) -> None:
    row, n = realism.rows[1], realism.n
    assert row.kernel.low > 0 and row.mmd.low > 0 and row.nearest.low > 0
    assert row.coverage.mean < realism.unedited["coverage"].mean
    sources = edits.pixels[one_edit_per_source(edits)[:n]]
    data = context.real_test
    order = stream(0, "realism test").permutation(len(data))[:n]
    real = context.audit.embed(data.pixels(np.sort(order)))
    sides = [context.audit.embed(pixels) for pixels in (noise(sources), sources)]
    scale = np.sqrt(real.shape[1])
    after, before = (kernel_distance(side * scale, real * scale, 0, 10).mean for side in sides)
    assert row.kernel.mean == pytest.approx(after - before, rel=1e-9)
    assert realism.unedited["kernel"].mean == pytest.approx(before, rel=1e-9)
    # CMMD's V-statistic is the unbiased estimate plus a bias that nearly cancels.
    after, before = (cmmd(side, real, 0, 10).mean for side in sides)
    assert row.mmd.mean == pytest.approx(after - before, rel=0.05)
    assert SCALE * (2 - 2 * np.exp(-0.02)) > row.mmd.mean


def test_real_images_are_the_floor(realism: Realism) -> None:
    floor = realism.floor["kernel"]
    assert floor.low < 0 < floor.high
    assert realism.floor["coverage"].mean > 0.8


def test_too_few_sources_give_no_section() -> None:
    few = make_context(sources=2)
    assert len(select_edit_pairs(few)[0]) < MIN_SOURCES
    assert evaluate_realism(few, select_edit_pairs(few)[0], {}) is None
    assert evaluate_class_edits(few).realism is None


def test_class_edits_include_realism_of_every_method(context: Any) -> None:
    results = evaluate_class_edits(context)
    assert results.realism is not None
    best = {row.method: row.amount for row in results.best}
    assert {row.method: row.amount for row in results.realism.rows} == {
        name: amount for name, amount in best.items() if name not in ("no edit", "optimisation")
    }
    text = "\n".join(results.realism.markdown())
    assert all(f"| {row.method} |" in text for row in results.realism.rows)
