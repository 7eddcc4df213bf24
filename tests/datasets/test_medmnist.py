"""MedMNIST archives: every split as stored, padded, resized; unfit files."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from controlgen.datasets import MedMNIST
from controlgen.datasets import medmnist as medmnist_file
from controlgen.errors import DataError
from controlgen.stains import Macenko
from real_tissue import PICTURE, by_pillow, one_line, planes

PICKLED = np.array([{"a": 1}], dtype=object)
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
            actual, stored = spec.open(), members[f"{split}_images"]
            expected = planes(stored) if stored.ndim == 4 else stored[:, None]
            assert len(actual) == len(stored) and actual.image_shape == expected.shape[1:]
            np.testing.assert_array_equal(actual.pixels(np.arange(len(stored))), expected)
            labels = actual.labels(np.arange(len(stored)))
            np.testing.assert_array_equal(labels, members[f"{split}_labels"][:, 0])
            assert actual.class_names == ("0", "1", "2", "3")
        # Uncompressed images are memory-mapped.
        assert (tmp_path / "cache").exists() == (save is np.savez_compressed)

    @each_save
    @pytest.mark.parametrize("size", [None, 32])
    def test_28_is_padded_to_32(self, save: Save, size: int | None, tmp_path: Path) -> None:
        path = tmp_path / "some.npz"
        grey = med(path, (9, 28, 28), save)["train_images"]
        actual = MedMNIST(path=path, size=size, cache=tmp_path).open().pixels(np.arange(9))
        np.testing.assert_array_equal(actual[:, 0, 2:-2, 2:-2], grey)
        actual[:, :, 2:-2, 2:-2] = 0
        assert actual.shape == (9, 1, 32, 32) and not actual.any()
        path = tmp_path / "other.npz"
        rgb = planes(med(path, (9, 28, 28, 3), save)["train_images"])
        actual = MedMNIST(path=path, size=size, cache=tmp_path).open().pixels(np.arange(9))
        np.testing.assert_array_equal(actual[:, :, 2:-2, 2:-2], rgb)
        np.testing.assert_array_equal(actual[:, :, 0, 2:-2], rgb[:, :, 2])
        np.testing.assert_array_equal(actual[:, :, 2:-2, -1], rgb[:, :, :, -3])

    @each_save
    def test_another_size_is_resized(self, save: Save, tmp_path: Path) -> None:
        path = tmp_path / "some.npz"
        stored = med(path, (6, 64, 64, 3), save)["train_images"]
        actual = MedMNIST(path=path, size=32, cache=tmp_path).open().pixels(np.arange(6))
        np.testing.assert_array_equal(actual, np.stack([by_pillow(item, 32) for item in stored]))

    def test_stain_comes_before_the_padding(self, tmp_path: Path) -> None:
        tiles = np.stack([PICTURE[280 + 8 * i : 308 + 8 * i, 270:298] for i in range(4)])
        path, stain = tmp_path / "some.npz", Macenko()
        med(path, (4, 28, 28, 3), train_images=tiles)
        actual = MedMNIST(path=path, stain=stain, cache=tmp_path).open().pixels(np.arange(4))
        for item, tile in zip(actual, tiles, strict=True):
            full = planes(tile[None])
            painted = stain.apply(full, stain.measure(full))
            assert not np.array_equal(painted, full)
            np.testing.assert_array_equal(item[:, 2:-2, 2:-2], painted[0])

    def test_path_mnist_has_class_names(self, tmp_path: Path) -> None:
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
        actual = MedMNIST(path=path, cache=tmp_path).open()
        assert not actual.pixels(np.array([2_999])).any()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < images.nbytes / 2

    @each_save
    def test_unpacking_resumes_at_any_image(
        self, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "some.npz"
        expected = med(path, (30, 28, 28), save)["train_images"]
        monkeypatch.setattr(medmnist_file, "CHUNK_BYTES", 7 * 28 * 28)

        def from_every_start(*arguments: Any) -> NDArray[np.uint8]:
            produce: Callable[[int], Iterator[NDArray[np.uint8]]] = arguments[-1]
            for start in (1, 7, 29):
                actual = np.concatenate(list(produce(start)))
                np.testing.assert_array_equal(actual[:, 0, 2:-2, 2:-2], expected[start:])
            return np.concatenate(list(produce(0)))

        monkeypatch.setattr(medmnist_file, "cached_pixels", from_every_start)
        assert len(MedMNIST(path=path).open()) == 30

    @pytest.mark.parametrize(
        ("shape", "changes", "message"),
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
    def test_unfit_archives_are_refused(
        self, save: Save, shape: Any, changes: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "some.npz"
        med(path, shape, save, **changes)
        with pytest.raises(DataError, match=message) as caught:
            MedMNIST(path=path, cache=tmp_path).open()
        one_line(caught, path)

    def test_grey_has_no_stain(self, tmp_path: Path) -> None:
        path = tmp_path / "some.npz"
        med(path, (9, 28, 28))
        with pytest.raises(DataError, match="grey and has no stain"):
            MedMNIST(path=path, stain=Macenko(), cache=tmp_path).open()

    def test_a_wrong_header_is_refused(self, tmp_path: Path) -> None:
        path, buffer = tmp_path / "some.npz", io.BytesIO()
        np.save(buffer, np.zeros((9, 28, 28), np.uint8))
        labels = io.BytesIO()
        np.save(labels, np.zeros((9, 1), np.uint8))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("train_images.npy", buffer.getvalue().replace(b"(9,", b"(8,"))
            archive.writestr("train_labels.npy", labels.getvalue())
        with pytest.raises(DataError, match="another length than its header says"):
            MedMNIST(path=path, cache=tmp_path).open()

    @each_save
    def test_damage_is_detected(self, save: Save, tmp_path: Path) -> None:
        path = tmp_path / "some.npz"
        spec = MedMNIST(path=path, cache=tmp_path / "cache")
        with pytest.raises(DataError, match="no such file"):
            spec.open()
        path.write_bytes(b"no archive")
        with pytest.raises(DataError, match="damaged or not an npz") as caught:
            spec.open()
        one_line(caught, path)
        med(path, (40, 28, 28), save)
        full = path.read_bytes()
        path.write_bytes(full[: len(full) // 2])
        with pytest.raises(DataError, match="damaged or not an npz"):
            spec.open()
        # A flipped byte in the pixels: only the checksum detects it.
        broken = bytearray(full)
        broken[len(full) // 3] ^= 1
        path.write_bytes(broken)
        with pytest.raises(DataError, match="damaged or not an npz") as caught:
            spec.open()
        one_line(caught, path)
