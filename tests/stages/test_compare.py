"""Objectives compared: shared settings, a member that fails, tables whose numbers are known."""

import csv
import io
import json
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from controlgen import stages
from controlgen.artifacts import Store
from controlgen.config import CompareConfig
from controlgen.editing.checkpoint import load_generator
from controlgen.errors import ConfigError, DataError
from controlgen.evaluation.convergence import Verdict
from controlgen.evaluation.objective_table import (
    RunOutcome,
    mean_over_seeds,
    scores_csv,
    scores_table,
)
from controlgen.evaluation.scores import Score
from controlgen.metrics.bootstrap import Interval
from controlgen.stages import TrainingAttempt
from controlgen.stages.training_monitor import HISTORY
from controlgen.training.history import read_history
from flows.cli import run_with_export
from flows.compare import main
from training_curves import GIVEN_UP, history

module = import_module("controlgen.stages.compare")  # as an attribute it is the stage

SETTINGS: dict[str, Any] = {
    "name": "toys",
    "train": {
        "dataset": {"kind": "digits"},
        "network": {"kind": "r3gan", "widths": [16, 16], "patch": 4, "latent_size": 8},
        "batch_size": 8,
        "total_images": 240,
        "burn_in_images": 240,
        "precision": "fp32",
        "watch": {
            "extractor": {"kind": "efficientnet-lite0", "image_size": 32},
            "n": 32,
            "every_images": 10,
        },
    },
    "members": {
        "r3gan": {},
        "wgan-gp": {"objective": {"kind": "wgan-gp", "critic_steps": 2}},
        "wild": {"learning_rate": {"start": 1e20, "end": 1e30}},
    },
    "seeds": [0, 1],
    "extractor": {"kind": "efficientnet-lite0", "image_size": 32},
    "n": 24,
    "paths": 10,
    "bootstraps": 10,
}


def with_changes(**changes: Any) -> dict[str, Any]:
    return {**SETTINGS, **changes}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    config, store = CompareConfig.parse(SETTINGS), Store(tmp_path_factory.mktemp("compared"))
    attempts = [
        stages.train_member(config, member, seed, store)
        for seed in config.seeds
        for member in config.members
    ]
    ref = stages.compare(config, attempts, store)
    assert stages.compare(config, attempts, store) == ref
    return store, store.path(ref)


def test_a_member_changes_what_it_names_and_nothing_else() -> None:
    config = CompareConfig.parse(SETTINGS)
    plain, other = config.training("r3gan", 1), config.training("wgan-gp", 1)
    assert plain == config.train.model_copy(update={"seed": 1})
    assert other.objective.kind == "wgan-gp"
    assert other.model_copy(update={"objective": plain.objective}) == plain


def test_the_budget_tells_how_often_each_generator_is_updated(
    comparison: tuple[Store, Path],
) -> None:
    config, text = CompareConfig.parse(SETTINGS), (comparison[1] / "report.md").read_text()
    # 240 images in batches of 8, and two batches an update of wgan-gp's generator.
    assert "240 real images per critic" in config.budget and config.budget in text
    assert config.budget.endswith(": 30 (r3gan, wild); 15 (wgan-gp)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": {"a": {}, "b": {"objektive": {}}}}, "members.b: unknown key objektive"),
        ({"members": {"a": {}, "b": {"total_images": 5}}}, "members.b.total_images: is shared"),
        ({"members": {"a": {}}}, "members"),
        ({"seeds": [1, 1]}, "seeds: must differ"),
        (
            {"train": {key: value for key, value in SETTINGS["train"].items() if key != "watch"}},
            "train.watch is missing",
        ),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CompareConfig.parse(with_changes(**changes))


def test_one_member_that_fails_loses_no_other(comparison: tuple[Store, Path]) -> None:
    store, folder = comparison
    assert len([ref for ref in store.refs() if ref.kind == "gan"]) == 4
    actual = json.loads((folder / "report.json").read_text())["outcomes"]
    assert [(item["member"], item["seed"]) for item in actual] == [
        (member, seed) for seed in (0, 1) for member in ("r3gan", "wgan-gp", "wild")
    ]
    for item in actual:
        if item["member"] == "wild":
            assert item["scores"] == []
            assert "became" in item["failure"]
            assert item["verdict"]["name"] == "diverged"
        else:
            assert item["failure"] is None
            names = [score["name"] for score in item["scores"]]
            for measure in ("FD", "KD", "IS"):
                assert f"{measure}-efficientnet-lite0-32" in names
            assert any(name.startswith("PPL-") for name in names)
            assert all(np.isfinite(score["value"]["mean"]) for score in item["scores"])
    assert "| wild | 0 | - |" in (folder / "table1.md").read_text()
    assert "diverged 2/2" in (folder / "table1.md").read_text()
    for name in ("samples.png", "convergence.png"):
        assert (folder / name).stat().st_size > 5_000
    assert not (folder / "scores").exists()


def test_the_tables_hold_the_means_over_seeds(comparison: tuple[Store, Path]) -> None:
    folder = comparison[1]
    actual = json.loads((folder / "report.json").read_text())["outcomes"]
    lines = list(csv.DictReader(io.StringIO((folder / "table1.csv").read_text())))
    name = "FD-efficientnet-lite0-32"
    values = [
        score["value"]["mean"]
        for item in actual
        for score in item["scores"]
        if item["member"] == "wgan-gp" and score["name"] == name
    ]
    text = [
        float(line["value"])
        for line in lines
        if line["member"] == "wgan-gp" and line["measure"] == name
    ]
    assert text == pytest.approx(values, rel=1e-5)
    head, _, *rows = (folder / "table1.md").read_text().splitlines()
    column = [cell.strip() for cell in head.split("|")].index(f"{name} ↓")
    (row,) = [row for row in rows if row.startswith("| wgan-gp |")]
    displayed = float(row.split("|")[column].split()[0])
    assert displayed == pytest.approx(np.mean(values), rel=0.01)
    assert len([line for line in lines if line["member"] == "wild"]) == 2


def test_a_mistake_that_every_member_shares_is_one_error(tmp_path: Path) -> None:
    train = {**SETTINGS["train"], "network": {"kind": "r3gan", "widths": [16, 16], "patch": 1}}
    config, store = CompareConfig.parse(with_changes(train=train)), Store(tmp_path)
    attempts = [stages.train_member(config, member, 0, store) for member in config.members]
    with pytest.raises(ConfigError, match="no member could be trained; the first said: Incompat"):
        stages.compare(config, attempts, store)
    assert store.refs() == []


def test_images_that_cannot_be_read_stop_everything(tmp_path: Path) -> None:
    train = {**SETTINGS["train"], "dataset": {"kind": "folder", "root": tmp_path / "none"}}
    config = CompareConfig.parse(with_changes(train=train))
    with pytest.raises(DataError, match="none"):
        stages.train_member(config, "r3gan", 0, Store(tmp_path / "store"))


@pytest.mark.parametrize("kind", [np.linalg.LinAlgError, ValueError, OSError, KeyError])
def test_whatever_breaks_in_a_training_is_that_members_own(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> Any:
        raise kind("no way\nand more")

    monkeypatch.setattr(module, "train_gan", fail)
    config = CompareConfig.parse(SETTINGS)
    attempt = stages.train_member(config, "r3gan", 0, Store(tmp_path))
    assert attempt.failure is not None and not attempt.diverged
    assert attempt.failure.startswith(f"{kind.__name__}: ") and "no way" in attempt.failure


def finish_runs(store: Store, **changes: Any) -> tuple[CompareConfig, list[TrainingAttempt]]:
    """The trainings of `comparison` that came to an end, to be compared with other settings."""
    config = CompareConfig.parse(with_changes(**changes))
    attempts = [
        stages.train_member(config, member, seed, store)
        for seed in config.seeds
        for member in ("r3gan", "wgan-gp")
    ]
    return config, attempts


def test_a_comparison_that_was_stopped_goes_on_after_the_last_score(
    comparison: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = comparison[0]
    config, attempts = finish_runs(store, bootstraps=11)
    scored: list[str] = []

    def score(config: CompareConfig, gan: Path, judges: Any) -> list[Score]:
        if len(scored) == 1 and not going_on:
            raise KeyboardInterrupt
        scored.append(gan.name)
        return [Score("FD-x", Interval(len(scored), 0, 9, 9), None, "lower")]

    monkeypatch.setattr(module, "_scores", score)
    going_on = False
    with pytest.raises(KeyboardInterrupt):
        stages.compare(config, attempts, store)
    going_on = True
    folder = store.path(stages.compare(config, attempts, store))
    assert scored == [attempt.gan.name for attempt in attempts]
    actual = json.loads((folder / "report.json").read_text())["outcomes"]
    assert [attempt["scores"][0]["value"]["mean"] for attempt in actual] == [1, 2, 3, 4]


def test_a_gan_that_cannot_be_scored_is_a_failed_row_and_loses_no_other(
    comparison: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = comparison[0]
    config, attempts = finish_runs(store, bootstraps=12, seeds=[0])
    broken = store.path(attempts[0].gan)

    def load(folder: Path) -> Any:
        generator, rest = load_generator(folder)
        if folder == broken:
            for weights in generator.parameters():
                weights.data.fill_(np.nan)
        return generator, rest

    monkeypatch.setattr(module, "load_generator", load)
    folder = store.path(stages.compare(config, attempts, store))
    bad, good = json.loads((folder / "report.json").read_text())["outcomes"]
    assert bad["failure"] == "could not be scored: the generator's images are not finite"
    assert bad["scores"] == [] and bad["verdict"] is None
    assert good["failure"] is None and good["scores"]
    assert "could not be scored" in (folder / "report.md").read_text()
    assert "| r3gan | 0 | - |" in (folder / "table1.md").read_text()
    assert "r3gan,0,,,,,,,failed," in (folder / "table1.csv").read_text()
    assert "| failed | r3gan 0 |" in (folder / "README.md").read_text()


def test_losses_that_speak_against_gamma_are_told_of_a_member_that_has_one(
    comparison: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, attempts = finish_runs(comparison[0], bootstraps=14, seeds=[0])
    rows = history(**GIVEN_UP, gamma=config.train.objective.gamma.at)
    score = Score("FD-x", Interval(1, 0, 9, 9), None, "lower")
    monkeypatch.setattr(module, "_scores", lambda *given: [score])
    monkeypatch.setattr(
        "controlgen.stages.training_monitor.read_history",
        lambda path, *rest: rows if path.name == HISTORY else read_history(path, *rest),
    )
    folder = comparison[0].path(stages.compare(config, attempts, comparison[0]))
    (ours, other) = json.loads((folder / "report.json").read_text())["outcomes"]
    assert ours["verdict"]["reasons"][-1].startswith("signs that gamma is too large")
    assert "signs that gamma is too large" in (folder / "report.md").read_text()
    assert not any("gamma" in reason for reason in other["verdict"]["reasons"])


def test_where_scoring_itself_is_at_fault_no_report_is_made(
    comparison: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = comparison[0]
    config, attempts = finish_runs(store, bootstraps=13)
    before = set(store.refs())

    def fail(error: Exception) -> Any:
        def score(*given: Any) -> Any:
            raise error

        monkeypatch.setattr(module, "_scores", score)
        return stages.compare(config, attempts, store)

    with pytest.raises(ConfigError, match="no member could be scored; the first said: .*singular"):
        fail(np.linalg.LinAlgError("singular"))
    for error in (DataError("too few"), MemoryError(), OSError("disk full")):
        with pytest.raises(type(error)):
            fail(error)
    assert set(store.refs()) == before


def test_a_comparison_says_its_n_and_that_duplicates_are_not_sought(
    comparison: tuple[Store, Path],
) -> None:
    table, report = ((comparison[1] / name).read_text() for name in ("table1.md", "report.md"))
    (counts,) = [line for line in table.splitlines() if line.startswith("| n of a run |")]
    assert "| 24 |" in counts and "| 12 |" in counts  # images; pairs of them
    assert counts in report
    assert "Duplicates of training images are not sought here, on purpose" in report


def test_another_outcome_makes_another_report(comparison: tuple[Store, Path]) -> None:
    store, folder = comparison
    config = CompareConfig.parse(SETTINGS)
    attempts = [
        stages.train_member(config, member, seed, store)
        for seed in config.seeds
        for member in config.members
        if member != "wild"
    ]
    assert store.path(stages.compare(config, attempts, store)) != folder


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [0.5, 0.25]])
def test_over_seeds_is_student_s_interval(values: list[float]) -> None:
    actual = mean_over_seeds(values)
    low, high = student.interval(
        0.95, len(values) - 1, np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    )
    assert actual == pytest.approx((np.mean(values), low, high, len(values)))
    assert mean_over_seeds([3.0]) == Interval(3.0, 3.0, 3.0, 1)


def test_the_table_of_known_scores() -> None:
    def run(member: str, seed: int, value: float, verdict: str) -> RunOutcome:
        score = Score("FD-x", Interval(value, value, value, 9), Interval(0.1, 0, 0.2, 9), "lower")
        return RunOutcome(member, seed, (score,), (), Verdict(verdict, ()), None, 60.0)  # type: ignore[arg-type]

    runs = [
        run("a", 0, 1.0, "converged"),
        run("a", 1, 3.0, "oscillating"),
        run("b", 0, 0.5, "converged"),
        RunOutcome("b", 1, failure="no memory"),
    ]
    head, _, *rows = scores_table(runs).splitlines()
    spread = f"({2 - 12.706:.3f} to {2 + 12.706:.3f})"
    assert head == "| objective | seeds | FD-x ↓ | verdict |"
    assert rows == [
        f"| a | 2 | 2.000 {spread} | converged 1/2, oscillating 1/2 |",
        "| b | 1 | 0.500 | converged 1/2, failed 1/2 |",
        "| real images | - | 0.100 (0.000 to 0.200) | - |",
        "| n of a run | - | 9 | - |",
    ]
    assert scores_csv(runs).splitlines()[-1] == "b,1,,,,,,,failed,"


def test_the_flow_compares_and_ships(tmp_path: Path, command_line: Callable[..., Any]) -> None:
    small = with_changes(
        seeds=[0], members={"r3gan": {}, "hinge": {"objective": {"kind": "hinge"}}}
    )
    path = tmp_path / "compare.toml"
    path.write_text(to_toml(small))
    answer = command_line(
        partial(run_with_export, main, CompareConfig),
        "flows.compare",
        str(path),
        "--store",
        str(tmp_path / "store"),
        "--ship",
        "compared",
    )
    assert answer.code == 0, answer.err
    assert "report: " in answer.out
    shipped = tmp_path / "store" / "pretrained" / "compared"
    for name in ("table1.md", "table1.csv", "report.md", "samples.png", "README.md"):
        assert (shipped / name).is_file()


def to_toml(values: dict[str, Any]) -> str:
    """Nested dictionaries as inline TOML."""

    def inline(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f'"{k}" = {inline(v)}' for k, v in value.items()) + " }"
        return json.dumps(value)

    return "\n".join(f"{key} = {inline(value)}" for key, value in values.items())
