"""`controlgen sheet`: confidence, warnings and refinement of the results."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_lines import TO_EIGHT
from controlgen.cli import sheet as sheet_module
from controlgen.editing import Editor, feature_math


@pytest.fixture
def sheet(controlgen: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs `controlgen sheet ...` in this process; returns the answer, columns and footer."""
    captured: dict[str, Any] = {}
    original = sheet_module.contact_sheet

    def draw(path: Path, columns: Any, *arguments: Any, **settings: Any) -> None:
        captured.update(columns=columns, footer=arguments[2])
        original(path, columns, *arguments, **settings)

    monkeypatch.setattr(sheet_module, "contact_sheet", draw)

    def run(folder: Path, *words: object) -> tuple[Any, dict[str, Any]]:
        answer = controlgen(
            "sheet", folder, "--add", TO_EIGHT, *words, "-o", tmp_path / "sheet.png"
        )
        return answer, captured

    return run


def set_warn_below(monkeypatch: pytest.MonkeyPatch, folder: Path, score: float) -> Editor:
    """Editor.load returns an editor that warns of scores below `score`."""
    editor = Editor.load(folder)
    assert editor.confidence_model is not None
    changed = {**vars(editor.confidence_model), "warn_below": score}
    editor.confidence_model = type(editor.confidence_model)(**changed)
    monkeypatch.setattr(Editor, "load", lambda *_: editor)
    return editor


def scores_of(editor: Editor, source: Any, amount: float, pixels: Any) -> Any:
    """Scores of pictures of the sheet, with target features by arithmetic."""
    targets = feature_math.normalize_rows(
        editor.embed(source) + np.float32(amount) * editor.direction_from_expression(TO_EIGHT)
    )
    assert editor.confidence_model is not None
    return editor.confidence_model.score(targets, editor.embed(pixels))


def test_captions_have_scores_and_low_ones_are_warned_of(
    sheet: Any, believed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = Editor.load(believed)
    source = editor.sample(3, 5).pixels
    words = ("--n", 3, "--seed", 5, "--amounts=0.5,4")
    _, captured = sheet(believed, *words)
    scores = [
        scores_of(editor, source, amount, column.pixels)
        for amount, column in zip((0.5, 4), captured["columns"][1:], strict=True)
    ]
    for column, actual in zip(captured["columns"][1:], scores, strict=True):
        assert column.captions == [f"reach {sheet_module.format_short(score)}" for score in actual]
    assert not any("reach" in words for words in captured["columns"][0].captions)
    assert "reach: confidence in a result" in captured["footer"]

    # A warning for every score below the threshold, and for no other.
    every = np.sort(np.concatenate(scores))
    set_warn_below(monkeypatch, believed, float(every[2:4].mean()))
    answer, _ = sheet(believed, *words)
    expected = [
        f"sample {row} at {amount:g} has low confidence ({actual[row]:.2f}): "
        for amount, actual in zip((0.5, 4), scores, strict=True)
        for row in range(3)
        if actual[row] < every[2:4].mean()
    ]
    assert len(expected) == 3
    text = [line for line in answer.out.splitlines() if "has low confidence" in line]
    assert all(line.startswith(start) for line, start in zip(text, expected, strict=True))
    for actual, line in zip(scores, answer.out.splitlines()[1:], strict=False):
        assert f"confidence {actual.mean():.2f} (reachability, 0..1)" in line


def test_further_warnings_are_counted(
    sheet: Any, believed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_warn_below(monkeypatch, believed, 1.1)
    answer, _ = sheet(believed, "--n", 5, "--amounts=0,1,2")
    assert answer.out.count("has low confidence") == 12
    assert answer.out.splitlines()[-1] == "and 3 more warnings"


def test_map_without_reachability_prints_no_confidence(sheet: Any, line: Any) -> None:
    answer, captured = sheet(line.map_folder, "--n", 2)
    assert "confidence" not in answer.out and "reach" not in captured["footer"]
    assert not any(caption for column in captured["columns"][1:] for caption in column.captions)


def test_refined_sheet_equals_refined_edits_and_is_no_worse(
    sheet: Any, line: Any, tmp_path: Path
) -> None:
    editor = Editor.load(line.map_folder)
    edit = partial(
        editor.edit, editor.sample(2, 5), editor.direction_from_expression(TO_EIGHT), 1.5
    )
    answer, captured = sheet(line.map_folder, "--n", 2, "--seed", 5, "--amounts=1.5", "--refine", 4)
    assert answer.code == 0, answer.err
    refined = edit(refine=4)
    np.testing.assert_array_equal(captured["columns"][1].pixels, refined.pixels)
    assert (refined.target_similarity >= edit().target_similarity).all()
    assert (refined.target_similarity > edit().target_similarity).any()
    assert f"agreement {refined.target_similarity.mean():.3f}" in answer.out
    with Image.open(tmp_path / "sheet.png") as opened:
        assert opened.text["recipe"].endswith(" --refine=4")  # type: ignore[attr-defined]
