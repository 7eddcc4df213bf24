"""Monitored training runs: verdicts, resumed observations and diverged runs."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from controlgen import stages
from controlgen.artifacts import Store
from controlgen.config import TrainConfig
from controlgen.errors import ConfigError, Diverged
from controlgen.evaluation.convergence import classify_run, verdict_label
from controlgen.stages import training_monitor
from controlgen.stages.training_monitor import load_observations
from controlgen.training.history import read_history
from training_curves import WATCH


def test_monitoring_changes_no_weights_and_writes_a_verdict(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    plain, monitored = tiny_config(total_images=160), tiny_config(total_images=160, watch=WATCH)
    store = Store(tmp_path)
    plain_run, monitored_run = (
        store.path(stages.train_gan("run", config, store)) for config in (plain, monitored)
    )
    assert plain_run.name != monitored_run.name
    for name in ("generator.safetensors", "critic.safetensors"):
        assert (plain_run / name).read_bytes() == (monitored_run / name).read_bytes()
    assert load_observations(plain_run) is None
    loaded = load_observations(monitored_run)
    assert loaded is not None
    observations, verdict = loaded
    assert [row.images_seen for row in observations] == list(range(0, 161, 8))
    assert verdict == classify_run(observations)
    assert (monitored_run / "convergence.png").stat().st_size > 10_000
    assert (
        f"| verdict | {verdict_label(verdict, observations)}: "
        in (monitored_run / "README.md").read_text()
    )


class Interrupting:
    """A progress reporter that interrupts the run after a number of images."""

    def __init__(self, images: int) -> None:
        self.images = images

    def start(self, *_: Any, **__: Any) -> "Interrupting":
        return self

    def __enter__(self) -> "Interrupting":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def update_to(self, done: float, note: str = "") -> None:
        if done >= self.images:
            raise KeyboardInterrupt


def test_a_resumed_run_has_the_same_observations(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_config(total_images=160, checkpoint_images=48, watch=WATCH)
    complete, resumed = Store(tmp_path / "complete"), Store(tmp_path / "resumed")
    ref = stages.train_gan("run", config, complete)
    for images in (24, 120):
        with pytest.raises(KeyboardInterrupt):
            stages.train_gan("run", config, resumed, Interrupting(images))  # type: ignore[arg-type]
    assert stages.train_gan("run", config, resumed) == ref
    assert load_observations(resumed.path(ref)) == load_observations(complete.path(ref))


def test_a_diverged_run_saves_its_observations_and_resumes(
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
        loaded = load_observations(partial)
        assert loaded is not None
        observations, verdict = loaded
        assert verdict.name == "diverged"
        assert "loss became" in verdict.reasons[0]
        assert [row.images_seen for row in observations] == list(range(0, 8 * len(observations), 8))


def test_too_few_observations_are_rejected(tiny_config: Callable[..., TrainConfig]) -> None:
    settings = tiny_config(total_images=160).to_dict()
    settings["watch"] = {**WATCH, "every_images": 50}
    with pytest.raises(ConfigError, match=r"watch\.every_images must be at most 12"):
        TrainConfig.parse(settings)
    assert TrainConfig.parse({**settings, "watch": {**WATCH, "every_images": 12}}).watch


@pytest.mark.parametrize("kind", ["r3gan", "non-saturating"])
def test_signs_of_gamma_are_reasons_and_do_not_decide_the_verdict(
    tiny_config: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    calls: list[Any] = []

    def diagnose(rows: Any, gamma_at: Callable[[float], float]) -> tuple[str, ...]:
        calls.append((rows, [gamma_at(images) for images in (0, 24, 48, 96)]))
        return ("signs of something",)

    monkeypatch.setattr(training_monitor, "diagnose_gamma", diagnose)
    objective = {"kind": kind, "gamma": {"start": 1.0, "end": 0.1}}
    config = tiny_config(total_images=160, checkpoint_images=48, watch=WATCH, objective=objective)
    folder = Store(tmp_path).path(stages.train_gan("run", config, Store(tmp_path)))
    loaded = load_observations(folder)
    assert loaded is not None
    observations, verdict = loaded
    expected = classify_run(observations)
    assert verdict.name == expected.name
    if kind != "r3gan":
        assert (calls, verdict.reasons) == ([], expected.reasons)
        return
    assert verdict.reasons == (*expected.reasons, "signs of something")
    ((rows, weights),) = calls
    assert rows == read_history(folder / "history.jsonl")
    assert len(rows) > 1
    assert weights == pytest.approx([1.0, 0.55, 0.1, 0.1])
