"""PatchCamelyon's HDF5, MedMNIST's npz and the crops of scikit-image's picture."""

import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from controlgen.datasets import IHC, MedMNIST, PatchCamelyon
from controlgen.datasets import medmnist as medmnist_file
from controlgen.errors import DataError
from controlgen.stains import Macenko

h5py = pytest.importorskip("h5py", reason="controlgen[histology] is not installed")

PICTURE = np.asarray(data.immunohistochemistry())
PICKLED = np.array([{"a": 1}], dtype=object)


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


def planes(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return stored.transpose(0, 3, 1, 2)


def by_pillow(tile: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    picture = Image.fromarray(tile).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture).transpose(2, 0, 1)


def one_line(error: pytest.ExceptionInfo[DataError], path: Path) -> None:
    assert "\n" not in str(error.value) and str(path) in str(error.value)


class TestPatchCamelyon:
    @pytest.mark.parametrize("crop", [None, 32, 48])
    def test_tiles_by_any_indices(self, crop: int | None, tmp_path: Path) -> None:
        tiles = camelyon(tmp_path)
        spec = PatchCamelyon(root=tmp_path, crop=crop, size=crop or 96, cache=tmp_path / "cache")
        found = spec.open()
        assert len(found) == 20 and found.image_shape == (3, crop or 96, crop or 96)
        margin = (96 - (crop or 96)) // 2
        wanted = planes(tiles[:, margin : 96 - margin, margin : 96 - margin])
        for indices in ([7, 2, 7, 19, 0], [3, 4, 5], [-1], []):
            chosen = np.array(indices, np.int64)
            np.testing.assert_array_equal(found.pixels(chosen), wanted[chosen])
        with pytest.raises(IndexError):
            found.pixels(np.array([20]))
        # Nothing needed a change, so nothing was copied.
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize("crop", [None, 48])
    def test_resized_tiles_are_kept(self, crop: int | None, tmp_path: Path) -> None:
        tiles = camelyon(tmp_path)
        spec = PatchCamelyon(root=tmp_path, crop=crop, size=64, cache=tmp_path / "cache")
        found = spec.open().pixels(np.arange(20))
        window = slice(0, 96) if crop is None else slice(24, 72)
        wanted = [by_pillow(tile[window, window], 64) for tile in tiles]
        np.testing.assert_array_equal(found, np.stack(wanted))
        assert list((tmp_path / "cache").rglob("pixels.npy"))
        # Another file under the same name is prepared anew.
        camelyon(tmp_path, count=8)
        assert len(spec.open()) == 8

    def test_labels_classes_and_groups(self, tmp_path: Path) -> None:
        camelyon(tmp_path)
        for size in (96, 32):
            spec = PatchCamelyon(root=tmp_path, size=size, cache=tmp_path / "cache")
            found, everything = spec.open(), np.arange(20)
            np.testing.assert_array_equal(found.labels(everything), everything % 3 == 0)
            assert len(found.class_names) == 2
            groups = found.groups(everything)
            assert groups.dtype == np.int64 and len(np.unique(groups)) == 10
            np.testing.assert_array_equal(groups[::2], groups[1::2])
        (tmp_path / "camelyonpatch_level_2_split_train_meta.csv").unlink()
        np.testing.assert_array_equal(spec.open().groups(everything), everything)

    def test_stain_is_measured_tile_by_tile(self, tmp_path: Path) -> None:
        tiles, stain = camelyon(tmp_path, count=4), Macenko()
        spec = PatchCamelyon(root=tmp_path, size=48, stain=stain, cache=tmp_path / "cache")
        for found, tile in zip(spec.open().pixels(np.arange(4)), tiles, strict=True):
            whole = planes(tile[None])
            painted = stain.apply(whole, stain.measure(whole))[0].transpose(1, 2, 0)
            np.testing.assert_array_equal(found, by_pillow(painted, 48))

    def test_a_large_file_is_not_read(self, tmp_path: Path) -> None:
        # A million tiles (28 GB), none of them written: HDF5 keeps no space for those.
        count, stem = 1_000_000, tmp_path / "camelyonpatch_level_2_split_test"
        with h5py.File(f"{stem}_x.h5", "w") as opened:
            opened.create_dataset("x", (count, 96, 96, 3), "u1", chunks=(1, 96, 96, 3))
            opened["x"][count - 1] = 9
        with h5py.File(f"{stem}_y.h5", "w") as opened:
            opened.create_dataset("y", (count, 1, 1, 1), "u1")
        found = PatchCamelyon(root=tmp_path, split="test", size=96).open()
        assert len(found) == count
        read = found.pixels(np.array([count - 1, 5]))
        assert (read[0] == 9).all() and not read[1].any()

    def spoil(self, name: str, content: Any, root: Path, part: str = "x") -> Path:
        path = root / f"camelyonpatch_level_2_split_train_{part}.h5"
        with h5py.File(path, "w") as opened:
            opened[name] = content
        return path

    def refused(self, root: Path, path: Path, said: str) -> None:
        with pytest.raises(DataError, match=said) as caught:
            PatchCamelyon(root=root, size=96).open()
        one_line(caught, path)

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("images", np.zeros((20, 96, 96, 3), np.uint8), "holds no dataset x"),
            ("x/inner", np.zeros(3), "holds no dataset x"),
            ("x", np.zeros((20, 96, 96, 3), np.float32), "float32"),
            ("x", np.zeros((20, 3, 96, 96), np.uint8), r"\(20, 3, 96, 96\)"),
            ("x", np.zeros((20, 64, 64, 3), np.uint8), r"\(20, 64, 64, 3\)"),
            ("x", np.zeros((19, 96, 96, 3), np.uint8), r"y is uint8 \(20, 1, 1, 1\)"),
        ],
    )
    def test_another_form_is_refused(
        self, name: str, content: Any, said: str, tmp_path: Path
    ) -> None:
        camelyon(tmp_path)
        self.spoil(name, content, tmp_path)
        self.refused(tmp_path, tmp_path, said)

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
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        self.refused(tmp_path, path, "truncated or no HDF5 file")
        path.write_text("no HDF5 at all")
        self.refused(tmp_path, path, "truncated or no HDF5 file")
        path.unlink()
        self.refused(tmp_path, path, "no such file")
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(whole))
        self.refused(tmp_path, path, "run gunzip")

    def test_a_damaged_tile_is_one_line(self, tmp_path: Path) -> None:
        camelyon(tmp_path)
        path = tmp_path / "camelyonpatch_level_2_split_train_x.h5"
        with h5py.File(path) as opened:
            chunk = opened["x"].id.get_chunk_info(2)
        content = bytearray(path.read_bytes())
        content[chunk.byte_offset : chunk.byte_offset + 64] = bytes(64)
        path.write_bytes(content)
        found = PatchCamelyon(root=tmp_path, size=96).open()
        found.pixels(np.array([0]))
        with pytest.raises(DataError, match="tiles 9..9 cannot be read") as caught:
            found.pixels(np.array([9]))
        one_line(caught, path)

    @pytest.mark.parametrize("content", ["a,b\n1,2\n", "wsi\none\n"], ids=["column", "rows"])
    def test_a_meta_file_must_fit(self, content: str, tmp_path: Path) -> None:
        camelyon(tmp_path)
        path = tmp_path / "camelyonpatch_level_2_split_train_meta.csv"
        path.write_text(content)
        self.refused(tmp_path, path, "wsi|1 rows for 20 tiles")

    def test_without_h5py_the_extra_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        camelyon(tmp_path)
        monkeypatch.setitem(__import__("sys").modules, "h5py", None)
        self.refused(tmp_path, tmp_path, r"controlgen\[histology\]")


Save = Callable[..., None]
SAVES = [np.savez, np.savez_compressed]
each_save = pytest.mark.parametrize("save", SAVES, ids=["stored", "deflated"])


def med(
    path: Path, shape: tuple[int, ...], save: Save = np.savez, classes: int = 4, **changes: Any
) -> dict[str, Any]:
    """Write a MedMNIST-like npz of noise; keywords replace members (None leaves one out)."""
    rng = np.random.default_rng(3)
    members: dict[str, Any] = {}
    for split, count in (("train", shape[0]), ("val", 5), ("test", 7)):
        members[f"{split}_images"] = rng.integers(0, 256, (count, *shape[1:]), np.uint8)
        members[f"{split}_labels"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
    members = {name: value for name, value in (members | changes).items() if value is not None}
    save(path, **members)
    return members


class TestMedMNIST:
    @each_save
    @pytest.mark.parametrize("shape", [(30, 32, 32), (30, 64, 64, 3)], ids=["grey", "rgb"])
    def test_every_split_as_stored(self, save: Save, shape: Any, tmp_path: Path) -> None:
        path = tmp_path / "some.npz"
        members = med(path, shape, save)
        for split in ("train", "val", "test"):
            spec = MedMNIST(path=path, split=split, cache=tmp_path / "cache")
            found, stored = spec.open(), members[f"{split}_images"]
            wanted = planes(stored) if stored.ndim == 4 else stored[:, None]
            assert len(found) == len(stored) and found.image_shape == wanted.shape[1:]
            np.testing.assert_array_equal(found.pixels(np.arange(len(stored))), wanted)
            labels = found.labels(np.arange(len(stored)))
            np.testing.assert_array_equal(labels, members[f"{split}_labels"][:, 0])
            assert found.class_names == ("0", "1", "2", "3")
        # What is stored plainly is mapped where it lies.
        assert (tmp_path / "cache").exists() == (save is np.savez_compressed)

    @each_save
    @pytest.mark.parametrize("size", [None, 32])
    def test_28_is_padded_to_32(self, save: Save, size: int | None, tmp_path: Path) -> None:
        path = tmp_path / "some.npz"
        grey = med(path, (9, 28, 28), save)["train_images"]
        found = MedMNIST(path=path, size=size, cache=tmp_path).open().pixels(np.arange(9))
        np.testing.assert_array_equal(found[:, 0, 2:-2, 2:-2], grey)
        found[:, :, 2:-2, 2:-2] = 0
        assert found.shape == (9, 1, 32, 32) and not found.any()
        path = tmp_path / "other.npz"
        rgb = planes(med(path, (9, 28, 28, 3), save)["train_images"])
        found = MedMNIST(path=path, size=size, cache=tmp_path).open().pixels(np.arange(9))
        np.testing.assert_array_equal(found[:, :, 2:-2, 2:-2], rgb)
        np.testing.assert_array_equal(found[:, :, 0, 2:-2], rgb[:, :, 2])
        np.testing.assert_array_equal(found[:, :, 2:-2, -1], rgb[:, :, :, -3])

    @each_save
    def test_another_size_is_resized(self, save: Save, tmp_path: Path) -> None:
        path = tmp_path / "some.npz"
        stored = med(path, (6, 64, 64, 3), save)["train_images"]
        found = MedMNIST(path=path, size=32, cache=tmp_path).open().pixels(np.arange(6))
        np.testing.assert_array_equal(found, np.stack([by_pillow(one, 32) for one in stored]))

    def test_stain_comes_before_the_padding(self, tmp_path: Path) -> None:
        tiles = np.stack([PICTURE[280 + 8 * i : 308 + 8 * i, 270:298] for i in range(4)])
        path, stain = tmp_path / "some.npz", Macenko()
        med(path, (4, 28, 28, 3), train_images=tiles)
        found = MedMNIST(path=path, stain=stain, cache=tmp_path).open().pixels(np.arange(4))
        for one, tile in zip(found, tiles, strict=True):
            whole = planes(tile[None])
            painted = stain.apply(whole, stain.measure(whole))
            assert not np.array_equal(painted, whole)
            np.testing.assert_array_equal(one[:, 2:-2, 2:-2], painted[0])

    def test_path_mnist_has_names(self, tmp_path: Path) -> None:
        path = tmp_path / "pathmnist_64.npz"
        med(path, (9, 64, 64, 3), classes=9)
        names = MedMNIST(path=path).open().class_names
        assert len(names) == 9 and names[3] == "lymphocytes"

    @each_save
    def test_memory_is_bounded(self, save: Save, tmp_path: Path) -> None:
        path, images = tmp_path / "some.npz", np.zeros((3_000, 64, 64, 3), np.uint8)
        labels = np.zeros((3_000, 1), np.uint8)
        save(path, train_images=images, train_labels=labels)
        tracemalloc.start()
        found = MedMNIST(path=path, cache=tmp_path).open()
        assert not found.pixels(np.array([2_999])).any()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < images.nbytes / 2

    @each_save
    def test_unpacking_goes_on_from_any_image(
        self, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "some.npz"
        wanted = med(path, (30, 28, 28), save)["train_images"]
        monkeypatch.setattr(medmnist_file, "BLOCK", 7 * 28 * 28)

        def from_every_start(*arguments: Any) -> NDArray[np.uint8]:
            produce: Callable[[int], Iterator[NDArray[np.uint8]]] = arguments[-1]
            for start in (1, 7, 29):
                found = np.concatenate(list(produce(start)))
                np.testing.assert_array_equal(found[:, 0, 2:-2, 2:-2], wanted[start:])
            return np.concatenate(list(produce(0)))

        monkeypatch.setattr(medmnist_file, "prepared", from_every_start)
        assert len(MedMNIST(path=path).open()) == 30

    @pytest.mark.parametrize(
        ("shape", "changes", "said"),
        [
            ((9, 28, 28, 28), {}, "volumes"),
            ((9, 28, 28, 28, 3), {}, "volumes"),
            ((9, 28, 32), {}, "not .n, side, side"),
            ((9, 28), {}, "not .n, side, side"),
            ((9, 28, 28), {"train_labels": np.zeros((9, 14), np.uint8)}, "several labels"),
            ((9, 28, 28), {"train_labels": np.zeros((8, 1), np.uint8)}, "not whole numbers"),
            ((9, 28, 28), {"train_labels": np.zeros((9, 1))}, "not whole numbers"),
            ((9, 28, 28), {"train_labels": np.full((9, 1), -1)}, "negative"),
            ((9, 28, 28), {"train_labels": None}, "holds no train_labels"),
            ((9, 28, 28), {"train_images": None}, "holds no train_images"),
            ((9, 28, 28), {"train_images": np.zeros((9, 28, 28))}, "float64, not uint8"),
            ((9, 28, 28), {"train_images": PICKLED}, "never loaded"),
            ((9, 28, 28), {"train_labels": PICKLED}, "never loaded"),
            ((0, 28, 28), {}, "not .n, side, side"),
            ((9, 28, 28), {"train_images": np.zeros((28, 28, 9), np.uint8).T}, "by columns"),
        ],
    )
    @each_save
    def test_another_form_is_refused(
        self, save: Save, shape: Any, changes: dict[str, Any], said: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "some.npz"
        med(path, shape, save, **changes)
        with pytest.raises(DataError, match=said) as caught:
            MedMNIST(path=path, cache=tmp_path).open()
        one_line(caught, path)

    def test_grey_has_no_stain(self, tmp_path: Path) -> None:
        path = tmp_path / "some.npz"
        med(path, (9, 28, 28))
        with pytest.raises(DataError, match="grey and has no stain"):
            MedMNIST(path=path, stain=Macenko(), cache=tmp_path).open()

    def test_a_header_that_lies_is_refused(self, tmp_path: Path) -> None:
        path, buffer = tmp_path / "some.npz", io.BytesIO()
        np.save(buffer, np.zeros((9, 28, 28), np.uint8))
        labels = io.BytesIO()
        np.save(labels, np.zeros((9, 1), np.uint8))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("train_images.npy", buffer.getvalue().replace(b"(9,", b"(8,"))
            archive.writestr("train_labels.npy", labels.getvalue())
        with pytest.raises(DataError, match="not as long as it says"):
            MedMNIST(path=path, cache=tmp_path).open()

    @each_save
    def test_damage_is_found(self, save: Save, tmp_path: Path) -> None:
        path = tmp_path / "some.npz"
        spec = MedMNIST(path=path, cache=tmp_path / "cache")
        with pytest.raises(DataError, match="no such file"):
            spec.open()
        path.write_bytes(b"no archive")
        with pytest.raises(DataError, match="damaged or no npz") as caught:
            spec.open()
        one_line(caught, path)
        med(path, (40, 28, 28), save)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="damaged or no npz"):
            spec.open()
        # One byte in the middle of the pixels: only the checksum tells.
        broken = bytearray(whole)
        broken[len(whole) // 3] ^= 1
        path.write_bytes(broken)
        with pytest.raises(DataError, match="damaged or no npz") as caught:
            spec.open()
        one_line(caught, path)


class TestIHC:
    def crops(self, split: Literal["train", "test"], **settings: Any) -> NDArray[np.uint8]:
        found = IHC(split=split, **settings).open()
        return found.pixels(np.arange(len(found)))

    def test_no_pixel_is_in_both_splits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A picture that says where each pixel is: row and column / 2, and the quarter.
        rows, columns = np.indices((512, 512))
        marked = np.stack([rows // 2, columns // 2, 255 * ((rows < 256) & (columns >= 256))], 2)
        monkeypatch.setattr(data, "immunohistochemistry", lambda: marked.astype(np.uint8))
        for size, stride, scales in ((32, 8, (1, 2, 3)), (24, 5, (1, 4)), (64, 16, (2,))):
            settings = {"size": size, "stride": stride, "scales": scales}
            # Red and green vary within each crop, so that none is taken for glass.
            monkeypatch.setattr("controlgen.datasets.ihc.LEAST_SPREAD", 0)
            assert not self.crops("train", **settings)[:, 2].any()
            assert (self.crops("test", **settings)[:, 2] == 255).all()

    def test_a_scale_averages_squares(self) -> None:
        for scale in (1, 2, 4):
            crops = self.crops("test", size=32, stride=8, scales=(scale,))
            quarter = PICTURE[: 32 * scale, 256 : 256 + 32 * scale].transpose(2, 0, 1)
            wanted = quarter.reshape(3, 32, scale, 32, scale).mean((2, 4))
            assert np.abs(crops[0] - wanted).max() <= 0.5

    def test_thousands_of_crops_at_two_scales(self) -> None:
        train, test = IHC().open(), IHC(split="test").open()
        assert len(train) > 10_000 and len(test) > 3_000
        assert train.image_shape == test.image_shape == (3, 32, 32)
        groups = {*train.groups(np.arange(len(train)))}, {*test.groups(np.arange(len(test)))}
        assert groups == ({0}, {1})
        with pytest.raises(DataError, match="no classes"):
            train.labels(np.array([0]))

    def test_glass_is_left_out(self) -> None:
        # The lumen at the left edge, rows 300 to 400, is bare glass.
        assert PICTURE[320:352, :32].std() < 8
        crops = self.crops("train", scales=(1,))
        glass = PICTURE[320:352, :32].transpose(2, 0, 1)
        assert not (crops == glass).all((1, 2, 3)).any()
        assert (crops.reshape(len(crops), -1).std(1) >= 8).all()

    def test_stain_is_learned_from_the_training_part(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = {"stain": Macenko(), "stride": 32, "scales": (1,)}
        before, plain = self.crops("train", **settings), self.crops("train", stride=32, scales=(1,))
        assert not np.array_equal(before[:9], plain[:9])
        # Another test quarter changes nothing of what is trained on.
        other = PICTURE.copy()
        other[:256, 256:] = 255 - other[:256, 256:]
        monkeypatch.setattr(data, "immunohistochemistry", lambda: other)
        np.testing.assert_array_equal(self.crops("train", **settings), before)

    def test_too_large_is_one_line(self) -> None:
        with pytest.raises(DataError, match="no crop of 256 pixels"):
            IHC(size=256, split="test", scales=(2,)).open()
