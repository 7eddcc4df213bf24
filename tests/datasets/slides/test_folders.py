"""Folders of slides: splits, resumed cuts, stain, skipped files, content hash."""

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

from controlgen.datasets.slides import dataset
from controlgen.datasets.slides.dataset import Slides
from controlgen.errors import DataError
from controlgen.stains import Reinhard
from slide_files import blot, broken, everything, write_slide

NAMES = ["a.tif", "b.tif", "c.tiff", "d.TIF", "deep/e.tif"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five slides of different colours, one in a subfolder, and a text file."""
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


def test_slides_are_split_whole(folder: Path, cache: Path) -> None:
    spec = Slides(root=folder, size=32, test_share=0.4, most=20, cache=cache)
    train, test = (spec.with_split(split).open() for split in ("train", "test"))
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
    # Neither sample nor size moves a slide to the other split.
    other = Slides(root=folder, size=48, test_share=0.4, most=9, seed=5, cache=cache).open()
    assert other.files == train.files


CHILD = """
    import sys, time
    from pathlib import Path
    from controlgen.datasets import cache as prepared
    from controlgen.datasets.slides.dataset import Slides

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
        cwd=Path(__file__).parents[3],
    )
    try:
        done, until = 0, time.monotonic() + 600
        while done < 100 and child.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
            actual = list(cache.glob("prepared/*.partial/done"))
            done = int(actual[0].read_text() or 0) if actual else 0
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL and done >= 100

    # The second call reads only the rest; the tiles equal those of an uninterrupted cut.
    starts = []
    produce = Slides._produce

    def record_start(self: Slides, base: Path, plan: Any, start: int) -> Any:
        starts.append(start)
        return produce(self, base, plan, start)

    monkeypatch.setattr(Slides, "_produce", record_start)
    pixels, places = everything(spec.open())
    undisturbed = spec.model_copy(update={"cache": tmp_path / "undisturbed"})
    full = everything(undisturbed.open())
    assert done <= starts[0] < len(pixels) and starts[1] == 0
    np.testing.assert_array_equal(places, full[1])
    np.testing.assert_array_equal(pixels, full[0])


def test_stain_is_measured_once_per_slide(folder: Path, cache: Path) -> None:
    spec = Slides(root=folder, size=64, tissue=0.6, test_share=0.4, cache=cache)
    plain, places = everything(spec.open())
    stained, _ = everything(spec.model_copy(update={"stain": Reinhard()}).open())
    for number in np.unique(places[:, 0]):
        of_slide = places[:, 0] == number
        sample = np.flatnonzero(of_slide)
        assert len(sample) > dataset.STAIN_TILES  # the stain is not measured on all of them
        profile = Reinhard().measure(plain[of_slide])
        expected = Reinhard().apply(plain[of_slide], profile).astype(int)
        # Sixty-four tiles give nearly the stain of all tiles.
        assert np.abs(stained[of_slide] - expected).mean() < 2
    before, after = (
        [tiles[places[:, 0] == number].mean((0, 2, 3)) for number in np.unique(places[:, 0])]
        for tiles in (plain, stained)
    )
    assert np.ptp(after, axis=0).max() < np.ptp(before, axis=0).max() / 5


def test_bad_slides_are_skipped_and_listed(
    folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Slides(root=folder, size=32, test_share=0.4, cache=cache)
    before = [everything(spec.with_split(split).open()) for split in ("train", "test")]
    (folder / "text.svs").write_text("no slide")
    (folder / "zero.ndpi").write_bytes(b"")
    full = (folder / "a.tif").read_bytes()
    (folder / "cut.tif").write_bytes(full[: len(full) // 2])
    (folder / "twin.tif").write_bytes(full)
    (folder / "linked.tif").symlink_to(folder / "linked.tif")
    (folder / ".hidden.tif").write_text("not looked at")
    capsys.readouterr()

    after = [spec.with_split(split).open() for split in ("train", "test")]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old[0], everything(new)[0])
    report = {
        entry["file"]: entry["wrong"]
        for entry in json.loads((after[0].folder / "report.json").read_text())
    }
    assert set(report) == {"cut.tif", "linked.tif", "text.svs", "twin.tif", "zero.ndpi"}
    assert report["twin.tif"] == "is the same slide as a.tif"
    assert all("cannot be opened" in why for file, why in report.items() if file != "twin.tif")
    message = capsys.readouterr().err
    assert message.count("slides: 5 of 10 slides left out; see ") == 2 and "report.json" in message
    with pytest.raises(DataError, match="cut.tif: cannot be opened as a slide") as caught:
        spec.model_copy(update={"on_bad": "refuse"}).open()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("level", [0, 2])
def test_damage_inside_a_slide(folder: Path, cache: Path, level: int) -> None:
    spec = Slides(root=folder, size=32, test_share=0.4, cache=cache)
    full = spec.open()
    test = everything(spec.with_split("test").open())
    number, file = max(full.files.items())
    broken(folder / file, level)
    actual = spec.open()
    (entry,) = json.loads((actual.folder / "report.json").read_text())
    assert entry["file"] == file and "is damaged near x" in entry["wrong"]
    # Other slides and the other split are unchanged.
    pixels, places = everything(full)
    others = places[:, 0] != number
    np.testing.assert_array_equal(everything(actual)[0], pixels[others])
    np.testing.assert_array_equal(everything(actual)[1], places[others])
    assert everything(spec.with_split("test").open())[0].tobytes() == test[0].tobytes()
    with pytest.raises(DataError, match="is damaged near x") as caught:
        spec.model_copy(update={"on_bad": "refuse"}).open()
    assert "\n" not in str(caught.value)


def test_the_content_hash_identifies_the_slides(folder: Path, cache: Path) -> None:
    spec = Slides(root=folder, size=32, most=10, cache=cache).with_content_hash()
    shifted = folder.rename(folder.with_name("moved"))
    elsewhere = Slides(root=shifted, size=32, most=10, cache=cache).with_content_hash()
    assert elsewhere.fingerprint() == spec.fingerprint()
    first = everything(elsewhere.open())
    again = everything(Slides(root=shifted, size=32, most=10, cache=cache).open())
    np.testing.assert_array_equal(first[0], again[0])
    write_slide(shifted / "a.tif", blot(9))
    assert (
        Slides(root=shifted, size=32, most=10).with_content_hash().fingerprint()
        != spec.fingerprint()
    )
    with pytest.raises(DataError, match="holds other slides"):
        elsewhere.open()
