"""Analogies on a toy whose inverse is known: what is asked for comes out, and chance does not."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from controlgen.evaluation.analogies import FEWEST, PICTURED, Analogies, analogies
from toy_protocol import CLASSES, make_subject

NAMES = ("left texture", "right texture")


class Textures:
    """Brightness of the left and right half of the toy's lower rows, which is no class."""

    names = NAMES

    def measure(self, pixels: np.ndarray) -> np.ndarray:
        rows = pixels[:, 0, 6:].astype(float) / 255
        return np.stack([rows[:, :, 1:4].mean((1, 2)), rows[:, :, 4:7].mean((1, 2))], 1)

    def standard(self, pixels: np.ndarray) -> np.ndarray:
        return (self.measure(pixels) - 0.5) / 0.1


def subject_of(**changes: Any) -> Any:
    subject = make_subject(**changes)
    subject.editor.attributes = Textures()
    return subject


@pytest.fixture(scope="module")
def subject() -> Any:
    return subject_of(inversions=200)


@pytest.fixture(scope="module")
def found(subject: Any) -> Analogies:
    told = analogies(subject)
    assert told is not None
    return told


def test_what_is_asked_for_comes_out(found: Analogies) -> None:
    rows = {row.method: row for row in found.rows}
    assert found.n == 200
    feature, chance = rows["feature arithmetic"], rows["another pair's change"]
    assert feature.kept is not None and feature.agreement is not None
    assert feature.kept.low > 0.9
    assert feature.agreement.low > 0.8
    # Chance moves as much, but not as asked.
    assert chance.agreement is not None
    assert chance.agreement.low < 0 < chance.agreement.high
    assert list(feature.attributes) == list(NAMES)
    mean = np.mean([one.mean for one in feature.attributes.values()])
    assert feature.agreement.mean == pytest.approx(mean)


def test_the_inverse_map_adds_nothing_by_itself(found: Analogies) -> None:
    rows = {row.method: row for row in found.rows}
    unmoved = rows["nothing added"]
    assert unmoved.kept is not None and unmoved.kept.mean == 1
    assert unmoved.back.mean == pytest.approx(1, abs=1e-3)
    assert unmoved.order.mean == pytest.approx(1, abs=1e-3)


def test_latents_return_and_commute_exactly(found: Analogies) -> None:
    row = next(row for row in found.rows if row.method == "latent arithmetic")
    assert row.back.mean == pytest.approx(1, abs=1e-3)
    assert row.order.mean == pytest.approx(1, abs=1e-3)
    assert found.unrelated.high < row.back.low


def test_attributes_are_those_of_the_pictures(subject: Any, found: Analogies) -> None:
    # The first pictured triples, read from the pictures themselves.
    a, b, c = (found.strips[name] for name in "abc")
    assert len(a) == PICTURED
    calls = [subject.probabilities(pixels).argmax(1) for pixels in (a, b, c)]
    np.testing.assert_array_equal(calls[0], calls[1])
    assert (calls[0] != calls[2]).all()
    model = Textures()
    asked = model.standard(a) - model.standard(b)
    answer = found.strips["feature arithmetic"]
    obtained = model.standard(answer) - model.standard(c)
    assert np.corrcoef(asked.ravel(), obtained.ravel())[0, 1] > 0.8


def test_without_a_judge_attributes_alone_are_told() -> None:
    subject = subject_of()
    object.__setattr__(subject, "judge", None)
    found = analogies(subject)
    assert found is not None
    assert all(row.kept is None for row in found.rows)
    assert "class of c kept" not in found.markdown()[2]
    assert found.rows[0].agreement is not None and found.rows[0].agreement.low > 0.5


def test_without_attributes_the_class_alone_is_told() -> None:
    found = analogies(make_subject())
    assert found is not None
    assert found.names == [] and found.rows[0].agreement is None
    head = found.markdown()[2].splitlines()[0]
    assert head.count("|") - 1 == 4  # method, class, there and back, either order


def test_nobody_can_tell_without_both() -> None:
    subject = make_subject()
    object.__setattr__(subject, "judge", None)
    assert analogies(subject) is None


def test_too_few_pictures_say_nothing() -> None:
    subject = subject_of()
    bank = subject.bank
    few = SimpleNamespace(**{**vars(bank), "held_out": slice(700, 700 + FEWEST - 1)})
    object.__setattr__(subject, "bank", few)
    assert analogies(subject) is None


@pytest.mark.parametrize("sure", [0, 1])
def test_one_class_has_no_analogies(sure: int) -> None:
    class OneClass:
        classes = CLASSES

        def probabilities(self, pixels: np.ndarray) -> np.ndarray:
            called = np.zeros((len(pixels), CLASSES))
            called[:, 1] = sure
            return called

    subject = subject_of()
    object.__setattr__(subject, "judge", OneClass())
    assert analogies(subject) is None


def test_a_class_without_pairs_can_still_be_asked_to_change() -> None:
    class Rare:
        """The first picture alone is of class 2."""

        classes = CLASSES

        def __init__(self, first: np.ndarray) -> None:
            self.first = first

        def probabilities(self, pixels: np.ndarray) -> np.ndarray:
            called = np.zeros((len(pixels), CLASSES))
            rare = (pixels == self.first).all((1, 2, 3))
            called[np.arange(len(pixels)), np.where(rare, 2, 0)] = 1
            return called

    subject = subject_of(inversions=30)
    object.__setattr__(subject, "judge", Rare(subject.held_out(1)[1][0]))
    found = analogies(subject)
    assert found is not None and found.n == 30
    # Only the rare one can be c: of the other class there are pairs, of its own there are none.
    np.testing.assert_array_equal(found.strips["c"], np.repeat(subject.held_out(1)[1], PICTURED, 0))
