"""Scores equal their metrics, under the right names, at one n and with their floors."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from controlgen.errors import ConfigError, DataError, Incompatible
from controlgen.evaluation import scores as module
from controlgen.evaluation.scores import (
    MEASURES,
    ReferenceSet,
    Score,
    path_length_score,
    scores_markdown,
)
from controlgen.features import ClassifierSpace, UnnormalizedSpace
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.cmmd import cmmd
from controlgen.metrics.frechet import frechet_distance
from controlgen.metrics.inception_score import inception_score
from controlgen.metrics.kernel import kernel_distance
from controlgen.metrics.perceptual import PerceptualDistance
from controlgen.metrics.precision_recall import density_coverage, precision_recall

SIZE = 6


class UnitSpace:
    """Mean shades of six parts of an image, as unit rows."""

    size = SIZE
    fingerprint = "plain"

    def __init__(self) -> None:
        self.n_embedded = 0

    def embed(self, pixels: Any, batch_size: int = 256) -> Any:
        raw = self._rows(pixels)
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    def embed_images(self, images: Any) -> Any:
        raise NotImplementedError

    def _rows(self, pixels: Any) -> Any:
        self.n_embedded += len(pixels)
        return pixels.reshape(len(pixels), SIZE, -1).mean(2).astype(np.float32) + 1


class RawSpace(UnitSpace):
    """The same with raw rows and three classes."""

    def embed_raw(self, pixels: Any, batch_size: int = 256) -> Any:
        return self._rows(pixels)

    def probabilities(self, raw: Any) -> Any:
        return torch.from_numpy(raw[:, :3] / 20).softmax(1).numpy()


class PixelDistance:
    name = "pixels"

    def distance(self, a: Any, b: Any) -> Any:
        return np.square(a.astype(float) - b).mean((1, 2, 3))


def images(n: int, seed: int, shade: int = 100) -> Any:
    draws = np.random.default_rng(seed)
    centres = draws.integers(shade - 60, shade + 60, (n, SIZE, 1))
    return (centres + draws.integers(-9, 9, (n, SIZE, 8))).astype(np.uint8).reshape(n, 1, 6, 8)


GENERATED, REAL, OTHER = images(60, 0, 90), images(50, 1), images(70, 2)


def scores(
    space: Any, name: str, other: Any = OTHER, generated: Any = GENERATED, **more: Any
) -> dict[str, Score]:
    actual = ReferenceSet(REAL, other, space, name, 3, 50, PixelDistance()).scores(
        generated, **more
    )
    return {score.name: score for score in actual}


def test_toy_spaces_satisfy_the_protocols() -> None:
    assert isinstance(RawSpace(), ClassifierSpace) and isinstance(RawSpace(), UnnormalizedSpace)
    assert not isinstance(UnitSpace(), UnnormalizedSpace)


def test_each_score_equals_its_metric_at_one_n() -> None:
    actual = scores(UnitSpace(), "toy")
    assert list(actual) == [
        *("FD-toy", "KD-toy", "MMD-toy", "precision", "recall", "density", "coverage"),
        *("pixels diversity", "pixels to nearest real", "copies suspected"),
    ]
    generated, real, other = (UnitSpace().embed(s[:50]) for s in (GENERATED, REAL, OTHER))
    root = np.float32(SIZE**0.5)
    for field, rows in {"value": generated, "floor": other}.items():
        got = {name: getattr(score, field) for name, score in actual.items()}
        assert got["FD-toy"].mean == pytest.approx(frechet_distance(rows, real))
        assert got["KD-toy"] == kernel_distance(rows * root, real * root, 3, 50)
        assert got["MMD-toy"] == cmmd(rows, real, 3, 50)
        assert (got["precision"], got["recall"]) == precision_recall(real, rows, 3)
        assert (got["density"], got["coverage"]) == density_coverage(real, rows, 3)
    counts = {name: score.value.n for name, score in actual.items()}
    assert counts.pop("pixels diversity") == 25  # pairs
    assert set(counts.values()) == {50}
    better = {name: score.better for name, score in actual.items()}
    assert better["FD-toy"] == better["copies suspected"] == "lower"
    assert better["recall"] == "higher" and better["pixels diversity"] == "neither"


def test_real_images_are_embedded_once_for_several_sets() -> None:
    space = RawSpace()
    reference = ReferenceSet(REAL, OTHER, space, "toy", 3, 50, PixelDistance())
    first = reference.scores(GENERATED)
    n_first = space.n_embedded
    other = images(60, 5, 110)
    second = reference.scores(other)
    # The search for copies embeds all poses of the real images again for each set.
    poses = sum(len(REAL) for _ in range(1 if REAL.shape[2] != REAL.shape[3] else 8))
    assert space.n_embedded - n_first == len(REAL) + poses
    assert second == list(scores(RawSpace(), "toy", generated=other).values())
    assert [score.floor for score in second] == [score.floor for score in first]
    # Fewer images have floors of their number.
    few = reference.scores(GENERATED[:30])
    assert few == list(scores(RawSpace(), "toy", generated=GENERATED[:30]).values())
    assert few[0].floor != second[0].floor


def test_only_inception_has_published_names_and_raw_rows() -> None:
    only = ["frechet", "kernel", "mmd", "inception-score"]
    actual = scores(RawSpace(), "inception-v3", only=only)
    assert list(actual) == ["FD-inception-v3-6", "KD-inception-v3-6", "MMD-inception-v3-6", "IS"]
    raw = [RawSpace().embed_raw(pixels[:50]) for pixels in (GENERATED, REAL)]
    assert actual["FD-inception-v3-6"].value.mean == pytest.approx(frechet_distance(*raw))
    assert actual["KD-inception-v3-6"].value == kernel_distance(*raw, 3, 50)
    probabilities = RawSpace().probabilities(raw[0])
    assert actual["IS"].value == inception_score(probabilities)
    assert actual["IS"].floor == inception_score(RawSpace().probabilities(raw[1]))

    other = scores(RawSpace(), "toy", only=["frechet", "inception-score"])
    assert list(other) == ["FD-toy", "IS-toy"]
    unit = [UnitSpace().embed(pixels[:50]) for pixels in (GENERATED, REAL)]
    assert other["FD-toy"].value.mean == pytest.approx(frechet_distance(*unit), rel=1e-4)


def test_real_images_score_like_the_floor_and_others_worse() -> None:
    same = scores(UnitSpace(), "toy", generated=OTHER)
    for score in same.values():
        if score.floor is not None and "diversity" not in score.name:
            assert score.value == score.floor
    dark = GENERATED.copy()
    dark[:, :, :3] //= 4
    worse = scores(UnitSpace(), "toy", generated=dark)
    for name in ("FD-toy", "MMD-toy", "pixels to nearest real"):
        floor = worse[name].floor
        assert floor is not None and worse[name].value.low > floor.mean


def test_a_set_against_itself_has_the_best_scores() -> None:
    actual = scores(UnitSpace(), "toy", generated=REAL)
    for name in ("FD-toy", "MMD-toy", "pixels to nearest real"):
        assert actual[name].value.mean == pytest.approx(0, abs=1e-6)
    assert actual["precision"].value.mean == actual["coverage"].value.mean == 1
    assert actual["copies suspected"].value.mean == 1
    assert actual["copies suspected"].note is not None
    assert actual["copies suspected"].note.startswith("copies suspected among 50 real images")


def test_no_floor_without_other_real_images() -> None:
    actual = scores(UnitSpace(), "toy", None)
    assert "copies suspected" not in actual
    assert {name for name, score in actual.items() if score.floor} == {"pixels diversity"}
    with pytest.raises(ConfigError, match="copies: there are no other real"):
        scores(UnitSpace(), "toy", None, only=["copies"])


def test_images_are_embedded_once_and_progress_is_reported() -> None:
    space, calls = UnitSpace(), []
    scores(space, "toy", on_progress=lambda measure, share: calls.append((measure, share)))
    assert space.n_embedded == 3 * 50 + 50  # once more for copies, pose by pose
    expected = [name for name in MEASURES if name != "inception-score"]
    assert [measure for measure, _ in calls] == [*expected, "done"]
    shares = [share for _, share in calls]
    assert shares == sorted(shares) and shares[-1] == 1


def test_what_cannot_be_scored_is_rejected() -> None:
    with pytest.raises(ConfigError, match="measure fid: unknown; choose from frechet"):
        scores(UnitSpace(), "toy", only=["fid"])
    with pytest.raises(ConfigError, match="has no classes"):
        scores(UnitSpace(), "toy", only=["inception-score"])
    with pytest.raises(DataError, match="19 images in a set"):
        scores(UnitSpace(), "toy", REAL[:19])
    with pytest.raises(Incompatible, match="1x4x12 and 1x6x8"):
        scores(UnitSpace(), "toy", OTHER.reshape(-1, 1, 4, 12))


def test_the_table_has_significant_digits_and_notes() -> None:
    tiny = Score("KD", Interval(0.00012, 0.0001, 0.0002, 9), None, "lower", "a note")
    large = Score("FD", Interval(31.5, 30, 33, 9), Interval(2, 1, 3, 9), "lower")
    text, note = scores_markdown([tiny, large])
    assert "| KD | 0.000120 (0.000100 to 0.000200) | - | lower | 9 |" in text
    assert "| FD | 31.50 (30.00 to 33.00) | 2.00 (1.00 to 3.00) | lower | 9 |" in text
    assert note == "KD: a note"
    assert large.to_dict()["floor"] == {"mean": 2, "low": 1, "high": 3, "n": 9}


def test_few_images_are_noted() -> None:
    note = scores(UnitSpace(), "toy", only=["frechet"])["FD-toy"].note
    assert note is not None and "50 images are fewer than 2048" in note


# Path length


def test_path_length_is_zero_for_a_constant_and_grows_with_speed() -> None:
    squared = SimpleNamespace(
        name="PD-squared", image_distance=lambda a, b: np.square(a - b).mean((1, 2, 3))
    )

    def lengths(factor: float) -> Score:
        def generate(latents: Any) -> torch.Tensor:
            return torch.from_numpy(latents * factor).view(-1, 1, 2, 4)

        return path_length_score(generate, 8, 0, 100, squared)  # type: ignore[arg-type]

    assert lengths(0).value.mean == 0
    assert lengths(2).value.mean == pytest.approx(4 * lengths(1).value.mean, rel=1e-3)
    assert lengths(1).name == "PPL-squared" and lengths(1).better == "lower"


def test_path_length_barely_depends_on_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps of 1e-4 in float32 could drown in rounding.
    distance = PerceptualDistance(image_size=32)
    projection = np.random.default_rng(0).normal(size=(4, 768)).astype(np.float32) * 0.3

    def generate(latents: Any) -> torch.Tensor:
        return torch.from_numpy(np.tanh(latents @ projection)).view(-1, 3, 16, 16)

    fine = path_length_score(generate, 4, 0, 24, distance).value.mean
    path_lengths = module.path_lengths
    monkeypatch.setattr(module, "path_lengths", lambda *args: path_lengths(*args, epsilon=2e-3))
    coarse = path_length_score(generate, 4, 0, 24, distance).value.mean
    assert fine == pytest.approx(coarse, rel=0.1) and fine > 0
