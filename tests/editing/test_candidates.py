"""Candidates: ranked by target similarity, from sampling maps and from residuals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlgen import Editor, rng
from controlgen.artifacts.bank import SampleBank
from controlgen.editing import Candidates
from controlgen.editing.candidates import N_RESIDUALS, rank_candidates
from controlgen.errors import ConfigError, Incompatible
from controlgen.regressors import FlowConfig
from controlgen.serve.limits import Limits
from controlgen.serve.registry import ServedModel
from controlgen.serve.schemas import EditRequest
from controlgen.serve.serialization import decode_json_array
from controlgen.serve.service import Service

EDIT = 'seed(3) + 2 * (text("a digit eight") - text("a digit three"))'
FLOW: dict[str, Any] = {"width": 32, "depth": 1, "match_steps": 60, "cycle_steps": 0}
CONFIDENCE = {
    "targets": 60,
    "stored": 50,
    "audit": {"kind": "efficientnet-lite0", "image_size": 32},
}


@pytest.fixture(scope="module")
def bank(line: Any) -> SampleBank:
    return SampleBank.open(line.store.path(line.bank), line.store.path(line.features), 160)


@pytest.fixture(scope="module")
def editor(line: Any, bank: SampleBank) -> Editor:
    """The tiny run's editor with a sampling map."""
    result = Editor.load(line.map_folder)
    train = np.array(bank.features[bank.train]), np.array(bank.latents[bank.train])
    result.map = FlowConfig(**FLOW).build().fit(*train)
    return result


@pytest.fixture(scope="module")
def targets(bank: SampleBank) -> Any:
    return np.array(bank.features[bank.held_out][:6])


@pytest.fixture(scope="module")
def candidates(editor: Editor, targets: Any) -> Candidates:
    return editor.candidates(targets, 5, seed=2)


def test_candidates_have_k_of_everything(editor: Editor, candidates: Candidates) -> None:
    assert candidates.latents.shape == (6, 5, editor.latent_size)
    assert candidates.latents.dtype == np.float32
    assert candidates.pixels.shape == (6, 5, *editor.image_shape)
    assert candidates.pixels.dtype == np.uint8
    assert candidates.features.shape == (6, 5, editor.space.size)
    assert candidates.target_similarity.shape == (6, 5)


def test_similarity_falls_and_is_the_cosine_of_the_results(
    editor: Editor, targets: Any, candidates: Candidates
) -> None:
    assert (np.diff(candidates.target_similarity, axis=1) <= 0).all()
    assert (candidates.target_similarity[:, 0] - candidates.target_similarity[:, -1]).max() > 1e-4
    for i, j in ((0, 0), (3, 4), (5, 2)):
        pixels = editor.generate(candidates.latents[i, j][None])
        assert np.abs(pixels[0].astype(int) - candidates.pixels[i, j]).max() <= 1
        feature = editor.embed(candidates.pixels[i, j][None])[0]
        np.testing.assert_allclose(candidates.features[i, j], feature, atol=1e-4)
        assert candidates.target_similarity[i, j] == pytest.approx(
            float(feature @ targets[i]), abs=1e-4
        )


def test_candidates_are_the_maps_samples_reordered(
    editor: Editor, targets: Any, candidates: Candidates
) -> None:
    samples = editor.map.answers(targets, 5, 2).astype(np.float32)
    for map_rows, ranked_rows in zip(samples, candidates.latents, strict=True):
        order = np.lexsort(map_rows.T), np.lexsort(ranked_rows.T)
        np.testing.assert_array_equal(map_rows[order[0]], ranked_rows[order[1]])


def test_more_candidates_are_never_worse_and_depend_on_the_seed(
    editor: Editor, targets: Any, candidates: Candidates
) -> None:
    fewer = editor.candidates(targets[:2], 2, seed=2)
    assert (candidates.target_similarity[:2, 0] >= fewer.target_similarity[:, 0] - 1e-6).all()
    other = editor.candidates(targets[:2], 2, seed=3)
    assert not np.isin(other.latents, fewer.latents).any()


class Line:
    """Images are their latents and features are images: two numbers each."""

    def generate(self, latents: Any) -> Any:
        return latents.astype(np.uint8)[:, :, None, None]

    def embed(self, pixels: Any) -> Any:
        return pixels[:, :, 0, 0].astype(np.float32)


def test_ties_keep_the_order_of_their_draws() -> None:
    features = np.array([[1, 0], [0, 1]], np.float32)
    samples = np.array([[[0, 5], [3, 3], [7, 0], [9, 0]], [[1, 9], [2, 0], [0, 1], [3, 4]]])
    actual = rank_candidates(Line(), features, samples.astype(np.float32))
    np.testing.assert_array_equal(actual.latents[0], [[7, 0], [9, 0], [3, 3], [0, 5]])
    np.testing.assert_array_equal(actual.latents[1], [[0, 1], [1, 9], [3, 4], [2, 0]])
    np.testing.assert_allclose(actual.target_similarity[0], [1, 1, 0.5**0.5, 0])
    np.testing.assert_allclose(actual.target_similarity[1], [1, 9 / 82**0.5, 0.8, 0])
    np.testing.assert_array_equal(actual.pixels[:, :, :, 0, 0], actual.latents)
    np.testing.assert_array_equal(actual.features, actual.latents)


# ---- several candidates of a deterministic map


@pytest.fixture(scope="module")
def single(line: Any) -> Editor:
    return Editor.load(line.map_folder)


def test_a_single_candidate_of_a_deterministic_map_is_its_prediction(
    single: Editor, targets: Any
) -> None:
    actual = single.candidates(targets, 1)
    np.testing.assert_array_equal(actual.latents[:, 0], single.invert(targets))


def test_a_deterministic_map_gets_candidates_from_residuals(single: Editor, targets: Any) -> None:
    """By hand: h(f) plus half of z - h(f(G(z))), the best k of 4 k."""
    own = single.invert(targets)
    latents = rng.normals(0, "lenders", 0, N_RESIDUALS, single.latent_size)
    residuals = latents - single.invert(single.embed(single.generate(latents)))
    actual = single.candidates(targets, 3, seed=5)
    assert actual.latents.shape == (6, 3, single.latent_size)
    for row in range(6):
        attempts = np.concatenate([own[row][None], own[row] + 0.5 * residuals])
        result = single.embed(single.generate(attempts.astype(np.float32))) @ targets[row]
        near = np.linalg.norm(actual.latents[row][:, None] - attempts[None], axis=2)
        assert near.min(1).max() < 1e-5  # each is among these
        np.testing.assert_allclose(result[near.argmin(1)], actual.target_similarity[row], atol=1e-4)
        # The map's own is among them, so the best is never worse.
        assert actual.target_similarity[row, 0] >= result[0] - 1e-5
    assert len(np.unique(actual.latents.reshape(18, -1), axis=0)) == 18


def test_the_best_of_more_perturbations_are_returned(single: Editor, targets: Any) -> None:
    few, many = (single.candidates(targets, k, seed=5) for k in (2, 6))
    assert (np.diff(many.target_similarity, axis=1) <= 0).all()
    assert (many.target_similarity[:, :2] >= few.target_similarity - 1e-5).all()
    again = single.candidates(targets, 6, seed=5)
    np.testing.assert_array_equal(again.pixels, many.pixels)
    assert not np.array_equal(single.candidates(targets, 6, seed=6).latents, many.latents)


def test_refined_candidates_are_no_less_similar(single: Editor, targets: Any) -> None:
    plain, refined = (single.candidates(targets[:2], 3, refine=steps) for steps in (0, 3))
    for row in range(2):
        assert (
            np.sort(refined.target_similarity[row]) >= np.sort(plain.target_similarity[row]) - 1e-6
        ).all()
    assert refined.target_similarity.mean() > plain.target_similarity.mean()


def test_a_deterministic_map_has_at_most_as_many_candidates_as_residuals(
    single: Editor, targets: Any
) -> None:
    assert single.candidates(targets[:1], N_RESIDUALS).latents.shape[1] == N_RESIDUALS
    with pytest.raises(ConfigError, match="at most 128 for this map, not 129"):
        single.candidates(targets[:1], N_RESIDUALS + 1)


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(editor: Editor, line: Any, targets: Any, k: int) -> None:
    for item in (editor, Editor.load(line.map_folder)):
        with pytest.raises(ConfigError, match=f"{k}"):
            item.candidates(targets, k)


def test_features_of_another_size_are_refused(editor: Editor, targets: Any) -> None:
    with pytest.raises(Incompatible, match="this map takes"):
        editor.candidates(targets[:, 1:], 2)


# ---- confidence and refinement


@pytest.fixture(scope="module")
def folder(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's map fitted again as a sampling map with a confidence model."""
    root = tmp_path_factory.mktemp("many") / "store"
    return line.refitted(root, map={"kind": "flow", **FLOW}, reachability=CONFIDENCE)


@pytest.fixture
def warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Editor:
    """Its editor, which warns of every result; `Editor.load` returns it."""
    editor = Editor.load(folder)
    assert editor.confidence_model is not None
    changed = {**vars(editor.confidence_model), "warn_below": 1.1}
    editor.confidence_model = type(editor.confidence_model)(**changed)
    monkeypatch.setattr(Editor, "load", lambda *_: editor)
    return editor


def test_each_candidate_has_the_confidence_of_its_edit(warning: Editor) -> None:
    result = warning.edit(
        warning.sample(2, seed=5),
        warning.direction_from_expression(EDIT.removeprefix("seed(3) + ")),
    )
    many = warning.candidates(result.target_features, 4)
    assert warning.confidence_model is not None and many.reachability is not None
    assert many.reachability.shape == (2, 4)
    for rank in range(4):
        first = many.as_edit(result, rank)
        np.testing.assert_array_equal(first.pixels, many.pixels[:, rank])
        np.testing.assert_array_equal(first.source_pixels, result.source_pixels)
        np.testing.assert_allclose(
            first.target_similarity, many.target_similarity[:, rank], atol=1e-6
        )
        score = warning.confidence_model.score(result.target_features, many.features[:, rank])
        np.testing.assert_allclose(many.reachability[:, rank], score, atol=1e-6)
        np.testing.assert_allclose(first.reachability, score, atol=1e-6)
        assert first.warnings == tuple(row[rank] for row in many.warnings)
        assert all(first.warnings)


def test_without_a_confidence_model_there_is_no_score_and_no_warning(
    candidates: Candidates,
) -> None:
    assert candidates.reachability is None
    assert candidates.warnings == (("",) * 5,) * 6


def test_refined_candidates_have_the_confidence_of_the_unrefined(warning: Editor) -> None:
    targets = warning.embed(warning.sample(2, seed=5).pixels)
    plain, refined = (
        warning.candidates(targets, 3),
        warning.candidates(targets, 3, refine=4),
    )
    assert refined.target_similarity.mean() > plain.target_similarity.mean()
    assert refined.map_features is not None and plain.map_features is None
    assert warning.confidence_model is not None and refined.reachability is not None
    for row in range(2):
        # Row by row of the unrefined candidates, whatever the order after refinement.
        own = np.array(
            [find(plain.features[row], map_feature) for map_feature in refined.map_features[row]]
        )
        assert sorted(own) == [0, 1, 2]
        assert (refined.target_similarity[row] >= plain.target_similarity[row][own] - 1e-6).all()
        score = warning.confidence_model.score(targets[[row] * 3], refined.map_features[row])
        np.testing.assert_allclose(refined.reachability[row], score, atol=1e-6)
        assert (np.diff(refined.target_similarity[row]) <= 0).all()
    with pytest.raises(ConfigError, match="refine = -1"):
        warning.candidates(targets, 3, refine=-1)


def find(rows: Any, target_row: Any) -> int:
    return int(np.abs(rows - target_row).sum(1).argmin())


@pytest.mark.parametrize("refine", [0, 3])
def test_the_command_line_reports_the_best_candidate(
    controlgen: Callable[..., Any], warning: Editor, folder: Path, tmp_path: Path, refine: int
) -> None:
    arguments = ("edit", folder, EDIT, "--answers", 4, "--refine", refine)
    answer = controlgen(*arguments, "-o", tmp_path / "sheet.png")
    assert (answer.code, answer.err) == (0, ""), answer
    edit = warning.apply(EDIT, refine=refine)
    best = warning.candidates(edit.target_features, 4, refine=refine).as_edit(edit)
    assert not np.array_equal(best.pixels, edit.pixels)
    assert f"best of 4 candidates: agreement {best.target_similarity[0]:.3f}" in answer.out
    assert f"progress {best.direction_similarity[0]:.3f}" in answer.out
    assert best.reachability is not None
    assert f"confidence {best.reachability[0]:.2f} (reachability, 0..1); " in answer.out
    assert best.warnings[0] in answer.out
    # --plain writes the best candidate alone.
    answer = controlgen(*arguments, "--plain", "-o", tmp_path / "plain.png")
    assert (answer.code, answer.err) == (0, ""), answer
    with Image.open(tmp_path / "plain.png") as image:
        np.testing.assert_array_equal(np.asarray(image), best.pixels[0, 0])


@pytest.mark.parametrize("refine", [0, 3])
def test_a_server_reports_the_confidence_of_each_candidate(warning: Editor, refine: int) -> None:
    service = Service({"many": ServedModel("many", warning, "", 4)}, Limits())
    request = EditRequest(expression=EDIT, answers=3, refine=refine, arrays="npy")
    actual = service.edit(request)
    result = warning.apply(EDIT, refine=refine)
    many = warning.candidates(result.target_features, 3, refine=refine)
    latents = decode_json_array(actual.latents)
    np.testing.assert_array_equal(latents, many.latents[0])
    assert many.reachability is not None
    for rank, picture in enumerate(actual.pictures):
        assert picture.agreement == pytest.approx(many.target_similarity[0, rank], abs=1e-6)
        assert picture.progress == pytest.approx(
            float(many.as_edit(result, rank).direction_similarity[0]), abs=1e-6
        )
        assert picture.reachability == pytest.approx(float(many.reachability[0, rank]), abs=1e-6)
        assert picture.warning == many.warnings[0][rank] != ""
