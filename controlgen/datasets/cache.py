"""Decoded pixels at a model's size, cached on disk so that training does not decode again."""

import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from controlgen.errors import DataError
from controlgen.types import Pixels, Shape
from controlgen.utils.files import sync_to_disk, write_bytes, write_text
from controlgen.utils.progress import TqdmBar, TqdmReporter

PIXELS, IDENTITY, DONE = "pixels.npy", "identity.json", "done"
FORMAT = 1
CHECKPOINT_SECONDS = 1.0  # finished items are made durable this often, and at the end
POLL_SECONDS = 0.2  # interval at which a waiting process tries to get the lock


def canonical_json(identity: Mapping[str, Any]) -> str:
    """JSON with sorted keys; paths are written as text."""
    return json.dumps(identity, sort_keys=True, allow_nan=False, default=os.fspath)


def default_cache() -> Path:
    """$CONTROLGEN_DATA, else controlgen/ in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CONTROLGEN_DATA") or Path(base) / "controlgen")


def cache_folder(cache: Path, kind: str, identity: Mapping[str, Any]) -> Path:
    """The folder in which `cached_pixels` stores this identity; callers may add reports to it."""
    digest = hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:12]
    return cache / "prepared" / f"{kind}-{digest}"


def cached_pixels(
    cache: Path,
    kind: str,
    identity: Mapping[str, Any],
    count: int,
    shape: Shape,
    produce: Callable[[int], Iterator[Pixels]],
) -> NDArray[np.uint8]:
    """A read-only memory map (count c h w) of what `produce` yields, computed once per identity.

    `produce(start)` yields blocks uint8 (n c h w) from item `start` on. They are appended to a
    `.partial` folder, which is renamed when all `count` items are there; a call after a crash
    continues from the last durable items. A second process waits for the first. A damaged entry
    (wrong size or shape) is computed again.

    Raises DataError if `count` is 0, the cache cannot be written, or `produce` yields other images
    than announced.
    """
    entry = _Entry(cache_folder(cache, kind, identity), count, shape)
    if count < 1:
        raise DataError(f"{kind}: there are no images to prepare; check the source")
    if (cached := entry.read()) is not None:
        return cached
    with explain_write_errors(entry.folder):
        entry.folder.parent.mkdir(parents=True, exist_ok=True)
    title = f"prepare {entry.folder.name}"
    with _exclusive(entry, title):
        # Another process may have finished while this one waited.
        if (cached := entry.read()) is not None:
            return cached
        with explain_write_errors(entry.folder):
            start = entry.resume(canonical_json(identity))
        with TqdmReporter().start(title, count, start, "images") as bar:
            _append(entry, start, produce(start), bar)
        with explain_write_errors(entry.folder):
            entry.publish()
    if (cached := entry.read()) is None:
        raise DataError(f"{entry.folder}: was damaged while it was written; check the disk")
    return cached


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Raise an OSError of the block as a DataError that names `path` and the remedy."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); free the disk or set "
            "CONTROLGEN_DATA to a folder that can"
        ) from None


@dataclass(frozen=True)
class _Entry:
    """`count` images of `shape` in one folder of the cache."""

    folder: Path
    count: int
    shape: Shape

    @property
    def partial(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.partial")

    def header(self) -> bytes:
        """The npy header of the whole array."""
        buffer = io.BytesIO()
        fields = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(buffer, fields)
        return buffer.getvalue()

    def size(self, items: int) -> int:
        """Bytes of the file with this many items."""
        return len(self.header()) + items * self.shape[0] * self.shape[1] * self.shape[2]

    def read(self) -> NDArray[np.uint8] | None:
        """The finished pixels; None if they are absent or damaged."""
        path = self.folder / PIXELS
        try:
            if not self._has_header(path) or path.stat().st_size != self.size(self.count):
                return None
            mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
            return mapped
        except (OSError, ValueError):
            return None

    def items_done(self) -> int:
        """Durable items of the partial folder. Raises OSError, ValueError."""
        return int((self.partial / DONE).read_text())

    def resume(self, identity: str) -> int:
        """The item to continue from. A partial folder that does not fit is begun anew."""
        pixels = self.partial / PIXELS
        try:
            done = self.items_done()
            sound = self._has_header(pixels) and 0 <= done <= self.count
            if sound and pixels.stat().st_size >= self.size(done):
                return done
        except (OSError, ValueError):
            pass
        if self.partial.exists():
            shutil.rmtree(self.partial)
        self.partial.mkdir()
        fields = {
            "format": FORMAT,
            "count": self.count,
            "shape": self.shape,
            "identity": json.loads(identity),
        }
        write_text(self.partial / IDENTITY, json.dumps(fields, indent=1) + "\n")
        write_bytes(pixels, self.header())
        write_text(self.partial / DONE, "0")
        return 0

    def publish(self) -> None:
        """Rename the complete partial folder."""
        (self.partial / DONE).unlink()
        for leftover in self.partial.glob(".*.partial"):
            leftover.unlink()
        sync_to_disk(self.partial)
        if self.folder.exists():  # damaged: a sound folder was returned before
            shutil.rmtree(self.folder)
        self.partial.rename(self.folder)
        sync_to_disk(self.folder.parent)

    def _has_header(self, path: Path) -> bool:
        header = self.header()
        with path.open("rb") as opened:
            return opened.read(len(header)) == header


def _append(entry: _Entry, done: int, blocks: Iterator[Pixels], bar: TqdmBar) -> None:
    """Write blocks after the `done` items, unbuffered, so that a full disk is an error at once."""
    folder, count, shape = entry.folder, entry.count, entry.shape
    with explain_write_errors(folder):
        opened = (entry.partial / PIXELS).open("r+b", buffering=0)
    with opened:
        with explain_write_errors(folder):
            opened.truncate(entry.size(done))
            opened.seek(0, os.SEEK_END)
        saved = time.monotonic()
        for block in blocks:
            if block.dtype != np.uint8 or block.shape[1:] != shape or done + len(block) > count:
                raise DataError(
                    f"{folder}: {block.dtype} {block.shape} came where at most {count - done} "
                    f"images of {shape} were announced; the source has changed, run again"
                )
            with explain_write_errors(folder):
                _write_all(opened, np.ascontiguousarray(block).tobytes())
                done += len(block)
                if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                    _save_progress(entry, done)
                    saved = time.monotonic()
            bar.update_to(done)
        if done != count:
            raise DataError(
                f"{folder}: {done} images came instead of {count}; the source has changed, "
                "run again"
            )
        with explain_write_errors(folder):
            _save_progress(entry, done)


def _save_progress(entry: _Entry, done: int) -> None:
    # The count follows the pixels to disk, never the other way round.
    sync_to_disk(entry.partial / PIXELS)
    write_text(entry.partial / DONE, str(done))


def _write_all(opened: RawIOBase, content: bytes) -> None:
    # A raw write may be short.
    rest = memoryview(content)
    while rest:
        rest = rest[opened.write(rest) or 0 :]


@contextmanager
def _exclusive(entry: _Entry, title: str) -> Iterator[None]:
    """Hold the lock of an entry; wait for another process with a progress bar."""
    lock = FileLock(entry.folder.with_name(f".{entry.folder.name}.lock"))
    if not _try_lock(lock):
        title = f"{title} (another process is at it)"
        with TqdmReporter().start(title, entry.count, 0, "images") as bar:
            while not _try_lock(lock):
                with suppress(OSError, ValueError):
                    bar.update_to(entry.items_done())
                time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _try_lock(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except OSError as error:
        raise DataError(
            f"{lock.lock_file}: the cache cannot be locked ({error.strerror or error}); set "
            "CONTROLGEN_DATA to a writable folder on a local disk"
        ) from None
    return True
