"""PatchCamelyon (Veeling et al., MICCAI 2018): 327 680 lymph node tiles of 96x96 in HDF5 files."""

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from controlgen.base_config import runtime_field
from controlgen.datasets._tiling import normalize_stain_per_tile, resize
from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.base import DatasetConfig, content_identity
from controlgen.datasets.cache import cached_pixels, default_cache
from controlgen.datasets.folder._listing import sampled_sha256
from controlgen.errors import DataError
from controlgen.stains import AnyStain, NoStain
from controlgen.types import Indices, Pixels, Shape

SIDE = 96  # pixels of a tile; the label refers to its central 32
CHUNK_TILES = 256  # tiles read, stain-normalised and resized at a time
FILE_NAME = "camelyonpatch_level_2_split_{split}_{part}"
CLASS_NAMES = ("no tumour in the centre", "tumour in the centre")


class HDF5Tiles:
    """Tiles (n 96 96 3) of an open HDF5 file, read on access and centre-cropped."""

    def __init__(
        self,
        stored: Any,
        crop: int,
        labels: NDArray[np.int64],
        groups: NDArray[np.int64] | None,
    ) -> None:
        self._stored = stored
        self._crop = crop
        self._labels = labels
        self._rows = np.arange(len(labels))
        self._groups = self._rows if groups is None else groups

    @property
    def image_shape(self) -> Shape:
        """(3, crop, crop)."""
        return (3, self._crop, self._crop)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class by its label."""
        return CLASS_NAMES

    def __len__(self) -> int:
        return len(self._rows)

    def pixels(self, indices: Indices) -> Pixels:
        """Pixels (n 3 crop crop). Raises IndexError beyond the last, DataError where damaged."""
        # HDF5 requires increasing, unique rows; the result is put in order afterwards.
        unique, inverse = np.unique(self._rows[indices], return_inverse=True)
        if not len(unique):
            return np.empty((0, *self.image_shape), np.uint8)
        first, last = int(unique[0]), int(unique[-1])
        rows = slice(first, last + 1) if last - first + 1 == len(unique) else unique
        margin = (SIDE - self._crop) // 2
        window = slice(margin, margin + self._crop)
        try:
            tiles = self._stored[rows, window, window]
        except OSError as error:
            raise DataError(
                f"{self._stored.file.filename}: tiles {first}..{last} cannot be read "
                f"({error}); fetch the file again"
            ) from None
        return np.ascontiguousarray(tiles[inverse].transpose(0, 3, 1, 2))

    def labels(self, indices: Indices) -> NDArray[np.int64]:
        """1 where the central 32 pixels hold tumour, else 0; for judges only."""
        return np.array(self._labels[indices])

    def groups(self, indices: Indices) -> NDArray[np.int64]:
        """Number of each tile's slide; without the meta file each tile is its own source."""
        return np.array(self._groups[indices])


class PatchCamelyon(DatasetConfig):
    """A folder with `camelyonpatch_level_2_split_<split>_x.h5`, `..._y.h5` and, optionally,
    `..._meta.csv` (its `wsi` column gives the groups).

    Tiles are the full 96 pixels or a central `crop`, resized to `size` (bicubic, antialiased).
    Stain is measured tile by tile, before resizing. Tiles that need no change are read from the
    file on access; changed ones are cached.
    """

    kind: Literal["patch_camelyon"] = "patch_camelyon"
    root: Path
    split: Literal["train", "valid", "test"] = "train"
    size: int = Field(64, ge=8, le=512, description="side of an image as the model sees it")
    crop: int | None = Field(None, ge=8, le=SIDE, description="central pixels to use; none: all 96")
    stain: AnyStain = NoStain()
    content: str | None = Field(None, pattern="^[0-9a-f]{12}$")
    cache: Path | None = runtime_field(None)

    def identity(self) -> dict[str, Any]:
        """See `content_identity`; without a content hash, older fingerprints stay valid."""
        settings = super().identity()
        if self.content is None:
            del settings["content"]
        return content_identity(settings, "root", self.content, self.stain)

    def with_content_hash(self) -> "PatchCamelyon":
        """The same with `content` set: a hash (12 hex) of the names, lengths and bytes of the files
        of every present split. Of a file above 64 MB, 64 blocks of 1 MB are read, spread evenly
        from its first byte to its last; differences between those blocks are not detected.

        Raises DataError if the split is missing or a file cannot be read.
        """
        self._find_file("x")
        return self.model_copy(update={"content": self._content()})

    def open(self) -> HDF5Tiles | ArrayDataset:
        """Open the split. Raises DataError if a file is missing, damaged or of another form."""
        path = self._find_file("x")
        if self.content is not None and (content := self._content()) != self.content:
            raise DataError(
                f"{self.root}: holds other tiles (content {content}) than expected "
                f"({self.content}); bring those back or leave content out"
            )
        stored = _open_dataset(path, "x")
        if stored.dtype != np.uint8 or stored.ndim != 4 or stored.shape[1:] != (SIDE, SIDE, 3):
            raise DataError(
                f"{path}: x is {stored.dtype} {stored.shape}, not uint8 (n, 96, 96, 3); "
                "this is not PatchCamelyon"
            )
        labels = _read_labels(self._find_file("y"), len(stored))
        groups = self._read_groups(len(stored))
        tiles = HDF5Tiles(stored, self.crop or SIDE, labels, groups)
        if isinstance(self.stain, NoStain) and tiles.image_shape[1] == self.size:
            return tiles
        return ArrayDataset(self._prepare(path, tiles), labels, CLASS_NAMES, groups)

    def _content(self) -> str:
        paths = sorted(self.root.glob(FILE_NAME.format(split="*", part="*.*")))
        files = [path for path in paths if path.suffix in (".h5", ".csv")]
        entries = [(path.name, path.stat().st_size, sampled_sha256(path)) for path in files]
        return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:12]

    def _find_file(self, part: str) -> Path:
        path = self.root / f"{FILE_NAME.format(split=self.split, part=part)}.h5"
        packed = path.with_name(f"{path.name}.gz")
        if not path.is_file() and packed.is_file():
            raise DataError(f"{packed}: compressed tiles are slow to read; run gunzip {packed}")
        if not path.is_file():
            raise DataError(f"{path}: no such file; put PatchCamelyon's HDF5 files there")
        return path

    def _read_groups(self, count: int) -> NDArray[np.int64] | None:
        path = self.root / f"{FILE_NAME.format(split=self.split, part='meta')}.csv"
        if not path.is_file():
            return None
        try:
            with path.open(newline="", encoding="utf-8") as opened:
                slides = [row["wsi"] for row in csv.DictReader(opened)]
        except (KeyError, UnicodeDecodeError, csv.Error):
            raise DataError(f"{path}: has no readable column wsi; fetch it again") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        if len(slides) != count:
            raise DataError(f"{path}: {len(slides)} rows for {count} tiles; fetch it again")
        return np.unique(np.array(slides), return_inverse=True)[1].astype(np.int64)

    def _prepare(self, path: Path, tiles: HDF5Tiles) -> NDArray[np.uint8]:
        state = path.stat()
        identity = {
            "file": str(path.resolve()),
            "bytes": state.st_size,
            "mtime_ns": state.st_mtime_ns,
            "crop": self.crop,
            "size": self.size,
            "stain": self.stain.cache_identity(),
        }

        def produce(start: int) -> Iterator[Pixels]:
            for first in range(start, len(tiles), CHUNK_TILES):
                block = tiles.pixels(np.arange(first, min(first + CHUNK_TILES, len(tiles))))
                yield resize(normalize_stain_per_tile(block, self.stain), self.size)

        shape = (3, self.size, self.size)
        cache = self.cache or default_cache()
        return cached_pixels(cache, self.kind, identity, len(tiles), shape, produce)


def _open_dataset(path: Path, name: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise DataError(
            f"{path}: reading HDF5 needs h5py; pip install 'controlgen[histology]'"
        ) from None
    try:
        opened = h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path}: truncated or not HDF5 ({' '.join(str(error).split())}); fetch it again"
        ) from None
    stored = opened.get(name)
    if not isinstance(stored, h5py.Dataset):
        opened.close()
        raise DataError(f"{path}: holds no dataset {name}; this is not PatchCamelyon")
    return stored


def _read_labels(path: Path, count: int) -> NDArray[np.int64]:
    stored = _open_dataset(path, "y")
    try:
        if stored.dtype.kind not in "ui" or stored.shape[:1] != (count,) or stored.size != count:
            raise DataError(
                f"{path}: y is {stored.dtype} {stored.shape}, not whole numbers "
                f"({count}, 1, 1, 1); this is not PatchCamelyon"
            )
        labels = np.asarray(stored[()], np.int64).reshape(count)
    except OSError as error:
        raise DataError(f"{path}: y cannot be read ({error}); fetch the file again") from None
    finally:
        stored.file.close()
    if count and (labels.min() < 0 or labels.max() > 1):
        raise DataError(f"{path}: labels other than 0 and 1; this is not PatchCamelyon")
    return labels
