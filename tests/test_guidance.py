"""Guidance through the editor and the command line: what it does, and that it is drawn again."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlgen import Editor, stages
from controlgen.artifacts import Ref, Store
from controlgen.config import RunConfig
from controlgen.control import Recipe, queries
from controlgen.errors import ConfigError
from controlgen.serve.codec import from_base64, from_npy
from controlgen.serve.limits import Limits
from controlgen.serve.models import Served
from controlgen.serve.schemas import EditRequest
from controlgen.serve.service import Service
from controlgen.serve.work import Deadline

ROOT = Path(__file__).parents[1]
EIGHT = 'text("a digit eight") - text("a digit three")'
FLOW = {"kind": "flow", "width": 32, "depth": 1, "match_steps": 60, "cycle_steps": 0}
BELIEVED = {
    "targets": 60,
    "stored": 50,
    "audit": {"kind": "efficientnet-lite0", "image_size": 32},
}


@pytest.fixture(scope="module")
def folder(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's map fitted again as a flow, with its reachability."""
    root = tmp_path_factory.mktemp("flow") / "store"
    return line.refitted(root, map=FLOW, reachability=BELIEVED)


@pytest.fixture(scope="module")
def flow(folder: Path) -> Editor:
    return Editor.load(folder)


def test_guidance_zero_answers_all_alike_and_one_as_the_map_learned(flow: Editor) -> None:
    source, way = flow.sample(4, seed=3), flow.parse(EIGHT)
    ignoring = flow.guided(0).edit(source, way, 2.0)
    np.testing.assert_allclose(ignoring.latents, ignoring.latents[:1].repeat(4, 0), atol=1e-6)
    plain = flow.edit(source, way, 2.0)
    assert np.ptp(plain.latents, axis=0).max() > 0.01
    for same in (flow.guided(1), flow.guided(None), flow.guided(0).guided(1)):
        np.testing.assert_array_equal(same.edit(source, way, 2.0).pixels, plain.pixels)
    # A residual edit moves by the difference of two answers: none where both ignore the feature.
    residual = flow.guided(0).edit(source, way, 2.0, residual=True)
    np.testing.assert_allclose(residual.latents, source.latents, atol=1e-6)


def test_every_answer_of_a_guided_editor_is_the_guided_maps(flow: Editor) -> None:
    source, way = flow.sample(2, seed=3), flow.parse(EIGHT)
    edit = flow.guided(2.5).edit(source, way)
    wanted = flow.map.guided(2.5).predict(edit.asked)  # type: ignore[attr-defined]
    np.testing.assert_allclose(edit.latents, wanted, atol=1e-6)
    assert not np.allclose(edit.latents, flow.edit(source, way).latents, atol=1e-3)
    # It is believed by what came of it, not by what came of the map as it learned.
    assert flow.reachability is not None
    wanted = flow.reachability.score(edit.asked, edit.obtained)
    np.testing.assert_array_equal(edit.reachability, wanted)
    # The first editor and its map are as they were, and what does not depend on the map is shared.
    np.testing.assert_array_equal(flow.invert(edit.asked), flow.map.predict(edit.asked).astype("f"))
    many = flow.answers(edit.asked, 5, seed=1, guidance=2.5)
    again = flow.guided(2.5).answers(edit.asked, 5, seed=1)
    np.testing.assert_array_equal(many.latents, again.latents)
    assert not np.isin(many.latents, flow.answers(edit.asked, 5, seed=1).latents).any()


def test_a_picture_without_a_start_goes_from_the_guided_maps_average(flow: Editor) -> None:
    guided = flow.guided(2.5)
    average = flow.statistics.mean / np.linalg.norm(flow.statistics.mean)
    found = guided.query("mean(seed(1), seed(2))")
    np.testing.assert_allclose(found.source, guided.invert(average[None]), atol=1e-4)


def test_a_map_without_guidance_says_which_kind_has_one(editor: Editor) -> None:
    features = editor.embed(editor.sample(1).pixels)
    for refused in (lambda: editor.guided(1.5), lambda: editor.answers(features, 1, guidance=1.5)):
        with pytest.raises(
            ConfigError, match=r"guidance 1.5: this map has none.*'fit.map=\{ kind = \"flow\" \}'"
        ):
            refused()
    assert editor.guided(None).map is editor.map


def test_a_report_judges_the_map_with_the_guidance_asked_for(line: Any, folder: Path) -> None:
    run = RunConfig.parse(line.run.effective() | {"fit": {**line.run.fit.effective(), "map": FLOW}})
    plain = run.evaluate
    assert "guidance" not in plain.identity()
    asked = run.model_copy(update={"evaluate": plain.model_copy(update={"guidance": 0.0})})
    stages.check_evaluation(asked)
    store = Store(folder.parents[1])
    ref = stages.evaluate(asked, Ref("map", folder.name), line.bank, line.features, store)
    report = json.loads((store.path(ref) / "report.json").read_text())
    row = next(one for one in report["inversion"] if one["map"] == report["map_name"])
    assert report["map_name"] == "flow of guidance 0"
    assert report["believed"] is None  # judged as learned, not with this guidance
    # Every target gets the same answer, so one of them at most is found again.
    assert row["recall_at_1"]["mean"] <= 1 / row["n"]
    other = line.run.model_copy(update={"evaluate": asked.evaluate})
    with pytest.raises(ConfigError, match=r"guidance 0: this map has none"):
        stages.check_evaluation(other)


def test_the_command_line_draws_a_guided_edit_and_draws_it_again(
    controlgen: Callable[..., Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("edit", folder, f"seed(7) + {EIGHT}", "--steps", 1)
    told = controlgen(*asked, "--guidance", 3, "--save-recipe", "made.toml", "-o", "made.png")
    assert (told.code, told.err) == (0, ""), told
    assert "(reachability, 0..1); calibrated without guidance" in told.out
    assert Recipe.read(Path("made.toml")) == Recipe.read(Path("made.png"))
    assert Recipe.read(Path("made.toml")).guidance == 3
    code = "from controlgen.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for source in ("made.toml", "made.png"):
        command = [sys.executable, "-c", code, "edit", "--recipe", source, "-o", "again.png"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        assert Path("again.png").read_bytes() == Path("made.png").read_bytes()
    # Without it the map answers as it learned, and the recipe leaves it open.
    told = controlgen(*asked, "--plain", "-o", "plain.png")
    assert "reachability" in told.out and "guidance" not in told.out
    assert Recipe.read(Path("plain.png")).guidance is None
    told = controlgen(*asked, "--plain", "--guidance", 3, "-o", "guided.png")
    assert told.code == 0
    assert Path("guided.png").read_bytes() != Path("plain.png").read_bytes()


def test_a_table_says_how_much_each_row_insists_and_is_told_what_to_doubt(
    controlgen: Callable[..., Any],
    flow: Editor,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, output = tmp_path / "table.csv", tmp_path / "out"
    words = f"seed(7) + {EIGHT}".replace('"', '""')
    table.write_text(f'expression,guidance\n"{words}",\n"{words}",2.5\n')
    doubting = copy(flow)
    assert doubting.reachability is not None
    changed = {**vars(doubting.reachability), "warn_below": 1.1}
    doubting.reachability = type(doubting.reachability)(**changed)
    monkeypatch.setattr(Editor, "load", lambda *_: doubting)
    told = controlgen("batch", folder, table, "-o", output)
    assert told.code == 0, told.err
    rows = list(csv.DictReader((output / "results.csv").read_text().splitlines()))
    assert [row["guidance"] for row in rows] == ["", "2.5"]
    for at, (row, guidance) in enumerate(zip(rows, (None, 2.5), strict=True)):
        edit = doubting.guided(guidance).answer(f"seed(7) + {EIGHT}")
        np.testing.assert_array_equal(np.load(output / "latents.npy")[at], edit.latents[0])
        assert edit.reachability is not None
        assert float(row["reachability"]) == pytest.approx(float(edit.reachability[0]), rel=1e-4)
        assert row["warning"] == edit.warnings[0] != ""
    assert Recipe.read(output / "00001.png").guidance == 2.5
    # Beyond its range it is refused before anything is made.
    table.write_text(f'expression,guidance\n"{words}",\n"{words}",21\n')
    told = controlgen("batch", folder, table, "-o", tmp_path / "none")
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "line 3: guidance 21: give 0 to 20" in told.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "table.csv"]


def test_a_sheet_of_guided_answers_says_so_and_what_share_was_kept(
    controlgen: Callable[..., Any], flow: Editor, folder: Path, tmp_path: Path
) -> None:
    asked = ("sheet", folder, "--add", EIGHT, "--n", 2, "--seed", 5, "--amounts=1.5")
    told = controlgen(*asked, "--guidance", 2.5, "-o", tmp_path / "guided.png")
    assert told.code == 0, told.err
    edit = flow.guided(2.5).edit(flow.sample(2, 5), flow.parse(EIGHT), 1.5)
    assert f"agree to {edit.agreement.mean():.3f}" in told.out
    share = queries.way(flow, EIGHT).share
    assert 0 < share < 1
    assert f"share of the change that the bank's images span: {share:.3f}" in told.out
    assert "reachability is calibrated without guidance" in told.out
    with Image.open(tmp_path / "guided.png") as opened:
        assert opened.text["recipe"].endswith(" --guidance=2.5")  # type: ignore[attr-defined]
    plain = controlgen(*asked, "-o", tmp_path / "plain.png")
    assert "calibrated without guidance" not in plain.out
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "guided.png").read_bytes()
    told = controlgen(*asked, "--guidance", 21, "-o", tmp_path / "none.png")
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "guidance 21: give 0 to 20" in told.err


@pytest.mark.parametrize("answers", [1, 3])
def test_a_server_answers_as_the_guided_editor_does(
    controlgen: Callable[..., Any], flow: Editor, folder: Path, tmp_path: Path, answers: int
) -> None:
    service = Service({"flow": Served("flow", flow, "", 4)}, Limits())
    deadline = Deadline(time.monotonic() + 60)
    for words in (f"seed(7) + {EIGHT}", f"mean(seed(1), seed(2)) + {EIGHT}"):
        asked = EditRequest(expression=words, guidance=2.5, answers=answers, arrays="npy")
        found = service.edit(asked, deadline)
        guided = flow.guided(2.5)
        wanted = guided.answer(guided.query(words))
        row = from_npy(from_base64(found.asked["npy"], "asked"), "asked")
        np.testing.assert_array_equal(row, wanted.asked)
        if answers > 1:
            continue
        # What was drawn is drawn again from its recipe, to the byte.
        (picture,) = found.pictures
        (tmp_path / "r.json").write_text(json.dumps(picture.recipe))
        told = controlgen("edit", folder, "--recipe", tmp_path / "r.json", "-o", tmp_path / "r.png")
        assert told.code == 0, told.err
        assert (tmp_path / "r.png").read_bytes() == from_base64(picture.image, "picture")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("MAP", "seed(7)", "--guidance", "1.5"), "this map has none"),
        (("FLOW", "seed(7)", "--guidance", "nan"), "guidance nan: give 0 to 20"),
        (("FLOW", "seed(7)", "--guidance", "-1"), "guidance -1: give 0 to 20"),
        (("FLOW", "seed(7)", "--guidance", "20.5"), "guidance 20.5: give 0 to 20"),
        (("FLOW", "--recipe", "NONE", "--guidance", "1.5"), "leave --guidance out"),
    ],
)
def test_guidance_that_cannot_be_is_one_line_and_nothing_is_made(
    controlgen: Callable[..., Any],
    line: Any,
    folder: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    places = {"MAP": line.map_folder, "FLOW": folder, "NONE": tmp_path / "none.toml"}
    words = [places.get(word, word) for word in arguments]
    told = controlgen("edit", *words, "-o", tmp_path / "never.png")
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert says in told.err
    assert not (tmp_path / "never.png").exists()
