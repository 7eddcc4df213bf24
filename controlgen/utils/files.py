"""Files: checks before work starts, atomic writes, JSON, SHA-256, reproduction commands."""

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from controlgen.errors import ArtifactCorrupt, ArtifactMissing, ConfigError


def ensure_writable_file(path: Path, option: str = "", suffixes: Sequence[str] = ()) -> None:
    """Raise ConfigError if no file of this name can be written; an existing one may be replaced.

    `option` is the command-line option that names the file, for the message; `suffixes` are the
    allowed endings.
    """
    label, endings = f"{option} {path}".lstrip(), " or ".join(suffixes)
    advice = f"name a file that ends in {endings}" if suffixes else "name a file"
    if suffixes and path.suffix.lower() not in suffixes:
        raise ConfigError(f"{label}: {advice}")
    with _refuse_unwritable(label):
        if path.is_dir():
            raise ConfigError(f"{label}: is a folder, {advice}")
        _check_parent(path, label)
        _try_to_write(_partial(path))


def ensure_writable_dir(path: Path, option: str = "") -> None:
    """Raise ConfigError unless this folder can be written to or created.

    Only the folder itself is ever created: a missing parent is more likely a typing mistake.
    """
    label = f"{option} {path}".lstrip()
    with _refuse_unwritable(label):
        if path.is_dir():
            _try_to_write(path / ".partial")
            return
        if path.exists():
            raise ConfigError(f"{label}: is no folder")
        _check_parent(path, label)
        _try_to_write(_partial(path))


def reproduction_command(*words: object, **options: object) -> str:
    """The shell command that writes a picture again, without -o.

    Options without a value are omitted; True becomes a flag.
    """
    parts = [str(word) for word in words]
    for name, value in options.items():
        if value is True:
            parts.append(f"--{name}")
        elif value is not None and value is not False and value != "":
            parts.append(f"--{name}={value}")
    return shlex.join(["controlgen", *parts])


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary name next to `path`; it replaces `path` at the end, fsynced.

    A failure leaves `path` as it was and no temporary file. Processes that write the same file
    at the same time do not mix: the last one wins.
    """
    partial = _partial(path)
    try:
        yield partial
        sync_to_disk(partial)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file atomically."""
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replace a UTF-8 text file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically. Raises ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises ArtifactMissing, ArtifactCorrupt."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactMissing(f"{path}: no such file") from None
    except ValueError as error:
        raise ArtifactCorrupt(f"{path}: not JSON ({error})") from None


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file in hex digits, read in chunks."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def sync_to_disk(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _check_parent(path: Path, label: str) -> None:
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{label}: the folder {path.parent} does not exist")


def _try_to_write(path: Path) -> None:
    # Only an attempt reveals rights, full or virtual file systems such as /proc, and long names.
    path.open("ab").close()
    path.unlink()


@contextmanager
def _refuse_unwritable(label: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{label}: cannot be written ({error.strerror})") from None
