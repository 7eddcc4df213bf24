"""Image folders: what becomes of every kind of file, how pictures are cut, how splits go."""

import csv
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from controlgen.datasets import ImageFolder
from controlgen.datasets._sources import in_test, joined
from controlgen.errors import ConfigError, DataError
from controlgen.spec import Spec

SIDE = 16  # pixels of every sound picture here, and the model's size: nothing is resized
COLON = Path(__file__).parents[2] / "shared" / "data" / "histology-colon"


def scene(seed: int = 0) -> np.ndarray:
    """Smooth colours (16 16 3), so that JPEG keeps them nearly."""
    corners = np.random.default_rng(seed).integers(30, 220, (2, 2, 3), np.uint8)
    return np.asarray(Image.fromarray(corners).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


RGB = Image.fromarray(scene())
GREY = RGB.convert("L")
CLEAR = np.dstack([scene(), np.tile(np.array([0, 255], np.uint8), (SIDE, SIDE // 2))])
ON_WHITE = np.where(CLEAR[..., 3:] == 0, 255, scene()).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PNG, JPEG = encoded(RGB, "PNG"), encoded(RGB, "JPEG", quality=95, subsampling=0)


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG written by hand, so that its header can promise anything."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(rows))
    body = chunk(b"IHDR", header) + b"".join(extra) + data + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def turned() -> bytes:
    """Stored lying on its side, with the EXIF orientation that puts it upright."""
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

# What is left out, and what the report must say of it.
BAD: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "empty"),
    "text.png": (b"these are words\n", "text, not an image"),
    "noise.jpg": (bytes(range(128, 256)) * 9, "not an image of a format that is read"),
    "header-only.png": (PNG[:20], "a PNG that cannot be read|damaged"),
    "truncated.png": (PNG[: len(PNG) // 2], "damaged"),
    "truncated.jpg": (JPEG[: len(JPEG) * 3 // 4], "damaged"),
    "tail-lost.jpg": (JPEG[:-2], "damaged"),
    "truncated.tif": (encoded(RGB, "TIFF")[:200], "TIFF that cannot be read|damaged"),
    "truncated.webp": (encoded(RGB, "WEBP")[:60], "damaged|no readable WebP"),
    "bit-flipped.png": (broken(PNG), "damaged"),
    "grey16.png": (encoded(DEEP, "PNG"), "16 bits a channel"),
    "rgb16.png": (png(SIDE, SIDE, 16, 2, (b"\0" + bytes(96)) * SIDE), "16 bits a channel"),
    "grey16.tif": (encoded(DEEP, "TIFF"), "16 bits a channel"),
    "int32.tif": (encoded(RGB.convert("L").convert("I"), "TIFF"), "32 bits a channel"),
    "floats.tif": (encoded(FLOATS, "TIFF"), "floating point; whether"),
    "nan.tif": (encoded(NAN, "TIFF"), "floating point with NaN"),
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
    "Thumbs.db": (b"\xd0\xcf\x11\xe0" + bytes(64), "not an image of a format"),
}

# What is used: its content, what the report must say (empty: nothing), what it must look like, and
# how far off (in 0..255) that may be.
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
        "palette turned into colours$",
        np.asarray(RGB.quantize(8).convert("RGB")),
        0,
    ),
    "clear.png": (encoded(Image.fromarray(CLEAR), "PNG"), "laid on white", ON_WHITE, 0),
    "clear-grey.png": (
        encoded(Image.fromarray(CLEAR).convert("LA"), "PNG"),
        "laid on white",
        np.dstack([np.where(CLEAR[..., 3] == 0, 255, np.asarray(GREY))] * 3),
        0,
    ),
    "clear-colour.png": (
        encoded(Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)), "PNG", transparency=0),
        "laid on white",
        np.full((SIDE, SIDE, 3), 255),
        0,
    ),
    "cmyk.jpg": (
        encoded(RGB.convert("CMYK"), "JPEG", quality=95, subsampling=0),
        "CMYK turned into RGB",
        scene(),
        8,
    ),
    "cmyk.tif": (encoded(RGB.convert("CMYK"), "TIFF"), "CMYK turned into RGB", scene(), 1),
    "turned.png": (turned(), "turned upright", scene(), 0),
    "a-png.jpg": (encoded(RGB, "PNG", compress_level=2), "is a PNG in spite", scene(), 0),
    "no-suffix": (
        encoded(RGB, "JPEG", quality=96, subsampling=0),
        "is a JPEG in spite",
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
    """Every file of the tables above and what only a file system can hold, at several depths."""
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
    """The report of the salted folder, by the last part of each name."""
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
def test_what_is_left_out(report: dict[str, Any], name: str) -> None:
    item = report["files"][name]
    assert item["pieces"] == 0
    why = BAD[name][1] if name in BAD else PLACES[name]
    assert any(part in item["why"] for part in why.split("|")), item["why"]
    (line,) = (
        line for line in report["table"].splitlines() if line.startswith(f"| {item['file']} |")
    )
    assert item["why"] in line and line.endswith("| left out |")


@pytest.mark.parametrize("name", list(GOOD))
def test_what_is_used(report: dict[str, Any], name: str) -> None:
    _, note, expected, tolerance = GOOD[name]
    item = report["files"][name]
    assert item["pieces"] == 1 and item["why"] == ""
    said = "; ".join(item["notes"])
    assert bool(said) == bool(note)
    assert note.rstrip("$") in said and (not note.endswith("$") or said == note[:-1])
    difference = report["pixels"][name].transpose(1, 2, 0).astype(int) - expected
    assert np.abs(difference).max() <= tolerance


def test_nothing_is_unaccounted_for(report: dict[str, Any]) -> None:
    assert set(report["files"]) == {*BAD, *GOOD, *PLACES}
    assert len(BAD) + len(PLACES) >= 20
    sides = [report["spec"].judging(split).open() for split in ("train", "test")]
    assert sum(len(side) for side in sides) == len(GOOD)


def test_one_line_says_how_many_and_where(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    report["spec"].open()
    (line,) = capsys.readouterr().err.splitlines()
    bad, files = len(BAD) + len(PLACES), len(report["files"])
    noted = sum(bool(note) for _, note, *_ in GOOD.values())
    assert f"{bad} of {files} files left out, {noted} used with a note" in line
    assert Path(line.rpartition("see ")[2]).read_text().startswith("# Files of ")


def test_refusing_is_one_line(report: dict[str, Any]) -> None:
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


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": PNG})
    with open(os.fsencode(root) + b"/\xff.png", "wb") as opened:
        opened.write(PNG)
    spec = ImageFolder(root=root, size=SIDE, cache=tmp_path / "cache", on_bad="refuse")
    with pytest.raises(DataError, match="its name is not UTF-8"):
        spec.open()


def folder(place: Path, files: dict[str, bytes]) -> Path:
    root = place / "images"
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def unlike(count: int, name: Callable[[int], str] = "{:03d}.png".format) -> dict[str, bytes]:
    return {name(index): encoded(Image.fromarray(scene(index)), "PNG") for index in range(count)}


def both(spec: ImageFolder) -> list[Any]:
    return [spec.judging("train").open(), spec.judging("test").open()]


def test_the_centre_square_is_resized_with_antialiasing(tmp_path: Path) -> None:
    # Red left and right of a fine checkerboard: the square is all board, and no dot survives.
    picture = np.full((64, 96, 3), (255, 0, 0), np.uint8)
    picture[:, 16:80] = (np.indices((64, 64)).sum(0) % 2 * 255)[..., None]
    root = folder(tmp_path, {"a.png": encoded(Image.fromarray(picture), "PNG")})
    found = ImageFolder(root=root, size=16, cache=tmp_path).open().pixels(np.array([0]))[0]
    assert np.abs(found[:, 2:-2, 2:-2].astype(int) - 127).max() <= 2
    assert np.abs(found.astype(int) - 127).max() < 20


def test_tiles_are_where_they_were(tmp_path: Path) -> None:
    # Three by two squares of one colour each, and a remainder of another one on two sides.
    colours = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    picture = np.zeros((50, 80, 3), np.uint8)
    picture[:48, :72] = colours.repeat(24, 0).repeat(24, 1)
    files = {"a.png": encoded(Image.fromarray(picture), "PNG"), **unlike(1, "b/{}.png".format)}
    root = folder(tmp_path, files)
    spec = ImageFolder(root=root, size=8, cut="tiles", tile=24, cache=tmp_path)
    data = spec.open()
    assert len(data) == 6 and set(data.groups(np.arange(6))) == {0}
    expected = np.broadcast_to(colours.reshape(6, 3, 1, 1), (6, 3, 8, 8))
    np.testing.assert_array_equal(data.pixels(np.arange(6)), expected)
    with pytest.raises(DataError, match="of one source, so there is no test split"):
        spec.judging("test").open()


def test_grey_folders(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": PNG})
    data = ImageFolder(root=root, size=SIDE, channels=1, cache=tmp_path).open()
    assert data.image_shape == (1, SIDE, SIDE)
    np.testing.assert_array_equal(data.pixels(np.array([0]))[0, 0], np.asarray(GREY))


@pytest.mark.parametrize(
    "setting",
    [
        {"cut": "tiles"},
        {"tile": 64},
        {"cut": "tiles", "tile": 32, "size": 64},
        {"channels": 1, "stain": {"kind": "macenko"}},
        {"channels": 2},
        {"test_share": 1.0},
        {"content": "abc"},
        {"colour": True},
    ],
    ids=lambda setting: "-".join(setting),
)
def test_settings_that_do_not_go_together(setting: dict[str, Any]) -> None:
    assert ImageFolder.parse({"root": "x"}).size == 64
    with pytest.raises(ConfigError):
        ImageFolder.parse({"root": "x", **setting})


def test_classes_are_the_first_folders(tmp_path: Path) -> None:
    files = {
        **unlike(6, "benign/a/{}.png".format),
        **unlike(4, "tumour/{}.png".format),
        "top.png": PNG,
    }
    root = folder(tmp_path, files)
    spec = ImageFolder(root=root, size=SIDE, classes="folders", cache=tmp_path / "cache")
    labels = np.concatenate([side.labels(np.arange(len(side))) for side in both(spec)])
    assert np.bincount(labels).tolist() == [6, 4]
    assert [side.class_names for side in both(spec)] == [("benign", "tumour")] * 2
    with pytest.raises(DataError, match=r"top\.png \(lies in no class folder\)"):
        spec.model_copy(update={"on_bad": "refuse"}).open()
    with pytest.raises(DataError, match="has no classes"):
        ImageFolder(root=root, size=SIDE, cache=tmp_path / "cache").open().labels(np.array([0]))


def table(root: Path, lines: list[str]) -> None:
    (root / "groups.csv").write_text("\n".join(["file,class,source_tile", *lines]) + "\n")


def test_splits_go_by_source_of_the_table(tmp_path: Path) -> None:
    files = unlike(40)
    root = folder(tmp_path, {**files, "stray.png": PNG})
    table(root, [f"{name},{'xy'[i % 2]},tile {i // 5}" for i, name in enumerate(sorted(files))])
    spec = ImageFolder(root=root, size=SIDE, classes="folders", cache=tmp_path / "cache")
    train, test = both(spec)
    everything = [np.arange(len(side)) for side in (train, test)]
    assert (len(train), len(test)) == (30, 10)  # 8 sources of 5: two of them are nearest to 0.2
    groups = [
        set(side.groups(all_of)) for side, all_of in zip((train, test), everything, strict=True)
    ]
    assert not groups[0] & groups[1] and len(groups[0] | groups[1]) == 8
    assert train.class_names == ("x", "y")
    # Every image is found again with its own class and source.
    for side, all_of in zip((train, test), everything, strict=True):
        for pixels, label, group in zip(
            side.pixels(all_of), side.labels(all_of), side.groups(all_of), strict=True
        ):
            (index,) = (i for i in range(40) if (scene(i).transpose(2, 0, 1) == pixels).all())
            assert (label, group) == (index % 2, index // 5)
    with pytest.raises(DataError, match=r"stray\.png \(not in groups\.csv"):
        spec.model_copy(update={"on_bad": "refuse"}).open()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name;class\n", "has no column file and no column source_tile"),
        (b"", "has no column file"),
        (b"file,class,source_tile\n000.png,a,1\n000.png,a,1\n", "line 3: 000.png comes twice"),
        (b"file,class,source_tile\n000.png,a,\n", "line 2: a cell is empty or one too many"),
        (b"file,class,source_tile\n000.png,a\n", "line 2: a cell is empty or one too many"),
        (b"file,class,source_tile\n000.png,a,1,2\n", "line 2: a cell is empty or one too many"),
        (b"file,class,source_tile\n\xff\xfe,a,1\n", "cannot be read as comma-separated UTF-8"),
        (b'file,class,source_tile\n"000.png,a,1\n', "cannot be read as comma-separated UTF-8"),
        (b"file,class,source_tile\ngone.png,a,1\n", "names gone.png, not to be found below"),
        (b"file,class,source_tile\n../x.png,a,1\n", "names ../x.png, not to be found below"),
    ],
    ids=["columns", "empty", "twice", "no-cell", "short", "long", "bytes", "quote", "gone", "out"],
)
def test_a_table_that_cannot_be_trusted(tmp_path: Path, content: bytes, message: str) -> None:
    root = folder(tmp_path, {**unlike(2), "groups.csv": content})
    with pytest.raises(DataError, match=message) as caught:
        ImageFolder(root=root, size=SIDE, cache=tmp_path / "cache").open()
    assert "\n" not in str(caught.value)


def test_a_table_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    content = "\ufefffile,source_tile\r\n000.png,a\r\n001.png,b\r\n".encode()
    root = folder(tmp_path, {**unlike(2), "groups.csv": content})
    train, test = both(ImageFolder(root=root, size=SIDE, cache=tmp_path / "cache"))
    assert (len(train), len(test)) == (1, 1)


names_of_groups = st.lists(st.sampled_from([f"source {i}" for i in range(30)]), min_size=1)


@settings(max_examples=60)
@given(groups=names_of_groups, share=st.floats(0.05, 0.95))
def test_a_split_never_separates_a_group_and_is_as_near_as_it_can(
    groups: list[str], share: float
) -> None:
    test = in_test(groups, share)
    for group in set(groups):
        assert (
            len({chosen for chosen, name in zip(test, groups, strict=True) if name == group}) == 1
        )
    if len(set(groups)) == 1:
        assert not test.any()
        return
    assert test.any() and not test.all()
    # No group alone could be moved to come nearer by more than the order of groups allows.
    largest = max(groups.count(name) for name in groups)
    inside = share * len(groups)
    slack = max(largest, 1)
    assert abs(test.sum() - inside) <= slack


@settings(max_examples=40)
@given(more=st.lists(st.integers(0, 10**6), max_size=20, unique=True))
def test_files_that_are_added_move_only_the_border(more: list[int]) -> None:
    old = [f"old {i}" for i in range(200)]
    before = in_test(old, 0.2)
    after = in_test([*old, *(f"new {i}" for i in more)], 0.2)[:200]
    assert (before != after).sum() <= len(more)
    # What moves, moves one way: the order of the groups is theirs alone.
    assert (after <= before).all() or (after >= before).all()


def test_files_of_the_same_bytes_are_of_one_group() -> None:
    groups = {"a": "1", "b": "2", "c": "3", "d": "2", "e": "4"}
    digests = {"a": "x", "b": "x", "c": "y", "d": "y", "e": "z"}
    found = joined(groups, digests)
    assert found == {"a": "1", "b": "1", "c": "1", "d": "1", "e": "4"}


def test_the_cache_knows_when_a_file_has_changed(tmp_path: Path) -> None:
    root = folder(tmp_path, unlike(5))
    spec = ImageFolder(root=root, size=SIDE, cache=tmp_path / "cache")
    before = [side.pixels(np.arange(len(side))) for side in both(spec)]
    (root / "002.png").write_bytes(encoded(Image.fromarray(scene(99)), "PNG"))
    after = [side.pixels(np.arange(len(side))) for side in both(spec)]
    changed = sum((a != b).any(axis=(1, 2, 3)).sum() for a, b in zip(before, after, strict=True))
    assert changed == 1


def test_the_content_names_the_data_wherever_it_lies(tmp_path: Path) -> None:
    files = unlike(4)
    specs = [
        ImageFolder(root=folder(tmp_path / place, files), size=SIDE, cache=tmp_path / place)
        for place in ("one", "two")
    ]
    first, second = (spec.pinned() for spec in specs)
    assert specs[0].fingerprint() != specs[1].fingerprint()
    assert first.fingerprint() == second.fingerprint() and first.root != second.root
    assert first.judging("test").fingerprint() != first.fingerprint()
    # Another byte, another content; what is pinned then refuses to open.
    (first.root / "003.png").write_bytes(PNG)
    assert first.pinned().content != second.content
    with pytest.raises(DataError, match="holds other images"):
        first.open()
    assert len(second.open()) == 3
    # A file that is no image changes nothing.
    (second.root / "notes.txt").write_text("words")
    assert second.pinned().content == second.content


class Inverted(Spec):
    """A way of handling stain that can be told from none."""

    kind: str = "inverted"

    def measure(self, pixels: np.ndarray) -> int:
        return int(pixels[0, :, 0, 0].sum())

    def apply(self, pixels: np.ndarray, profile: int) -> np.ndarray:
        return 255 - pixels

    def content(self) -> dict[str, Any]:
        return self.identity()


def test_stain_is_measured_on_the_file_and_applied_to_its_tiles(tmp_path: Path) -> None:
    root = folder(tmp_path, unlike(3))
    plain = ImageFolder(root=root, size=8, cut="tiles", tile=8, cache=tmp_path / "cache")
    stained = plain.model_copy(update={"stain": Inverted()})
    indices = np.arange(len(plain.open()))
    np.testing.assert_array_equal(
        stained.open().pixels(indices), 255 - plain.open().pixels(indices)
    )


@pytest.mark.skipif(not COLON.is_dir(), reason="the real colon tiles are not there")
def test_colon_tiles_are_split_by_source(tmp_path: Path) -> None:
    with (COLON / "groups.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    groups = [row["source_tile"] for row in rows]
    test = in_test(groups, 0.2)
    assert len(rows) == 2000 and abs(test.mean() - 0.2) < 0.01
    assert not {g for g, t in zip(groups, test, strict=True) if t} & {
        g for g, t in zip(groups, test, strict=True) if not t
    }
    # A part of them, through the files.
    kept = [row for row in rows if row["source_tile"].endswith("7")]
    root = tmp_path / "colon"
    for row in kept:
        (root / row["file"]).parent.mkdir(parents=True, exist_ok=True)
        (root / row["file"]).symlink_to(COLON / row["file"])
    table(root, [f"{row['file']},{row['class']},{row['source_tile']}" for row in kept])
    train, held = both(ImageFolder(root=root, classes="folders", cache=tmp_path / "cache"))
    assert len(train) + len(held) == len(kept)
    assert train.class_names == ("adenocarcinoma", "benign")
    assert not set(train.groups(np.arange(len(train)))) & set(held.groups(np.arange(len(held))))
