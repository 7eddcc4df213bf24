"""The scorecard: each number is its own metric's, under its own name, at one n, with its floor."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from controlgen.errors import ConfigError, DataError, Incompatible
from controlgen.evaluation import scores as module
from controlgen.evaluation.scores import (
    MEASURES,
    Reference,
    Score,
    markdown,
    path_length_score,
)
from controlgen.features import ClassSpace, RawSpace
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.cmmd import cmmd
from controlgen.metrics.frechet import frechet_distance
from controlgen.metrics.inception_score import inception_score
from controlgen.metrics.kernel import kernel_distance
from controlgen.metrics.perceptual import PerceptualDistance
from controlgen.metrics.precision_recall import density_coverage, precision_recall

SIZE = 6


class Plain:
    """Mean shades of six parts of an image, as rows of length one."""

    size = SIZE
    fingerprint = "plain"

    def __init__(self) -> None:
        self.seen = 0

    def embed(self, pixels: Any, batch_size: int = 256) -> Any:
        raw = self._rows(pixels)
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    def embed_images(self, images: Any) -> Any:
        raise NotImplementedError

    def _rows(self, pixels: Any) -> Any:
        self.seen += len(pixels)
        return pixels.reshape(len(pixels), SIZE, -1).mean(2).astype(np.float32) + 1


class Telling(Plain):
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
    found = Reference(REAL, other, space, name, 3, 50, PixelDistance()).scores(generated, **more)
    return {one.name: one for one in found}


def test_fakes_are_what_they_say() -> None:
    assert isinstance(Telling(), ClassSpace) and isinstance(Telling(), RawSpace)
    assert not isinstance(Plain(), RawSpace)


def test_each_number_is_its_metrics_own_at_one_n() -> None:
    found = scores(Plain(), "toy")
    assert list(found) == [
        *("FD-toy", "KD-toy", "MMD-toy", "precision", "recall", "density", "coverage"),
        *("pixels diversity", "pixels to nearest real", "copies suspected"),
    ]
    a, real, other = (Plain().embed(side[:50]) for side in (GENERATED, REAL, OTHER))
    root = np.float32(SIZE**0.5)
    pairs = {"value": a, "floor": other}
    for which, rows in pairs.items():
        got = {name: getattr(one, which) for name, one in found.items()}
        assert got["FD-toy"].mean == pytest.approx(frechet_distance(rows, real))
        assert got["KD-toy"] == kernel_distance(rows * root, real * root, 3, 50)
        assert got["MMD-toy"] == cmmd(rows, real, 3, 50)
        assert (got["precision"], got["recall"]) == precision_recall(real, rows, 3)
        assert (got["density"], got["coverage"]) == density_coverage(real, rows, 3)
    counts = {name: one.value.n for name, one in found.items()}
    assert counts.pop("pixels diversity") == 25  # pairs
    assert set(counts.values()) == {50}
    better = {name: one.better for name, one in found.items()}
    assert better["FD-toy"] == better["copies suspected"] == "lower"
    assert better["recall"] == "higher" and better["pixels diversity"] == "neither"


def test_what_is_real_is_looked_at_once_for_one_set_after_another() -> None:
    space = Telling()
    reference = Reference(REAL, OTHER, space, "toy", 3, 50, PixelDistance())
    cold = reference.scores(GENERATED)
    first = space.seen
    other = images(60, 5, 110)
    warm = reference.scores(other)
    # Copies are sought among all poses of the real images, which no set has in common.
    poses = sum(len(REAL) for _ in range(1 if REAL.shape[2] != REAL.shape[3] else 8))
    assert space.seen - first == len(REAL) + poses
    assert warm == list(scores(Telling(), "toy", generated=other).values())
    assert [one.floor for one in warm] == [one.floor for one in cold]
    # Fewer images: floors of that many.
    few = reference.scores(GENERATED[:30])
    assert few == list(scores(Telling(), "toy", generated=GENERATED[:30]).values())
    assert few[0].floor != warm[0].floor


def test_inception_alone_has_published_names_and_raw_rows() -> None:
    only = ["frechet", "kernel", "mmd", "inception-score"]
    found = scores(Telling(), "inception-v3", only=only)
    assert list(found) == ["FD-inception-v3-6", "KD-inception-v3-6", "MMD-inception-v3-6", "IS"]
    raw = [Telling().embed_raw(side[:50]) for side in (GENERATED, REAL)]
    assert found["FD-inception-v3-6"].value.mean == pytest.approx(frechet_distance(*raw))
    assert found["KD-inception-v3-6"].value == kernel_distance(*raw, 3, 50)
    probabilities = Telling().probabilities(raw[0])
    assert found["IS"].value == inception_score(probabilities)
    assert found["IS"].floor == inception_score(Telling().probabilities(raw[1]))

    other = scores(Telling(), "toy", only=["frechet", "inception-score"])
    assert list(other) == ["FD-toy", "IS-toy"]
    unit = [Plain().embed(side[:50]) for side in (GENERATED, REAL)]
    assert other["FD-toy"].value.mean == pytest.approx(frechet_distance(*unit), rel=1e-4)


def test_real_images_score_as_the_floor_does_and_others_worse() -> None:
    same = scores(Plain(), "toy", generated=OTHER)
    for one in same.values():
        if one.floor is not None and "diversity" not in one.name:
            assert one.value == one.floor
    dark = GENERATED.copy()
    dark[:, :, :3] //= 4
    worse = scores(Plain(), "toy", generated=dark)
    for name in ("FD-toy", "MMD-toy", "pixels to nearest real"):
        floor = worse[name].floor
        assert floor is not None and worse[name].value.low > floor.mean


def test_a_set_against_itself_is_at_the_best_of_each() -> None:
    found = scores(Plain(), "toy", generated=REAL)
    for name in ("FD-toy", "MMD-toy", "pixels to nearest real"):
        assert found[name].value.mean == pytest.approx(0, abs=1e-6)
    assert found["precision"].value.mean == found["coverage"].value.mean == 1
    assert found["copies suspected"].value.mean == 1
    assert found["copies suspected"].note is not None
    assert found["copies suspected"].note.startswith("copies suspected among 50 real images")


def test_without_other_real_images_there_is_no_floor() -> None:
    found = scores(Plain(), "toy", None)
    assert "copies suspected" not in found
    assert {name for name, one in found.items() if one.floor} == {"pixels diversity"}
    with pytest.raises(ConfigError, match="copies: there are no other real"):
        scores(Plain(), "toy", None, only=["copies"])


def test_images_are_looked_at_once_and_progress_is_told() -> None:
    space, told = Plain(), []
    scores(space, "toy", on_progress=lambda what, done: told.append((what, done)))
    assert space.seen == 3 * 50 + 50  # copies look at the real images once more, pose by pose
    wanted = [name for name in MEASURES if name != "inception-score"]
    assert [what for what, _ in told] == [*wanted, "done"]
    shares = [done for _, done in told]
    assert shares == sorted(shares) and shares[-1] == 1


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ConfigError, match="measure fid: unknown; choose from frechet"):
        scores(Plain(), "toy", only=["fid"])
    with pytest.raises(ConfigError, match="tells no classes"):
        scores(Plain(), "toy", only=["inception-score"])
    with pytest.raises(DataError, match="19 images a side"):
        scores(Plain(), "toy", REAL[:19])
    with pytest.raises(Incompatible, match="1x4x12 and 1x6x8"):
        scores(Plain(), "toy", OTHER.reshape(-1, 1, 4, 12))


def test_the_table_shows_digits_that_count_and_notes() -> None:
    tiny = Score("KD", Interval(0.00012, 0.0001, 0.0002, 9), None, "lower", "a note")
    large = Score("FD", Interval(31.5, 30, 33, 9), Interval(2, 1, 3, 9), "lower")
    text, note = markdown([tiny, large])
    assert "| KD | 0.000120 (0.000100 to 0.000200) | - | lower | 9 |" in text
    assert "| FD | 31.50 (30.00 to 33.00) | 2.00 (1.00 to 3.00) | lower | 9 |" in text
    assert note == "KD: a note"
    assert large.effective()["floor"] == {"mean": 2, "low": 1, "high": 3, "n": 9}


def test_few_images_are_told_of() -> None:
    note = scores(Plain(), "toy", only=["frechet"])["FD-toy"].note
    assert note is not None and "50 images are fewer than 2048" in note


# Path length


def test_a_still_generator_has_no_path_and_a_faster_one_a_longer() -> None:
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


def test_a_path_length_barely_depends_on_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps of 1e-4 in float32 could drown in rounding.
    seen = PerceptualDistance(image_size=32)
    turned = np.random.default_rng(0).normal(size=(4, 768)).astype(np.float32) * 0.3

    def generate(latents: Any) -> torch.Tensor:
        return torch.from_numpy(np.tanh(latents @ turned)).view(-1, 3, 16, 16)

    fine = path_length_score(generate, 4, 0, 24, seen).value.mean
    paths = module.path_lengths
    monkeypatch.setattr(module, "path_lengths", lambda *given: paths(*given, epsilon=2e-3))
    coarse = path_length_score(generate, 4, 0, 24, seen).value.mean
    assert fine == pytest.approx(coarse, rel=0.1) and fine > 0
