"""Targets to learn from: what they are made of, and who shares a source."""

import numpy as np
import pytest
from scipy import ndimage

from controlgen.editing.confidence.probe_targets import (
    DISTORTIONS,
    MIXTURES,
    OUT_OF_DISTRIBUTION,
    SHARES,
    draw_probe_targets,
    synthetic_pattern,
)
from controlgen.rng import stream

RNG = np.random.default_rng(0)
SAMPLES = RNG.integers(0, 256, (60, 1, 16, 16), dtype=np.uint8)
REAL = RNG.integers(0, 256, (30, 1, 16, 16), dtype=np.uint8)


def of(trials, kind):
    return trials.pixels[trials.kinds == kind], trials.sources[trials.kinds == kind]


def test_kinds_have_their_shares() -> None:
    trials = draw_probe_targets(SAMPLES, REAL, None, 200, 0)
    assert trials.pixels.shape == (200, 1, 16, 16) and trials.pixels.dtype == np.uint8
    for kind, share in SHARES.items():
        assert (trials.kinds == kind).sum() == round(200 * share), kind
    without = draw_probe_targets(SAMPLES, None, None, 200, 0)
    assert "real" not in without.kinds
    assert set(without.kinds) == set(SHARES) - {"real"}
    # A kind is limited by its source images; patterns are unlimited.
    many = draw_probe_targets(SAMPLES[:8], REAL[:3], None, 400, 0)
    counts = {kind: int((many.kinds == kind).sum()) for kind in SHARES}
    assert (counts["bank"], counts["real"], counts["averaged"], counts["blurred"]) == (8, 3, 4, 8)
    assert counts[OUT_OF_DISTRIBUTION] == 40


def test_targets_are_made_from_their_sources() -> None:
    trials = draw_probe_targets(SAMPLES, REAL, None, 200, 0)
    bank, _ = of(trials, "bank")
    np.testing.assert_array_equal(bank, SAMPLES[: len(bank)])
    real, _ = of(trials, "real")
    np.testing.assert_array_equal(real, REAL[: len(real)])
    inverted, _ = of(trials, "inverted")
    np.testing.assert_array_equal(inverted, 255 - SAMPLES[: len(inverted)])
    # Averages lie between two images; pasted targets take every pixel from one of two.
    for kind in MIXTURES:
        mixed, sources = of(trials, kind)
        for image, source in zip(mixed.astype(int), sources, strict=True):
            a, b = SAMPLES[2 * source : 2 * source + 2].astype(int)
            if kind == "averaged":
                assert (image >= np.minimum(a, b) - 1).all() and (
                    image <= np.maximum(a, b) + 1
                ).all()
            else:
                assert ((image == a) | (image == b)).all()
                assert (image != a).any() and (image != b).any()
    blurred, _ = of(trials, "blurred")
    rough = np.abs(np.diff(SAMPLES[: len(blurred)].astype(float), axis=-1)).mean()
    assert np.abs(np.diff(blurred.astype(float), axis=-1)).mean() < rough
    # Shifts and rotations move the dark spot of an otherwise white image.
    spot = np.full((20, 1, 31, 31), 255, np.uint8)
    spot[:, :, 13:18, 13:18] = 0
    shifted = draw_probe_targets(spot, None, None, 200, 1)
    for image in of(shifted, "shifted")[0]:
        centre = ndimage.center_of_mass(255.0 - image[0])
        assert np.abs(np.array(centre) - 15).max() < 31 * 0.25 + 1
    for image in of(shifted, "rotated")[0]:
        np.testing.assert_allclose(ndimage.center_of_mass(255.0 - image[0]), (15, 15), atol=0.3)


def test_source_id_is_shared_by_targets_of_one_source_only() -> None:
    trials = draw_probe_targets(SAMPLES, REAL, None, 200, 0)
    for kind in ("bank", *DISTORTIONS):
        _, sources = of(trials, kind)
        np.testing.assert_array_equal(sources, np.arange(len(sources)) // 2)
    for kind in MIXTURES:
        np.testing.assert_array_equal(of(trials, kind)[1], np.arange(20))
    samples, real, other = (
        set(np.concatenate([of(trials, kind)[1] for kind in kinds]).tolist())
        for kinds in (("bank", *DISTORTIONS, *MIXTURES), ("real",), (OUT_OF_DISTRIBUTION,))
    )
    assert not samples & real and not samples & other and not real & other
    assert len(real) == 30 and len(other) == 20
    # Real images of one source share its id.
    grouped = draw_probe_targets(SAMPLES, REAL, np.arange(30) // 5, 200, 0)
    assert len(set(of(grouped, "real")[1])) == 6
    assert not set(of(grouped, "real")[1]) & samples


def test_target_depends_only_on_seed_kind_and_index() -> None:
    few, many = (draw_probe_targets(SAMPLES, REAL, None, n, 3) for n in (100, 200))
    for kind in SHARES:
        a, b = of(few, kind)[0], of(many, kind)[0]
        np.testing.assert_array_equal(a, b[: len(a)])
    other = draw_probe_targets(SAMPLES, REAL, None, 100, 4)
    for kind in ("noisy", OUT_OF_DISTRIBUTION, "averaged"):
        assert not np.array_equal(of(few, kind)[0], of(other, kind)[0])


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 24, 40)])
def test_patterns_have_any_shape_and_vary(shape: tuple[int, int, int]) -> None:
    result = np.stack([synthetic_pattern(shape, stream(0, "test", index)) for index in range(60)])
    assert result.shape == (60, *shape)
    assert result.min() >= 0 and result.max() <= 255
    assert (np.ptp(result, axis=(2, 3)) > 30).all()
    if shape[0] == 3:
        assert np.abs(result[:, 0] - result[:, 1]).max() > 10
    # All differ.
    flat = result.reshape(60, -1)
    flat = flat - flat.mean(1, keepdims=True)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    assert np.max(unit @ unit.T - 2 * np.eye(60)) < 0.9999
