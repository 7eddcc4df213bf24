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

from controlgen.base_config import runtime_field
from controlgen.datasets._tiling import normalize_stain_per_tile, resize
from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.base import DatasetConfig, content_identity
from controlgen.datasets.cache import cached_pixels, default_cache
from controlgen.errors import DataError
from controlgen.stains import AnyStain, NoStain
from controlgen.types import Pixels

ORIGINAL_SIDE, PADDED_SIDE = 28, 32  # 28-pixel images are padded to 32
CHUNK_BYTES = 1 << 21  # bytes of images unpacked, stain-normalised and resized at a time
MAX_LABEL_BYTES = 1 << 28  # bytes; a labels member that claims more is not read into memory
LOCAL_HEADER = 30  # bytes of a zip entry's header before its name (PKWARE appnote 4.3.7)
READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError)
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


class MedMNIST(DatasetConfig):
    """One MedMNIST npz file: grey (n h w) or RGB (n h w 3) images and one class each.

    Without `size`, 28x28 images are padded to 32x32 (grey with black, RGB by reflection, so that
    the margin is tissue) and others stay as stored. With a size, 28 to 32 is padded too, and
    anything else is resized (bicubic, antialiased). Stain is measured tile by tile, before either.

    The archive is never unpacked whole in memory: uncompressed images that need no change are
    memory-mapped in place; all others go through the cache once.
    """

    kind: Literal["medmnist"] = "medmnist"
    path: Path
    split: Literal["train", "val", "test"] = "train"
    size: int | None = Field(None, ge=8, le=1024, description="side of an image; none: as stored")
    stain: AnyStain = NoStain()
    content: str | None = Field(None, pattern="^[0-9a-f]{12}$")
    cache: Path | None = runtime_field(None)

    def identity(self) -> dict[str, Any]:
        """See `content_identity`; without a content hash, older fingerprints stay valid."""
        settings = super().identity()
        if self.content is None:
            del settings["content"]
        return content_identity(settings, "path", self.content, self.stain)

    def with_content_hash(self) -> "MedMNIST":
        """The same with `content` set: a hash (12 hex) of every member's name, length and CRC-32 in
        the archive's directory; archives are too large to be read whole.

        Raises DataError if the file is missing or not an archive.
        """
        with self._open_archive() as archive:
            return self.model_copy(update={"content": _content(archive)})

    def open(self) -> ArrayDataset:
        """Open the split. Raises DataError if the file is damaged or of an unfit form."""
        with self._open_archive() as archive:
            if self.content is not None and (content := _content(archive)) != self.content:
                raise DataError(
                    f"{self.path}: holds other images (content {content}) than expected "
                    f"({self.content}); bring those back or leave content out"
                )
            images = self._find_images(archive)
            labels = self._read_labels(archive, self.split, images.shape[0])
            names = self._find_class_names(archive, labels)
        side = images.shape[1]
        size = self.size or (PADDED_SIDE if side == ORIGINAL_SIDE else side)
        stored = images.entry.compress_type == zipfile.ZIP_STORED
        if stored and size == side and isinstance(self.stain, NoStain):
            pixels = self._map_images(images)
        else:
            pixels = self._prepare(images, size)
        return ArrayDataset(pixels, labels, names)

    @contextmanager
    def _open_archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except FileNotFoundError:
            raise DataError(f"{self.path}: no such file; name a MedMNIST npz") from None
        except READ_ERRORS as error:
            raise self._damage_error(error) from None

    def _find_images(self, archive: zipfile.ZipFile) -> Member:
        name = f"{self.split}_images"
        member, subject = self._find_member(archive, name), f"{self.path}: {name} is"
        shape = member.shape
        if member.dtype != np.uint8:
            raise DataError(f"{subject} {member.dtype}, not uint8; name a MedMNIST npz")
        if len(shape) > 4 or (len(shape) == 4 and shape[3] != 3):
            raise DataError(f"{subject} {shape}: volumes, not images; name a two-dimensional set")
        if len(shape) < 3 or shape[1] != shape[2] or not all(shape):
            raise DataError(f"{subject} {shape}, not (n, side, side) or (n, side, side, 3)")
        if len(shape) == 3 and not isinstance(self.stain, NoStain):
            raise DataError(f'{subject} grey and has no stain; set stain = {{ kind = "none" }}')
        return member

    def _read_labels(self, archive: zipfile.ZipFile, split: str, count: int) -> NDArray[np.int64]:
        name = f"{split}_labels"
        member, subject = self._find_member(archive, name), f"{self.path}: {name} is"
        if len(member.shape) == 2 and member.shape[1] > 1:
            raise DataError(
                f"{subject} {member.shape}: several labels per image; name a set with "
                "one class each"
            )
        if member.shape not in ((count,), (count, 1)) or member.dtype.kind not in "ui":
            raise DataError(
                f"{subject} {member.dtype} {member.shape}, not whole numbers ({count}, 1)"
            )
        if member.entry.file_size > MAX_LABEL_BYTES:
            raise DataError(f"{subject} {member.entry.file_size} bytes large; name a MedMNIST npz")
        with archive.open(member.entry) as opened:
            values = np.lib.format.read_array(opened, allow_pickle=False)
        labels = np.asarray(values, np.int64).reshape(count)
        if labels.min() < 0:
            raise DataError(f"{subject} partly negative; name a MedMNIST npz")
        return labels

    def _find_class_names(
        self, archive: zipfile.ZipFile, labels: NDArray[np.int64]
    ) -> tuple[str, ...]:
        for dataset, names in CLASS_NAMES.items():
            if self.path.stem.lower().split("_")[0] == dataset and labels.max() < len(names):
                return names
        # The training labels define the classes, so that every split has the same names.
        largest = int(labels.max())
        if "train_labels.npy" in archive.namelist():
            count = self._find_member(archive, "train_labels").shape[0]
            largest = max(largest, int(self._read_labels(archive, "train", count).max()))
        return tuple(str(number) for number in range(largest + 1))

    def _find_member(self, archive: zipfile.ZipFile, name: str) -> Member:
        try:
            entry = archive.getinfo(f"{name}.npy")
        except KeyError:
            raise DataError(f"{self.path}: holds no {name}; name a MedMNIST npz") from None
        if entry.flag_bits & 1:
            raise DataError(f"{self.path}: {name} is encrypted; save it without a password")
        with archive.open(entry) as opened:
            shape, in_columns, dtype = _header(opened)
            header = opened.tell()
        if dtype.hasobject:
            raise DataError(f"{self.path}: {name} holds Python objects, which are never loaded")
        if in_columns and len(shape) > 1 and shape[1:] != (1,):
            raise DataError(f"{self.path}: {name} is stored by columns; save it in C order")
        if entry.file_size != header + math.prod(shape) * dtype.itemsize:
            raise DataError(f"{self.path}: {name} has another length than its header says")
        return Member(entry, header, shape, dtype)

    def _map_images(self, images: Member) -> NDArray[np.uint8]:
        """The images (n c h w), memory-mapped inside the archive."""
        with self.path.open("rb") as opened:
            opened.seek(images.entry.header_offset)
            local = opened.read(LOCAL_HEADER)
        name, extra = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
        start = images.entry.header_offset + LOCAL_HEADER + name + extra + images.header
        try:
            mapped = np.memmap(self.path, np.uint8, "r", start, images.shape)
        except (OSError, ValueError) as error:
            raise self._damage_error(error) from None
        return _planes(mapped)

    def _prepare(self, images: Member, size: int) -> NDArray[np.uint8]:
        state = self.path.stat()
        identity = {
            "file": str(self.path.resolve()),
            "bytes": state.st_size,
            "mtime_ns": state.st_mtime_ns,
            "split": self.split,
            "size": size,
            "stain": self.stain.cache_identity(),
        }

        def produce(start: int) -> Iterator[Pixels]:
            for block in self._unpack(images, start):
                tiles = normalize_stain_per_tile(block, self.stain)
                small = tiles.shape[2] == ORIGINAL_SIDE and size == PADDED_SIDE
                yield _pad(tiles) if small else resize(tiles, size)

        shape = (3 if len(images.shape) == 4 else 1, size, size)
        cache = self.cache or default_cache()
        return cached_pixels(cache, self.kind, identity, images.shape[0], shape, produce)

    def _unpack(self, images: Member, start: int) -> Iterator[Pixels]:
        """Blocks (n c h w) from image `start` on, streamed; the archive's checksum is verified."""
        size = math.prod(images.shape[1:])
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(images.entry) as opened:
                # Read past the finished images: a seek would disable the checksum.
                for count in (images.header, *[size] * start):
                    opened.read(count)
                step = max(1, CHUNK_BYTES // size)
                for first in range(start, images.shape[0], step):
                    count = min(step, images.shape[0] - first)
                    block = np.frombuffer(opened.read(count * size), np.uint8)
                    yield _planes(block.reshape(count, *images.shape[1:]))
                opened.read(1)
        except READ_ERRORS as error:
            raise self._damage_error(error) from None

    def _damage_error(self, error: Exception) -> DataError:
        reason = " ".join(str(error).split())
        return DataError(f"{self.path}: damaged or not an npz file ({reason}); fetch it again")


def _content(archive: zipfile.ZipFile) -> str:
    entries = sorted((entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist())
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:12]


def _header(opened: Any) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(opened)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(opened)
    return np.lib.format.read_array_header_2_0(opened)


def _planes(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n h w) -> (n 1 h w), (n h w 3) -> (n 3 h w), without copying."""
    return stored[:, None] if stored.ndim == 3 else stored.transpose(0, 3, 1, 2)


def _pad(pixels: Pixels) -> NDArray[np.uint8]:
    """(n c 28 28) -> (n c 32 32): grey on black, RGB by reflection."""
    margin = (PADDED_SIDE - ORIGINAL_SIDE) // 2
    around = ((0, 0), (0, 0), (margin, margin), (margin, margin))
    if pixels.shape[1] == 1:
        return np.pad(pixels, around)
    return np.pad(pixels, around, mode="reflect")
