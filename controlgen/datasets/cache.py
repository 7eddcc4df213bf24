"""Decoded pixels at a model's size, kept on disk so that training does not decode again."""

import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import IOBase, RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen.errors import DataError
from controlgen.types import Pixels, Shape
from controlgen.utils.progress import TqdmBar, TqdmReporter

PIXELS, IDENTITY, DONE = "pixels.npy", "identity.json", "done"
FORMAT = 1
CHECKPOINT_SECONDS = 1.0  # finished items are made durable this often, and at the end
POLL_SECONDS = 0.2  # how often a waiting process looks again


def canonical(identity: Mapping[str, Any]) -> str:
    """One spelling of an identity: JSON with sorted keys; paths are written as text."""
    return json.dumps(identity, sort_keys=True, allow_nan=False, default=os.fspath)


def prepared_folder(cache: Path, kind: str, identity: Mapping[str, Any]) -> Path:
    """Where `prepared` keeps the pixels of this identity; callers may lay reports beside them."""
    digest = hashlib.sha256(canonical(identity).encode()).hexdigest()[:12]
    return cache / "prepared" / f"{kind}-{digest}"


def prepared(
    cache: Path,
    kind: str,
    identity: Mapping[str, Any],
    count: int,
    shape: Shape,
    produce: Callable[[int], Iterator[Pixels]],
) -> NDArray[np.uint8]:
    """A read-only memory map (count c h w) of what `produce` yields, made once per identity.

    `produce(start)` yields blocks uint8 (n c h w), item `start` first. They are appended to a
    `.partial` folder which is renamed when all `count` items are there; a killed call is continued
    by the next one, from the last items made durable. A second process waits for the first. What
    is found damaged (another size or shape than promised) is made anew.

    Raises DataError where nothing is to be kept, where the cache cannot be written, or where
    `produce` yields other images than announced.
    """
    folder = prepared_folder(cache, kind, identity)
    if count < 1:
        raise DataError(f"{kind}: there are no images to prepare; look at the source")
    if (found := _kept(folder, count, shape)) is not None:
        return found
    with _writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    title = f"prepare {folder.name}"
    with _alone(folder, title, count):
        # Another process may have finished while this one waited.
        if (found := _kept(folder, count, shape)) is not None:
            return found
        partial = folder.with_name(f"{folder.name}.partial")
        with _writing(folder):
            start = _begin(partial, canonical(identity), count, shape)
        with TqdmReporter().meter(title, count, start, "images") as meter:
            _append(partial, folder, count, shape, start, produce(start), meter)
        with _writing(folder):
            _publish(partial, folder)
    if (found := _kept(folder, count, shape)) is None:
        raise DataError(f"{folder}: was damaged while it was written; look at the disk")
    return found


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a small file atomically, fsynced: it is there whole or not at all. Raises DataError.

    The folder must exist. Two processes that write the same file do not mix: the last one wins.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with _writing(path), partial.open("wb") as opened:
        opened.write(content.encode() if isinstance(content, str) else content)
        _sync(opened)
        partial.replace(path)


def _header(count: int, shape: Shape) -> bytes:
    buffer = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def _kept(folder: Path, count: int, shape: Shape) -> NDArray[np.uint8] | None:
    # Whole means: the header promises what is asked for and the file is exactly as long as that.
    header = _header(count, shape)
    path = folder / PIXELS
    try:
        with path.open("rb") as opened:
            promised = opened.read(len(header))
        if promised != header or path.stat().st_size != len(header) + count * _size(shape):
            return None
        mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    except (OSError, ValueError):
        return None


def _size(shape: Shape) -> int:
    return shape[0] * shape[1] * shape[2]


def _begin(partial: Path, identity: str, count: int, shape: Shape) -> int:
    # What a killed call left is continued where it is of the same header; else it is begun anew.
    header, pixels = _header(count, shape), partial / PIXELS
    try:
        done = int((partial / DONE).read_text())
        with pixels.open("rb") as opened:
            sound = opened.read(len(header)) == header and 0 <= done <= count
        if sound and pixels.stat().st_size >= len(header) + done * _size(shape):
            return done
    except (OSError, ValueError):
        pass
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    described = {"format": FORMAT, "count": count, "shape": shape, "identity": json.loads(identity)}
    write_whole(partial / IDENTITY, json.dumps(described, indent=1) + "\n")
    write_whole(pixels, header)
    write_whole(partial / DONE, "0")
    return 0


def _append(
    partial: Path,
    folder: Path,
    count: int,
    shape: Shape,
    done: int,
    blocks: Iterator[Pixels],
    meter: TqdmBar,
) -> None:
    """Write blocks behind the `done` items; plain writes, so that a full disk is an error."""
    with _writing(folder):
        opened = (partial / PIXELS).open("r+b", buffering=0)
    with opened:
        with _writing(folder):
            opened.truncate(len(_header(count, shape)) + done * _size(shape))
            opened.seek(0, os.SEEK_END)
        saved = time.monotonic()
        for block in blocks:
            if block.dtype != np.uint8 or block.shape[1:] != shape or done + len(block) > count:
                raise DataError(
                    f"{folder}: {block.dtype} {block.shape} came where at most {count - done} "
                    f"images of {shape} were announced; the source has changed, run again"
                )
            with _writing(folder):
                _write_all(opened, np.ascontiguousarray(block).tobytes())
                done += len(block)
                if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                    # The count follows the pixels to disk, never the other way round.
                    _sync(opened)
                    write_whole(partial / DONE, str(done))
                    saved = time.monotonic()
            meter.to(done)
        if done != count:
            raise DataError(
                f"{folder}: {done} images came instead of {count}; the source has changed, "
                "run again"
            )
        with _writing(folder):
            _sync(opened)
            write_whole(partial / DONE, str(done))


def _write_all(opened: RawIOBase, content: bytes) -> None:
    # Unbuffered, so that nothing is left to fail when the file is closed; a write may be short.
    rest = memoryview(content)
    while rest:
        rest = rest[opened.write(rest) or 0 :]


def _publish(partial: Path, folder: Path) -> None:
    (partial / DONE).unlink()
    for leftover in partial.glob(".*.partial"):
        leftover.unlink()
    _sync_folder(partial)
    if folder.exists():  # found damaged: what is whole was returned before
        shutil.rmtree(folder)
    partial.rename(folder)
    _sync_folder(folder.parent)


@contextmanager
def _alone(folder: Path, title: str, count: int) -> Iterator[None]:
    """Hold the lock of a folder, waiting for another process if need be."""
    with _writing(folder):
        lock = folder.with_name(f".{folder.name}.lock").open("w")
    with lock:
        if not _try_lock(lock.fileno()):
            with TqdmReporter().meter(
                f"{title} (another process is at it)", count, 0, "images"
            ) as meter:
                while not _try_lock(lock.fileno()):
                    meter.to(_progress(folder))
                    time.sleep(POLL_SECONDS)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise DataError(
            f"the cache cannot be locked ({error.strerror}); set CONTROLGEN_DATA to a folder on a "
            "local disk"
        ) from None
    return True


def _progress(folder: Path) -> int:
    try:
        return int((folder.with_name(f"{folder.name}.partial") / DONE).read_text())
    except (OSError, ValueError):
        return 0


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); free the disk or set "
            "CONTROLGEN_DATA to a folder that can"
        ) from None


def _sync(opened: IOBase) -> None:
    opened.flush()
    os.fsync(opened.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
