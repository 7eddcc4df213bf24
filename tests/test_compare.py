"""Objectives compared: shared settings, a member that fails, tables whose numbers are known."""

import csv
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from controlgen import stages
from controlgen.artifacts import Store
from controlgen.config import CompareConfig
from controlgen.errors import ConfigError, DataError
from controlgen.evaluation.comparison import Outcome, csv_of, over_seeds, table_of
from controlgen.evaluation.convergence import Verdict
from controlgen.evaluation.scorecard import Score
from controlgen.metrics.bootstrap import Interval
from flows.command import run_and_ship
from flows.compare import main

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


def changed(**changes: Any) -> dict[str, Any]:
    return {**SETTINGS, **changes}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"members": {"a": {}, "b": {"objektive": {}}}}, "members.b: unknown key objektive"),
        ({"members": {"a": {}, "b": {"total_images": 5}}}, "members.b.total_images: is shared"),
        ({"members": {"a": {}}}, "members"),
        ({"seeds": [1, 1]}, "seeds: give each one once"),
        (
            {"train": {key: value for key, value in SETTINGS["train"].items() if key != "watch"}},
            "train.watch is missing",
        ),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        CompareConfig.parse(changed(**changes))


def test_one_member_that_fails_loses_no_other(compared: tuple[Store, Path]) -> None:
    store, folder = compared
    assert len([ref for ref in store.refs() if ref.kind == "gan"]) == 4
    found = json.loads((folder / "report.json").read_text())["outcomes"]
    assert [(one["member"], one["seed"]) for one in found] == [
        (member, seed) for seed in (0, 1) for member in ("r3gan", "wgan-gp", "wild")
    ]
    for one in found:
        if one["member"] == "wild":
            assert one["scores"] == []
            assert "became" in one["failure"]
            assert one["verdict"]["name"] == "diverged"
        else:
            assert one["failure"] is None
            names = [score["name"] for score in one["scores"]]
            for measure in ("FD", "KD", "IS"):
                assert f"{measure}-efficientnet-lite0-32" in names
            assert any(name.startswith("PPL-") for name in names)
            assert all(np.isfinite(score["value"]["mean"]) for score in one["scores"])
    assert "| wild | - |" in (folder / "table1.md").read_text()
    assert "diverged 2/2" in (folder / "table1.md").read_text()
    for name in ("samples.png", "convergence.png"):
        assert (folder / name).stat().st_size > 5_000
    assert not (folder / "scores").exists()


def test_the_tables_hold_the_means_over_seeds(compared: tuple[Store, Path]) -> None:
    folder = compared[1]
    found = json.loads((folder / "report.json").read_text())["outcomes"]
    lines = list(csv.DictReader(io.StringIO((folder / "table1.csv").read_text())))
    name = "FD-efficientnet-lite0-32"
    values = [
        score["value"]["mean"]
        for one in found
        for score in one["scores"]
        if one["member"] == "wgan-gp" and score["name"] == name
    ]
    told = [
        float(line["value"])
        for line in lines
        if line["member"] == "wgan-gp" and line["measure"] == name
    ]
    assert told == pytest.approx(values, rel=1e-5)
    head, _, *rows = (folder / "table1.md").read_text().splitlines()
    column = [cell.strip() for cell in head.split("|")].index(f"{name} ↓")
    (row,) = [row for row in rows if row.startswith("| wgan-gp |")]
    shown = float(row.split("|")[column].split()[0])
    assert shown == pytest.approx(np.mean(values), rel=0.01)
    assert len([line for line in lines if line["member"] == "wild"]) == 2


def test_a_mistake_that_every_member_shares_is_one_error(tmp_path: Path) -> None:
    train = {**SETTINGS["train"], "network": {"kind": "r3gan", "widths": [16, 16], "patch": 1}}
    config, store = CompareConfig.parse(changed(train=train)), Store(tmp_path)
    attempts = [stages.train_member(config, member, 0, store) for member in config.members]
    with pytest.raises(ConfigError, match="no member could be trained; the first said: Incompat"):
        stages.compare(config, attempts, store)
    assert store.refs() == []


def test_images_that_cannot_be_read_stop_everything(tmp_path: Path) -> None:
    train = {**SETTINGS["train"], "dataset": {"kind": "folder", "root": tmp_path / "none"}}
    config = CompareConfig.parse(changed(train=train))
    with pytest.raises(DataError, match="none"):
        stages.train_member(config, "r3gan", 0, Store(tmp_path / "store"))


def test_another_outcome_makes_another_report(compared: tuple[Store, Path]) -> None:
    store, folder = compared
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
    found = over_seeds(values)
    low, high = student.interval(
        0.95, len(values) - 1, np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    )
    assert found == pytest.approx((np.mean(values), low, high, len(values)))
    assert over_seeds([3.0]) == Interval(3.0, 3.0, 3.0, 1)


def test_the_table_of_known_scores() -> None:
    def run(member: str, seed: int, value: float, verdict: str) -> Outcome:
        score = Score("FD-x", Interval(value, value, value, 9), Interval(0.1, 0, 0.2, 9), "lower")
        return Outcome(member, seed, (score,), (), Verdict(verdict, ()), None, 60.0)  # type: ignore[arg-type]

    runs = [
        run("a", 0, 1.0, "converged"),
        run("a", 1, 3.0, "oscillating"),
        run("b", 0, 0.5, "converged"),
        Outcome("b", 1, failure="no memory"),
    ]
    head, _, *rows = table_of(runs).splitlines()
    assert head == "| objective | FD-x ↓ | verdict |"
    assert rows == [
        f"| a | 2.000 ({2 - 12.706:.3f} to {2 + 12.706:.3f}) | converged 1/2, oscillating 1/2 |",
        "| b | 0.500 | converged 1/2, failed 1/2 |",
        "| real images | 0.100 (0.000 to 0.200) | - |",
    ]
    assert csv_of(runs).splitlines()[-1] == "b,1,,,,,,,failed,"


def test_the_flow_compares_and_ships(tmp_path: Path, command_line: Callable[..., Any]) -> None:
    small = changed(seeds=[0], members={"r3gan": {}, "hinge": {"objective": {"kind": "hinge"}}})
    path = tmp_path / "compare.toml"
    path.write_text(toml_of(small))
    answer = command_line(
        partial(run_and_ship, main, CompareConfig),
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


def toml_of(values: dict[str, Any]) -> str:
    """Nested dictionaries as inline TOML."""

    def inline(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f'"{k}" = {inline(v)}' for k, v in value.items()) + " }"
        return json.dumps(value)

    return "\n".join(f"{key} = {inline(value)}" for key, value in values.items())
