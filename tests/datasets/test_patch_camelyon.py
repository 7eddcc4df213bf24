"""PatchCamelyon's HDF5 files: tiles as published, resized or restained; unfit files."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from controlgen.datasets import PatchCamelyon
from controlgen.errors import DataError
from controlgen.stains import Macenko
from real_tissue import PICTURE, by_pillow, one_line, planes

h5py = pytest.importorskip("h5py", reason="controlgen[histology] is not installed")


def camelyon(root: Path, split: str = "train", count: int = 20) -> NDArray[np.uint8]:
    """Write a split of real crops (n 96 96 3), every third labelled tumour, two tiles a slide."""
    rng = np.random.default_rng(7)
    places = rng.integers(0, 512 - 96, (count, 2))
    tiles = np.stack([PICTURE[y : y + 96, x : x + 96] for y, x in places])
    labels = (np.arange(count) % 3 == 0).astype(np.uint8).reshape(-1, 1, 1, 1)
    stem = root / f"camelyonpatch_level_2_split_{split}"
    with h5py.File(f"{stem}_x.h5", "w") as opened:
        opened.create_dataset("x", data=tiles, chunks=(4, 96, 96, 3), compression="gzip")
    with h5py.File(f"{stem}_y.h5", "w") as opened:
        opened["y"] = labels
    lines = [f"{i},{i},False,True,slide_{9 - i // 2 % 10}" for i in range(count)]
    header = "coord_y,coord_x,tumor_patch,center_tumor_patch,wsi"
    Path(f"{stem}_meta.csv").write_text("\n".join([header, *lines]) + "\n")
    return tiles


class TestPatchCamelyon:
    @pytest.mark.parametrize("crop", [None, 32, 48])
    def test_tiles_by_any_indices(self, crop: int | None, tmp_path: Path) -> None:
        tiles = camelyon(tmp_path)
        spec = PatchCamelyon(root=tmp_path, crop=crop, size=crop or 96, cache=tmp_path / "cache")
        actual = spec.open()
        assert len(actual) == 20 and actual.image_shape == (3, crop or 96, crop or 96)
        margin = (96 - (crop or 96)) // 2
        expected = planes(tiles[:, margin : 96 - margin, margin : 96 - margin])
        for indices in ([7, 2, 7, 19, 0], [3, 4, 5], [-1], []):
            chosen = np.array(indices, np.int64)
            np.testing.assert_array_equal(actual.pixels(chosen), expected[chosen])
        with pytest.raises(IndexError):
            actual.pixels(np.array([20]))
        # Unchanged tiles are not copied.
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize("crop", [None, 48])
    def test_resized_tiles_are_cached(self, crop: int | None, tmp_path: Path) -> None:
        tiles = camelyon(tmp_path)
        spec = PatchCamelyon(root=tmp_path, crop=crop, size=64, cache=tmp_path / "cache")
        actual = spec.open().pixels(np.arange(20))
        window = slice(0, 96) if crop is None else slice(24, 72)
        expected = [by_pillow(tile[window, window], 64) for tile in tiles]
        np.testing.assert_array_equal(actual, np.stack(expected))
        assert list((tmp_path / "cache").rglob("pixels.npy"))
        # A replaced file is prepared again.
        camelyon(tmp_path, count=8)
        assert len(spec.open()) == 8

    def test_labels_classes_and_groups(self, tmp_path: Path) -> None:
        camelyon(tmp_path)
        for size in (96, 32):
            spec = PatchCamelyon(root=tmp_path, size=size, cache=tmp_path / "cache")
            actual, everything = spec.open(), np.arange(20)
            np.testing.assert_array_equal(actual.labels(everything), everything % 3 == 0)
            assert len(actual.class_names) == 2
            groups = actual.groups(everything)
            assert groups.dtype == np.int64 and len(np.unique(groups)) == 10
            np.testing.assert_array_equal(groups[::2], groups[1::2])
        (tmp_path / "camelyonpatch_level_2_split_train_meta.csv").unlink()
        np.testing.assert_array_equal(spec.open().groups(everything), everything)

    def test_stain_is_measured_tile_by_tile(self, tmp_path: Path) -> None:
        tiles, stain = camelyon(tmp_path, count=4), Macenko()
        spec = PatchCamelyon(root=tmp_path, size=48, stain=stain, cache=tmp_path / "cache")
        for actual, tile in zip(spec.open().pixels(np.arange(4)), tiles, strict=True):
            full = planes(tile[None])
            painted = stain.apply(full, stain.measure(full))[0].transpose(1, 2, 0)
            np.testing.assert_array_equal(actual, by_pillow(painted, 48))

    def test_a_large_file_is_not_read(self, tmp_path: Path) -> None:
        # A million tiles (28 GB) in a sparse HDF5 file.
        count, stem = 1_000_000, tmp_path / "camelyonpatch_level_2_split_test"
        with h5py.File(f"{stem}_x.h5", "w") as opened:
            opened.create_dataset("x", (count, 96, 96, 3), "u1", chunks=(1, 96, 96, 3))
            opened["x"][count - 1] = 9
        with h5py.File(f"{stem}_y.h5", "w") as opened:
            opened.create_dataset("y", (count, 1, 1, 1), "u1")
        actual = PatchCamelyon(root=tmp_path, split="test", size=96).open()
        assert len(actual) == count
        read = actual.pixels(np.array([count - 1, 5]))
        assert (read[0] == 9).all() and not read[1].any()

    def spoil(self, name: str, content: Any, root: Path, part: str = "x") -> Path:
        path = root / f"camelyonpatch_level_2_split_train_{part}.h5"
        with h5py.File(path, "w") as opened:
            opened[name] = content
        return path

    def refused(self, root: Path, path: Path, message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            PatchCamelyon(root=root, size=96).open()
        one_line(caught, path)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("images", np.zeros((20, 96, 96, 3), np.uint8), "holds no dataset x"),
            ("x/inner", np.zeros(3), "holds no dataset x"),
            ("x", np.zeros((20, 96, 96, 3), np.float32), "float32"),
            ("x", np.zeros((20, 3, 96, 96), np.uint8), r"\(20, 3, 96, 96\)"),
            ("x", np.zeros((20, 64, 64, 3), np.uint8), r"\(20, 64, 64, 3\)"),
            ("x", np.zeros((19, 96, 96, 3), np.uint8), r"y is uint8 \(20, 1, 1, 1\)"),
        ],
    )
    def test_unfit_files_are_refused(
        self, name: str, content: Any, message: str, tmp_path: Path
    ) -> None:
        camelyon(tmp_path)
        self.spoil(name, content, tmp_path)
        self.refused(tmp_path, tmp_path, message)

    def test_labels_must_be_two_classes(self, tmp_path: Path) -> None:
        camelyon(tmp_path)
        path = self.spoil("y", np.full((20, 1, 1, 1), 2, np.uint8), tmp_path, "y")
        self.refused(tmp_path, path, "labels other than 0 and 1")
        path = self.spoil("y", np.zeros((20, 1, 1, 1)), tmp_path, "y")
        self.refused(tmp_path, path, "not whole numbers")

    @pytest.mark.parametrize("part", ["x", "y"])
    def test_missing_packed_and_truncated(self, part: str, tmp_path: Path) -> None:
        camelyon(tmp_path)
        path = tmp_path / f"camelyonpatch_level_2_split_train_{part}.h5"
        full = path.read_bytes()
        path.write_bytes(full[: len(full) // 2])
        self.refused(tmp_path, path, "truncated or not HDF5")
        path.write_text("no HDF5 at all")
        self.refused(tmp_path, path, "truncated or not HDF5")
        path.unlink()
        self.refused(tmp_path, path, "no such file")
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(full))
        self.refused(tmp_path, path, "run gunzip")

    def test_a_damaged_tile_is_one_line(self, tmp_path: Path) -> None:
        camelyon(tmp_path)
        path = tmp_path / "camelyonpatch_level_2_split_train_x.h5"
        with h5py.File(path) as opened:
            chunk = opened["x"].id.get_chunk_info(2)
        content = bytearray(path.read_bytes())
        content[chunk.byte_offset : chunk.byte_offset + 64] = bytes(64)
        path.write_bytes(content)
        actual = PatchCamelyon(root=tmp_path, size=96).open()
        actual.pixels(np.array([0]))
        with pytest.raises(DataError, match="tiles 9..9 cannot be read") as caught:
            actual.pixels(np.array([9]))
        one_line(caught, path)

    @pytest.mark.parametrize("content", ["a,b\n1,2\n", "wsi\none\n"], ids=["column", "rows"])
    def test_a_meta_file_must_fit(self, content: str, tmp_path: Path) -> None:
        camelyon(tmp_path)
        path = tmp_path / "camelyonpatch_level_2_split_train_meta.csv"
        path.write_text(content)
        self.refused(tmp_path, path, "wsi|1 rows for 20 tiles")

    def test_without_h5py_the_error_names_the_extra(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        camelyon(tmp_path)
        monkeypatch.setitem(__import__("sys").modules, "h5py", None)
        self.refused(tmp_path, tmp_path, r"controlgen\[histology\]")
