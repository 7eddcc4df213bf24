"""Diversity of candidates for one feature: distances by hand, fidelity and controls."""

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from controlgen.evaluation.candidate_diversity import (
    FIGURE_TARGETS,
    DiversityResult,
    evaluate_candidate_diversity,
)
from controlgen.metrics.inversion import paired_cosine
from controlgen.rng import normals
from toy_protocol import CLASSES, LATENT, exact_map, make_context

K = 5


@pytest.fixture(scope="module")
def context() -> Any:
    return make_context(answers=K)


def several(context: Any, spread: float) -> Any:
    """Candidates by the exact inverse, with noise in the texture but not in the class."""

    def generate_candidates(features: np.ndarray, k: int) -> np.ndarray:
        noise = normals(3, "variety", 0, len(features) * k, LATENT).reshape(-1, k, LATENT)
        noise[:, :, :CLASSES] = 0
        latents = exact_map(features)[:, None] + spread * noise
        pixels = context.editor.generate(latents.reshape(-1, LATENT))
        return pixels.reshape(len(features), k, *pixels.shape[1:])

    return generate_candidates


def evaluate(context: Any, spread: float) -> DiversityResult:
    result = evaluate_candidate_diversity(context, several(context, spread))
    assert result is not None
    return result


def test_equal_candidates_have_no_diversity(context: Any) -> None:
    result = evaluate(context, 0.0)
    single, many = result.rows[:2]
    assert many.diversity is not None and single.diversity is None
    assert many.diversity.mean == pytest.approx(0, abs=1e-6)
    assert (many.k, single.k) == (K, 1)
    assert result.fidelity_loss == pytest.approx(0, abs=1e-6)
    assert [goal.met for goal in result.goals()] == [False, True]


def test_distances_and_cosines_are_those_of_the_images(context: Any) -> None:
    result = evaluate(context, 0.5)
    _, pixels, target_features = context.held_out_items(60)
    assert result.n == 60
    images = several(context, 0.5)(target_features, K)
    audits = context.audit.embed(images.reshape(-1, *images.shape[2:])).reshape(60, K, -1)
    row = result.rows[1]
    assert row.diversity is not None
    assert row.diversity.mean == pytest.approx(np.mean([pdist(item).mean() for item in audits]))
    audit = context.audit.embed(pixels)
    expected = [paired_cosine(audit, audits[:, j]).mean() for j in range(K)]
    assert row.cosine_f2.mean == pytest.approx(np.mean(expected), rel=1e-6)
    assert result.fidelity_loss == pytest.approx(
        1 - np.mean(expected) / result.rows[0].cosine_f2.mean
    )
    assert row.cosine_f2.n == 60  # targets, not images


def test_controls_bound_the_diversity(context: Any) -> None:
    rows = {row.images: row for row in evaluate(context, 0.5).rows}
    near, chance = rows["nearest of the bank"], rows["any of the bank"]
    assert near.diversity is not None and chance.diversity is not None
    assert near.diversity.high < chance.diversity.low
    assert near.cosine_f1.low > chance.cosine_f1.high


def test_too_diverse_candidates_lose_fidelity(context: Any) -> None:
    wide = evaluate(context, 6.0)
    assert [goal.met for goal in wide.goals()] == [True, False]


def test_strips_begin_with_the_target(context: Any) -> None:
    result = evaluate(context, 0.5)
    _, pixels, _ = context.held_out_items(FIGURE_TARGETS)
    assert len(result.strips) == FIGURE_TARGETS
    for index, strip in enumerate(result.strips.values()):
        assert len(strip) == 1 + K
        np.testing.assert_array_equal(strip[0], pixels[index])


@pytest.mark.parametrize("k", [0, 1])
def test_a_single_candidate_is_not_evaluated(k: int) -> None:
    context = make_context(answers=k)
    assert evaluate_candidate_diversity(context, several(context, 0.5)) is None
