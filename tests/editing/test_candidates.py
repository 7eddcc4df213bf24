"""Many answers to one feature, ranked by what came out of each."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlgen import Editor, rng
from controlgen.artifacts.bank import SampleBank
from controlgen.editing import Answers
from controlgen.editing.candidates import ranked
from controlgen.editing.inversion_residuals import LENDERS
from controlgen.errors import ConfigError, Incompatible
from controlgen.regressors import Flow
from controlgen.serve.job_queue import Deadline
from controlgen.serve.limits import Limits
from controlgen.serve.registry import Served
from controlgen.serve.schemas import EditRequest
from controlgen.serve.serialization import from_base64, from_npy
from controlgen.serve.service import Service

EDIT = 'seed(3) + 2 * (text("a digit eight") - text("a digit three"))'
FLOW: dict[str, Any] = {"width": 32, "depth": 1, "match_steps": 60, "cycle_steps": 0}
BELIEVED = {
    "targets": 60,
    "stored": 50,
    "audit": {"kind": "efficientnet-lite0", "image_size": 32},
}


@pytest.fixture(scope="module")
def bank(line: Any) -> SampleBank:
    return SampleBank.open(line.store.path(line.bank), line.store.path(line.features), 160)


@pytest.fixture(scope="module")
def editor(line: Any, bank: SampleBank) -> Editor:
    """The tiny run's editor with a map that gives many answers."""
    made = Editor.load(line.map_folder)
    train = np.array(bank.features[bank.train]), np.array(bank.latents[bank.train])
    made.map = Flow(**FLOW).build().fit(*train)
    return made


@pytest.fixture(scope="module")
def asked(bank: SampleBank) -> Any:
    return np.array(bank.features[bank.held_out][:6])


@pytest.fixture(scope="module")
def answers(editor: Editor, asked: Any) -> Answers:
    return editor.answers(asked, 5, seed=2)


def test_answers_have_k_of_everything(editor: Editor, answers: Answers) -> None:
    assert answers.latents.shape == (6, 5, editor.latent_size)
    assert answers.latents.dtype == np.float32
    assert answers.pixels.shape == (6, 5, *editor.image_shape)
    assert answers.pixels.dtype == np.uint8
    assert answers.obtained.shape == (6, 5, editor.space.size)
    assert answers.agreement.shape == (6, 5)


def test_agreement_falls_and_is_the_cosine_of_what_came_out(
    editor: Editor, asked: Any, answers: Answers
) -> None:
    assert (np.diff(answers.agreement, axis=1) <= 0).all()
    assert (answers.agreement[:, 0] - answers.agreement[:, -1]).max() > 1e-4
    for i, j in ((0, 0), (3, 4), (5, 2)):
        pixels = editor.generate(answers.latents[i, j][None])
        assert np.abs(pixels[0].astype(int) - answers.pixels[i, j]).max() <= 1
        feature = editor.embed(answers.pixels[i, j][None])[0]
        np.testing.assert_allclose(answers.obtained[i, j], feature, atol=1e-4)
        assert answers.agreement[i, j] == pytest.approx(float(feature @ asked[i]), abs=1e-4)


def test_answers_are_the_maps_own_in_another_order(
    editor: Editor, asked: Any, answers: Answers
) -> None:
    drawn = editor.map.answers(asked, 5, 2).astype(np.float32)
    for mine, ranked_ones in zip(drawn, answers.latents, strict=True):
        order = np.lexsort(mine.T), np.lexsort(ranked_ones.T)
        np.testing.assert_array_equal(mine[order[0]], ranked_ones[order[1]])


def test_more_answers_are_never_worse_and_the_seed_draws_them(
    editor: Editor, asked: Any, answers: Answers
) -> None:
    fewer = editor.answers(asked[:2], 2, seed=2)
    assert (answers.agreement[:2, 0] >= fewer.agreement[:, 0] - 1e-6).all()
    other = editor.answers(asked[:2], 2, seed=3)
    assert not np.isin(other.latents, fewer.latents).any()


class Line:
    """Images are their latents, and features are images: whatever is asked for is two numbers."""

    def generate(self, latents: Any) -> Any:
        return latents.astype(np.uint8)[:, :, None, None]

    def embed(self, pixels: Any) -> Any:
        return pixels[:, :, 0, 0].astype(np.float32)


def test_ranking_by_hand_keeps_ties_in_the_order_of_their_draws() -> None:
    features = np.array([[1, 0], [0, 1]], np.float32)
    drawn = np.array([[[0, 5], [3, 3], [7, 0], [9, 0]], [[1, 9], [2, 0], [0, 1], [3, 4]]])
    found = ranked(Line(), features, drawn.astype(np.float32))
    np.testing.assert_array_equal(found.latents[0], [[7, 0], [9, 0], [3, 3], [0, 5]])
    np.testing.assert_array_equal(found.latents[1], [[0, 1], [1, 9], [3, 4], [2, 0]])
    np.testing.assert_allclose(found.agreement[0], [1, 1, 0.5**0.5, 0])
    np.testing.assert_allclose(found.agreement[1], [1, 9 / 82**0.5, 0.8, 0])
    np.testing.assert_array_equal(found.pixels[:, :, :, 0, 0], found.latents)
    np.testing.assert_array_equal(found.obtained, found.latents)


# ---- several answers of a map that has one


@pytest.fixture(scope="module")
def single(line: Any) -> Editor:
    return Editor.load(line.map_folder)


def test_the_answer_of_a_map_that_has_one_is_that(single: Editor, asked: Any) -> None:
    found = single.answers(asked, 1)
    np.testing.assert_array_equal(found.latents[:, 0], single.invert(asked))


def test_more_answers_borrow_what_the_map_leaves_out_of_others(single: Editor, asked: Any) -> None:
    """By hand: own + half of (z - h(f(G(z)))), of 4 k tried the best k."""
    own = single.invert(asked)
    lent = rng.normals(0, "lenders", 0, LENDERS, single.latent_size)
    left = lent - single.invert(single.embed(single.generate(lent)))
    found = single.answers(asked, 3, seed=5)
    assert found.latents.shape == (6, 3, single.latent_size)
    for row in range(6):
        tried = np.concatenate([own[row][None], own[row] + 0.5 * left])
        made = single.embed(single.generate(tried.astype(np.float32))) @ asked[row]
        near = np.linalg.norm(found.latents[row][:, None] - tried[None], axis=2)
        assert near.min(1).max() < 1e-5  # each is one of these
        np.testing.assert_allclose(made[near.argmin(1)], found.agreement[row], atol=1e-4)
        # The map's own is among those tried, so the best is never worse.
        assert found.agreement[row, 0] >= made[0] - 1e-5
    assert len(np.unique(found.latents.reshape(18, -1), axis=0)) == 18


def test_of_more_that_are_tried_the_best_are_kept(single: Editor, asked: Any) -> None:
    few, many = (single.answers(asked, k, seed=5) for k in (2, 6))
    assert (np.diff(many.agreement, axis=1) <= 0).all()
    assert (many.agreement[:, :2] >= few.agreement - 1e-5).all()
    again = single.answers(asked, 6, seed=5)
    np.testing.assert_array_equal(again.pixels, many.pixels)
    assert not np.array_equal(single.answers(asked, 6, seed=6).latents, many.latents)


def test_refined_answers_are_no_further_away(single: Editor, asked: Any) -> None:
    plain, refined = (single.answers(asked[:2], 3, refine=steps) for steps in (0, 3))
    for row in range(2):
        assert (np.sort(refined.agreement[row]) >= np.sort(plain.agreement[row]) - 1e-6).all()
    assert refined.agreement.mean() > plain.agreement.mean()


def test_so_many_as_there_are_lenders_and_no_more(single: Editor, asked: Any) -> None:
    assert single.answers(asked[:1], LENDERS).latents.shape[1] == LENDERS
    with pytest.raises(ConfigError, match="at most 128 for this map, not 129"):
        single.answers(asked[:1], LENDERS + 1)


@pytest.mark.parametrize("k", [0, -1])
def test_no_answers_are_refused(editor: Editor, line: Any, asked: Any, k: int) -> None:
    for one in (editor, Editor.load(line.map_folder)):
        with pytest.raises(ConfigError, match=f"{k}"):
            one.answers(asked, k)


def test_features_of_another_size_are_refused(editor: Editor, asked: Any) -> None:
    with pytest.raises(Incompatible, match="this map takes"):
        editor.answers(asked[:, 1:], 2)


# ---- how far each is believed, and refined ones


@pytest.fixture(scope="module")
def folder(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's map fitted again so that it gives many answers and warns of low ones."""
    root = tmp_path_factory.mktemp("many") / "store"
    return line.refitted(root, map={"kind": "flow", **FLOW}, reachability=BELIEVED)


@pytest.fixture
def warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Editor:
    """Its editor, which is loaded from now on, and warns of every answer."""
    editor = Editor.load(folder)
    assert editor.reachability is not None
    changed = {**vars(editor.reachability), "warn_below": 1.1}
    editor.reachability = type(editor.reachability)(**changed)
    monkeypatch.setattr(Editor, "load", lambda *_: editor)
    return editor


def test_each_answer_is_believed_as_the_edit_that_it_is(warning: Editor) -> None:
    made = warning.edit(warning.sample(2, seed=5), warning.parse(EDIT.removeprefix("seed(3) + ")))
    many = warning.answers(made.asked, 4)
    assert warning.reachability is not None and many.reachability is not None
    assert many.reachability.shape == (2, 4)
    for at in range(4):
        one = many.edit(made, at)
        np.testing.assert_array_equal(one.pixels, many.pixels[:, at])
        np.testing.assert_array_equal(one.source_pixels, made.source_pixels)
        np.testing.assert_allclose(one.agreement, many.agreement[:, at], atol=1e-6)
        score = warning.reachability.score(made.asked, many.obtained[:, at])
        np.testing.assert_allclose(many.reachability[:, at], score, atol=1e-6)
        np.testing.assert_allclose(one.reachability, score, atol=1e-6)
        assert one.warnings == tuple(row[at] for row in many.warnings)
        assert all(one.warnings)


def test_a_map_without_reachability_believes_and_warns_of_no_answer(answers: Answers) -> None:
    assert answers.reachability is None
    assert answers.warnings == (("",) * 5,) * 6


def test_refined_answers_are_no_worse_and_believed_as_the_maps_own(warning: Editor) -> None:
    asked = warning.embed(warning.sample(2, seed=5).pixels)
    plain, refined = warning.answers(asked, 3), warning.answers(asked, 3, refine=4)
    assert refined.agreement.mean() > plain.agreement.mean()
    assert refined.unrefined is not None and plain.unrefined is None
    assert warning.reachability is not None and refined.reachability is not None
    for row in range(2):
        # Row by row of what the map drew, whatever the order after refinement.
        own = np.array([find(plain.obtained[row], one) for one in refined.unrefined[row]])
        assert sorted(own) == [0, 1, 2]
        assert (refined.agreement[row] >= plain.agreement[row][own] - 1e-6).all()
        believed = warning.reachability.score(asked[[row] * 3], refined.unrefined[row])
        np.testing.assert_allclose(refined.reachability[row], believed, atol=1e-6)
        assert (np.diff(refined.agreement[row]) <= 0).all()
    with pytest.raises(ConfigError, match="refine = -1"):
        warning.answers(asked, 3, refine=-1)


def find(rows: Any, wanted: Any) -> int:
    return int(np.abs(rows - wanted).sum(1).argmin())


@pytest.mark.parametrize("refine", [0, 3])
def test_the_command_line_tells_of_the_best_answer(
    controlgen: Callable[..., Any], warning: Editor, folder: Path, tmp_path: Path, refine: int
) -> None:
    asked = ("edit", folder, EDIT, "--answers", 4, "--refine", refine)
    told = controlgen(*asked, "-o", tmp_path / "sheet.png")
    assert (told.code, told.err) == (0, ""), told
    edit = warning.answer(EDIT, refine=refine)
    best = warning.answers(edit.asked, 4, refine=refine).edit(edit)
    assert not np.array_equal(best.pixels, edit.pixels)
    assert f"the best of 4 answers: asked and obtained agree to {best.agreement[0]:.3f}" in told.out
    assert f"the change itself to {best.progress[0]:.3f}" in told.out
    assert best.reachability is not None
    assert f"believed to {best.reachability[0]:.2f} (reachability, 0..1); " in told.out
    assert best.warnings[0] in told.out
    # Plain, it is the best answer's own picture.
    told = controlgen(*asked, "--plain", "-o", tmp_path / "plain.png")
    assert (told.code, told.err) == (0, ""), told
    with Image.open(tmp_path / "plain.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened), best.pixels[0, 0])


@pytest.mark.parametrize("refine", [0, 3])
def test_a_server_tells_of_each_answer_how_far_it_is_believed(warning: Editor, refine: int) -> None:
    service = Service({"many": Served("many", warning, "", 4)}, Limits())
    asked = EditRequest(expression=EDIT, answers=3, refine=refine, arrays="npy")
    found = service.edit(asked, Deadline(time.monotonic() + 60))
    made = warning.answer(EDIT, refine=refine)
    many = warning.answers(made.asked, 3, refine=refine)
    latents = from_npy(from_base64(found.latents["npy"], "latents"), "latents")
    np.testing.assert_array_equal(latents, many.latents[0])
    assert many.reachability is not None
    for at, picture in enumerate(found.pictures):
        assert picture.agreement == pytest.approx(many.agreement[0, at], abs=1e-6)
        assert picture.progress == pytest.approx(float(many.edit(made, at).progress[0]), abs=1e-6)
        assert picture.reachability == pytest.approx(float(many.reachability[0, at]), abs=1e-6)
        assert picture.warning == many.warnings[0][at] != ""
