"""Classes that images show, by a judge whose reading is known: closed forms and scipy's entropy."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import entropy

from controlgen.datasets import Digits
from controlgen.datasets.arrays import ArrayImages
from controlgen.evaluation.class_scores import class_scores, shares_of

NAMES = ["classes found, of 4", "smallest class", "KL of classes", "judge confident"]


class Reader:
    """Reads an image's class from its first pixel, and is sure of it where the second one is on."""

    classes = 4

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """As a judge: (n 4)."""
        sure = np.where(pixels[:, 0, 0, 1] > 0, 0.97, 0.4)
        rows = np.repeat(((1 - sure) / 3)[:, None], 4, axis=1)
        rows[np.arange(len(pixels)), pixels[:, 0, 0, 0]] = sure
        return rows.astype(np.float32)


def images(calls: list[int], sure: int) -> np.ndarray:
    """One of each call; the first `sure` of them are clear."""
    pixels = np.zeros((len(calls), 1, 2, 2), np.uint8)
    pixels[:, 0, 0, 0] = calls
    pixels[:sure, 0, 0, 1] = 255
    return pixels


@given(st.lists(st.integers(0, 3), min_size=20, max_size=60), st.integers(0, 20))
def test_the_numbers_are_those_of_the_calls(calls: list[int], sure: int) -> None:
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    unseen = images([0, 1, 2, 3] * 6, 24)
    found = class_scores(Reader(), shares, images(calls, sure), unseen, 0)
    assert [one.name for one in found] == NAMES
    counts = np.bincount(calls, minlength=4)
    for one, wanted in zip(
        found,
        [
            (counts > 0).sum(),
            counts.min() / len(calls),
            entropy(counts, shares),
            sure / len(calls),
        ],
        strict=True,
    ):
        assert one.value.mean == pytest.approx(wanted, abs=1e-12)
        assert one.value.low - 1e-12 <= one.value.mean <= one.value.high + 1e-12
        assert one.value.n == len(calls)
    floors = [one.floor.mean for one in found if one.floor is not None]
    assert floors == pytest.approx([4, 0.25, entropy([1, 1, 1, 1], shares), 1])
    # More classes than were found are never promised.
    assert found[0].value.high <= found[0].value.mean


def test_without_other_images_there_is_no_floor() -> None:
    found = class_scores(Reader(), np.full(4, 0.25), images([0, 1, 2, 3] * 5, 20), None, 0)
    assert [one.floor for one in found] == [None] * 4


def test_shares_are_those_of_the_labels() -> None:
    pixels = np.zeros((4, 1, 2, 2), np.uint8)
    four = ArrayImages(pixels, [0, 1, 1, 1], ("a", "b"))
    assert shares_of(four) == pytest.approx([0.25, 0.75])
    assert shares_of(ArrayImages(pixels)) is None
    assert shares_of(ArrayImages(pixels, [0, 2, 2, 2], ("a", "b", "c"))) is None


def rows(out: str) -> dict[str, list[float]]:
    """Value and floor by measure."""
    lines = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| ")]
    return {
        line[0]: [float(re.match(r"-?[0-9.]+", cell)[0]) for cell in line[1:3]]  # type: ignore[index]
        for line in lines[2:]
    }


@pytest.mark.parametrize("b", ["digits:test", "digits:train"])
def test_a_half_of_the_classes_is_seen_as_one(
    b: str, controlgen: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLGEN_DATA", str(tmp_path / "prepared"))
    data = Digits().open()
    chosen = np.flatnonzero(data.labels(np.arange(len(data))) < 5)[:120]
    (tmp_path / "low").mkdir()
    for at, image in enumerate(data.pixels(chosen)):
        Image.fromarray(image[0]).save(tmp_path / "low" / f"{at:03d}.png")
    answer = controlgen("score", tmp_path / "low", b, "--metrics", "classes", "--n", 120)
    assert answer.code == 0, answer.err
    found = rows(answer.out)
    classes, floor = found["classes found, of 10"]
    assert floor == 10 and 5 <= classes <= 7  # the judge may misread one or two
    value, least = found["KL of classes"]
    assert value == pytest.approx(np.log(2), abs=0.1) and least < 0.15
    assert found["smallest class"][0] == 0 < found["smallest class"][1]
    assert found["judge confident"][1] > 0.8


def test_images_without_classes_are_refused_before_anything_is_drawn(
    controlgen: Callable[..., Any], line: Any
) -> None:
    for b in (line.gan, "ihc"):
        answer = controlgen("score", b, b, "--metrics", "classes", "--store", line.store.root)
        assert answer.code == 2 and answer.out == ""
        assert f"--metrics classes: {b} tells no classes; as B name a data set" in answer.err
