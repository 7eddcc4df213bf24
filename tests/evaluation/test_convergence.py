"""The verdict on a training: from curves of known shape, networks of known slope, and runs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from controlgen import stages
from controlgen.artifacts import Store
from controlgen.config import TrainConfig
from controlgen.datasets import Digits
from controlgen.errors import ConfigError, Diverged
from controlgen.evaluation.convergence import FEWEST, Evidence, Watcher, qualified, verdict
from controlgen.images import to_unit
from controlgen.stages.training_monitor import read_evidence
from training_curves import GOOD, WATCH


def run(distances: Sequence[float], **changes: Any) -> list[Evidence]:
    return [
        replace(GOOD, images_seen=1000 * at, distance=value, distance_now=value, **changes)
        for at, value in enumerate(distances)
    ]


def falling(end: float, looks: int = 20) -> list[float]:
    """From 2 to `end` in the first half, then level."""
    return [max(2.0 * (end / 2.0) ** (at / (looks / 2)), end) for at in range(looks)]


def test_a_level_curve_near_the_floor_has_converged() -> None:
    found = verdict(run(falling(0.1)))
    assert found.name == "converged"
    assert "97% of the way" in found.reasons[0]
    assert "0.60 of the samples look like real images (real ones: 0.70)" in found.reasons[2]


@pytest.mark.parametrize(("precision", "said"), [(0.1, " (poor samples)"), (0.3, "")])
def test_what_has_converged_among_poor_samples_is_said_so(precision: float, said: str) -> None:
    seen = [replace(one, precision=precision, precision_floor=0.8) for one in run([0.1] * 12)]
    assert qualified(verdict(seen), seen) == f"converged{said}"
    unfinished = [replace(one, precision=0.0) for one in run(list(np.geomspace(2, 0.5, 12)))]
    assert qualified(verdict(unfinished), unfinished) == "unfinished"


def test_a_falling_curve_is_unfinished() -> None:
    found = verdict(run(np.geomspace(2.0, 0.1, 20).tolist()))
    assert found.name == "unfinished"
    # By at least what the distance alone, without the floor, is said to fall from half way on.
    assert "over the second half the distance fell by 6" in found.reasons[0]


def test_swings_are_oscillation() -> None:
    swings = [0.1 * np.exp(0.8 * np.sin(at)) for at in range(20)]
    found = verdict(run([2.0] * 5 + swings))
    assert found.name == "oscillating"
    # A little noise is none.
    noise = [0.1 * np.exp(0.1 * np.sin(7 * at)) for at in range(20)]
    assert verdict(run([2.0] * 5 + noise)).name == "converged"


def test_samples_too_alike_have_collapsed() -> None:
    assert verdict(run(falling(0.1), spread=0.3)).name == "collapsed"


def test_samples_alike_from_birth_have_not_collapsed_but_what_becomes_so_has() -> None:
    far = run(np.linspace(2.0, 1.5, 20).tolist(), precision=0.0, coverage=0.0)
    assert verdict([replace(one, spread=0.42) for one in far]).name == "unfinished"
    shrinking = [
        replace(one, spread=spread)
        for one, spread in zip(far, np.linspace(0.42, 0.1, 20), strict=True)
    ]
    assert verdict(shrinking).name == "collapsed"


def test_good_samples_of_few_kinds_have_collapsed_and_poor_ones_have_not() -> None:
    few = run(falling(0.1), coverage=0.2)
    assert verdict(few).name == "collapsed"
    assert verdict([replace(one, precision=0.1) for one in few]).name == "converged"


def test_far_away_or_left_again_is_diverged() -> None:
    for end in (2.0, 1.98):
        # A hundredth of the way is no way.
        assert verdict(run(np.linspace(2.0, end, 20).tolist())).name == "diverged"
    left = verdict(run([*falling(0.1), *[0.8] * 8]))
    assert left.name == "diverged"
    assert "lost again" in left.reasons[1]


def test_far_away_but_on_its_way_is_unfinished() -> None:
    for end in (1.3, 1.8):
        assert verdict(run(np.geomspace(2.0, end, 20).tolist())).name == "unfinished"


def test_a_run_that_broke_off_is_diverged_whatever_was_seen() -> None:
    for seen in ([], run([2.0]), run(falling(0.1))):
        found = verdict(seen, stopped="critic loss became nan")
        assert found.name == "diverged"
        assert found.reasons[0] == "critic loss became nan"
    with pytest.raises(ValueError, match="8 observations"):
        verdict(run([2.0] * (FEWEST - 1)))


@given(
    st.lists(st.floats(0.05, 3.0), min_size=FEWEST, max_size=30),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1.2),
    st.integers(-7, 7),
)
def test_the_unit_of_distance_does_not_matter(
    distances: list[float], precision: float, coverage: float, spread: float, doublings: int
) -> None:
    # By powers of two, which round nothing: a bound that is met exactly stays met.
    unit = 2.0**doublings
    seen = run(distances, precision=precision, coverage=coverage, spread=spread)
    other = [
        replace(
            one,
            distance=one.distance * unit,
            distance_now=one.distance_now * unit,
            floor=one.floor * unit,
            untrained=one.untrained * unit,
        )
        for one in seen
    ]
    found = verdict(seen)
    assert found.name in ("diverged", "collapsed", "oscillating", "unfinished", "converged")
    assert verdict(other).name == found.name


# ---- what is seen


class Replay(nn.Module):
    """A "generator" that returns given images, in order, whatever it is asked."""

    def __init__(self, pixels: np.ndarray) -> None:
        super().__init__()
        self.images = nn.Parameter(to_unit(pixels), requires_grad=False)
        self.at = 0

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        first, self.at = self.at, (self.at + len(latents)) % len(self.images)
        return self.images[first : first + len(latents)]


class Linear(nn.Module):
    """D(x) = 3 sum(x) + 1: its gradient is 3 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.weight * images.flatten(1).sum(1) + 1


def flat(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(len(pixels), -1)[:, ::16] / 255


def test_what_is_seen_is_what_is_there() -> None:
    dataset = Digits().open()
    noise = np.random.default_rng(0).integers(0, 256, (100, 1, 32, 32), np.uint8)
    watcher = Watcher(dataset, flat, Replay(noise), latent_size=4, n=100, seed=0)
    perfect = Replay(watcher.real)
    seen = watcher.look(7, perfect, perfect, Linear())
    assert seen.images_seen == 7
    assert seen.distance == pytest.approx(0, abs=1e-9)
    assert 1e-3 < seen.floor < seen.untrained
    assert seen.precision == seen.coverage == 1.0
    assert seen.spread == pytest.approx(1.0)
    assert seen.slope_real == seen.slope_fake == pytest.approx(3 * 32, rel=1e-5)
    assert seen.critic_real == pytest.approx(
        float(3 * to_unit(watcher.real).flatten(1).sum(1).mean() + 1), rel=1e-5
    )

    one = Replay(np.repeat(watcher.real[:1], 100, 0))
    assert watcher.look(7, one, one, Linear()).spread == 0
    far = watcher.look(7, Replay(noise), Replay(noise), Linear())
    assert far.distance == far.distance_now == pytest.approx(far.untrained)


# ---- watched runs


def test_watching_changes_no_weight_and_leaves_a_verdict(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    plain, watched = tiny_config(total_images=160), tiny_config(total_images=160, watch=WATCH)
    store = Store(tmp_path)
    without, with_it = (
        store.path(stages.train_gan("run", config, store)) for config in (plain, watched)
    )
    assert without.name != with_it.name
    for name in ("generator.safetensors", "critic.safetensors"):
        assert (without / name).read_bytes() == (with_it / name).read_bytes()
    assert read_evidence(without) is None
    evidence = read_evidence(with_it)
    assert evidence is not None
    seen, found = evidence
    assert [one.images_seen for one in seen] == list(range(0, 161, 8))
    assert found == verdict(seen)
    assert (with_it / "convergence.png").stat().st_size > 10_000
    assert f"| verdict | {qualified(found, seen)}: " in (with_it / "README.md").read_text()


class Breaking:
    """A reporter whose bar stops the run at so many images."""

    def __init__(self, at: int) -> None:
        self.at = at

    def meter(self, *_: Any, **__: Any) -> "Breaking":
        return self

    def __enter__(self) -> "Breaking":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def to(self, done: float, note: str = "") -> None:
        if done >= self.at:
            raise KeyboardInterrupt


def test_a_run_that_was_stopped_sees_the_same_evidence(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_config(total_images=160, checkpoint_images=48, watch=WATCH)
    whole, broken = Store(tmp_path / "whole"), Store(tmp_path / "broken")
    ref = stages.train_gan("run", config, whole)
    for at in (24, 120):
        with pytest.raises(KeyboardInterrupt):
            stages.train_gan("run", config, broken, Breaking(at))  # type: ignore[arg-type]
    assert stages.train_gan("run", config, broken) == ref
    assert read_evidence(broken.path(ref)) == read_evidence(whole.path(ref))


def test_a_run_that_diverges_leaves_its_evidence_and_goes_on_from_it(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_config(
        learning_rate={"start": 1e-3, "end": 1e30},
        total_images=10_000,
        burn_in_images=10_000,
        checkpoint_images=8,
        watch=WATCH,
    )
    for _ in range(2):
        with pytest.raises(Diverged):
            stages.train_gan("wild", config, Store(tmp_path))
        (partial,) = (tmp_path / "gan").iterdir()
        evidence = read_evidence(partial)
        assert evidence is not None
        assert evidence[1].name == "diverged"
        assert "loss became" in evidence[1].reasons[0]
        assert [one.images_seen for one in evidence[0]] == [
            8 * at for at in range(len(evidence[0]))
        ]


def test_too_few_looks_are_refused_by_name(tiny_config: Callable[..., TrainConfig]) -> None:
    settings = tiny_config(total_images=160).effective()
    settings["watch"] = {**WATCH, "every_images": 50}
    with pytest.raises(ConfigError, match=r"watch\.every_images must be at most 12"):
        TrainConfig.parse(settings)
    assert TrainConfig.parse({**settings, "watch": {**WATCH, "every_images": 12}}).watch
