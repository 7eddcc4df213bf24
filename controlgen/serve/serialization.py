"""Images and arrays, to and from what JSON can hold; nothing here trusts what it is given."""

import base64
import binascii
import io
import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from controlgen.editing.feature_math import LARGEST
from controlgen.errors import DataError
from controlgen.image_io import FORMATS, UNREADABLE, image_of
from controlgen.images import write_png
from controlgen.serve.limits import Limits
from controlgen.types import Pixels, Shape

NPY_HEADER = 1_000  # bytes of a .npy header that numpy is let read
NPY_MAGIC = np.lib.format.magic(1, 0)


def from_base64(text: str, what: str) -> bytes:
    """The bytes; a data: URL is taken as well. Raises DataError, which says what it was of."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"{what}: not valid base64") from None


def to_base64(content: bytes) -> str:
    """As ASCII text."""
    return base64.b64encode(content).decode()


def checked_image(content: bytes, what: str, limits: Limits) -> bytes:
    """The content itself, where its size and header are within the limits. Raises DataError.

    Nothing is decoded. CMYK is refused here, for its colours have no one meaning in RGB and nobody
    reads a note about it; what else has no one meaning is refused as it is decoded.
    """
    if not content:
        raise DataError(f"{what}: empty")
    if len(content) > limits.image_bytes:
        raise DataError(f"{what}: {len(content)} bytes, at most {limits.image_bytes} are taken")
    size, mode = header_of(content)
    if size > limits.image_pixels:
        raise DataError(
            f"{what}: {_counted(size)} pixels, it could be a decompression bomb; at most "
            f"{limits.image_pixels} are decoded"
        )
    if mode == "CMYK":
        raise DataError(f"{what}: CMYK has no one meaning in RGB; convert it first")
    return content


def header_of(content: bytes) -> tuple[float, str]:
    """Pixels and colour mode that an image's header tells; 0 and "" of what is no image.

    More pixels than Pillow would open are infinitely many.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            return opened.width * opened.height, opened.mode
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return math.inf, ""
    except (*UNREADABLE, ValueError, SyntaxError, KeyError, TypeError):
        return 0, ""  # image_of says what else it is


def _counted(pixels: float) -> str:
    return "too many" if math.isinf(pixels) else f"{pixels}"


def to_pixels_of(content: bytes, what: str, shape: Shape, limits: Limits) -> Pixels:
    """An uploaded image as Pixels (1 c h w) of a model's shape. Raises DataError."""
    checked_image(content, what, limits)
    try:
        return image_of(content, "", shape)
    except DataError as error:
        raise DataError(f"{what}: {error}") from None


def png(pixels: Pixels, provenance: dict[str, Any] | None = None) -> bytes:
    """One image (1 c h w) as a PNG file; without provenance it says `synthetic` only."""
    stream = io.BytesIO()
    write_png(stream, pixels, provenance or {"synthetic": "true"})
    return stream.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    """An array of numbers as a .npy file (version 1)."""
    return _npy_start(array.dtype.str, array.shape) + array.tobytes()


@lru_cache(maxsize=100)
def _npy_start(kind: str, shape: tuple[int, ...]) -> bytes:
    # Numpy writes it, and nearly all are alike.
    stream = io.BytesIO()
    about = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, about)
    return stream.getvalue()


def from_npy(content: bytes, what: str) -> NDArray[np.float32]:
    """Numbers of a .npy file (version 1) as float32. Raises DataError for any other content."""
    return finite(array_of(content, what), what)


def array_of(content: bytes, what: str) -> NDArray[Any]:
    """The array of a .npy file (version 1) of plain numbers. Raises DataError for other content."""
    start = len(NPY_MAGIC) + 2
    start += int.from_bytes(content[len(NPY_MAGIC) : start], "little")
    try:
        shape, columns_first, kind = _npy_header(content[:start])
    except (ValueError, EOFError, SyntaxError):
        shape, columns_first, kind = (), False, np.dtype("O")
    data = memoryview(content)[start:]
    # What the header claims must be there: nothing is allocated on its word.
    if kind.kind not in "fiu" or len(data) != math.prod(shape) * kind.itemsize:
        raise DataError(f"{what}: not a .npy file of plain numbers")
    numbers = np.frombuffer(data, kind).copy()  # which may be written to
    return numbers.reshape(shape[::-1]).T if columns_first else numbers.reshape(shape)


@lru_cache(maxsize=100)
def _npy_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    # Shape, order and kind. Python's own parser reads it, and nearly all are alike.
    if not header.startswith(NPY_MAGIC) or len(header) > NPY_HEADER:
        raise ValueError("not version 1 of .npy")
    stream = io.BytesIO(header[len(NPY_MAGIC) :])
    return np.lib.format.read_array_header_1_0(stream, max_header_size=NPY_HEADER)


def bounded(numbers: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """The numbers themselves. Raises DataError where one is too large to be meant."""
    if (np.abs(numbers) > LARGEST).any():
        raise DataError(f"{what}: holds numbers beyond {LARGEST:g} in magnitude")
    return numbers


def finite(numbers: Any, what: str) -> NDArray[np.float32]:
    """Numbers as float32. Raises DataError where they are ragged, or not finite as such."""
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(numbers, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{what}: rows of different lengths") from None
    if not np.isfinite(array).all():
        raise DataError(f"{what}: holds numbers that are not finite")
    return array
