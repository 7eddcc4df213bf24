"""Several answers to one feature: their distances by hand, and what they lose."""

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from controlgen.evaluation.candidate_diversity import PICTURED, Variety, variety
from controlgen.metrics.inversion import paired_cosine
from controlgen.rng import normals
from toy_protocol import CLASSES, LATENT, exact_map, make_subject

K = 5


@pytest.fixture(scope="module")
def subject() -> Any:
    return make_subject(answers=K)


def several(subject: Any, spread: float) -> Any:
    """Answers whose texture differs: the exact inverse, and noise in what is no class."""

    def answer(features: np.ndarray, k: int) -> np.ndarray:
        noise = normals(3, "variety", 0, len(features) * k, LATENT).reshape(-1, k, LATENT)
        noise[:, :, :CLASSES] = 0
        latents = exact_map(features)[:, None] + spread * noise
        made = subject.editor.generate(latents.reshape(-1, LATENT))
        return made.reshape(len(features), k, *made.shape[1:])

    return answer


def told(subject: Any, spread: float) -> Variety:
    found = variety(subject, several(subject, spread))
    assert found is not None
    return found


def test_the_same_answer_again_is_no_variety(subject: Any) -> None:
    found = told(subject, 0.0)
    one, many = found.rows[:2]
    assert many.diversity is not None and one.diversity is None
    assert many.diversity.mean == pytest.approx(0, abs=1e-6)
    assert (many.k, one.k) == (K, 1)
    assert found.lost == pytest.approx(0, abs=1e-6)
    assert [target.met for target in found.targets()] == [False, True]


def test_distances_and_cosines_are_those_of_the_images(subject: Any) -> None:
    found = told(subject, 0.5)
    _, pixels, asked = subject.held_out(60)
    assert found.n == 60
    images = several(subject, 0.5)(asked, K)
    seen = subject.audit.embed(images.reshape(-1, *images.shape[2:])).reshape(60, K, -1)
    row = found.rows[1]
    assert row.diversity is not None
    assert row.diversity.mean == pytest.approx(np.mean([pdist(one).mean() for one in seen]))
    audit = subject.audit.embed(pixels)
    wanted = [paired_cosine(audit, seen[:, j]).mean() for j in range(K)]
    assert row.cosine_f2.mean == pytest.approx(np.mean(wanted), rel=1e-6)
    assert found.lost == pytest.approx(1 - np.mean(wanted) / found.rows[0].cosine_f2.mean)
    assert row.cosine_f2.n == 60  # targets, not images


def test_controls_bound_it(subject: Any) -> None:
    rows = {row.images: row for row in told(subject, 0.5).rows}
    near, chance = rows["nearest of the bank"], rows["any of the bank"]
    assert near.diversity is not None and chance.diversity is not None
    assert near.diversity.high < chance.diversity.low
    assert near.cosine_f1.low > chance.cosine_f1.high


def test_too_wide_is_missed(subject: Any) -> None:
    wide = told(subject, 6.0)
    assert [target.met for target in wide.targets()] == [True, False]


def test_pictures_begin_with_what_was_asked(subject: Any) -> None:
    found = told(subject, 0.5)
    _, pixels, _ = subject.held_out(PICTURED)
    assert len(found.strips) == PICTURED
    for at, strip in enumerate(found.strips.values()):
        assert len(strip) == 1 + K
        np.testing.assert_array_equal(strip[0], pixels[at])


@pytest.mark.parametrize("k", [0, 1])
def test_nobody_asks_for_one(k: int) -> None:
    subject = make_subject(answers=k)
    assert variety(subject, several(subject, 0.5)) is None
