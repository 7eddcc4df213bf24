"""Encoding and decoding of images and arrays in JSON; no input is trusted."""

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from controlgen.editing.feature_math import MAX_MAGNITUDE
from controlgen.errors import DataError
from controlgen.image_io import DECODE_ERRORS, FORMATS, decode_and_resize
from controlgen.images import write_png
from controlgen.serve.limits import Limits
from controlgen.types import Pixels, Shape


def from_base64(text: str, name: str) -> bytes:
    """Decode base64 or a data: URL. Raises DataError, which starts with `name`."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"{name}: not valid base64") from None


def to_base64(content: bytes) -> str:
    """Encode as ASCII text."""
    return base64.b64encode(content).decode()


def validate_image(content: bytes, name: str, limits: Limits) -> bytes:
    """Return the content if its size and header are within the limits. Raises DataError.

    Nothing is decoded. CMYK is rejected here: its conversion is ambiguous and API users see no
    warnings. `decode_image` rejects what else is ambiguous.
    """
    if not content:
        raise DataError(f"{name}: empty")
    if len(content) > limits.image_bytes:
        raise DataError(f"{name}: {len(content)} bytes; at most {limits.image_bytes} are allowed")
    size, mode = image_header(content)
    if size > limits.image_pixels:
        raise DataError(
            f"{name}: {'too many' if math.isinf(size) else size} pixels, possibly a decompression "
            f"bomb; at most {limits.image_pixels} are decoded"
        )
    if mode == "CMYK":
        raise DataError(f"{name}: CMYK has no unique meaning in RGB; convert it first")
    return content


def image_header(content: bytes) -> tuple[float, str]:
    """Number of pixels and colour mode from an image's header; 0 and "" if it is no image.

    The number is infinite beyond what Pillow opens.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            return opened.width * opened.height, opened.mode
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return math.inf, ""
    except (*DECODE_ERRORS, ValueError, SyntaxError, KeyError, TypeError):
        return 0, ""  # decode_image explains what it is


def decode_image(content: bytes, name: str, shape: Shape, limits: Limits) -> Pixels:
    """Decode an uploaded image to Pixels (1 c h w) of a model's shape. Raises DataError."""
    validate_image(content, name, limits)
    try:
        return decode_and_resize(content, "", shape)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def encode_png(pixels: Pixels, provenance: dict[str, Any] | None = None) -> bytes:
    """One image (1 c h w) as a PNG file; the default provenance is `synthetic` alone."""
    stream = io.BytesIO()
    write_png(stream, pixels, provenance or {"synthetic": "true"})
    return stream.getvalue()


def encode_images(pixels: Pixels) -> list[str]:
    """Pixels (n c h w) as base64 of n PNG files."""
    return [to_base64(encode_png(image[None])) for image in pixels]


def decode_images(images: Sequence[str]) -> Pixels:
    """Decode base64 of n PNG files from a trusted server to Pixels (n c h w)."""
    planes = []
    for text in images:
        with Image.open(io.BytesIO(from_base64(text, "response")), formats=["PNG"]) as opened:
            plane = np.asarray(opened, np.uint8)
        planes.append(plane[None] if plane.ndim == 2 else plane.transpose(2, 0, 1))
    return np.stack(planes)


def encode_npy(array: NDArray[Any]) -> bytes:
    """An array of numbers as a .npy file, in C order."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(array, order="C"), allow_pickle=False)
    return stream.getvalue()


def decode_npy(content: bytes, name: str) -> NDArray[Any]:
    """The array of a .npy file of plain numbers. Raises DataError for any other content."""
    try:
        # The memory that a header claims is reserved but not touched: a short file fails first.
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception:  # numpy's parser of headers raises many kinds
        array = None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DataError(f"{name}: not a .npy file of plain numbers")
    return array


def encode_json_array(array: NDArray[Any]) -> dict[str, str]:
    """An array as a JSON value with base64 of a .npy file."""
    return {"npy": to_base64(encode_npy(array))}


def decode_json_pixels(encoded: Mapping[str, str]) -> NDArray[Any]:
    """The array of such a value in a response. Raises DataError."""
    return decode_npy(from_base64(encoded["npy"], "response"), "response")


def decode_json_array(encoded: Mapping[str, str]) -> NDArray[np.float32]:
    """The same as finite float32. Raises DataError."""
    return require_finite(decode_json_pixels(encoded), "response")


def require_bounded(numbers: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Return the numbers. Raises DataError if one is beyond MAX_MAGNITUDE."""
    if (np.abs(numbers) > MAX_MAGNITUDE).any():
        raise DataError(f"{name}: holds numbers beyond {MAX_MAGNITUDE:g} in magnitude")
    return numbers


def require_finite(numbers: Any, name: str) -> NDArray[np.float32]:
    """Convert numbers to float32. Raises DataError if they are ragged, or not finite in float32."""
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(numbers, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{name}: rows of different lengths") from None
    if not np.isfinite(array).all():
        raise DataError(f"{name}: holds numbers that are not finite")
    return array
