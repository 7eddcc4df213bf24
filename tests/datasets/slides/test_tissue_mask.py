"""Tissue masks, tissue shares, and tiles with a minimum of tissue."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlgen.datasets.slides._reader import SlideReader
from controlgen.datasets.slides._tissue_mask import summed_areas, tissue_mask, tissue_shares
from controlgen.datasets.slides.dataset import Slides
from slide_files import GLASS, TISSUE, blot, glass, write_slide


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_the_mask_matches_the_slide(tmp_path: Path) -> None:
    image = glass(1024, 1536)
    row, column = np.mgrid[:1024, :1536]
    truth = ((row - 450) / 350) ** 2 + ((column - 500) / 400) ** 2 < 1
    truth |= ((row - 700) / 200) ** 2 + ((column - 1250) / 175) ** 2 < 1
    image[truth] = np.where((row // 5 + column // 7)[truth, None] % 2, TISSUE, (225, 180, 205))
    path = write_slide(tmp_path / "s.tif", image, mpp=(1, 1))
    with SlideReader(path) as pyramid:
        thumbnail, scale = pyramid.thumbnail(8.0)
    assert scale == 8 and thumbnail.shape == (128, 192, 3)
    means = image.reshape(128, 8, 192, 8, 3).mean((1, 3))
    np.testing.assert_allclose(thumbnail, means, atol=1.5)  # each level was rounded
    mask = tissue_mask(thumbnail, 8.0)
    true = truth.reshape(128, 8, 192, 8).mean((1, 3)) >= 0.5
    assert (mask & true).sum() / (mask | true).sum() > 0.97


def test_specks_are_removed_and_small_holes_closed() -> None:
    # At 10 microns a speck is under 100 pixels and a hole under 400.
    thumbnail = glass(120, 160)
    thumbnail[20:100, 20:120] = TISSUE
    thumbnail[5:14, 5:14] = TISSUE  # 81 pixels: a speck
    thumbnail[5:16, 130:141] = TISSUE  # 121 pixels: a piece
    thumbnail[30:49, 30:49] = GLASS  # 361 pixels: a lumen
    thumbnail[60:81, 60:81] = GLASS  # 441 pixels: a gap
    thumbnail[110:120, 150:160] = (9, 0, 3)  # void of a scanner, saturated
    expected = np.zeros((120, 160), bool)
    expected[20:100, 20:120] = expected[5:16, 130:141] = True
    expected[60:81, 60:81] = False
    np.testing.assert_array_equal(tissue_mask(thumbnail, 10.0), expected)


def test_a_gap_at_the_border_is_no_hole() -> None:
    thumbnail = np.broadcast_to(np.uint8(TISSUE), (60, 60, 3)).copy()
    thumbnail[:15, 20:35] = GLASS
    mask = tissue_mask(thumbnail, 10.0)
    assert not mask[:15, 20:35].any() and mask.sum() == 3600 - 225


@pytest.mark.parametrize("noisy", [False, True])
def test_blank_and_full_slides_are_not_split_by_their_noise(noisy: bool) -> None:
    noise = np.random.default_rng(0).normal(0, 3 * noisy, (100, 100, 1))
    white = np.clip(np.array((238, 240, 241)) + noise, 0, 255).astype(np.uint8)
    assert not tissue_mask(white, 8.0).any()
    # Half pale, half dark tissue, with or without glass: Otsu alone loses the pale half.
    for glassy in (0, 30):
        place = np.arange(100)[:, None, None]
        full = np.where(place < 65, (228, 196, 212), (110, 50, 140)) + np.zeros((1, 100, 1))
        full = np.where(place < glassy, (238, 240, 241), full) + noise
        mask = tissue_mask(np.clip(full, 0, 255).astype(np.uint8), 8.0)
        assert mask[glassy:].all() and not mask[:glassy].any()


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 30), min_size=1, max_size=3),
    st.lists(st.integers(0, 20), min_size=1, max_size=3),
    st.integers(1, 30),
    st.integers(1, 20),
)
def test_shares_are_exact_between_mask_pixels(
    seed: int, left: list[int], top: list[int], width: int, height: int
) -> None:
    mask = np.random.default_rng(seed).random((10, 15)) < 0.5
    fine = np.pad(mask.repeat(4, 0).repeat(4, 1), ((0, 40), (0, 60)))  # quarters of a pixel
    expected = [[fine[y : y + height, x : x + width].mean() for x in left] for y in top]
    shares = tissue_shares(
        summed_areas(mask), np.array(left) / 4, np.array(top) / 4, width / 4, height / 4
    )
    np.testing.assert_allclose(shares, expected, atol=1e-12)


@pytest.mark.parametrize("least", [0.3, 0.8])
def test_tiles_have_the_required_tissue(tmp_path: Path, cache: Path, least: float) -> None:
    truth = np.zeros((768, 1280), bool)
    truth[128:640, 256:1024] = True
    path = write_slide(tmp_path / "s.tif", blot())
    spec = Slides(root=path, size=48, tissue=least, cache=cache)
    saved = {}
    for split in ("train", "test"):
        data = spec.with_split(split).open()
        indices = np.arange(len(data))
        places = map(tuple, data.coordinates(indices)[:, 1:].tolist())
        saved |= dict(zip(places, data.tissue(indices), strict=True))
    shares = {
        (x, y): truth[y : y + 48, x : x + 48].mean()
        for x in range(0, 1280 - 47, 48)
        for y in range(0, 768 - 47, 48)
    }
    for place, share in saved.items():
        assert abs(share - shares[place]) < 0.05
    # Every tile that clearly qualifies is selected, except on the dividing line.
    qualified = {place for place, share in shares.items() if share > least + 0.05}
    missing = qualified - set(saved)
    assert len({x for x, _ in missing}) == 1 < len({x for x, _ in qualified})
    assert not {place for place in saved if shares[place] < least - 0.05}
