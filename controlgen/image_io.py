"""Reading image files: one policy for training images and for images to edit."""

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from controlgen.errors import DataError
from controlgen.types import Pixels, Shape

MAX_PIXELS = 64_000_000  # pixels; larger files are not decoded. Pillow warns above 89 M
MAX_BYTES = 1 << 30  # larger image files are not read into memory
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")  # formats that Pillow may recognise; an MPO is a JPEG
IMAGE_SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".webp",
)  # suffixes of image files in a folder
SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
# The first bytes of files that cannot be read, and what they are.
MAGIC = {
    b"\x89PNG": "an unreadable PNG: damaged or of a kind that Pillow does not support",
    b"\xff\xd8": "an unreadable JPEG: damaged or of a kind that Pillow does not support",
    b"II*\0": "an unreadable TIFF: damaged or of a kind that Pillow does not support",
    b"MM\0*": "an unreadable TIFF: damaged or of a kind that Pillow does not support",
    b"RIFF": "a RIFF file, not a readable WebP",
    b"GIF8": "a GIF; save it as PNG",
    b"BM": "a BMP; save it as PNG",
    b"%PDF": "a PDF, not an image",
    b"PK": "a zip archive, not an image",
}
PLAIN_MODES = ("1", "L", "RGB")
SAMPLE_FORMAT = 339  # TIFF: 1 unsigned, 4 undefined
SIGNED = {2: "signed", 3: "floating point", 5: "complex", 6: "complex"}

# Raised by opening a damaged file or one that is not an image.
DECODE_ERRORS = (
    OSError,
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

Picture = UInt8[np.ndarray, "c h w"]


class DecodedImage(NamedTuple):
    """A picture (c h w) and the conversions that were applied to it, in words."""

    picture: Picture
    warnings: tuple[str, ...]


def read_image(path: str | Path, shape: Shape) -> Pixels:
    """Read an image file as Pixels (1 c h w) of `shape` (c h w), exactly as training images.

    Raises DataError if the file is missing, not an image, ambiguous or too large.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        content = read_bytes(path)
        return decode_and_resize(content, path.suffix, shape)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def decode_and_resize(content: bytes, suffix: str, shape: Shape) -> Pixels:
    """Decode an image file as Pixels (1 c h w) of `shape` (c h w).

    The largest centred crop with the proportions of `shape` is resized bicubically with
    antialiasing. Raises DataError with the reason alone.
    """
    channels, height, width = shape
    picture = decode(content, suffix, channels).picture
    tall, wide = picture.shape[1:]
    across = min(wide, max(tall * width // height, 1))
    down = min(tall, max(wide * height // width, 1))
    left, top = (wide - across) // 2, (tall - down) // 2
    part = picture[:, top : top + down, left : left + across]
    if part.shape[1:] != (height, width):
        plane = part[0] if channels == 1 else part.transpose(1, 2, 0)
        image = Image.fromarray(np.ascontiguousarray(plane))
        small = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.uint8)
        part = small[None] if channels == 1 else small.transpose(2, 0, 1)
    return part[None]


def list_image_files(folder: Path) -> list[Path]:
    """The image files of a folder, sorted; subfolders are ignored. Raises DataError if none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name a folder of image files")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"{folder}: holds no image file ({', '.join(IMAGE_SUFFIXES)})")
    return files


def read_bytes(path: Path) -> bytes:
    """The content of an image file. Raises DataError with the reason alone."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"larger than {MAX_BYTES >> 20} MiB; slides are of kind slides")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None


def decode(content: bytes, suffix: str, channels: int) -> DecodedImage:
    """Decode an image file to an upright picture (c h w) of 1 or 3 channels of 8 bits.

    Unambiguous content is converted with a warning: palettes, bilevel and grey become RGB,
    transparency is composited on white, CMYK becomes RGB without a colour profile, the EXIF
    orientation is applied, a wrong suffix is reported. Embedded colour profiles are ignored.
    Raises DataError with the reason alone for ambiguous content (16 bits or floats, whose white
    is undefined; several pages or frames; other colour spaces), too many pixels and damage.
    """
    if not content:
        raise DataError("empty")
    with warnings.catch_warnings(record=True) as pillow_warnings:
        warnings.simplefilter("always")
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                _refuse_ambiguous(opened, content)
                upright, notes = _apply_orientation(opened)
                picture, conversions = _convert_mode(upright, channels)
                notes += conversions
                kind = opened.format or ""
        except DataError:
            raise
        except UnidentifiedImageError:
            raise DataError(_identify(content)) from None
        except Image.DecompressionBombError:
            raise DataError(_too_large("it has too many pixels")) from None
        except Exception as error:  # damaged files make decoders raise nearly anything
            raise DataError(f"damaged ({' '.join(str(error).split())[:100]})") from None
    if suffix.lower() not in SUFFIXES[kind]:
        notes.append(f"is a {'JPEG' if kind == 'MPO' else kind} despite its name")
    notes += sorted(
        {f"Pillow warns: {' '.join(str(item.message).split())[:100]}" for item in pillow_warnings}
    )
    plane = np.asarray(picture, np.uint8)
    return DecodedImage(plane[None] if channels == 1 else plane.transpose(2, 0, 1), tuple(notes))


def _too_large(reason: str) -> str:
    return f"{reason}, it could be a decompression bomb; at most {MAX_PIXELS} pixels are decoded"


def _refuse_ambiguous(opened: Image.Image, content: bytes) -> None:
    """Check the header before anything is decoded."""
    if opened.width * opened.height > MAX_PIXELS:
        raise DataError(_too_large(f"{opened.width}x{opened.height}"))
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format != "MPO":
        raise DataError(f"{frames} frames or pages; save a single page")
    if opened.mode == "F":
        values = np.asarray(opened)
        raise DataError(
            f"floating point{'' if np.isfinite(values).all() else ' with NaN or infinity'}; "
            "its white level is undefined, convert to 8 bits"
        )
    bits = [8]
    if opened.format == "PNG":
        bits = [content[24]]
    elif opened.format == "TIFF":
        tags = getattr(opened, "tag_v2", {})
        bits = list(tags.get(258, (1,)))
        # Pillow reads signed bytes as unsigned: negative values would become white.
        formats = tags.get(SAMPLE_FORMAT, (1,))
        signs = set(formats if isinstance(formats, tuple) else (formats,))
        if max(bits) <= 8 and not signs <= {1, 4}:
            raise DataError(
                f"a TIFF of {SIGNED.get(max(signs), 'unknown')} numbers; its black and white "
                "levels are undefined, convert to unsigned 8 bits"
            )
    if max(bits) > 8 or opened.mode.startswith("I"):
        raise DataError(
            f"{max(bits)} bits per channel; its white level is undefined, convert to 8 bits"
        )
    if opened.mode in ("LAB", "HSV"):
        raise DataError(f"colour space {opened.mode}; convert to RGB")


def _apply_orientation(opened: Image.Image) -> tuple[Image.Image, list[str]]:
    turned = opened.getexif().get(0x0112, 1) not in (0, 1)
    opened.load()
    upright = ImageOps.exif_transpose(opened)
    notes = ["rotated by its EXIF orientation"] if turned else []
    if opened.format == "MPO":
        notes.append("holds several pictures, the first is used")
    return upright, notes


def _convert_mode(picture: Image.Image, channels: int) -> tuple[Image.Image, list[str]]:
    notes = []
    if picture.mode in ("P", "PA"):
        notes.append("palette converted to colours")
    if picture.has_transparency_data:
        notes.append("transparency composited on white")
        clear = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    elif picture.mode == "CMYK":
        notes.append("CMYK converted to RGB without a colour profile, colours are approximate")
    elif picture.mode not in (*PLAIN_MODES, "P", "PA"):
        notes.append(f"{picture.mode} converted to RGB")
    elif picture.mode in ("1", "L") and channels == 3:
        notes.append("grey repeated in three channels")
    # RGB first, so that palettes and CMYK become grey by the same luma as all others.
    if picture.mode not in PLAIN_MODES:
        picture = picture.convert("RGB")
    return picture.convert("L" if channels == 1 else "RGB"), notes


def _identify(content: bytes) -> str:
    for magic, meaning in MAGIC.items():
        if content.startswith(magic):
            return meaning
    try:
        content[:512].decode()
    except UnicodeDecodeError:
        return "not an image of a supported format (PNG, JPEG, TIFF, WebP)"
    return "text, not an image"
