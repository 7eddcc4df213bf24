"""Slide tiles: pixels, levels, splits, samples, sidecar files, cache."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from controlgen import __version__
from controlgen.datasets.slides import _tiling, dataset
from controlgen.datasets.slides._reader import SlideReader
from controlgen.datasets.slides.dataset import Slides
from slide_files import (
    EDGE,
    OTHER,
    blot,
    both,
    covered,
    everything,
    halved,
    squares,
    write_levels,
    write_slide,
)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_tiles_match_the_slide(tmp_path: Path, cache: Path) -> None:
    image = squares()
    image[..., 2] = np.random.default_rng(0).integers(0, 256, image.shape[:2])
    path = write_slide(tmp_path / "s.tif", image)

    # At the slide's own resolution a tile is a copy, and at four times that a copy of a level.
    for mpp, level, scale in ((0.5, image, 1), (2.0, halved(halved(image)), 4)):
        spec = Slides(root=path, size=32, mpp=mpp, tissue=0, test_share=0.3, cache=cache)
        for pixels, places in both(spec):
            assert len(pixels) > 8
            for tile, (_, x, y) in zip(pixels, places // scale, strict=True):
                samples = level[y : y + 32, x : x + 32]
                np.testing.assert_array_equal(tile.transpose(1, 2, 0), samples)


@pytest.mark.parametrize("mpp", [1.3, 1.5])
def test_between_the_levels_tiles_are_reduced(tmp_path: Path, cache: Path, mpp: float) -> None:
    image, scale = squares(), mpp / 0.5
    path = write_slide(tmp_path / "s.tif", image)
    data = Slides(root=path, size=48, mpp=mpp, tissue=0, cache=cache).open()
    pixels, places = everything(data)
    assert len(pixels) >= 20
    checked = 0
    for tile, (_, x, y) in zip(pixels.astype(int), places, strict=True):
        # Centres of the tile's pixels on the slide; near the squares' edges colours may mix.
        across, down = (start + (np.arange(48) + 0.5) * scale for start in (x, y))
        flat = [np.abs((at + EDGE / 2) % EDGE - EDGE / 2) > 4 * scale for at in (across, down)]
        inside = flat[1][:, None] & flat[0][None]
        samples = image[down.astype(int)][:, across.astype(int)].transpose(2, 0, 1).astype(int)
        assert np.abs(tile - samples)[:, inside].max() <= 1
        checked += inside.sum()
    assert checked > 1000


def test_the_nearest_finer_level_is_read(tmp_path: Path, cache: Path) -> None:
    colours = [(200, 50, 50), (100, 150, 200), (10, 200, 10)]
    levels = [
        np.broadcast_to(np.uint8(colour), (1024 >> level, 2048 >> level, 3))
        for level, colour in enumerate(colours)
    ]
    path = write_levels(tmp_path / "s.tif", levels)
    for mpp, level in ((0.48, 0), (0.5, 0), (0.97, 0), (1.0, 1), (1.9, 1), (2.0, 2), (5.0, 2)):
        data = Slides(root=path, size=16, mpp=mpp, most=3, cache=cache).open()
        assert (data.pixels(np.array([0]))[0].mean((1, 2)).round() == colours[level]).all(), mpp


def test_antialiasing_keeps_the_mean(tmp_path: Path, cache: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (512, 1024, 3), np.uint8)
    path = write_levels(tmp_path / "s.tif", [image])
    pixels, places = everything(Slides(root=path, size=16, mpp=4, tissue=0, cache=cache).open())
    means = [image[y : y + 128, x : x + 128].mean() for _, x, y in places]
    np.testing.assert_allclose(pixels.mean((1, 2, 3)), means, atol=1)
    assert pixels.std() < image.std() / 4  # subsampling would preserve the deviation


def test_microns_may_differ_across_and_down(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", squares(), mpp=(0.5, 1.0))
    data = Slides(root=path, size=32, mpp=1, tissue=0, cache=cache).open()
    pixels, places = everything(data)
    assert set(np.diff(np.unique(places[:, 1]))) == {64}
    assert set(np.diff(np.unique(places[:, 2]))) == {32}
    inside = places[:, 1] // EDGE == (places[:, 1] + 63) // EDGE
    for tile, (_, x, y) in zip(pixels[inside], places[inside], strict=True):
        assert (tile[:2].transpose(1, 2, 0) == (x // EDGE * 20 + 50, y // EDGE * 30 + 40)).all()


def test_one_slide_is_split_by_a_line_and_shares_no_pixel(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    train, test = [], []
    for settings in ({"overlap": 0.7}, {"mpp": 0.9}, {"size": 40, "tissue": 0.1}):
        spec = Slides(**{"root": path, "size": 32, "cache": cache, "test_share": 0.25, **settings})
        side = int(np.ceil(spec.size * spec.mpp / 0.5))
        for places, actual in zip(both(spec), (train, test), strict=True):
            actual.append(covered(places[1], side) > 0)
            assert len(places[1]) >= 20
    # No pixel is in both splits, whatever the tiling.
    recorded = [np.any(actual, 0) for actual in (train, test)]
    assert not (recorded[0] & recorded[1]).any()
    columns = [np.flatnonzero(part.any(0)) for part in recorded]
    assert columns[0].max() < columns[1].min()
    assert abs(recorded[1].sum() / (recorded[0] | recorded[1]).sum() - 0.25) < 0.05


def test_without_overlap_no_pixel_is_read_twice(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    for mpp, side in ((0.5, 32), (0.71, 46)):
        _, places = everything(Slides(root=path, size=32, mpp=mpp, cache=cache).open())
        assert covered(places, side).max() == 1
    _, places = everything(Slides(root=path, size=32, overlap=0.75, cache=cache).open())
    assert set(np.diff(np.unique(places[:, 1]))) == {8}
    assert covered(places, 32).max() == 16


def test_a_sample_is_a_reproducible_subset(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    full, places = everything(Slides(root=path, size=32, cache=cache).open())
    actual = {}
    for seed in (0, 1):
        spec = Slides(root=path, size=32, most=40, seed=seed, cache=cache)
        pixels, chosen = everything(spec.open())
        again = Slides(root=path, size=32, most=40, seed=seed, cache=tmp_path / "other").open()
        np.testing.assert_array_equal(everything(again)[0], pixels)
        rows = [np.flatnonzero((places == place).all(1)).item() for place in chosen]
        assert len(set(rows)) == 40
        np.testing.assert_array_equal(full[rows], pixels)
        actual[seed] = set(rows)
    assert len(actual[0] & actual[1]) < 40
    few = Slides(root=path, size=32, most=10**6, cache=cache).open()
    assert len(few) == len(full)


def test_sidecar_files(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    data = Slides(root=path, size=64, mpp=2, overlap=0.2, cache=cache).open()
    _, places = everything(data)
    saved = json.loads((data.folder / "coordinates.json").read_text())
    np.testing.assert_array_equal([row[:3] for row in saved["tiles"]], places)
    np.testing.assert_array_equal(
        [row[3] for row in saved["tiles"]], data.tissue(np.arange(len(data)))
    )
    (slide,) = saved["slides"]
    assert slide["file"] == "s.tif" and slide["level"] == 2 and slide["extent"] == [64, 64]
    assert json.loads((data.folder / "report.json").read_text()) == []
    # The thumbnail (1:16) shows the outlines of the tiles and no others.
    with Image.open(data.folder / "thumbnail-0000.png") as opened:
        assert opened.text["synthetic"].startswith("no")
        assert (opened.text["seed"], opened.text["version"]) == ("0", __version__)
        assert f"outlined {len(places)} tiles" in opened.text["recipe"]
        picture = np.asarray(opened)
    samples = (picture == dataset.OUTLINE_COLOUR).all(2)
    expected = np.zeros_like(samples)
    for left, top in places[:, 1:] // 16:
        expected[top : top + 16, [left, left + 15]] = True
        expected[[top, top + 15], left : left + 16] = True
    np.testing.assert_array_equal(samples, expected)


def test_a_second_call_reads_no_slide(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    spec = Slides(root=path, size=32, most=30, cache=cache)
    first = everything(spec.open())

    def refuse(*arguments: object) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(SlideReader, "read", refuse)
        for item, two in zip(first, everything(spec.open()), strict=True):
            np.testing.assert_array_equal(item, two)
    # A changed slide or a damaged plan is cut again.
    write_slide(path, blot(7, OTHER))
    assert not np.array_equal(everything(spec.open())[0], first[0])
    for plan in cache.glob("prepared/*.plan.json"):
        plan.write_text(plan.read_text()[:100])
    assert len(spec.open()) == 30


def test_reading_order_keeps_neighbours_together() -> None:
    assert list(_tiling.iter_runs(np.array([[2, 0, 0], [2, 5, 0], [4, 0, 0]]))) == [
        (2, 0, 2),
        (4, 2, 3),
    ]
