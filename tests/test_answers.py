"""Many answers to one feature, ranked by what came out of each."""

from typing import Any

import numpy as np
import pytest

from controlgen import Editor
from controlgen.artifacts.bank import Bank
from controlgen.control import Answers
from controlgen.control.answers import ranked
from controlgen.errors import ConfigError, Incompatible
from controlgen.regressors import MANY, Gaussian


@pytest.fixture(scope="module")
def bank(line: Any) -> Bank:
    return Bank.open(line.store.path(line.bank), line.store.path(line.features), 160)


@pytest.fixture(scope="module")
def editor(line: Any, bank: Bank) -> Editor:
    """The tiny run's editor with a map that gives many answers."""
    made = Editor.load(line.map_folder)
    train = np.array(bank.features[bank.train]), np.array(bank.latents[bank.train])
    made.map = Gaussian().build().fit(*train)
    return made


@pytest.fixture(scope="module")
def asked(bank: Bank) -> Any:
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


def test_a_map_with_one_answer_gives_that_and_names_the_kinds_that_give_more(
    line: Any, asked: Any
) -> None:
    single = Editor.load(line.map_folder)
    found = single.answers(asked, 1)
    np.testing.assert_array_equal(found.latents[:, 0], single.invert(asked))
    with pytest.raises(ConfigError, match="gives one answer to a feature, not 2") as refused:
        single.answers(asked, 2)
    assert all(kind in str(refused.value) for kind in MANY)
    assert {"flow", "gaussian", "variational"} == set(MANY)


@pytest.mark.parametrize("k", [0, -1])
def test_no_answers_are_refused(editor: Editor, line: Any, asked: Any, k: int) -> None:
    for one in (editor, Editor.load(line.map_folder)):
        with pytest.raises(ConfigError, match=f"{k}"):
            one.answers(asked, k)


def test_features_of_another_size_are_refused(editor: Editor, asked: Any) -> None:
    with pytest.raises(Incompatible, match="this map takes"):
        editor.answers(asked[:, 1:], 2)
