"""Image files as they are found in the world: which there are, and what becomes of each."""

import io
import os
import stat
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from controlgen.errors import DataError
from controlgen.images import LARGEST_FILE

LARGEST_BYTES = 1 << 30  # an image file beyond this is not read into memory
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")  # what Pillow is asked to recognise; an MPO is a JPEG
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

Picture = UInt8[np.ndarray, "c h w"]


class Listed(NamedTuple):
    """A regular file below a root: name relative to it with forward slashes, bytes, mtime in ns."""

    name: str
    size: int
    changed: int


class Decoded(NamedTuple):
    """A picture (c h w) and what had to be done to it, in words; nothing said, nothing done."""

    picture: Picture
    notes: tuple[str, ...]


def listed(root: Path) -> tuple[list[Listed], dict[str, str]]:
    """Every regular file below `root` at any depth by name, and what cannot be looked at and why.

    Hidden files and folders are ignored. Links are followed, but a folder is read once only: one
    that is reached again (a loop, a second link) is named among the unusable. Raises DataError
    where the root is no folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name the one that holds the images")
    files: list[Listed] = []
    unusable: dict[str, str] = {}
    read = {_identity(root.stat())}
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            name = folder.relative_to(root).as_posix()
            unusable[name] = f"a folder that cannot be listed ({error.strerror})"
            continue
        for path in (path for path in paths if not path.name.startswith(".")):
            name, state, why = _look(path, root)
            if state is None:
                unusable[name] = why
            elif not stat.S_ISDIR(state.st_mode):
                files.append(Listed(name, state.st_size, state.st_mtime_ns))
            elif _identity(state) in read:
                unusable[name] = "leads back to a folder that is read already"
            else:
                read.add(_identity(state))
                pending.append(path)
    return sorted(files), unusable


def _look(path: Path, root: Path) -> tuple[str, os.stat_result | None, str]:
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        return repr(name), None, "its name is not UTF-8; rename it"
    try:
        state = path.stat()
    except OSError as error:
        return name, None, f"a link that leads nowhere ({error.strerror})"
    if not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
        return name, None, "not a regular file (a pipe, a socket or a device)"
    return name, state, ""


def _identity(state: os.stat_result) -> tuple[int, int]:
    return (state.st_dev, state.st_ino)


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
        bits = list(getattr(opened, "tag_v2", {}).get(258, (1,)))
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
