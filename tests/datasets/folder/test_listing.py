"""Image folders: every kind of file is used or reported."""

import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlgen.datasets import ImageFolder
from controlgen.errors import DataError
from image_folders import GREY, JPEG, PNG, RGB, SIDE, encoded, folder, scene

CLEAR = np.dstack([scene(), np.tile(np.array([0, 255], np.uint8), (SIDE, SIDE // 2))])
ON_WHITE = np.where(CLEAR[..., 3:] == 0, 255, scene()).astype(np.uint8)


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A hand-written PNG, whose header may be wrong."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(rows))
    body = chunk(b"IHDR", header) + b"".join(extra) + data + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def turned() -> bytes:
    """A rotated image with the EXIF orientation that restores it."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    return encoded(RGB.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("a.png", PNG)
    return buffer.getvalue()


def broken(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


FLOATS = Image.fromarray(np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE))
NAN = Image.fromarray(np.full((SIDE, SIDE), np.nan, np.float32))
DEEP = Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE))
FRAMES = [RGB.rotate(90), RGB.rotate(180)]
TEXT_BOMB = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 23)))


# Files that are left out, and the reason in the report.
BAD: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "empty"),
    "text.png": (b"these are words\n", "text, not an image"),
    "noise.jpg": (bytes(range(128, 256)) * 9, "not an image of a supported format"),
    "header-only.png": (PNG[:20], "a PNG that cannot be read|damaged"),
    "truncated.png": (PNG[: len(PNG) // 2], "damaged"),
    "truncated.jpg": (JPEG[: len(JPEG) * 3 // 4], "damaged"),
    "tail-lost.jpg": (JPEG[:-2], "damaged"),
    "truncated.tif": (encoded(RGB, "TIFF")[:200], "TIFF that cannot be read|damaged"),
    "truncated.webp": (encoded(RGB, "WEBP")[:60], "damaged|not a readable WebP"),
    "bit-flipped.png": (broken(PNG), "damaged"),
    "grey16.png": (encoded(DEEP, "PNG"), "16 bits per channel"),
    "rgb16.png": (png(SIDE, SIDE, 16, 2, (b"\0" + bytes(96)) * SIDE), "16 bits per channel"),
    "grey16.tif": (encoded(DEEP, "TIFF"), "16 bits per channel"),
    "int32.tif": (encoded(RGB.convert("L").convert("I"), "TIFF"), "32 bits per channel"),
    "floats.tif": (encoded(FLOATS, "TIFF"), "floating point; its white level"),
    "nan.tif": (encoded(NAN, "TIFF"), "floating point with NaN"),
    "signed.tif": (encoded(GREY, "TIFF", tiffinfo={339: 2}), "a TIFF of signed numbers"),
    "lab.tif": (encoded(RGB.convert("LAB"), "TIFF"), "colour space LAB"),
    "tiny.png": (encoded(RGB.crop((0, 0, 15, 16)), "PNG"), "15x16 is smaller than size 16"),
    "bomb.png": (png(60000, 60000, 8, 2, b"\0"), "decompression bomb"),
    "large.png": (png(9000, 8000, 1, 0, b"\0"), "9000x8000, it could be a decompression bomb"),
    "text-bomb.png": (png(SIDE, SIDE, 8, 0, bytes(17 * 16), TEXT_BOMB), "damaged"),
    "animated.png": (encoded(RGB, "PNG", save_all=True, append_images=FRAMES), "3 frames"),
    "animated.webp": (encoded(RGB, "WEBP", save_all=True, append_images=FRAMES), "3 frames"),
    "pages.tif": (encoded(RGB, "TIFF", save_all=True, append_images=FRAMES), "3 frames or pages"),
    "gif.png": (encoded(GREY, "GIF"), "a GIF"),
    "bmp.bmp": (encoded(RGB, "BMP"), "a BMP"),
    "paper.pdf": (b"%PDF-1.7\n", "a PDF"),
    "archive.png": (archive(), "a zip archive"),
    "Thumbs.db": (b"\xd0\xcf\x11\xe0" + bytes(64), "not an image of a supported format"),
}


# Files that are used: content, note in the report (empty: none), expected pixels, and tolerance in
# 0..255.
GOOD: dict[str, tuple[bytes, str, np.ndarray, int]] = {
    "plain.png": (PNG, "", scene(), 0),
    "plain.jpg": (JPEG, "", scene(), 6),
    "plain.tif": (encoded(RGB, "TIFF"), "", scene(), 0),
    "plain.webp": (encoded(RGB, "WEBP", lossless=True), "", scene(), 0),
    "upper.PNG": (encoded(RGB, "PNG", compress_level=1), "", scene(), 0),
    "grey.png": (encoded(GREY, "PNG"), "grey repeated", np.dstack([np.asarray(GREY)] * 3), 0),
    "two-level.png": (
        encoded(GREY.convert("1"), "PNG"),
        "grey repeated",
        np.dstack([np.asarray(GREY.convert("1"), np.uint8) * 255] * 3),
        0,
    ),
    "palette.png": (
        encoded(RGB.quantize(8), "PNG"),
        "palette converted to colours$",
        np.asarray(RGB.quantize(8).convert("RGB")),
        0,
    ),
    "clear.png": (encoded(Image.fromarray(CLEAR), "PNG"), "composited on white", ON_WHITE, 0),
    "clear-grey.png": (
        encoded(Image.fromarray(CLEAR).convert("LA"), "PNG"),
        "composited on white",
        np.dstack([np.where(CLEAR[..., 3] == 0, 255, np.asarray(GREY))] * 3),
        0,
    ),
    "clear-colour.png": (
        encoded(Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)), "PNG", transparency=0),
        "composited on white",
        np.full((SIDE, SIDE, 3), 255),
        0,
    ),
    "cmyk.jpg": (
        encoded(RGB.convert("CMYK"), "JPEG", quality=95, subsampling=0),
        "CMYK converted to RGB",
        scene(),
        8,
    ),
    "cmyk.tif": (encoded(RGB.convert("CMYK"), "TIFF"), "CMYK converted to RGB", scene(), 1),
    "turned.png": (turned(), "rotated by its EXIF", scene(), 0),
    "a-png.jpg": (encoded(RGB, "PNG", compress_level=2), "is a PNG despite", scene(), 0),
    "no-suffix": (
        encoded(RGB, "JPEG", quality=96, subsampling=0),
        "is a JPEG despite",
        scene(),
        6,
    ),
    "two-views.jpg": (
        encoded(
            RGB, "MPO", quality=95, subsampling=0, save_all=True, append_images=[RGB.rotate(90)]
        ),
        "several pictures, the first",
        scene(),
        6,
    ),
    "twin.png": (PNG, "the same bytes as deep/er/plain.png", scene(), 0),
}


PLACES = {
    "loop": "leads back to a folder",
    "nowhere.png": "a link that leads nowhere",
    "circle.png": "a link that leads nowhere",
    "pipe.png": "not a regular file",
}


@pytest.fixture(scope="module")
def salted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file of the tables above and special files, at several depths."""
    root = tmp_path_factory.mktemp("salted") / "images"
    (root / "deep" / "er").mkdir(parents=True)
    for name, (content, *_) in {**BAD, **GOOD}.items():
        (root / ("deep/er" if name == "plain.png" else "") / name).write_bytes(content)
    (root / ".hidden.png").write_bytes(PNG)
    (root / ".cache").mkdir()
    (root / ".cache" / "inside.png").write_bytes(PNG)
    (root / "deep" / "loop").symlink_to(root)
    (root / "nowhere.png").symlink_to(root / "gone.png")
    (root / "circle.png").symlink_to(root / "circle.png")
    os.mkfifo(root / "pipe.png")
    return root


@pytest.fixture(scope="module")
def report(salted: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report on the salted folder by file name."""
    cache = tmp_path_factory.mktemp("cache")
    spec = ImageFolder(root=salted, size=SIDE, cache=cache)
    data = spec.open()
    (path,) = (cache / "prepared").glob("folder-*/report.json")
    files = {Path(item["file"]).name: item for item in json.loads(path.read_text())["files"]}
    pictures = np.load(path.with_name("pixels.npy"))
    used = [name for name, item in files.items() if item["pieces"]]
    table = path.with_name("report.md").read_text()
    pixels = dict(zip(used, pictures, strict=True))
    return {"files": files, "pixels": pixels, "table": table, "data": data, "spec": spec}


@pytest.mark.parametrize("name", [*BAD, *PLACES])
def test_unusable_files_are_left_out(report: dict[str, Any], name: str) -> None:
    item = report["files"][name]
    assert item["pieces"] == 0
    why = BAD[name][1] if name in BAD else PLACES[name]
    assert any(part in item["why"] for part in why.split("|")), item["why"]
    (line,) = (
        line for line in report["table"].splitlines() if line.startswith(f"| {item['file']} |")
    )
    assert item["why"] in line and line.endswith("| left out |")


@pytest.mark.parametrize("name", list(GOOD))
def test_usable_files_are_decoded(report: dict[str, Any], name: str) -> None:
    _, note, expected, tolerance = GOOD[name]
    item = report["files"][name]
    assert item["pieces"] == 1 and item["why"] == ""
    message = "; ".join(item["notes"])
    assert bool(message) == bool(note)
    assert note.rstrip("$") in message and (not note.endswith("$") or message == note[:-1])
    difference = report["pixels"][name].transpose(1, 2, 0).astype(int) - expected
    assert np.abs(difference).max() <= tolerance


def test_every_file_is_in_the_report(report: dict[str, Any]) -> None:
    assert set(report["files"]) == {*BAD, *GOOD, *PLACES}
    assert "2 hidden entries (an image file or a folder whose name begins" in report["table"]
    assert len(BAD) + len(PLACES) >= 20
    sides = [report["spec"].with_split(split).open() for split in ("train", "test")]
    assert sum(len(side) for side in sides) == len(GOOD)


def test_stderr_summarises_the_report(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    report["spec"].open()
    (line,) = capsys.readouterr().err.splitlines()
    bad, files = len(BAD) + len(PLACES), len(report["files"])
    noted = sum(bool(note) for _, note, *_ in GOOD.values())
    assert f"{bad} of {files} files left out, {noted} used with a note" in line
    assert Path(line.rpartition("see ")[2]).read_text().startswith("# Files of ")


def test_refusal_is_one_line(report: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"files cannot be used: .* more; all in .*report\.md"):
        report["spec"].model_copy(update={"on_bad": "refuse"}).open()


def test_all_bad_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    spec = ImageFolder(root=root, cache=tmp_path)
    with pytest.raises(DataError, match="none of 0 files"):
        spec.open()
    (root / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of 1 files .* first a\.png \(empty\)"):
        spec.open()
    with pytest.raises(DataError, match="no such folder"):
        ImageFolder(root=root / "a.png", cache=tmp_path).open()


def test_an_unreadable_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path, {"a.png": PNG, "b.png": PNG})
    before = Path.read_bytes

    def forbidden(path: Path) -> bytes:
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied")
        return before(path)

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    spec = ImageFolder(root=root, size=SIDE, cache=tmp_path / "cache", on_bad="refuse")
    with pytest.raises(DataError, match=r"b\.png \(cannot be read \(Permission denied\)\)"):
        spec.open()


def test_a_name_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": PNG})
    with open(os.fsencode(root) + b"/\xff.png", "wb") as opened:
        opened.write(PNG)
    spec = ImageFolder(root=root, size=SIDE, cache=tmp_path / "cache", on_bad="refuse")
    with pytest.raises(DataError, match="its name is not UTF-8"):
        spec.open()
