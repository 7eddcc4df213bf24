"""Image files read: one policy for what is trained on and for what is given to be edited."""

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from controlgen.errors import DataError
from controlgen.types import Pixels, Shape

LARGEST_FILE = 64_000_000  # pixels of an image file that is still decoded; Pillow warns above 89 M
LARGEST_BYTES = 1 << 30  # an image file beyond this is not read into memory
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")  # what Pillow is asked to recognise; an MPO is a JPEG
USUAL = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")  # suffixes that are looked for
SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
# The first bytes of what is met beside the formats that are read.
MAGIC = {
    b"\x89PNG": "a PNG that cannot be read, damaged or of a kind Pillow does not know",
    b"\xff\xd8": "a JPEG that cannot be read, damaged or of a kind Pillow does not know",
    b"II*\0": "a TIFF that cannot be read, damaged or of a kind Pillow does not know",
    b"MM\0*": "a TIFF that cannot be read, damaged or of a kind Pillow does not know",
    b"RIFF": "a RIFF file that is no readable WebP",
    b"GIF8": "a GIF; save it as PNG",
    b"BM": "a BMP; save it as PNG",
    b"%PDF": "a PDF, not an image",
    b"PK": "a zip archive, not an image",
}
PLAIN = ("1", "L", "RGB")
SAMPLE_FORMAT = 339  # TIFF: 1 unsigned, 4 not said
SIGNED = {2: "signed", 3: "floating point", 5: "complex", 6: "complex"}

# What opening a file that is no image, or a damaged one, raises.
UNREADABLE = (
    OSError,
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

Picture = UInt8[np.ndarray, "c h w"]


class Decoded(NamedTuple):
    """A picture (c h w) and what had to be done to it, in words; nothing said, nothing done."""

    picture: Picture
    notes: tuple[str, ...]


def read_image(path: str | Path, shape: Shape) -> Pixels:
    """Read an image file as Pixels (1 c h w) of `shape` (c h w), as a training image is read.

    Raises DataError where the file is missing, no image, not clear, or too large to be trusted.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        content = read_bytes(path)
        return image_of(content, path.suffix, shape)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def image_of(content: bytes, suffix: str, shape: Shape) -> Pixels:
    """The content of an image file as Pixels (1 c h w) of `shape` (c h w).

    Decoded as `decode` says; the largest centred part of that shape's proportions is resized
    bicubically with antialiasing. Raises DataError with the reason alone.
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


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder by name, not of those below it. Raises DataError where none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name one that holds image files")
    files = sorted(one for one in folder.iterdir() if one.suffix.lower() in USUAL)
    if not files:
        raise DataError(f"{folder}: holds no image file ({', '.join(USUAL)})")
    return files


def read_bytes(path: Path) -> bytes:
    """The content of an image file. Raises DataError whose message is the reason alone."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise DataError(f"larger than {LARGEST_BYTES >> 20} MiB; slides are of kind slides")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None


def decode(content: bytes, suffix: str, channels: int) -> Decoded:
    """The picture (c h w) of an image file's content, upright, in 1 or 3 channels of 8 bits.

    What has one meaning in 8 bits is converted and noted: palettes, two-level and grey pictures
    become colours, transparency is laid on white, CMYK becomes RGB without a colour profile, an
    EXIF orientation is applied, and a suffix that lies is named. Embedded colour profiles are not
    applied. What has no such meaning raises DataError with the reason alone: 16 bits or floats
    (their white is not said), several pages or frames, other colour spaces, too many pixels,
    damage of any sort.
    """
    if not content:
        raise DataError("empty")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                _refuse_unclear(opened, content)
                upright, notes = _upright(opened)
                picture, changes = _coloured(upright, channels)
                notes += changes
                kind = opened.format or ""
        except DataError:
            raise
        except UnidentifiedImageError:
            raise DataError(_what_else(content)) from None
        except Image.DecompressionBombError:
            raise DataError(_too_large("it has too many pixels")) from None
        except Exception as error:  # damaged files make decoders raise nearly anything
            raise DataError(f"damaged ({' '.join(str(error).split())[:100]})") from None
    if suffix.lower() not in SUFFIXES[kind]:
        notes.append(f"is a {'JPEG' if kind == 'MPO' else kind} in spite of its name")
    notes += sorted(
        {f"Pillow warns: {' '.join(str(item.message).split())[:100]}" for item in heard}
    )
    plane = np.asarray(picture, np.uint8)
    return Decoded(plane[None] if channels == 1 else plane.transpose(2, 0, 1), tuple(notes))


def _too_large(found: str) -> str:
    return f"{found}, it could be a decompression bomb; at most {LARGEST_FILE} pixels are decoded"


def _refuse_unclear(opened: Image.Image, content: bytes) -> None:
    """Look at the header alone: nothing is decoded before this has passed."""
    if opened.width * opened.height > LARGEST_FILE:
        raise DataError(_too_large(f"{opened.width}x{opened.height}"))
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format != "MPO":
        raise DataError(f"{frames} frames or pages; save the one that is meant")
    if opened.mode == "F":
        values = np.asarray(opened)
        raise DataError(
            f"floating point{'' if np.isfinite(values).all() else ' with NaN or infinity'}; "
            "whether 1 or 255 is white is not said, convert to 8 bits"
        )
    bits = [8]
    if opened.format == "PNG":
        bits = [content[24]]
    elif opened.format == "TIFF":
        tags = getattr(opened, "tag_v2", {})
        bits = list(tags.get(258, (1,)))
        # Pillow reads signed bytes as if they were not: what is below 0 would come out white.
        formats = tags.get(SAMPLE_FORMAT, (1,))
        signs = set(formats if isinstance(formats, tuple) else (formats,))
        if max(bits) <= 8 and not signs <= {1, 4}:
            raise DataError(
                f"a TIFF of {SIGNED.get(max(signs), 'unknown')} numbers; what is black and what is "
                "white is not said, convert to unsigned 8 bits"
            )
    if max(bits) > 8 or opened.mode.startswith("I"):
        raise DataError(
            f"{max(bits)} bits a channel; which value is white is not said, convert to 8 bits"
        )
    if opened.mode in ("LAB", "HSV"):
        raise DataError(f"colour space {opened.mode}; convert to RGB")


def _upright(opened: Image.Image) -> tuple[Image.Image, list[str]]:
    turned = opened.getexif().get(0x0112, 1) not in (0, 1)
    opened.load()
    upright = ImageOps.exif_transpose(opened)
    notes = ["turned upright as its EXIF orientation says"] if turned else []
    if opened.format == "MPO":
        notes.append("holds several pictures, the first was taken")
    return upright, notes


def _coloured(picture: Image.Image, channels: int) -> tuple[Image.Image, list[str]]:
    notes = []
    if picture.mode in ("P", "PA"):
        notes.append("palette turned into colours")
    if picture.has_transparency_data:
        notes.append("transparency laid on white")
        clear = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    elif picture.mode == "CMYK":
        notes.append("CMYK turned into RGB without a colour profile, colours are approximate")
    elif picture.mode not in (*PLAIN, "P", "PA"):
        notes.append(f"{picture.mode} turned into RGB")
    elif picture.mode in ("1", "L") and channels == 3:
        notes.append("grey repeated in three channels")
    # RGB first, so that a palette or CMYK comes out grey by the same luma as everything else.
    if picture.mode not in PLAIN:
        picture = picture.convert("RGB")
    return picture.convert("L" if channels == 1 else "RGB"), notes


def _what_else(content: bytes) -> str:
    for magic, meaning in MAGIC.items():
        if content.startswith(magic):
            return meaning
    try:
        content[:512].decode()
    except UnicodeDecodeError:
        return "not an image of a format that is read (PNG, JPEG, TIFF, WebP)"
    return "text, not an image"
