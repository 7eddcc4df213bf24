"""Inversion of features by maps and by optimisation, on a toy with an exact inverse."""

from dataclasses import replace

import numpy as np
import pytest

from controlgen.evaluation.inversion import benchmark_map, evaluate_inversion, optimise_latents
from toy_protocol import LATENT, make_context, nearest_map


@pytest.fixture(scope="module")
def context():
    return make_context()


def test_maps_are_ranked_by_their_quality(context):
    (generated, strips), (real, _) = evaluate_inversion(context)
    rows = {row.map: row for row in generated}
    oracle, retrieval, random = rows["oracle"], rows["retrieval"], rows["random"]
    assert oracle.cosine_f1.mean > retrieval.cosine_f1.mean > random.cosine_f1.mean
    assert oracle.pixel_error.mean < retrieval.pixel_error.mean < random.pixel_error.mean
    assert oracle.recall_at_1.mean > 0.9 > random.recall_at_1.mean == 0
    assert rows["optimisation"].n == rows["oracle, same 6"].n == 6
    assert rows["optimisation"].cosine_f1.mean > random.cosine_f1.mean
    assert {row.latent_r2 for row in real} == {None}
    assert list(strips) == ["target", "retrieval", "ridge", "oracle", "optimisation"]


def test_exact_map_has_perfect_scores(context):
    bank = context.bank
    exact = replace(context, maps={"oracle": nearest_map(bank.features, bank.latents)})
    row = next(evaluate_inversion(exact))[0][0]
    assert row.cosine_f1.mean == pytest.approx(1, abs=1e-5)
    assert row.cosine_f2.mean == pytest.approx(1, abs=1e-5)
    assert (row.recall_at_1.mean, row.judge_agrees.mean, row.pixel_error.mean) == (1, 1, 0)
    assert row.latent_r2[:3] == (1, 1, 1)


def test_optimisation_raises_the_cosine_and_leaves_its_inputs_unchanged(context):
    features = context.bank.features[:4]
    start = np.zeros((4, LATENT), np.float32)
    latents = optimise_latents(context.editor, features, start, 100)
    before, after = (
        (context.editor.embed(context.editor.generate(z)) * features).sum(1)
        for z in (start, latents)
    )
    assert (after > before).all()
    assert not start.any()


def test_ratios_follow_from_the_times(context):
    timing = benchmark_map(context)
    assert timing.map_p50_ms <= timing.map_p95_ms
    assert timing.ratio_alone == pytest.approx(
        timing.optimisation_alone_seconds / (timing.map_p50_ms / 1000)
    )
