"""Whatever holds images, by the name a person gives it: a model, a data set, a folder."""

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
from controlgen.editing.checkpoint import load_generator, open_generator
from controlgen.errors import ArtifactMissing, ConfigError, DataError, Incompatible
from controlgen.image_io import UNREADABLE, USUAL
from controlgen.images import generated
from controlgen.metrics.classifier import sources_of
from controlgen.rng import key, normals, stream
from controlgen.types import Dataset, Indices, Pixels, Shape

LARGEST = 256  # pixels a side of the images of two folders, whatever their files hold
SPLITS = ("train", "test")
STREAM = "image source"
KINDS: dict[str, Any] = {
    kind.model_fields["kind"].default: kind for kind in get_args(get_args(AnyDataset)[0])
}
READY = sorted(
    name
    for name, kind in KINDS.items()
    if not any(field.is_required() for field in kind.model_fields.values())
)


class Source(Protocol):
    """Images (c h w) of one shape; the same seed draws the same ones."""

    @property
    def shape(self) -> Shape: ...

    def count(self, seed: int, two: bool) -> int | None:
        """How many there are, or where `two` are drawn in the smaller part; None: no end."""

    def images(self, n: int, seed: int) -> Pixels:
        """Pixels (n c h w), drawn by seed."""

    def others(self, n: int, seed: int) -> Pixels | None:
        """Pixels (n c h w) of other sources than `images(n, seed)`; None where there are none."""


def open_pair(a: str, b: str, find: Callable[[str], Path]) -> tuple[Source, Source]:
    """Open two sources of images of one shape; `find` gives the folder of an artifact by its name.

    A model's shape goes before a data set's, and a folder's images are brought to either; of two
    folders the first file of `b` decides. Raises ConfigError, ArtifactMissing, DataError, and
    Incompatible where the shapes differ.
    """
    named = [_named(text, find) for text in (a, b)]
    opened: dict[int, Source] = {}
    shape: Shape | None = None
    for at in sorted((0, 1), key=lambda at: (named[at].rank, -at)):
        opened[at] = named[at].open(shape)
        shape = shape or opened[at].shape
    if opened[0].shape != opened[1].shape:
        shapes = ["x".join(map(str, opened[at].shape)) for at in (0, 1)]
        raise Incompatible(
            f"{a} has images of {shapes[0]} and {b} of {shapes[1]}; name two of one shape"
        )
    return opened[0], opened[1]


class Model:
    """Samples of the generator in a GAN's or map's folder; of a map's, those that it keeps."""

    def __init__(self, folder: Path) -> None:
        open_generator(folder)  # verifies it
        self._generator, self.shape = load_generator(folder)
        self.latent_size = self._generator.latent_size
        chooses = (folder / "likeness.json").is_file() and (folder / "map.json").is_file()
        self._editor = Editor.load(folder) if chooses else None

    def count(self, seed: int, two: bool) -> None:
        """Without end."""

    def images(self, n: int, seed: int) -> Pixels:
        """Samples 0 to n of the seed."""
        return self._samples(0, n, seed)

    def others(self, n: int, seed: int) -> Pixels:
        """Samples n to 2 n of the seed."""
        return self._samples(n, n, seed)

    def generate(self, latents: NDArray[np.float32]) -> torch.Tensor:
        """Latents (n z) -> Images (n c h w) in -1..1."""
        with torch.no_grad():
            made: torch.Tensor = self._generator(torch.from_numpy(latents)).clamp(-1, 1)
        return made

    def _samples(self, start: int, n: int, seed: int) -> Pixels:
        if self._editor:
            return self._editor.drawn(n, seed, STREAM, start).pixels
        latents = normals(seed, STREAM, start, start + n, self.latent_size)
        return generated(self._generator, latents)


class Split:
    """One split of a data set; the other split holds other sources. `training` is the first."""

    def __init__(self, kind: str, split: str, shape: Shape | None) -> None:
        described = KINDS[kind]
        sized = shape is not None and "size" in described.model_fields
        size = {"size": shape[1]} if shape is not None and sized else {}
        spec = described.parse({"split": split, **size}, kind)
        self._data: Dataset = spec.open()
        self._other: Dataset = spec.judging(SPLITS[1 - SPLITS.index(split)]).open()
        self.split, self.shape = split, self._data.image_shape
        self.training = self._data if split == "train" else self._other

    def count(self, seed: int, two: bool) -> int:
        """The split's length, or the shorter split's."""
        return min(len(self._data), len(self._other)) if two else len(self._data)

    def images(self, n: int, seed: int) -> Pixels:
        """Images of the split that was named."""
        return _drawn(self._data, n, seed)

    def others(self, n: int, seed: int) -> Pixels:
        """Images of the other split."""
        return _drawn(self._other, n, seed)


class Folder:
    """Images below a folder, in two halves that share no source.

    Which image lies where depends on its pixels and the seed alone: names and order of the files do
    not matter. `groups.csv` tells sources, as for training.
    """

    def __init__(self, root: Path, shape: Shape | None) -> None:
        self.shape = shape or _shape_below(root)
        channels, height, width = self.shape
        if height != width:
            raise Incompatible(
                f"{root}: a folder's images are read as squares, not as {width}x{height}"
            )
        spec = ImageFolder.parse({"root": root, "size": height, "channels": channels}, str(root))
        parts: list[Dataset] = [spec.open()]
        # Where all images are of one source, everything is in the first part.
        with contextlib.suppress(DataError):
            parts.append(spec.judging("test").open())
        self._pixels = np.concatenate([one.pixels(np.arange(len(one))) for one in parts])
        self._sources = np.concatenate([sources_of(one, np.arange(len(one))) for one in parts])

    def count(self, seed: int, two: bool) -> int:
        """All images, or those of the smaller half; all where there is one source only."""
        smaller = min(len(half) for half in self._halves(seed))
        return smaller if two and smaller else len(self._pixels)

    def images(self, n: int, seed: int) -> Pixels:
        """Images of the first half, then of the second."""
        return np.asarray(self._pixels[np.concatenate(self._halves(seed))[:n]])

    def others(self, n: int, seed: int) -> Pixels | None:
        """Images of the second half; None where all are of one source."""
        half = self._halves(seed)[1]
        return np.asarray(self._pixels[half[:n]]) if len(half) else None

    def _halves(self, seed: int) -> tuple[Indices, Indices]:
        return halves(self._pixels, self._sources, seed)


def halves(pixels: Pixels, sources: Indices, seed: int) -> tuple[Indices, Indices]:
    """Indices of two halves of images (n c h w) that share no source (n), each in random order.

    Decided by pixels and seed alone. As equal as whole sources allow; the second is empty where
    there is one source.
    """
    keys = np.array([key(seed, hashlib.sha256(image.tobytes()).hexdigest()) for image in pixels])
    _, owners = np.unique(sources, return_inverse=True)
    first_key = np.full(owners.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_key, owners, keys)

    # Sources in the order of their first image; the border is where the halves are most equal.
    order = np.argsort(first_key, kind="stable")
    sizes = np.cumsum(np.bincount(owners)[order])
    border = int(np.abs(2 * sizes[:-1] - len(pixels)).argmin()) + 1 if len(sizes) > 1 else 1
    inside = np.isin(owners, order[:border])
    shuffled = np.argsort(keys, kind="stable")
    return shuffled[inside[shuffled]], shuffled[~inside[shuffled]]


class _Named(NamedTuple):
    rank: int  # the lower one says which shape
    open: Callable[[Shape | None], Source]


def _named(text: str, find: Callable[[str], Path]) -> _Named:
    kind, _, split = text.partition(":")
    if kind in KINDS:
        if kind not in READY:
            raise ConfigError(
                f"{text}: cannot be named by its kind alone; name {', '.join(READY)}, or a folder"
            )
        if split and split not in SPLITS:
            raise ConfigError(f"{text}: no such split; write {kind}:train or {kind}:test")
        return _Named(1, lambda shape: Split(kind, split or "train", shape))
    path = Path(text)
    if text and path.is_dir() and not (path / "manifest.json").is_file():
        return _Named(2, lambda shape: Folder(path, shape))
    try:
        folder = find(text)
    except ArtifactMissing:
        raise ArtifactMissing(
            f"{text}: neither a model (`controlgen list` shows them) nor a data set "
            f"({', '.join(READY)}) nor a folder of images"
        ) from None
    return _Named(0, lambda shape: Model(folder))


def _drawn(data: Dataset, n: int, seed: int) -> Pixels:
    return data.pixels(stream(seed, "image source").permutation(len(data))[:n])


def _shape_below(root: Path) -> Shape:
    # The first file that can be read at all; what is wrong with others is the folder's to say.
    for file in sorted(one for one in root.rglob("*") if one.suffix.lower() in USUAL):
        try:
            with Image.open(file) as opened:
                side = min(*opened.size, LARGEST)
                return (1 if opened.mode in ("1", "L", "I;16") else 3, side, side)
        except UNREADABLE:
            continue
    raise DataError(f"{root}: holds no image file ({', '.join(USUAL)})")
