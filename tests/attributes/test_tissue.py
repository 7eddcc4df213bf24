"""Attributes of H&E tiles against Beer-Lambert's law, scikit-image and synthetic tiles."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2hed, rgb_from_hed
from skimage.feature import graycomatrix

from controlgen.attributes.tissue import (
    GREY_LEVELS,
    NAMES,
    cooccurrence_entropy,
    measure_tissue,
    segment_lumen,
    segment_nuclei,
    unmix_stains,
)
from controlgen.errors import ConfigError, Incompatible
from controlgen.types import Pixels

SHARED = Path(os.environ.get("CONTROLGEN_SHARED", Path(__file__).parents[3] / "shared"))
COLON = SHARED / "data" / "histology-colon"


def stained(haematoxylin: np.ndarray, eosin: np.ndarray) -> Pixels:
    """Tiles (n 3 h w) that hold these optical densities (n h w), by Beer-Lambert's law."""
    amounts = np.stack([haematoxylin, eosin], -1)
    light = 10 ** -(amounts @ rgb_from_hed[:2])
    return np.rint(light * 255).astype(np.uint8).transpose(0, 3, 1, 2)


def discs(centres: list[tuple[float, float]], radius: float, size: int = 64) -> np.ndarray:
    """1 inside discs about `centres` (x, y), 0 outside: (1 size size)."""
    y, x = np.mgrid[:size, :size]
    inside = [(x - a) ** 2 + (y - b) ** 2 <= radius**2 for a, b in centres]
    return np.any(inside, axis=0)[None].astype(float) if centres else np.zeros((1, size, size))


def measured(pixels: Pixels, **scale: float) -> dict[str, float]:
    return dict(zip(NAMES, measure_tissue(pixels, **scale)[0], strict=True))


@settings(max_examples=30, deadline=None)
@given(blue=st.floats(0, 0.7), pink=st.floats(0, 0.5))
def test_optical_density_inverts_beer_lambert(blue: float, pink: float) -> None:
    tile = stained(np.full((1, 16, 16), blue), np.full((1, 16, 16), pink))
    row = measured(tile)
    # A byte of about 50 rounds by 1 %: 0.004 OD, up to three times that after unmixing.
    assert row["haematoxylin"] == pytest.approx(blue, abs=0.015)
    assert row["eosin"] == pytest.approx(pink, abs=0.015)


def test_stains_agree_with_scikit_image_where_it_does_not_clip() -> None:
    tiles = np.random.default_rng(0).integers(1, 256, (3, 3, 24, 24), dtype=np.uint8)
    # scikit-image divides by log(1e-6), so that its unit is 6 OD, and clips amounts below zero.
    trusted = 6 * rgb2hed(tiles.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    ours = unmix_stains(tiles)
    recorded = trusted > 0
    assert 0.4 < recorded.mean() < 1
    np.testing.assert_allclose(ours[recorded], trusted[recorded], atol=1e-4)
    assert ours[~recorded].max() < 1e-4


def test_white_and_black_tiles_are_finite_and_hold_no_nuclei() -> None:
    tiles = np.stack([np.full((3, 64, 64), value, np.uint8) for value in (255, 0)])
    rows = measure_tissue(tiles)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(rows[0], [0, 0, 0, 0, 1, 0], atol=1e-6)
    assert rows[1, NAMES.index("lumen")] == 0 and rows[1, NAMES.index("texture")] == 0


@pytest.mark.parametrize("count", [0, 1, 4, 9, 16])
@pytest.mark.parametrize("radius", [2.5, 4.0])
def test_separate_nuclei_are_counted_and_measured(count: int, radius: float) -> None:
    places = [(8.0 + 16 * (k % 4), 8.0 + 16 * (k // 4)) for k in range(count)]
    samples = discs(places, radius)
    row = measured(stained(0.05 + 0.4 * samples, np.full((1, 64, 64), 0.1)))
    assert row["nuclear_count"] == count
    assert row["nuclear_area"] == pytest.approx(samples.mean(), rel=0.15, abs=1e-9)


def test_touching_nuclei_are_separated_and_a_flat_nucleus_is_not() -> None:
    touching = discs([(20, 32), (26, 32), (32, 32)], 3.0)
    large = discs([(32, 32)], 7.0)
    for samples, count in ((touching, 3), (large, 1)):
        assert measured(stained(0.5 * samples, 0 * samples))["nuclear_count"] == count


def test_specks_are_not_nuclei_and_depend_on_scale() -> None:
    samples = discs([(20, 20), (44, 44)], 1.0)  # five pixels each
    tile = stained(0.6 * samples, 0 * samples)
    assert measured(tile, microns_per_pixel=0.5)["nuclear_count"] == 0
    assert measured(tile, microns_per_pixel=3.0)["nuclear_count"] == 2


def test_attributes_do_not_depend_on_resolution() -> None:
    small = discs([(12, 12), (30, 40), (50, 20)], 3.5)
    large = small.repeat(2, 1).repeat(2, 2)
    rows = [measured(stained(0.5 * samples, 0.1 + 0 * samples)) for samples in (small, large)]
    assert rows[0]["nuclear_count"] == rows[1]["nuclear_count"] == 3
    assert rows[0]["nuclear_area"] == pytest.approx(rows[1]["nuclear_area"], rel=0.08)


def test_lumen_is_the_bright_area_above_a_size() -> None:
    hole = discs([(32, 32)], 12.0)
    row = measured(stained(0.15 * (1 - hole), 0.15 * (1 - hole)))
    assert row["lumen"] == pytest.approx(hole.mean(), rel=0.1)
    # A capillary is too small, and pale pink or pale blue tissue is not empty.
    small = discs([(32, 32)], 2.5)
    assert measured(stained(0.15 * (1 - small), 0.15 * (1 - small)))["lumen"] == 0
    plain = np.zeros((1, 64, 64))
    assert measured(stained(plain, plain + 0.1))["lumen"] == 0
    assert measured(stained(plain + 0.14, plain))["lumen"] == 0


def test_tiles_are_independent() -> None:
    rng = np.random.default_rng(1)
    tiles = rng.integers(60, 256, (70, 3, 32, 32), dtype=np.uint8)
    full = measure_tissue(tiles)
    alone = np.concatenate([measure_tissue(tile[None]) for tile in tiles[[0, 40, 63, 64, 69]]])
    np.testing.assert_allclose(full[[0, 40, 63, 64, 69]], alone, rtol=1e-6)
    assert measure_tissue(tiles[:0]).shape == (0, len(NAMES))


@settings(max_examples=15, deadline=None)
@given(step=st.sampled_from([1, 2, 3]), seed=st.integers(0, 99))
def test_texture_agrees_with_scikit_image(step: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, (20, 20), dtype=np.uint8) // (seed % 7 + 1)
    counts = graycomatrix(
        grey // (256 // GREY_LEVELS), [step], [0, np.pi / 2], levels=GREY_LEVELS, symmetric=True
    )
    share = counts.sum((2, 3)) / counts.sum()
    trusted = -(share[share > 0] * np.log2(share[share > 0])).sum()
    tile = np.repeat(grey[None, None], 3, 1)
    np.testing.assert_allclose(cooccurrence_entropy(tile, step), [trusted], atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), more=st.floats(1.1, 1.6))
def test_more_stain_measures_more(seed: int, more: float) -> None:
    rng = np.random.default_rng(seed)
    places = [(float(x), float(y)) for x, y in rng.uniform(4, 60, (12, 2))]
    samples = 0.06 + 0.25 * discs(places, 3.0)
    pink = np.full_like(samples, 0.1)
    plain = measured(stained(samples, pink))
    darker, pinker = (
        measured(stained(samples * more, pink)),
        measured(stained(samples, pink * more)),
    )
    assert darker["haematoxylin"] > plain["haematoxylin"]
    assert darker["nuclear_area"] >= plain["nuclear_area"] > 0
    assert pinker["eosin"] > plain["eosin"]
    assert pinker["haematoxylin"] == pytest.approx(plain["haematoxylin"], abs=0.01)


def test_nucleus_mask_and_lumen_positions() -> None:
    nucleus, hole = discs([(12, 40)], 4.0), discs([(44, 16)], 9.0)
    tile = stained(0.12 * (1 - hole) + 0.4 * nucleus, 0.1 * (1 - hole))
    mask, count = segment_nuclei(unmix_stains(tile)[:, 0], 2.0)
    assert count.tolist() == [1]
    assert mask[0, 40, 12] and (mask & (nucleus > 0)).sum() > 0.9 * mask.sum()
    empty = segment_lumen(tile, 2.0)
    assert empty[0, 16, 44] and not (empty & (hole == 0)).any()


def test_unfit_tiles_and_scales_are_refused() -> None:
    with pytest.raises(Incompatible, match="RGB"):
        measure_tissue(np.zeros((1, 1, 8, 8), np.uint8))
    with pytest.raises(ConfigError, match="microns_per_pixel"):
        measure_tissue(np.zeros((1, 3, 8, 8), np.uint8), microns_per_pixel=0.0)


@pytest.mark.skipif(
    not COLON.is_dir(), reason=f"{COLON} is absent; set CONTROLGEN_SHARED to its parent"
)
def test_real_colon_tiles_measure_within_the_range_of_tissue() -> None:
    from PIL import Image

    files = [
        file
        for folder in ("benign", "adenocarcinoma")
        for file in sorted((COLON / folder).iterdir())[:40]
    ]
    tiles = np.stack([np.asarray(Image.open(f).convert("RGB").resize((64, 64))) for f in files])
    rows = measure_tissue(tiles.transpose(0, 3, 1, 2))
    middle = dict(zip(NAMES, np.median(rows, 0), strict=True))
    assert 0.05 < middle["haematoxylin"] < 0.3 and 0.02 < middle["eosin"] < 0.2
    assert 0.05 < middle["nuclear_area"] < 0.5 and 20 < middle["nuclear_count"] < 150
    assert 0 < middle["lumen"] < 0.5 and 4 < middle["texture"] < 7
