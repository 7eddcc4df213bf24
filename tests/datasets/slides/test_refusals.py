"""Slides without tiles are refused in one line with a remedy."""

import sys
from pathlib import Path

import numpy as np
import pytest

from controlgen.datasets.slides.dataset import Slides
from controlgen.errors import DataError
from slide_files import blot, everything, glass, write_slide


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_white_slide(tmp_path: Path, cache: Path) -> None:
    write_slide(tmp_path / "white.tif", glass(512, 1024))
    for on_bad in ("skip", "refuse"):
        with pytest.raises(DataError, match="shows no tissue") as caught:
            Slides(root=tmp_path / "white.tif", on_bad=on_bad, cache=cache).open()
        assert "\n" not in str(caught.value)
    # With tissue = 0 glass is cut too.
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
    text = write_slide(tmp_path / "told.tif", blot())
    # The slide's own value takes precedence over the assumption.
    expected = everything(Slides(root=text, assume_mpp=0.1, cache=cache).open())
    np.testing.assert_array_equal(pixels, expected[0])
    np.testing.assert_array_equal(places, expected[1])


def test_detail_is_not_invented(tmp_path: Path, cache: Path) -> None:
    path = write_slide(tmp_path / "s.tif", blot())
    with pytest.raises(DataError, match=r"finest level has 0\.5 microns.*set mpp = 0\.5 or more"):
        Slides(root=path, mpp=0.25, cache=cache).open()


def test_a_folder_without_slides(tmp_path: Path, cache: Path) -> None:
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
