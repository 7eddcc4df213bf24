"""Reachability of a map that was fitted with it: its edits, its files, what is said of it."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlgen import Editor, stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.store import write_manifest
from controlgen.config import FitConfig, ReachabilityConfig
from controlgen.editing.checkpoint import read_reachability
from controlgen.editing.confidence.score import INPUTS
from controlgen.errors import ArtifactCorrupt, ConfigError, Incompatible
from controlgen.utils.array_files import load_arrays, save_arrays


def test_no_reachability_is_no_setting() -> None:
    """Maps fitted without keep the names they had."""
    plain, asked = FitConfig(), FitConfig(reachability=ReachabilityConfig())
    assert "reachability" not in plain.identity()
    assert asked.identity()["reachability"]["targets"] == 2000
    assert asked.fingerprint() != plain.fingerprint()
    with pytest.raises(ConfigError, match="targets"):
        FitConfig.parse({"reachability": {"targets": 3}})


def test_a_map_fitted_with_it_gives_every_edit_a_number(believed: Path, line: Any) -> None:
    editor, plain = Editor.load(believed), Editor.load(line.map_folder)
    assert plain.reachability is None and editor.reachability is not None
    real = line.run.train.dataset.open().pixels(np.arange(6))
    direction = editor.direction(more=real[:3], less=real[3:])
    for edit in (
        editor.edit(editor.sample(4), direction, 0.5),
        editor.edit(real[:4], direction, 2.0, residual=True),
        editor.interpolate(real[:4], real[2:], 0.5),
    ):
        wanted = editor.reachability.score(edit.asked, edit.obtained)
        np.testing.assert_array_equal(edit.reachability, wanted)
        assert edit.reachability is not None and edit.reachability.shape == (4,)
        below = edit.reachability < editor.reachability.warn_below
        assert [bool(text) for text in edit.warnings] == below.tolist()
    # A refined answer is believed as far as the map's own is.
    for one, other in (
        (editor.edit(real, direction, 2.0), editor.edit(real, direction, 2.0, refine=5)),
        (
            editor.edit(real, direction, 2.0, residual=True),
            editor.edit(real, direction, 2.0, residual=True, refine=5),
        ),
        (
            editor.interpolate(real[:3], real[3:], 0.5),
            editor.interpolate(real[:3], real[3:], 0.5, refine=5),
        ),
    ):
        assert (other.agreement > one.agreement).any()
        np.testing.assert_array_equal(other.reachability, one.reachability)
        assert other.warnings == one.warnings
    # Arithmetic on latents asks for no feature, and a map without says nothing.
    nothing = editor.edit_latents(editor.sample(3), np.ones(editor.latent_size, np.float32))
    other = plain.edit(real[:3], direction)
    for edit in (nothing, other):
        assert edit.reachability is None
        assert edit.warnings == ("", "", "")
    # The map itself is the same one.
    np.testing.assert_array_equal(
        plain.edit(real, direction).pixels, editor.edit(real, direction).pixels
    )


def test_what_it_is_worth_is_saved_beside_it(believed: Path, line: Any) -> None:
    assert not (line.map_folder / "reachability.json").exists()
    assert read_reachability(line.map_folder) is None
    described = read_reachability(believed)
    assert described is not None
    judged = described.judged
    assert judged.fitted + judged.judged == sum(row.n for row in judged.kinds) + judged.fitted
    assert {row.input for row in judged.inputs} == set(INPUTS)
    card = (believed / "README.md").read_text()
    assert f"reachability, calibration error | {judged.calibration_error:.3f}" in card
    size = sum(
        (believed / f"reachability.{kind}").stat().st_size for kind in ("json", "safetensors")
    )
    assert size < 100_000


def test_files_that_do_not_fit_are_refused(believed: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for index, spoil in enumerate(("regression", "arrays", "version")):
        folder = tmp_path / f"map/broken-{index:012d}"
        folder.mkdir(parents=True)
        for path in believed.iterdir():
            if path.is_file() and path.name != "manifest.json":
                (folder / path.name).write_bytes(path.read_bytes())
        if spoil == "regression":
            arrays = load_arrays(folder / "reachability.safetensors")
            del arrays["regression weights"]
            save_arrays(folder / "reachability.safetensors", arrays)
        elif spoil == "version":
            described = json.loads((folder / "reachability.json").read_text())
            described["weights"] = {"outside": -1.0}
            (folder / "reachability.json").write_text(json.dumps(described))
        else:
            (folder / "reachability.safetensors").write_bytes(
                (folder / "statistics.safetensors").read_bytes()
            )
        write_manifest(folder, "map", folder.name, f"{index:012d}", {}, 0.0)
        kind, said = ArtifactCorrupt, r"reachability\.safetensors: the reach"
        if spoil == "version":
            kind, said = Incompatible, "is of an earlier version.*fit the map again"
        with pytest.raises(kind, match=said):
            Editor.load(folder)
    assert store.refs()


def test_the_command_line_says_it_in_one_line(
    controlgen: Any, believed: Path, line: Any, tmp_path: Path
) -> None:
    words = ("--add", 'text("bold")-text("thin")', "--steps", 1, "-o", tmp_path / "edit.png")
    answer = controlgen("edit", believed, *words, "--refine", 2)
    assert answer.code == 0, answer.err
    (said,) = [text for text in answer.out.splitlines() if "reachability" in text]
    assert said.startswith("it can be believed to ")
    plain = controlgen("edit", line.map_folder, *words)
    assert plain.code == 0 and "reachability" not in plain.out
    assert controlgen("edit", line.map_folder, *words, "--refine", -1).code == 2


def test_an_evaluation_is_told_where_the_map_has_it(
    believed: Path, line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(Exception):
        pass

    def told(*parts: Any, judged: Any, **others: Any) -> None:
        raise Told(judged)

    monkeypatch.setattr(importlib.import_module("controlgen.stages.evaluate"), "judge_editor", told)
    described, store = read_reachability(believed), Store(believed.parents[1])
    assert described is not None
    for name, wanted in ((believed.name, described.judged), (line.map.name, None)):
        with pytest.raises(Told) as caught:
            stages.evaluate(line.run, ArtifactRef("map", name), line.bank, line.features, store)
        assert caught.value.args == (wanted,)
