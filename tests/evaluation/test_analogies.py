"""Analogies on a toy with a known inverse: the requested change is achieved, but not by chance."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from controlgen.evaluation.analogies import (
    MIN_IMAGES,
    STRIP_IMAGES,
    AnalogyResults,
    evaluate_analogies,
)
from toy_protocol import CLASSES, make_context

NAMES = ("left texture", "right texture")


class Textures:
    """Brightness of the left and right half of the toy's lower rows, which is no class."""

    names = NAMES

    def measure(self, pixels: np.ndarray) -> np.ndarray:
        rows = pixels[:, 0, 6:].astype(float) / 255
        return np.stack([rows[:, :, 1:4].mean((1, 2)), rows[:, :, 4:7].mean((1, 2))], 1)

    def standardize(self, pixels: np.ndarray) -> np.ndarray:
        return (self.measure(pixels) - 0.5) / 0.1


def make_textured_context(**changes: Any) -> Any:
    context = make_context(**changes)
    context.editor.attributes = Textures()
    return context


@pytest.fixture(scope="module")
def context() -> Any:
    return make_textured_context(inversions=200)


@pytest.fixture(scope="module")
def results(context: Any) -> AnalogyResults:
    results = evaluate_analogies(context)
    assert results is not None
    return results


def test_feature_arithmetic_achieves_the_requested_change(results: AnalogyResults) -> None:
    rows = {row.method: row for row in results.rows}
    assert results.n == 200
    feature, chance = rows["feature arithmetic"], rows["another pair's change"]
    assert feature.class_kept is not None and feature.agreement is not None
    assert feature.class_kept.low > 0.9
    assert feature.agreement.low > 0.8
    # A random change is as large, but not the requested one.
    assert chance.agreement is not None
    assert chance.agreement.low < 0 < chance.agreement.high
    assert list(feature.attributes) == list(NAMES)
    mean = np.mean([attribute.mean for attribute in feature.attributes.values()])
    assert feature.agreement.mean == pytest.approx(mean)


def test_the_exact_inverse_map_changes_nothing_by_itself(results: AnalogyResults) -> None:
    rows = {row.method: row for row in results.rows}
    unedited = rows["nothing added"]
    assert unedited.class_kept is not None and unedited.class_kept.mean == 1
    assert unedited.back.mean == pytest.approx(1, abs=1e-3)
    assert unedited.order.mean == pytest.approx(1, abs=1e-3)


def test_latents_return_and_commute_exactly(results: AnalogyResults) -> None:
    row = next(row for row in results.rows if row.method == "latent arithmetic")
    assert row.back.mean == pytest.approx(1, abs=1e-3)
    assert row.order.mean == pytest.approx(1, abs=1e-3)
    assert results.unrelated.high < row.back.low


def test_attributes_agree_with_those_of_the_strips(context: Any, results: AnalogyResults) -> None:
    a, b, c = (results.strips[name] for name in "abc")
    assert len(a) == STRIP_IMAGES
    labels = [context.judge_probabilities(pixels).argmax(1) for pixels in (a, b, c)]
    np.testing.assert_array_equal(labels[0], labels[1])
    assert (labels[0] != labels[2]).all()
    model = Textures()
    requested = model.standardize(a) - model.standardize(b)
    answer = results.strips["feature arithmetic"]
    achieved = model.standardize(answer) - model.standardize(c)
    assert np.corrcoef(requested.ravel(), achieved.ravel())[0, 1] > 0.8


def test_without_a_judge_only_attributes_are_evaluated() -> None:
    context = make_textured_context()
    object.__setattr__(context, "judge", None)
    results = evaluate_analogies(context)
    assert results is not None
    assert all(row.class_kept is None for row in results.rows)
    assert "class of c kept" not in results.markdown()[2]
    assert results.rows[0].agreement is not None and results.rows[0].agreement.low > 0.5


def test_without_attributes_only_the_class_is_evaluated() -> None:
    results = evaluate_analogies(make_context())
    assert results is not None
    assert results.names == [] and results.rows[0].agreement is None
    head = results.markdown()[2].splitlines()[0]
    assert head.count("|") - 1 == 4  # method, class, there and back, either order


def test_no_results_without_judge_and_attributes() -> None:
    context = make_context()
    object.__setattr__(context, "judge", None)
    assert evaluate_analogies(context) is None


def test_no_results_for_too_few_images() -> None:
    context = make_textured_context()
    bank = context.bank
    few = SimpleNamespace(**{**vars(bank), "held_out": slice(700, 700 + MIN_IMAGES - 1)})
    object.__setattr__(context, "bank", few)
    assert evaluate_analogies(context) is None


@pytest.mark.parametrize("confidence", [0, 1])
def test_one_class_has_no_analogies(confidence: int) -> None:
    class OneClass:
        classes = CLASSES

        def probabilities(self, pixels: np.ndarray) -> np.ndarray:
            probabilities = np.zeros((len(pixels), CLASSES))
            probabilities[:, 1] = confidence
            return probabilities

    context = make_textured_context()
    object.__setattr__(context, "judge", OneClass())
    assert evaluate_analogies(context) is None


def test_a_class_without_pairs_can_be_c() -> None:
    class Rare:
        """Only the first image is of class 2."""

        classes = CLASSES

        def __init__(self, first: np.ndarray) -> None:
            self.first = first

        def probabilities(self, pixels: np.ndarray) -> np.ndarray:
            probabilities = np.zeros((len(pixels), CLASSES))
            rare = (pixels == self.first).all((1, 2, 3))
            probabilities[np.arange(len(pixels)), np.where(rare, 2, 0)] = 1
            return probabilities

    context = make_textured_context(inversions=30)
    object.__setattr__(context, "judge", Rare(context.held_out_items(1)[1][0]))
    results = evaluate_analogies(context)
    assert results is not None and results.n == 30
    # Only the rare class can be c, because only the other one has pairs.
    np.testing.assert_array_equal(
        results.strips["c"], np.repeat(context.held_out_items(1)[1], STRIP_IMAGES, 0)
    )
