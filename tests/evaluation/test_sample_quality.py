"""Sample quality on a toy: the real distribution is at the floor, a collapsed one is not."""

from dataclasses import replace

import numpy as np
import pytest

from controlgen.evaluation.sample_quality import evaluate_sample_quality
from toy_protocol import LATENT, TextSpace, ToyEditor, make_context, toy_editor


@pytest.fixture(scope="module")
def context():
    return make_context()


@pytest.fixture(scope="module")
def quality(context):
    return evaluate_sample_quality(context)


def test_real_distribution_is_at_the_floor(quality):
    assert quality.n == 64
    assert quality.kernel.low <= max(quality.kernel_floor.high, 0)
    assert quality.frechet.mean < 2 * quality.frechet_floor.mean
    assert sum(share.mean for share in quality.class_shares.values()) == pytest.approx(1)
    assert quality.smallest_share > 0.1


def test_every_measure_has_n_and_an_interval(quality):
    shares = [*quality.class_shares.values(), *quality.real_class_shares.values()]
    distances = [quality.frechet, quality.frechet_floor, quality.kernel, quality.kernel_floor]
    for value in (*distances, *shares, quality.confident, quality.confident_floor):
        assert value.n == quality.n == 64
        assert value.low <= value.mean <= value.high
    assert all(value.low < value.mean < value.high for value in (*distances[:2], *shares))
    assert quality.feature_size == 24


def test_collapsed_generator_is_detected(context):
    class Collapsed(ToyEditor):
        def generate(self, latents):
            return super().generate(np.zeros_like(latents) + np.eye(LATENT, dtype=np.float32)[0])

    collapsed = replace(context, editor=toy_editor(TextSpace(), Collapsed))
    quality = evaluate_sample_quality(collapsed)
    assert quality.smallest_share == 0
    assert quality.kernel.low > quality.kernel_floor.high
    assert quality.frechet.low > 3 * quality.frechet_floor.mean
