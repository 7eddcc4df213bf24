"""Benchmarks that need a model run to their end on the tiny one; the numbers there say little."""

import importlib.util
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlgen.features._torchvision import ensure_torchvision

FOLDER = Path(__file__).parents[2] / "benchmarks"
FEW = ("--share", "0.001")


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a script as `python benchmarks/NAME.py` does; gives what it printed."""

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        monkeypatch.syspath_prepend(str(FOLDER))
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def rows_of(printed: str) -> list[list[str]]:
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_rung_of_the_ladder_is_fitted_and_tried(bench: Any, line: Any) -> None:
    few = ("--pairs", 120, "--held-out", 20, "--n", 10, "--k", 2)
    rows = rows_of(bench("maps", line.map_folder, *few, *FEW))
    assert [row[0] for row in rows] == ["retrieval", "ridge", "least squares", "cycle-mlp", "flow"]
    for row in rows:
        assert -1 <= float(row[4]) <= 1
        assert float(row[3]) > 0


def test_quality_is_told_for_every_number_of_pairs(bench: Any, line: Any, tmp_path: Path) -> None:
    few = ("--pairs", 40, 80, "--n", 10, "-o", tmp_path, *FEW)
    rows = rows_of(bench("pairs", line.map_folder, *few))
    assert [row[:2] for row in rows] == [
        [name, pairs] for name in ("retrieval", "ridge", "cycle-mlp") for pairs in ("40", "80")
    ]
    assert (tmp_path / "pairs.png").read_bytes()[:4] == b"\x89PNG"
    # With more pairs the nearest one is never further.
    assert float(rows[1][2].split()[0]) >= float(rows[0][2].split()[0])


def test_real_images_are_told_before_and_after(bench: Any, line: Any, tmp_path: Path) -> None:
    config = FOLDER.parent / "configs" / "tiny.toml"
    few = ("--config", config, "--pairs", 40, "--real", 20, "--n", 10, "-o", tmp_path, *FEW)
    rows = rows_of(bench("real", line.map_folder, *few))
    ways = ["pairs alone", "and 20 real images", "difference"]
    assert [row[:3] for row in rows] == [
        [kind, mode, "10"] for kind in ("real", "generated") for mode in ways
    ]
    for before, after, difference in (rows[:3], rows[3:]):
        gained = float(after[3].split()[0]) - float(before[3].split()[0])
        assert float(difference[3].split()[0]) == pytest.approx(gained, abs=2e-3)
        assert difference[3:] != ["0.000 (0.000 to 0.000)"] * 4
    assert (tmp_path / "real.md").is_file()


def test_refinement_is_measured_step_by_step(bench: Any, line: Any, tmp_path: Path) -> None:
    few = ("--targets", 4, "--steps", "0,2", "--cold", 2, "--cold-steps", 3, "-o", tmp_path)
    rows = rows_of(bench("refinement", line.map_folder, *few))
    assert {"0", "2"} <= {row[1] for row in rows}
    assert (tmp_path / "refinement.png").is_file()


def test_reports_over_seeds_are_put_side_by_side(bench: Any, tmp_path: Path) -> None:
    shipped = FOLDER.parent / "artifacts/pretrained"
    other = json.loads((shipped / "mnist" / "report.json").read_text())
    for target in other["targets"]:
        target["measured"] += 0.5
    # A report counts the better of two ways to move a slider, and names it.
    names = [target["name"] for target in other["targets"]]
    slider = next(target for target in other["targets"] if target["name"].startswith("slider"))
    plain = slider["name"].removesuffix(", corrected")
    slider["name"] = plain if slider["name"] != plain else f"{plain}, corrected"
    either = f"{plain.removesuffix(', nothing held')}, the better way of each"
    shifted = other["inversion"][0]
    shifted["cosine_f1"]["mean"] += 0.5
    other["config"]["seed"] = 1
    (tmp_path / "report.json").write_text(json.dumps(other))
    printed = bench("seeds", shipped / "mnist", tmp_path)
    first, *tables = printed.split("\n## ")[1:]
    rows = rows_of(first)
    assert [row[0] for row in rows] == [
        either if name.startswith("slider") else name for name in names
    ]
    for row, target in zip(rows, other["targets"], strict=True):
        assert row[4].endswith(" of 2") and row[3].count(",") == 1
        assert float(row[2].split()[0]) == pytest.approx(target["measured"] - 0.25, abs=1e-3)

    # Every table of the protocol, and the one number that was moved.
    text = {part.partition("\n")[0]: rows_of(part) for part in tables}
    assert len(text) == 7 and all(text.values())
    row = text["Inversion"][0]
    assert row[:2] == [shifted["targets"], shifted["map"]]
    mean = shifted["cosine_f1"]["mean"] - 0.25
    assert float(row[2].split()[0]) == pytest.approx(mean, abs=1e-3)
    assert row[3].split()[1:] == [f"({row[3].split()[0]}", "to", f"{row[3].split()[0]})"]
    with pytest.raises(SystemExit):
        bench("seeds", shipped / "mnist", shipped / "histology")


def test_reports_that_differ_in_a_map_are_put_beside_each_other(bench: Any, tmp_path: Path) -> None:
    shipped = FOLDER.parent / "artifacts" / "pretrained"
    report = json.loads((shipped / "mnist" / "report.json").read_text())
    for row in report["inversion"]:
        if (row["targets"], row["map"]) == ("real", report["map_name"]):
            row["judge_agrees"] = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    (tmp_path / "report.json").write_text(json.dumps(report))
    output = tmp_path / "both.md"
    printed = bench("side_by_side", f"a={shipped / 'mnist'}", f"b={tmp_path}", "-o", output)
    assert output.read_text() == printed
    lines = [line for line in printed.splitlines() if line.startswith(("| real | a", "| real | b"))]
    assert "0.500 (0.400 to 0.600)" not in lines[0] and "0.500 (0.400 to 0.600)" in lines[1]
    missed = next(target for target in report["targets"] if not target["met"])
    assert [line for line in printed.splitlines() if line.startswith(f"| {missed['name']}")] == [
        f"| {missed['name']} | {missed['wanted']} | ({missed['measured']:.3f}) | "
        f"({missed['measured']:.3f}) |"
    ]
    with pytest.raises(SystemExit):
        bench("side_by_side", f"a={shipped / 'mnist'}", f"b={shipped / 'histology'}")
    report["quality"]["confident"]["mean"] = 0.1
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(SystemExit):
        bench("side_by_side", f"a={shipped / 'mnist'}", f"b={tmp_path}")


@pytest.mark.filterwarnings("ignore")
def test_metrics_and_their_rivals_answer_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    ensure_torchvision()
    script = runpy.run_path(str(FOLDER / "metrics.py"))
    for metric, rivals in script["RIVALS"].items():
        given = script["inputs"](metric, 90, 8, "float64")
        own = np.atleast_1d(script["LIBRARIES"]["ours"](metric)(*given))
        for library in rivals:
            module = script["MODULES"].get(library)
            if module and not importlib.util.find_spec(module):
                continue
            theirs = np.atleast_1d(script["LIBRARIES"][library](metric)(*given))
            digits = {"rel": 0.2} if metric in script["WITHOUT_DIGITS"] else {"rel": 1e-6}
            assert list(map(float, theirs)) == pytest.approx(list(own), **digits), library


def test_what_has_no_rival_is_measured_and_all_of_it_kept(bench: Any, tmp_path: Path) -> None:
    saved = tmp_path / "metrics.json"
    few = ("--n", 90, "--d", 8, "--repeats", 1, "--large", 3_000, "--large-d", 4, "--json", saved)
    printed = bench("metrics", *few, "--only", "FD with interval")
    assert rows_of(printed)[0][:3] == ["FD with interval", "-", "-"]
    actual = json.loads(saved.read_text())
    assert actual["rows"][0]["ours_seconds"] > 0
    assert 0 < actual["large"]["rise_mb"] < actual["large"]["dense_mb"]
