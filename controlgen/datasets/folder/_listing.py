"""Image files as they are found in the world: which there are."""

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from controlgen.errors import DataError
from controlgen.image_io import USUAL

BLOCK, BLOCKS = 1 << 20, 64  # bytes of a sample, and samples of a large file


class Listed(NamedTuple):
    """A regular file below a root: name relative to it with forward slashes, bytes, mtime in ns."""

    name: str
    size: int
    changed: int


def listed(root: Path) -> tuple[list[Listed], dict[str, str], int]:
    """Every regular file below `root` at any depth by name, and what cannot be looked at and why.

    Hidden files and folders are ignored; last comes how many of them could have held images. Links
    are followed, but a folder is read once only: one that is reached again (a loop, a second link)
    is named among the unusable. Raises DataError where the root is no folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name the one that holds the images")
    files: list[Listed] = []
    unusable: dict[str, str] = {}
    hidden = 0
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
        for path in paths:
            if path.name.startswith("."):
                hidden += path.suffix.lower() in USUAL or path.is_dir()
                continue
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
    return sorted(files), unusable, hidden


def sampled_digest(path: Path) -> str:
    """SHA-256 of a file's bytes; of a large file's, BLOCKS samples of them. Raises DataError."""
    running = hashlib.sha256()
    try:
        with path.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            places = list(range(0, size, BLOCK))
            if len(places) > BLOCKS:
                places = [(size - BLOCK) * step // (BLOCKS - 1) for step in range(BLOCKS)]
            for place in places:
                opened.seek(place)
                running.update(opened.read(BLOCK))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return running.hexdigest()


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
