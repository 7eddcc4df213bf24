"""What a contact sheet says of its answers: how far to believe them, and refined ones."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlgen.cli import sheet as sheet_module
from controlgen.editing import Editor, feature_math

EIGHT = 'text("a digit eight")-text("a digit three")'


@pytest.fixture
def sheet(controlgen: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs `controlgen sheet ...` in this process; returns its answer and the sheet's columns."""
    kept: dict[str, Any] = {}
    plain = sheet_module.contact_sheet

    def keep(path: Path, columns: Any, *arguments: Any, **settings: Any) -> None:
        kept.update(columns=columns, footer=arguments[2])
        plain(path, columns, *arguments, **settings)

    monkeypatch.setattr(sheet_module, "contact_sheet", keep)

    def run(folder: Path, *words: object) -> tuple[Any, dict[str, Any]]:
        answer = controlgen("sheet", folder, "--add", EIGHT, *words, "-o", tmp_path / "sheet.png")
        return answer, kept

    return run


def warning_from(monkeypatch: pytest.MonkeyPatch, folder: Path, score: float) -> Editor:
    """The editor that is loaded from now on warns of scores below this one."""
    editor = Editor.load(folder)
    assert editor.reachability is not None
    changed = {**vars(editor.reachability), "warn_below": score}
    editor.reachability = type(editor.reachability)(**changed)
    monkeypatch.setattr(Editor, "load", lambda *_: editor)
    return editor


def scores_of(editor: Editor, source: Any, amount: float, pixels: Any) -> Any:
    """From what the sheet shows: what was asked, by arithmetic, and what its pictures are."""
    asked = feature_math.unit(editor.embed(source) + np.float32(amount) * editor.parse(EIGHT))
    assert editor.reachability is not None
    return editor.reachability.score(asked, editor.embed(pixels))


def test_every_answer_has_its_score_under_it_and_low_ones_are_told(
    sheet: Any, believed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = Editor.load(believed)
    source = editor.sample(3, 5).pixels
    words = ("--n", 3, "--seed", 5, "--amounts=0.5,4")
    _, kept = sheet(believed, *words)
    scores = [
        scores_of(editor, source, amount, column.pixels)
        for amount, column in zip((0.5, 4), kept["columns"][1:], strict=True)
    ]
    for column, found in zip(kept["columns"][1:], scores, strict=True):
        assert column.captions == [f"reach {sheet_module.short(score)}" for score in found]
    assert not any("reach" in words for words in kept["columns"][0].captions)
    assert "reach: how far an answer can be believed" in kept["footer"]

    # Every answer below the score from which the map warns, and no other, is told in words.
    every = np.sort(np.concatenate(scores))
    warning_from(monkeypatch, believed, float(every[2:4].mean()))
    answer, _ = sheet(believed, *words)
    wanted = [
        f"sample {row} at {amount:g} can hardly be believed ({found[row]:.2f}): "
        for amount, found in zip((0.5, 4), scores, strict=True)
        for row in range(3)
        if found[row] < every[2:4].mean()
    ]
    assert len(wanted) == 3
    told = [line for line in answer.out.splitlines() if "hardly be believed" in line]
    assert all(line.startswith(start) for line, start in zip(told, wanted, strict=True))
    for found, line in zip(scores, answer.out.splitlines()[1:], strict=False):
        assert f"believed to {found.mean():.2f} (reachability, 0..1)" in line


def test_many_low_answers_are_counted(
    sheet: Any, believed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warning_from(monkeypatch, believed, 1.1)
    answer, _ = sheet(believed, "--n", 5, "--amounts=0,1,2")
    assert answer.out.count("hardly be believed") == 12
    assert answer.out.splitlines()[-1] == "and 3 more answers"


def test_a_map_without_reachability_says_nothing_of_it(sheet: Any, line: Any) -> None:
    answer, kept = sheet(line.map_folder, "--n", 2)
    assert "believed" not in answer.out and "reach" not in kept["footer"]
    assert not any(caption for column in kept["columns"][1:] for caption in column.captions)


def test_refined_answers_are_those_of_the_editor_and_no_further_away(
    sheet: Any, line: Any, tmp_path: Path
) -> None:
    editor = Editor.load(line.map_folder)
    edit = partial(editor.edit, editor.sample(2, 5), editor.parse(EIGHT), 1.5)
    answer, kept = sheet(line.map_folder, "--n", 2, "--seed", 5, "--amounts=1.5", "--refine", 4)
    assert answer.code == 0, answer.err
    refined = edit(refine=4)
    np.testing.assert_array_equal(kept["columns"][1].pixels, refined.pixels)
    assert (refined.agreement >= edit().agreement).all()
    assert (refined.agreement > edit().agreement).any()
    assert f"agree to {refined.agreement.mean():.3f}" in answer.out
    with Image.open(tmp_path / "sheet.png") as opened:
        assert opened.text["recipe"].endswith(" --refine=4")  # type: ignore[attr-defined]
