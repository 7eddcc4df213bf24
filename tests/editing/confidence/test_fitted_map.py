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
from controlgen.editing.checkpoint import load_confidence_metadata
from controlgen.editing.confidence.score import INPUTS
from controlgen.errors import ArtifactCorrupt, ConfigError, Incompatible
from controlgen.utils.array_files import load_arrays, save_arrays


def test_fingerprint_without_reachability_is_unchanged() -> None:
    """Maps without reachability keep their names."""
    plain, asked = FitConfig(), FitConfig(reachability=ReachabilityConfig())
    assert "reachability" not in plain.identity()
    assert asked.identity()["reachability"]["targets"] == 2000
    assert asked.fingerprint() != plain.fingerprint()
    with pytest.raises(ConfigError, match="targets"):
        FitConfig.parse({"reachability": {"targets": 3}})


def test_every_edit_has_a_reachability(believed: Path, line: Any) -> None:
    editor, plain = Editor.load(believed), Editor.load(line.map_folder)
    assert plain.confidence_model is None and editor.confidence_model is not None
    real = line.run.train.dataset.open().pixels(np.arange(6))
    direction = editor.direction(more=real[:3], less=real[3:])
    for edit in (
        editor.edit(editor.sample(4), direction, 0.5),
        editor.edit(real[:4], direction, 2.0, residual=True),
        editor.interpolate(real[:4], real[2:], 0.5),
    ):
        expected = editor.confidence_model.score(edit.target_features, edit.features)
        np.testing.assert_array_equal(edit.reachability, expected)
        assert edit.reachability is not None and edit.reachability.shape == (4,)
        below = edit.reachability < editor.confidence_model.warn_below
        assert [bool(text) for text in edit.warnings] == below.tolist()
    # A refined result has the confidence of the map's unrefined one.
    for single, other in (
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
        assert (other.target_similarity > single.target_similarity).any()
        np.testing.assert_array_equal(other.reachability, single.reachability)
        assert other.warnings == single.warnings
    # Edits in latent space have no target features, hence no confidence.
    nothing = editor.edit_latents(editor.sample(3), np.ones(editor.latent_size, np.float32))
    other = plain.edit(real[:3], direction)
    for edit in (nothing, other):
        assert edit.reachability is None
        assert edit.warnings == ("", "", "")
    # The map itself is unchanged.
    np.testing.assert_array_equal(
        plain.edit(real, direction).pixels, editor.edit(real, direction).pixels
    )


def test_confidence_report_is_saved_with_the_map(believed: Path, line: Any) -> None:
    assert not (line.map_folder / "reachability.json").exists()
    assert load_confidence_metadata(line.map_folder) is None
    metadata = load_confidence_metadata(believed)
    assert metadata is not None
    judged = metadata.judged
    assert judged.fitted + judged.judged == sum(row.n for row in judged.kinds) + judged.fitted
    assert {row.input for row in judged.inputs} == set(INPUTS)
    card = (believed / "README.md").read_text()
    assert f"reachability, calibration error | {judged.calibration_error:.3f}" in card
    size = sum(
        (believed / f"reachability.{kind}").stat().st_size for kind in ("json", "safetensors")
    )
    assert size < 100_000


def test_invalid_reachability_files_are_rejected(believed: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for index, defect in enumerate(("regression", "arrays", "version")):
        folder = tmp_path / f"map/broken-{index:012d}"
        folder.mkdir(parents=True)
        for path in believed.iterdir():
            if path.is_file() and path.name != "manifest.json":
                (folder / path.name).write_bytes(path.read_bytes())
        if defect == "regression":
            arrays = load_arrays(folder / "reachability.safetensors")
            del arrays["regression weights"]
            save_arrays(folder / "reachability.safetensors", arrays)
        elif defect == "version":
            metadata = json.loads((folder / "reachability.json").read_text())
            metadata["weights"] = {"outside": -1.0}
            (folder / "reachability.json").write_text(json.dumps(metadata))
        else:
            (folder / "reachability.safetensors").write_bytes(
                (folder / "statistics.safetensors").read_bytes()
            )
        write_manifest(folder, "map", folder.name, f"{index:012d}", {}, 0.0)
        kind, message = ArtifactCorrupt, r"reachability\.safetensors: reach"
        if defect == "version":
            kind, message = Incompatible, "written by an earlier version.*fit the map again"
        with pytest.raises(kind, match=message):
            Editor.load(folder)
    assert store.refs()


def test_edit_command_prints_confidence(
    controlgen: Any, believed: Path, line: Any, tmp_path: Path
) -> None:
    words = ("--add", 'text("bold")-text("thin")', "--steps", 1, "-o", tmp_path / "edit.png")
    answer = controlgen("edit", believed, *words, "--refine", 2)
    assert answer.code == 0, answer.err
    (message,) = [text for text in answer.out.splitlines() if "reachability" in text]
    assert message.startswith("confidence ")
    plain = controlgen("edit", line.map_folder, *words)
    assert plain.code == 0 and "reachability" not in plain.out
    assert controlgen("edit", line.map_folder, *words, "--refine", -1).code == 2


def test_report_has_a_confidence_section(
    believed: Path, line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    def stop_early(*parts: Any, confidence: Any, **others: Any) -> None:
        raise Stop(confidence)

    monkeypatch.setattr(
        importlib.import_module("controlgen.stages.evaluate"), "run_protocol", stop_early
    )
    metadata, store = load_confidence_metadata(believed), Store(believed.parents[1])
    assert metadata is not None
    for name, expected in ((believed.name, metadata.judged), (line.map.name, None)):
        with pytest.raises(Stop) as stop:
            stages.evaluate(line.run, ArtifactRef("map", name), line.bank, line.features, store)
        assert stop.value.args == (expected,)
