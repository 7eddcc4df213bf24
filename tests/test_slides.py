"""Whole slides: tiles show what was drawn there, tissue is found, nothing is cut twice."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from controlgen.datasets import _slide_plan, slides
from controlgen.datasets._pyramid import Pyramid
from controlgen.datasets._tissue import summed_areas, tissue_mask, tissue_shares
from controlgen.datasets.slides import Slides
from controlgen.errors import DataError
from controlgen.stains import Reinhard

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("openslide")

GLASS, TISSUE, OTHER = (240, 240, 240), (180, 60, 150), (120, 70, 160)
EDGE = 128  # pixels of the squares in `squares`


def halved(image: np.ndarray) -> np.ndarray:
    height, width, _ = image.shape
    blocks = image.reshape(height // 2, 2, width // 2, 2, 3)
    return np.rint(blocks.mean((1, 3))).astype(np.uint8)


def write_levels(
    path: Path, levels: list[np.ndarray], mpp: tuple[float, float] | None = (0.5, 0.5)
) -> Path:
    """A tiled pyramid as openslide's generic TIFF reader wants it: resolution per centimetre."""
    with tifffile.TiffWriter(path) as writer:
        tags: dict[str, Any] = {}
        if mpp is not None:
            tags = {"resolution": (1e4 / mpp[0], 1e4 / mpp[1]), "resolutionunit": "CENTIMETER"}
        for number, level in enumerate(levels):
            writer.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression="deflate",
                compressionargs={"level": 1},
                subfiletype=int(number > 0),
                **(tags if number == 0 else {}),
            )
    return path


def write_slide(path: Path, image: np.ndarray, **options: Any) -> Path:
    levels = [image]
    for _ in range(2):
        levels.append(halved(levels[-1]))
    return write_levels(path, levels, **options)


def glass(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-3, 4, (height, width, 3))
    return np.clip(np.array(GLASS) + noise, 0, 255).astype(np.uint8)


def squares(rows: int = 6, columns: int = 10) -> np.ndarray:
    """Squares of EDGE pixels; red says the column, green the row."""
    image = np.full((rows * EDGE, columns * EDGE, 3), 5, np.uint8)
    image[..., 0] = (np.arange(columns * EDGE) // EDGE * 20 + 50)[None]
    image[..., 1] = (np.arange(rows * EDGE) // EDGE * 30 + 40)[:, None]
    return image


def blot(seed: int = 0, colour: tuple[int, int, int] = TISSUE) -> np.ndarray:
    """Glass of 768 x 1280 pixels with a noisy rectangle of tissue: rows 128..640, 256..1024."""
    image = glass(768, 1280, seed)
    noise = np.random.default_rng(seed + 1).integers(-25, 26, (512, 768, 3))
    image[128:640, 256:1024] = np.clip(np.array(colour) + noise, 0, 255)
    return image


def everything(data: Any) -> tuple[np.ndarray, np.ndarray]:
    indices = np.arange(len(data))
    return data.pixels(indices), data.coordinates(indices)


def both(spec: Slides) -> list[tuple[np.ndarray, np.ndarray]]:
    return [everything(spec.judging(split).open()) for split in ("train", "test")]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_tiles_are_what_was_drawn_there(tmp_path: Path, cache: Path) -> None:
    image = squares()
    image[..., 2] = np.random.default_rng(0).integers(0, 256, image.shape[:2])
    path = write_slide(tmp_path / "s.tif", image)

    # At the slide's own resolution a tile is a copy, and at four times that a copy of a level.
    for mpp, level, scale in ((0.5, image, 1), (2.0, halved(halved(image)), 4)):
        spec = Slides(root=path, size=32, mpp=mpp, tissue=0, test_share=0.3, cache=cache)
        for pixels, places in both(spec):
            assert len(pixels) > 8
            for tile, (_, x, y) in zip(pixels, places // scale, strict=True):
                drawn = level[y : y + 32, x : x + 32]
                np.testing.assert_array_equal(tile.transpose(1, 2, 0), drawn)


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
        drawn = image[down.astype(int)][:, across.astype(int)].transpose(2, 0, 1).astype(int)
        assert np.abs(tile - drawn)[:, inside].max() <= 1
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
    assert pixels.std() < image.std() / 4  # one pixel in eight would keep the deviation


def test_microns_may_differ_across_and_down(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", squares(), mpp=(0.5, 1.0))
    data = Slides(root=path, size=32, mpp=1, tissue=0, cache=cache).open()
    pixels, places = everything(data)
    assert set(np.diff(np.unique(places[:, 1]))) == {64}
    assert set(np.diff(np.unique(places[:, 2]))) == {32}
    inside = places[:, 1] // EDGE == (places[:, 1] + 63) // EDGE
    for tile, (_, x, y) in zip(pixels[inside], places[inside], strict=True):
        assert (tile[:2].transpose(1, 2, 0) == (x // EDGE * 20 + 50, y // EDGE * 30 + 40)).all()


def test_the_mask_is_what_was_drawn(tmp_path: Path) -> None:
    image = glass(1024, 1536)
    row, column = np.mgrid[:1024, :1536]
    truth = ((row - 450) / 350) ** 2 + ((column - 500) / 400) ** 2 < 1
    truth |= ((row - 700) / 200) ** 2 + ((column - 1250) / 175) ** 2 < 1
    image[truth] = np.where((row // 5 + column // 7)[truth, None] % 2, TISSUE, (225, 180, 205))
    path = write_slide(tmp_path / "s.tif", image, mpp=(1, 1))
    with Pyramid(path) as pyramid:
        thumbnail, scale = pyramid.thumbnail(8.0)
    assert scale == 8 and thumbnail.shape == (128, 192, 3)
    means = image.reshape(128, 8, 192, 8, 3).mean((1, 3))
    np.testing.assert_allclose(thumbnail, means, atol=1.5)  # each level was rounded
    mask = tissue_mask(thumbnail, 8.0)
    true = truth.reshape(128, 8, 192, 8).mean((1, 3)) >= 0.5
    assert (mask & true).sum() / (mask | true).sum() > 0.97


def test_specks_go_and_small_holes_are_closed() -> None:
    # At 10 microns a speck is under 100 pixels and a hole under 400.
    thumbnail = glass(120, 160)
    thumbnail[20:100, 20:120] = TISSUE
    thumbnail[5:14, 5:14] = TISSUE  # 81 pixels: a speck
    thumbnail[5:16, 130:141] = TISSUE  # 121 pixels: a piece
    thumbnail[30:49, 30:49] = GLASS  # 361 pixels: a lumen
    thumbnail[60:81, 60:81] = GLASS  # 441 pixels: a gap
    thumbnail[110:120, 150:160] = (9, 0, 3)  # a scanner's void, though saturated
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
    # Half pale, half dark tissue, with glass beside it or without any: Otsu alone loses the pale.
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
def test_tiles_hold_the_tissue_asked_for(tmp_path: Path, cache: Path, least: float) -> None:
    truth = np.zeros((768, 1280), bool)
    truth[128:640, 256:1024] = True
    path = write_slide(tmp_path / "s.tif", blot())
    spec = Slides(root=path, size=48, tissue=least, cache=cache)
    kept = {}
    for split in ("train", "test"):
        data = spec.judging(split).open()
        indices = np.arange(len(data))
        places = map(tuple, data.coordinates(indices)[:, 1:].tolist())
        kept |= dict(zip(places, data.tissue(indices), strict=True))
    shares = {
        (x, y): truth[y : y + 48, x : x + 48].mean()
        for x in range(0, 1280 - 47, 48)
        for y in range(0, 768 - 47, 48)
    }
    for place, share in kept.items():
        assert abs(share - shares[place]) < 0.05
    # Every tile that clearly qualifies is there, but for the column on the line of the split.
    qualified = {place for place, share in shares.items() if share > least + 0.05}
    missing = qualified - set(kept)
    assert len({x for x, _ in missing}) == 1 < len({x for x, _ in qualified})
    assert not {place for place in kept if shares[place] < least - 0.05}


def covered(places: np.ndarray, side: int) -> np.ndarray:
    """How often each pixel of the blot is under a tile."""
    canvas = np.zeros((768, 1280), int)
    for _, x, y in places:
        canvas[y : y + side, x : x + side] += 1
    return canvas


def test_one_slide_is_split_by_a_line_and_shares_no_pixel(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    train, test = [], []
    for settings in ({"overlap": 0.7}, {"mpp": 0.9}, {"size": 40, "tissue": 0.1}):
        spec = Slides(**{"root": path, "size": 32, "cache": cache, "test_share": 0.25, **settings})
        side = int(np.ceil(spec.size * spec.mpp / 0.5))
        for places, found in zip(both(spec), (train, test), strict=True):
            found.append(covered(places[1], side) > 0)
            assert len(places[1]) >= 20
    # Whatever the tiling, what one split sees is not seen by the other.
    seen = [np.any(found, 0) for found in (train, test)]
    assert not (seen[0] & seen[1]).any()
    columns = [np.flatnonzero(part.any(0)) for part in seen]
    assert columns[0].max() < columns[1].min()
    assert abs(seen[1].sum() / (seen[0] | seen[1]).sum() - 0.25) < 0.05


def test_without_overlap_no_pixel_is_read_twice(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    for mpp, side in ((0.5, 32), (0.71, 46)):
        _, places = everything(Slides(root=path, size=32, mpp=mpp, cache=cache).open())
        assert covered(places, side).max() == 1
    _, places = everything(Slides(root=path, size=32, overlap=0.75, cache=cache).open())
    assert set(np.diff(np.unique(places[:, 1]))) == {8}
    assert covered(places, 32).max() == 16


NAMES = ["a.tif", "b.tif", "c.tiff", "d.TIF", "deep/e.tif"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five slides of different colours, one of them deeper, and a file that is no slide's."""
    root = tmp_path_factory.mktemp("written") / "slides"
    (root / "deep").mkdir(parents=True)
    (root / "notes.txt").write_text("not looked at")
    for number, name in enumerate(NAMES):
        write_slide(root / name, blot(number, (180 - 15 * number, 60 + 10 * number, 150)))
    return root


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of the five slides."""
    return Path(shutil.copytree(written, tmp_path / "slides"))


def test_several_slides_are_split_whole(folder: Path, cache: Path) -> None:
    spec = Slides(root=folder, size=32, test_share=0.4, most=20, cache=cache)
    train, test = (spec.judging(split).open() for split in ("train", "test"))
    assert len(train.files) == 3 and len(test.files) == 2
    files = {**train.files, **test.files}
    assert [files[number] for number in range(5)] == NAMES
    for data in (train, test):
        pixels, places = everything(data)
        np.testing.assert_array_equal(data.groups(np.arange(20)), places[:, 0])
        assert set(places[:, 0]) <= set(data.files)
        for tile, (number, _, _) in zip(pixels, places, strict=True):
            red = np.median(tile[0])
            assert abs(red - (180 - 15 * number)) < 8  # the tile is of the slide it names
    # Neither another sample nor another size moves a slide to the other side.
    other = Slides(root=folder, size=48, test_share=0.4, most=9, seed=5, cache=cache).open()
    assert other.files == train.files


def test_a_sample_is_a_reproducible_part(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    whole, places = everything(Slides(root=path, size=32, cache=cache).open())
    found = {}
    for seed in (0, 1):
        spec = Slides(root=path, size=32, most=40, seed=seed, cache=cache)
        pixels, chosen = everything(spec.open())
        again = Slides(root=path, size=32, most=40, seed=seed, cache=tmp_path / "other").open()
        np.testing.assert_array_equal(everything(again)[0], pixels)
        rows = [np.flatnonzero((places == place).all(1)).item() for place in chosen]
        assert len(set(rows)) == 40
        np.testing.assert_array_equal(whole[rows], pixels)
        found[seed] = set(rows)
    assert len(found[0] & found[1]) < 40
    few = Slides(root=path, size=32, most=10**6, cache=cache).open()
    assert len(few) == len(whole)


def test_what_lies_beside_the_pixels(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    data = Slides(root=path, size=64, mpp=2, overlap=0.2, cache=cache).open()
    _, places = everything(data)
    kept = json.loads((data.folder / "coordinates.json").read_text())
    np.testing.assert_array_equal([row[:3] for row in kept["tiles"]], places)
    np.testing.assert_array_equal(
        [row[3] for row in kept["tiles"]], data.tissue(np.arange(len(data)))
    )
    (slide,) = kept["slides"]
    assert slide["file"] == "s.tif" and slide["level"] == 2 and slide["extent"] == [64, 64]
    assert json.loads((data.folder / "report.json").read_text()) == []
    # In the picture (16 pixels of the slide to one) each tile's outline is drawn, and only those.
    with Image.open(data.folder / "thumbnail-0000.png") as opened:
        assert opened.text["synthetic"].startswith("no")
        picture = np.asarray(opened)
    drawn = (picture == slides.BOX).all(2)
    expected = np.zeros_like(drawn)
    for left, top in places[:, 1:] // 16:
        expected[top : top + 16, [left, left + 15]] = True
        expected[[top, top + 15], left : left + 16] = True
    np.testing.assert_array_equal(drawn, expected)


def test_a_second_call_reads_no_slide(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    spec = Slides(root=path, size=32, most=30, cache=cache)
    first = everything(spec.open())

    def refuse(*arguments: object) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(Pyramid, "read", refuse)
        for one, two in zip(first, everything(spec.open()), strict=True):
            np.testing.assert_array_equal(one, two)
    # A slide that has changed is cut anew; so is one whose plan was damaged.
    write_slide(path, blot(7, OTHER))
    assert not np.array_equal(everything(spec.open())[0], first[0])
    for plan in cache.glob("prepared/*.plan.json"):
        plan.write_text(plan.read_text()[:100])
    assert len(spec.open()) == 30


CHILD = """
    import sys, time
    from pathlib import Path
    from controlgen.datasets import prepared
    from controlgen.datasets.slides import Slides

    prepared.CHECKPOINT_SECONDS = 0.0
    cut = Slides._cut

    def slowly(*arguments):
        time.sleep(0.1)
        return cut(*arguments)

    Slides._cut = slowly
    Slides.model_validate_json(sys.argv[1]).open()
"""


def test_a_killed_cut_is_continued(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Slides(root=folder, size=32, most=600, stain=Reinhard(), cache=cache)
    code = textwrap.dedent(CHILD)
    child = subprocess.Popen(
        [sys.executable, "-c", code, spec.model_dump_json()],
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[1],
    )
    try:
        done, until = 0, time.monotonic() + 600
        while done < 100 and child.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
            found = list(cache.glob("prepared/*.partial/done"))
            done = int(found[0].read_text() or 0) if found else 0
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL and done >= 100

    # The second call reads the rest only, and the tiles are those of a cut nobody disturbed.
    starts = []
    produce = Slides._produce

    def watched(self: Slides, base: Path, plan: Any, start: int) -> Any:
        starts.append(start)
        return produce(self, base, plan, start)

    monkeypatch.setattr(Slides, "_produce", watched)
    pixels, places = everything(spec.open())
    undisturbed = spec.model_copy(update={"cache": tmp_path / "undisturbed"})
    whole = everything(undisturbed.open())
    assert done <= starts[0] < len(pixels) and starts[1] == 0
    np.testing.assert_array_equal(places, whole[1])
    np.testing.assert_array_equal(pixels, whole[0])


def test_stain_is_measured_once_a_slide(folder: Path, cache: Path) -> None:
    spec = Slides(root=folder, size=64, tissue=0.6, test_share=0.4, cache=cache)
    plain, places = everything(spec.open())
    stained, _ = everything(spec.model_copy(update={"stain": Reinhard()}).open())
    for number in np.unique(places[:, 0]):
        of_slide = places[:, 0] == number
        sample = np.flatnonzero(of_slide)
        assert len(sample) > slides.MEASURED  # the stain is not measured on all of them
        profile = Reinhard().measure(plain[of_slide])
        expected = Reinhard().apply(plain[of_slide], profile).astype(int)
        # Sixty-four tiles know the slide's stain nearly as well as all do.
        assert np.abs(stained[of_slide] - expected).mean() < 2
    before, after = (
        [tiles[places[:, 0] == number].mean((0, 2, 3)) for number in np.unique(places[:, 0])]
        for tiles in (plain, stained)
    )
    assert np.ptp(after, axis=0).max() < np.ptp(before, axis=0).max() / 5


def broken(path: Path, level: int) -> None:
    """Overwrite the data of a level's tiles, leaving the file's structure whole."""
    with tifffile.TiffFile(path) as opened:
        offsets = opened.pages[level].dataoffsets
    content = bytearray(path.read_bytes())
    for offset in offsets:
        content[offset : offset + 50] = b"\xff" * 50
    path.write_bytes(content)


def test_bad_slides_are_listed_and_the_rest_is_cut(
    folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Slides(root=folder, size=32, test_share=0.4, cache=cache)
    before = [everything(spec.judging(split).open()) for split in ("train", "test")]
    (folder / "text.svs").write_text("no slide")
    (folder / "zero.ndpi").write_bytes(b"")
    whole = (folder / "a.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (folder / "twin.tif").write_bytes(whole)
    (folder / "linked.tif").symlink_to(folder / "linked.tif")
    (folder / ".hidden.tif").write_text("not looked at")
    capsys.readouterr()

    after = [spec.judging(split).open() for split in ("train", "test")]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old[0], everything(new)[0])
    report = {
        entry["file"]: entry["wrong"]
        for entry in json.loads((after[0].folder / "report.json").read_text())
    }
    assert set(report) == {"cut.tif", "linked.tif", "text.svs", "twin.tif", "zero.ndpi"}
    assert report["twin.tif"] == "is the same slide as a.tif"
    assert all("cannot be opened" in why for file, why in report.items() if file != "twin.tif")
    said = capsys.readouterr().err
    assert said.count("slides: 5 of 10 slides left out; see ") == 2 and "report.json" in said
    with pytest.raises(DataError, match="cut.tif: cannot be opened as a slide") as caught:
        spec.model_copy(update={"on_bad": "refuse"}).open()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("level", [0, 2])
def test_damage_inside_a_slide(folder: Path, cache: Path, level: int) -> None:
    spec = Slides(root=folder, size=32, test_share=0.4, cache=cache)
    whole = spec.open()
    test = everything(spec.judging("test").open())
    number, file = max(whole.files.items())
    broken(folder / file, level)
    found = spec.open()
    (entry,) = json.loads((found.folder / "report.json").read_text())
    assert entry["file"] == file and "is damaged near x" in entry["wrong"]
    # The other slides' tiles are as they were, and the other split has not moved.
    pixels, places = everything(whole)
    others = places[:, 0] != number
    np.testing.assert_array_equal(everything(found)[0], pixels[others])
    np.testing.assert_array_equal(everything(found)[1], places[others])
    assert everything(spec.judging("test").open())[0].tobytes() == test[0].tobytes()
    with pytest.raises(DataError, match="is damaged near x") as caught:
        spec.model_copy(update={"on_bad": "refuse"}).open()
    assert "\n" not in str(caught.value)


def test_a_pinned_fingerprint_names_the_slides(folder: Path, cache: Path) -> None:
    spec = Slides(root=folder, size=32, most=10, cache=cache).pinned()
    moved = folder.rename(folder.with_name("moved"))
    elsewhere = Slides(root=moved, size=32, most=10, cache=cache).pinned()
    assert elsewhere.fingerprint() == spec.fingerprint()
    first = everything(elsewhere.open())
    again = everything(Slides(root=moved, size=32, most=10, cache=cache).open())
    np.testing.assert_array_equal(first[0], again[0])
    write_slide(moved / "a.tif", blot(9))
    assert Slides(root=moved, size=32, most=10).pinned().fingerprint() != spec.fingerprint()
    with pytest.raises(DataError, match="holds other slides"):
        elsewhere.open()


def test_a_white_slide(tmp_path: Path, cache: Path) -> None:
    write_slide(tmp_path / "white.tif", glass(512, 1024))
    for on_bad in ("skip", "refuse"):
        with pytest.raises(DataError, match="shows no tissue") as caught:
            Slides(root=tmp_path / "white.tif", on_bad=on_bad, cache=cache).open()
        assert "\n" not in str(caught.value)
    # Who asks for no tissue gets the glass.
    assert len(Slides(root=tmp_path / "white.tif", tissue=0, cache=cache).open()) > 50


def test_too_little_tissue_for_a_tile(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    with pytest.raises(DataError, match=r"no tile of 512 pixels .* lower tissue, size or mpp"):
        Slides(root=path, size=512, tissue=1, cache=cache).open()


def test_a_slide_without_microns(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot(), mpp=None)
    with pytest.raises(DataError, match=r"s\.tif: .*set assume_mpp") as caught:
        Slides(root=path, cache=cache).open()
    assert "\n" not in str(caught.value)
    pixels, places = everything(Slides(root=path, assume_mpp=0.5, cache=cache).open())
    told = write_slide(tmp_path / "told.tif", blot())
    # What a slide says goes before what is assumed.
    expected = everything(Slides(root=told, assume_mpp=0.1, cache=cache).open())
    np.testing.assert_array_equal(pixels, expected[0])
    np.testing.assert_array_equal(places, expected[1])


def test_detail_is_not_invented(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    with pytest.raises(DataError, match=r"finest level has 0\.5 microns.*set mpp = 0\.5 or more"):
        Slides(root=path, mpp=0.25, cache=cache).open()


def test_nothing_there(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match="no such slide"):
        Slides(root=tmp_path / "absent", cache=cache).open()
    with pytest.raises(DataError, match="no slide in it can be opened"):
        Slides(root=tmp_path, cache=cache).open()


def test_without_openslide(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(DataError, match=r"pip install 'controlgen\[histology\]'") as caught:
        Slides(root=path, cache=cache).open()
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="CONTROLGEN_DATA"):
        Slides(root=path, cache=tmp_path / "file").open()


def test_slides_have_no_classes(tmp_path: Path, cache: Path) -> None:
    data = Slides(root=write_slide(tmp_path / "s.tif", blot()), most=5, cache=cache).open()
    assert data.class_names == () and data.image_shape == (3, 64, 64)
    assert not data.groups(np.arange(5)).any()
    with pytest.raises(DataError, match="no classes"):
        data.labels(np.arange(5))


def test_reading_order_keeps_neighbours_together() -> None:
    assert list(_slide_plan.reading(np.array([[2, 0, 0], [2, 5, 0], [4, 0, 0]]))) == [
        (2, 0, 2),
        (4, 2, 3),
    ]
