"""Sources of images by name: a model, a data set or a folder."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from controlgen.datasets import AnyDataset, ImageFolder
from controlgen.editing import Editor
from controlgen.editing.checkpoint import load_generator, load_verified_generator
from controlgen.errors import ArtifactMissing, ConfigError, DataError, Incompatible
from controlgen.image_io import DECODE_ERRORS, IMAGE_SUFFIXES
from controlgen.images import generate_pixels
from controlgen.metrics.classifier import source_ids
from controlgen.rng import key, normals, stream
from controlgen.types import Dataset, Indices, Pixels, Shape

MAX_SIDE = 256  # pixels a side of images from two folders
SPLITS = ("train", "test")
STREAM = "image source"
DATASET_KINDS: dict[str, Any] = {
    kind.model_fields["kind"].default: kind for kind in get_args(get_args(AnyDataset)[0])
}
SELF_CONTAINED = sorted(
    name
    for name, kind in DATASET_KINDS.items()
    if not any(field.is_required() for field in kind.model_fields.values())
)


class ImageSource(Protocol):
    """Images (c h w) of one shape; a seed always draws the same ones."""

    @property
    def shape(self) -> Shape: ...

    def available(self, seed: int, halves: bool) -> int | None:
        """The number of images, or with `halves` of the smaller half; None if unlimited."""

    def draw(self, n: int, seed: int) -> Pixels:
        """Pixels (n c h w) drawn by seed."""

    def held_out_images(self, n: int, seed: int) -> Pixels | None:
        """Pixels (n c h w) of other groups than those of `draw`; None where there are none."""


def open_image_sources(
    a: str, b: str, find: Callable[[str], Path]
) -> tuple[ImageSource, ImageSource]:
    """Open two sources of images of one shape; `find` resolves an artifact's name to its folder.

    A model determines the shape, then a data set; a folder's images are resized to it. Of two
    folders the first file of `b` determines the shape. Raises ConfigError, ArtifactMissing,
    DataError, and Incompatible where the shapes differ.
    """
    openers = [_find_opener(text, find) for text in (a, b)]
    opened: dict[int, ImageSource] = {}
    shape: Shape | None = None
    for side in sorted((0, 1), key=lambda side: (openers[side].rank, -side)):
        opened[side] = openers[side].open(shape)
        shape = shape or opened[side].shape
    if opened[0].shape != opened[1].shape:
        shapes = ["x".join(map(str, opened[side].shape)) for side in (0, 1)]
        raise Incompatible(
            f"{a} has images of {shapes[0]} and {b} of {shapes[1]}; name two of one shape"
        )
    return opened[0], opened[1]


class GeneratorSource:
    """Samples of a GAN's or map's generator; a map's rejection sampling applies."""

    def __init__(self, folder: Path) -> None:
        load_verified_generator(folder)  # verifies the artifact
        self._generator, self.shape = load_generator(folder)
        self.latent_size = self._generator.latent_size
        rejects = (folder / "likeness.json").is_file() and (folder / "map.json").is_file()
        self._editor = Editor.load(folder) if rejects else None

    def available(self, seed: int, halves: bool) -> None:
        """Unlimited."""

    def draw(self, n: int, seed: int) -> Pixels:
        """Samples 0 to n of the seed."""
        return self._samples(0, n, seed)

    def held_out_images(self, n: int, seed: int) -> Pixels:
        """Samples n to 2 n of the seed."""
        return self._samples(n, n, seed)

    def generate(self, latents: NDArray[np.float32]) -> torch.Tensor:
        """Latents (n z) -> Images (n c h w) in -1..1."""
        with torch.no_grad():
            images: torch.Tensor = self._generator(torch.from_numpy(latents)).clamp(-1, 1)
        return images

    def _samples(self, start: int, n: int, seed: int) -> Pixels:
        if self._editor:
            return self._editor.sample_stream(n, seed, STREAM, start).pixels
        latents = normals(seed, STREAM, start, start + n, self.latent_size)
        return generate_pixels(self._generator, latents)


class DatasetSource:
    """One split of a data set; the other split is held out. `training` is the train split."""

    def __init__(self, kind: str, split: str, shape: Shape | None) -> None:
        config_class = DATASET_KINDS[kind]
        resizable = shape is not None and "size" in config_class.model_fields
        size = {"size": shape[1]} if shape is not None and resizable else {}
        config = config_class.parse({"split": split, **size}, kind)
        self._data: Dataset = config.open()
        self._other: Dataset = config.with_split(SPLITS[1 - SPLITS.index(split)]).open()
        self.split, self.shape = split, self._data.image_shape
        self.training = self._data if split == "train" else self._other

    def available(self, seed: int, halves: bool) -> int:
        """The length of the split, or of the shorter split."""
        return min(len(self._data), len(self._other)) if halves else len(self._data)

    def draw(self, n: int, seed: int) -> Pixels:
        """Images of the split."""
        return _draw(self._data, n, seed)

    def held_out_images(self, n: int, seed: int) -> Pixels:
        """Images of the other split."""
        return _draw(self._other, n, seed)


class FolderSource:
    """Images below a folder, in two halves that share no group.

    The split depends only on pixels and seed, not on the names or order of the files. `groups.csv`
    defines groups, as for training.
    """

    def __init__(self, root: Path, shape: Shape | None) -> None:
        self.shape = shape or _first_shape(root)
        channels, height, width = self.shape
        if height != width:
            raise Incompatible(
                f"{root}: a folder's images are read as squares, not as {width}x{height}"
            )
        config = ImageFolder.parse({"root": root, "size": height, "channels": channels}, str(root))
        parts: list[Dataset] = [config.open()]
        # There is no test split where all images are of one group.
        with contextlib.suppress(DataError):
            parts.append(config.with_split("test").open())
        self._pixels = np.concatenate([part.pixels(np.arange(len(part))) for part in parts])
        self._sources = np.concatenate([source_ids(part, np.arange(len(part))) for part in parts])

    def available(self, seed: int, halves: bool) -> int:
        """All images, or those of the smaller half; all where there is only one group."""
        smaller = min(len(half) for half in self._halves(seed))
        return smaller if halves and smaller else len(self._pixels)

    def draw(self, n: int, seed: int) -> Pixels:
        """Images of the first half, then of the second."""
        return np.asarray(self._pixels[np.concatenate(self._halves(seed))[:n]])

    def held_out_images(self, n: int, seed: int) -> Pixels | None:
        """Images of the second half; None where all are of one group."""
        half = self._halves(seed)[1]
        return np.asarray(self._pixels[half[:n]]) if len(half) else None

    def _halves(self, seed: int) -> tuple[Indices, Indices]:
        return split_by_source(self._pixels, self._sources, seed)


def split_by_source(pixels: Pixels, sources: Indices, seed: int) -> tuple[Indices, Indices]:
    """Indices of two halves of images (n c h w) that share no source id (n), in random order.

    The split depends only on pixels and seed. The halves are as equal as whole sources allow; the
    second is empty where there is only one source.
    """
    keys = np.array([key(seed, hashlib.sha256(image.tobytes()).hexdigest()) for image in pixels])
    _, owners = np.unique(sources, return_inverse=True)
    first_key = np.full(owners.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_key, owners, keys)

    # Sources by the smallest key of their images; the border makes the halves most equal.
    order = np.argsort(first_key, kind="stable")
    sizes = np.cumsum(np.bincount(owners)[order])
    border = int(np.abs(2 * sizes[:-1] - len(pixels)).argmin()) + 1 if len(sizes) > 1 else 1
    inside = np.isin(owners, order[:border])
    shuffled = np.argsort(keys, kind="stable")
    return shuffled[inside[shuffled]], shuffled[~inside[shuffled]]


class _Opener(NamedTuple):
    rank: int  # the lower one determines the shape
    open: Callable[[Shape | None], ImageSource]


def _find_opener(text: str, find: Callable[[str], Path]) -> _Opener:
    kind, _, split = text.partition(":")
    if kind in DATASET_KINDS:
        if kind not in SELF_CONTAINED:
            raise ConfigError(
                f"{text}: needs settings and cannot be opened by its kind alone; name "
                f"{', '.join(SELF_CONTAINED)}, or a folder"
            )
        if split and split not in SPLITS:
            raise ConfigError(f"{text}: no such split; write {kind}:train or {kind}:test")
        return _Opener(1, lambda shape: DatasetSource(kind, split or "train", shape))
    path = Path(text)
    if text and path.is_dir() and not (path / "manifest.json").is_file():
        return _Opener(2, lambda shape: FolderSource(path, shape))
    try:
        folder = find(text)
    except ArtifactMissing:
        raise ArtifactMissing(
            f"{text}: neither a model (see `controlgen list`) nor a data set "
            f"({', '.join(SELF_CONTAINED)}) nor a folder of images"
        ) from None
    return _Opener(0, lambda shape: GeneratorSource(folder))


def _draw(data: Dataset, n: int, seed: int) -> Pixels:
    return data.pixels(stream(seed, "image source").permutation(len(data))[:n])


def _first_shape(root: Path) -> Shape:
    # Of the first readable file; the folder dataset reports unreadable ones.
    for file in sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES):
        try:
            with Image.open(file) as image:
                side = min(*image.size, MAX_SIDE)
                return (1 if image.mode in ("1", "L", "I;16") else 3, side, side)
        except DECODE_ERRORS:
            continue
    raise DataError(f"{root}: holds no image file ({', '.join(IMAGE_SUFFIXES)})")
