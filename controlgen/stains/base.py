"""What stain normalisers share: the profile, the protocol, optical density, references."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from controlgen.base_config import BaseConfig
from controlgen.errors import DataError, Incompatible
from controlgen.image_io import decode, read_bytes
from controlgen.types import Pixels
from controlgen.utils.files import sha256_of_file

MIN_TISSUE = 0.05  # share of pixels that must be tissue for a source to be measured
CHUNK_BYTES = 1 << 22  # bytes of pixels recoloured at a time, so that memory stays bounded

Colours = NDArray[np.float64]  # (m 3), one row per pixel
Triple = tuple[float, float, float]


class StainProfile(BaseConfig):
    """The stain of a source as plain numbers, so that it can be stored as JSON.

    The normaliser defines `vectors` and `levels`. Without vectors there was too little tissue, and
    `apply` returns the source unchanged.
    """

    kind: str
    vectors: tuple[Triple, ...] = ()
    levels: tuple[float, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether there was enough tissue."""
        return bool(self.vectors)


class Stain(Protocol):
    """A stain normaliser; its settings are a BaseConfig."""

    @property
    def kind(self) -> str: ...

    def measure(self, pixels: Pixels) -> StainProfile: ...

    def apply(self, pixels: Pixels, profile: StainProfile) -> Pixels: ...

    def cache_identity(self) -> dict[str, Any]: ...


def pixel_rows(pixels: Pixels) -> NDArray[np.uint8]:
    """Pixels (n 3 h w) as rows (n*h*w 3). Raises Incompatible unless they are RGB."""
    if pixels.shape[1] != 3:
        raise Incompatible(
            f"stain: {pixels.shape[1]}-channel pixels; stain needs RGB, "
            'set stain = { kind = "none" }'
        )
    return pixels.transpose(0, 2, 3, 1).reshape(-1, 3)


def map_colours(
    pixels: Pixels, profile: StainProfile, kind: str, change: Callable[[Colours], Colours]
) -> Pixels:
    """A copy of Pixels (n 3 h w) with `change` ((m 3) -> (m 3), in 0..255) applied to every pixel.

    Without a usable profile the copy is unchanged. Raises Incompatible if the profile is of another
    kind or the pixels are not RGB.
    """
    if profile.kind != kind:
        raise Incompatible(
            f"stain {kind}: the profile is of kind {profile.kind}; measure it with {kind}"
        )
    pixel_rows(pixels[:0])
    result = np.array(pixels, np.uint8, order="C")
    if not profile.usable:
        return result
    step = max(1, CHUNK_BYTES // max(math.prod(pixels.shape[1:]), 1))
    for first in range(0, len(result), step):
        block = result[first : first + step]
        changed = change(pixel_rows(block).astype(np.float64))
        n, _, height, width = block.shape
        planes = np.rint(np.clip(changed, 0, 255)).astype(np.uint8).reshape(n, height, width, 3)
        block[:] = planes.transpose(0, 3, 1, 2)
    return result


def optical_density(colours: Colours, white: float) -> Colours:
    """Beer-Lambert: optical density -ln(I / white) of colours (m 3) in 0..255, never below zero.

    A channel at 0 counts as 1, so that the density is finite.
    """
    return np.asarray(np.maximum(-np.log(np.maximum(colours, 1) / white), 0))


def reference_profile(path: Path, measure: Callable[[Pixels], StainProfile]) -> StainProfile:
    """The profile of a user's reference image. Raises DataError if it has none."""
    profile = measure(_read(path, *_state(path)))
    if not profile.usable:
        raise DataError(
            f"{path}: too little stained tissue for a stain reference; "
            "choose an image that tissue fills"
        )
    return profile


def identity_with_digest(identity: dict[str, Any], reference: Path | None) -> dict[str, Any]:
    """An identity in which the reference is identified by its bytes instead of its path."""
    if reference is None:
        return identity
    return {**identity, "reference": _digest(reference, *_state(reference))}


def _state(path: Path) -> tuple[int, int]:
    with _explain_read_errors(path):
        state = path.stat()
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=4)
def _digest(path: Path, modified_ns: int, size: int) -> str:
    with _explain_read_errors(path):
        return sha256_of_file(path)


@lru_cache(maxsize=4)
def _read(path: Path, modified_ns: int, size: int) -> Pixels:
    try:
        plane = decode(read_bytes(path), path.suffix, channels=3).picture
    except DataError as error:
        raise DataError(f"{path}: {error}; name another stain reference") from None
    plane.flags.writeable = False
    return plane[None]


@contextmanager
def _explain_read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: the stain reference cannot be read ({error.strerror}); name an image"
        ) from None
