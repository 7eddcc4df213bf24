"""MedMNIST v2 (Yang et al., Scientific Data 2023): any of its two-dimensional sets, one npz."""

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from controlgen.base_config import BaseConfig, runtime_field
from controlgen.datasets._content_hash import pinned_identity
from controlgen.datasets._tiles import resized, stained_each
from controlgen.datasets.arrays import ArrayImages
from controlgen.datasets.cache import prepared
from controlgen.datasets.mnist_files import default_cache
from controlgen.errors import DataError
from controlgen.stains import AnyStain, NoStain
from controlgen.types import Pixels

SMALL, PADDED = 28, 32  # the original side, and what it is padded to
BLOCK = 1 << 21  # bytes of images unpacked, stained and resized at a time
LARGEST_LABELS = 1 << 28  # bytes; a labels member that claims more is not read into memory
LOCAL_HEADER = 30  # bytes of a zip entry's header before its name (PKWARE appnote 4.3.7)
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError)
CLASS_NAMES = {
    "pathmnist": (
        "adipose",
        "background",
        "debris",
        "lymphocytes",
        "mucus",
        "smooth muscle",
        "normal colon mucosa",
        "cancer-associated stroma",
        "colorectal adenocarcinoma epithelium",
    )
}


class Member(NamedTuple):
    """An npy array inside the npz."""

    entry: zipfile.ZipInfo
    header: int  # bytes before the first value
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


class MedMNIST(BaseConfig):
    """One MedMNIST npz file: grey (n h w) or RGB (n h w 3) images and one class each.

    At `size` none, 28x28 images are padded to 32x32 (grey with black, RGB by reflection, which is
    tissue again) and others stay as stored. With a size, 28 to 32 is padded too, and anything else
    is resized (bicubic, antialiased). Stain is measured tile by tile, before either.

    The archive is never unpacked whole in memory: images that are stored plainly and need no
    change are mapped where they lie in the file; all others go through the cache once.
    """

    kind: Literal["medmnist"] = "medmnist"
    path: Path
    split: Literal["train", "val", "test"] = "train"
    size: int | None = Field(None, ge=8, le=1024, description="side of an image; none: as stored")
    stain: AnyStain = NoStain()
    content: str | None = Field(None, pattern="^[0-9a-f]{12}$")
    cache: Path | None = runtime_field(None)

    def identity(self) -> dict[str, Any]:
        """See `pinned_identity`; data that is not pinned has the name it had before it could be."""
        kept = super().identity()
        if self.content is None:
            del kept["content"]
        return pinned_identity(kept, "path", self.content, self.stain)

    def pinned(self) -> "MedMNIST":
        """The same with `content` set: a digest (12 hex) of every member's name, length and CRC-32
        as the archive tells them; archives are too large to be read whole.

        Raises DataError where the file is missing or no archive.
        """
        with self._archive() as archive:
            return self.model_copy(update={"content": _content(archive)})

    def open(self) -> ArrayImages:
        """Open the split. Raises DataError where the file is damaged or of an unfit form."""
        with self._archive() as archive:
            if self.content is not None and (found := _content(archive)) != self.content:
                raise DataError(
                    f"{self.path}: holds other images (content {found}) than the ones asked for "
                    f"({self.content}); bring those back or leave content out"
                )
            images = self._images(archive)
            labels = self._labels(archive, self.split, images.shape[0])
            names = self._class_names(archive, labels)
        side = images.shape[1]
        size = self.size or (PADDED if side == SMALL else side)
        stored = images.entry.compress_type == zipfile.ZIP_STORED
        if stored and size == side and isinstance(self.stain, NoStain):
            pixels = self._mapped(images)
        else:
            pixels = self._prepared(images, size)
        return ArrayImages(pixels, labels, names)

    def judging(self, split: Literal["train", "test"]) -> "MedMNIST":
        """The same source at the named split, for judges."""
        return self.model_copy(update={"split": split})

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except FileNotFoundError:
            raise DataError(f"{self.path}: no such file; name a MedMNIST npz") from None
        except DAMAGED as error:
            raise self._damaged(error) from None

    def _images(self, archive: zipfile.ZipFile) -> Member:
        name = f"{self.split}_images"
        member, found = self._member(archive, name), f"{self.path}: {name} is"
        shape = member.shape
        if member.dtype != np.uint8:
            raise DataError(f"{found} {member.dtype}, not uint8; name a MedMNIST npz")
        if len(shape) > 4 or (len(shape) == 4 and shape[3] != 3):
            raise DataError(f"{found} {shape}: volumes, not images; name a two-dimensional set")
        if len(shape) < 3 or shape[1] != shape[2] or not all(shape):
            raise DataError(f"{found} {shape}, not (n, side, side) or (n, side, side, 3)")
        if len(shape) == 3 and not isinstance(self.stain, NoStain):
            raise DataError(f'{found} grey and has no stain; set stain = {{ kind = "none" }}')
        return member

    def _labels(self, archive: zipfile.ZipFile, split: str, count: int) -> NDArray[np.int64]:
        name = f"{split}_labels"
        member, found = self._member(archive, name), f"{self.path}: {name} is"
        if len(member.shape) == 2 and member.shape[1] > 1:
            raise DataError(
                f"{found} {member.shape}: several labels an image; name a set with one class each"
            )
        if member.shape not in ((count,), (count, 1)) or member.dtype.kind not in "ui":
            raise DataError(
                f"{found} {member.dtype} {member.shape}, not whole numbers ({count}, 1)"
            )
        if member.entry.file_size > LARGEST_LABELS:
            raise DataError(f"{found} {member.entry.file_size} bytes large; name a MedMNIST npz")
        with archive.open(member.entry) as opened:
            values = np.lib.format.read_array(opened, allow_pickle=False)
        labels = np.asarray(values, np.int64).reshape(count)
        if labels.min() < 0:
            raise DataError(f"{found} negative in places; name a MedMNIST npz")
        return labels

    def _class_names(self, archive: zipfile.ZipFile, labels: NDArray[np.int64]) -> tuple[str, ...]:
        for known, names in CLASS_NAMES.items():
            if self.path.stem.lower().split("_")[0] == known and labels.max() < len(names):
                return names
        # The training labels count the classes, so that every split has the same names.
        most = int(labels.max())
        if "train_labels.npy" in archive.namelist():
            count = self._member(archive, "train_labels").shape[0]
            most = max(most, int(self._labels(archive, "train", count).max()))
        return tuple(str(number) for number in range(most + 1))

    def _member(self, archive: zipfile.ZipFile, name: str) -> Member:
        try:
            entry = archive.getinfo(f"{name}.npy")
        except KeyError:
            raise DataError(f"{self.path}: holds no {name}; name a MedMNIST npz") from None
        if entry.flag_bits & 1:
            raise DataError(f"{self.path}: {name} is encrypted; unpack it and save it plainly")
        with archive.open(entry) as opened:
            shape, in_columns, dtype = _header(opened)
            header = opened.tell()
        if dtype.hasobject:
            raise DataError(f"{self.path}: {name} holds Python objects, which are never loaded")
        if in_columns and len(shape) > 1 and shape[1:] != (1,):
            raise DataError(f"{self.path}: {name} is stored by columns; save it in C order")
        if entry.file_size != header + math.prod(shape) * dtype.itemsize:
            raise DataError(f"{self.path}: {name} is not as long as it says; fetch it again")
        return Member(entry, header, shape, dtype)

    def _mapped(self, images: Member) -> NDArray[np.uint8]:
        """The images where they lie in the file, as (n c h w)."""
        with self.path.open("rb") as opened:
            opened.seek(images.entry.header_offset)
            local = opened.read(LOCAL_HEADER)
        name, extra = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
        start = images.entry.header_offset + LOCAL_HEADER + name + extra + images.header
        try:
            found = np.memmap(self.path, np.uint8, "r", start, images.shape)
        except (OSError, ValueError) as error:
            raise self._damaged(error) from None
        return _planes(found)

    def _prepared(self, images: Member, size: int) -> NDArray[np.uint8]:
        state = self.path.stat()
        identity = {
            "file": str(self.path.resolve()),
            "bytes": state.st_size,
            "mtime_ns": state.st_mtime_ns,
            "split": self.split,
            "size": size,
            "stain": self.stain.content(),
        }

        def produce(start: int) -> Iterator[Pixels]:
            for block in self._unpacked(images, start):
                tiles = stained_each(block, self.stain)
                small = tiles.shape[2] == SMALL and size == PADDED
                yield _padded(tiles) if small else resized(tiles, size)

        shape = (3 if len(images.shape) == 4 else 1, size, size)
        where = self.cache or default_cache()
        return prepared(where, self.kind, identity, images.shape[0], shape, produce)

    def _unpacked(self, images: Member, start: int) -> Iterator[Pixels]:
        """Blocks (n c h w) from image `start` on, streamed; the archive's checksum is verified."""
        one = math.prod(images.shape[1:])
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(images.entry) as opened:
                # Read over what is done already: a seek would give up the checksum.
                for count in (images.header, *[one] * start):
                    opened.read(count)
                step = max(1, BLOCK // one)
                for first in range(start, images.shape[0], step):
                    count = min(step, images.shape[0] - first)
                    block = np.frombuffer(opened.read(count * one), np.uint8)
                    yield _planes(block.reshape(count, *images.shape[1:]))
                opened.read(1)
        except DAMAGED as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> DataError:
        said = " ".join(str(error).split())
        return DataError(f"{self.path}: damaged or no npz file ({said}); fetch it again")


def _content(archive: zipfile.ZipFile) -> str:
    told = sorted((entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist())
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def _header(opened: Any) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(opened)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(opened)
    return np.lib.format.read_array_header_2_0(opened)


def _planes(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n h w) -> (n 1 h w), (n h w 3) -> (n 3 h w), without copying."""
    return stored[:, None] if stored.ndim == 3 else stored.transpose(0, 3, 1, 2)


def _padded(pixels: Pixels) -> NDArray[np.uint8]:
    """(n c 28 28) -> (n c 32 32): grey on black, RGB by reflection."""
    margin = (PADDED - SMALL) // 2
    around = ((0, 0), (0, 0), (margin, margin), (margin, margin))
    if pixels.shape[1] == 1:
        return np.pad(pixels, around)
    return np.pad(pixels, around, mode="reflect")
