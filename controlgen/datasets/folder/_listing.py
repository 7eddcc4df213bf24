"""Regular files below a folder, and entries that cannot be read."""

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from controlgen.errors import DataError
from controlgen.image_io import IMAGE_SUFFIXES

SAMPLE_BYTES, MAX_SAMPLES = 1 << 20, 64  # a larger file is hashed by MAX_SAMPLES samples


class FileEntry(NamedTuple):
    """A regular file: POSIX path relative to the root, size in bytes, mtime in ns."""

    name: str
    size: int
    modified_ns: int


def list_files(root: Path) -> tuple[list[FileEntry], dict[str, str], int]:
    """Regular files below `root` at any depth by name; unusable entries with the reason; hidden.

    Hidden files and folders are ignored; the last value counts those that could hold images. Links
    are followed, but each folder is read once: a second path to it (a loop, another link) is
    unusable. Raises DataError if the root is not a folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name the folder that holds the images")
    files: list[FileEntry] = []
    unusable: dict[str, str] = {}
    hidden = 0
    visited = {_inode(root.stat())}
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            name = folder.relative_to(root).as_posix()
            unusable[name] = f"a folder that cannot be listed ({error.strerror})"
            continue
        for path in paths:
            if path.name.startswith("."):
                hidden += path.suffix.lower() in IMAGE_SUFFIXES or path.is_dir()
                continue
            name, state, why = _inspect(path, root)
            if state is None:
                unusable[name] = why
            elif not stat.S_ISDIR(state.st_mode):
                files.append(FileEntry(name, state.st_size, state.st_mtime_ns))
            elif _inode(state) in visited:
                unusable[name] = "leads back to a folder that is read already"
            else:
                visited.add(_inode(state))
                pending.append(path)
    return sorted(files), unusable, hidden


def sampled_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes; of a large file, of MAX_SAMPLES samples. Raises DataError."""
    running = hashlib.sha256()
    try:
        with path.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            offsets = list(range(0, size, SAMPLE_BYTES))
            if len(offsets) > MAX_SAMPLES:
                last = size - SAMPLE_BYTES
                offsets = [last * step // (MAX_SAMPLES - 1) for step in range(MAX_SAMPLES)]
            for offset in offsets:
                opened.seek(offset)
                running.update(opened.read(SAMPLE_BYTES))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return running.hexdigest()


def _inspect(path: Path, root: Path) -> tuple[str, os.stat_result | None, str]:
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


def _inode(state: os.stat_result) -> tuple[int, int]:
    return (state.st_dev, state.st_ino)
