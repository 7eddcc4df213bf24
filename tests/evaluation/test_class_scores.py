"""Class scores with a known judge, compared with closed forms and scipy's entropy."""

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
from controlgen.datasets.arrays import ArrayDataset
from controlgen.evaluation.class_scores import class_scores, class_shares

NAMES = ["classes found, of 4", "smallest class", "KL of classes", "judge confident"]


class PixelJudge:
    """Reads the class from the first pixel; it is confident if the second pixel is on."""

    classes = 4

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Class probabilities (n 4)."""
        confidence = np.where(pixels[:, 0, 0, 1] > 0, 0.97, 0.4)
        rows = np.repeat(((1 - confidence) / 3)[:, None], 4, axis=1)
        rows[np.arange(len(pixels)), pixels[:, 0, 0, 0]] = confidence
        return rows.astype(np.float32)


def images(labels: list[int], confident: int) -> np.ndarray:
    """One image per label; the judge is confident of the first ones."""
    pixels = np.zeros((len(labels), 1, 2, 2), np.uint8)
    pixels[:, 0, 0, 0] = labels
    pixels[:confident, 0, 0, 1] = 255
    return pixels


@given(st.lists(st.integers(0, 3), min_size=20, max_size=60), st.integers(0, 20))
def test_scores_equal_closed_forms(labels: list[int], confident: int) -> None:
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    unseen = images([0, 1, 2, 3] * 6, 24)
    actual = class_scores(PixelJudge(), shares, images(labels, confident), unseen, 0)
    assert [item.name for item in actual] == NAMES
    counts = np.bincount(labels, minlength=4)
    for item, expected in zip(
        actual,
        [
            (counts > 0).sum(),
            counts.min() / len(labels),
            entropy(counts, shares),
            confident / len(labels),
        ],
        strict=True,
    ):
        assert item.value.mean == pytest.approx(expected, abs=1e-12)
        assert item.value.low - 1e-12 <= item.value.mean <= item.value.high + 1e-12
        assert item.value.n == len(labels)
    floors = [item.floor.mean for item in actual if item.floor is not None]
    assert floors == pytest.approx([4, 0.25, entropy([1, 1, 1, 1], shares), 1])
    # The interval never exceeds the number of classes present.
    assert actual[0].value.high <= actual[0].value.mean


def test_no_floor_without_unseen_images() -> None:
    actual = class_scores(PixelJudge(), np.full(4, 0.25), images([0, 1, 2, 3] * 5, 20), None, 0)
    assert [item.floor for item in actual] == [None] * 4


def test_class_shares_are_those_of_the_labels() -> None:
    pixels = np.zeros((4, 1, 2, 2), np.uint8)
    labelled = ArrayDataset(pixels, [0, 1, 1, 1], ("a", "b"))
    assert class_shares(labelled) == pytest.approx([0.25, 0.75])
    assert class_shares(ArrayDataset(pixels)) is None
    assert class_shares(ArrayDataset(pixels, [0, 2, 2, 2], ("a", "b", "c"))) is None


def rows(out: str) -> dict[str, list[float]]:
    """Value and floor by measure."""
    lines = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| ")]
    return {
        line[0]: [float(re.match(r"-?[0-9.]+", cell)[0]) for cell in line[1:3]]  # type: ignore[index]
        for line in lines[2:]
    }


@pytest.mark.parametrize("b", ["digits:test", "digits:train"])
def test_half_of_the_classes_is_recognised(
    b: str, controlgen: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLGEN_DATA", str(tmp_path / "prepared"))
    data = Digits().open()
    low = np.flatnonzero(data.labels(np.arange(len(data))) < 5)[:120]
    (tmp_path / "low").mkdir()
    for index, image in enumerate(data.pixels(low)):
        Image.fromarray(image[0]).save(tmp_path / "low" / f"{index:03d}.png")
    result = controlgen("score", tmp_path / "low", b, "--metrics", "classes", "--n", 120)
    assert result.code == 0, result.err
    actual = rows(result.out)
    classes, floor = actual["classes found, of 10"]
    assert floor == 10 and 5 <= classes <= 7  # the judge may misread one or two
    value, least = actual["KL of classes"]
    assert value == pytest.approx(np.log(2), abs=0.1) and least < 0.15
    assert actual["smallest class"][0] == 0 < actual["smallest class"][1]
    assert actual["judge confident"][1] > 0.8


def test_images_without_classes_are_rejected_early(
    controlgen: Callable[..., Any], line: Any
) -> None:
    for b in (line.gan, "ihc"):
        result = controlgen("score", b, b, "--metrics", "classes", "--store", line.store.root)
        assert result.code == 2 and result.out == ""
        assert f"--metrics classes: {b} has no class labels; as B name a data set" in result.err
