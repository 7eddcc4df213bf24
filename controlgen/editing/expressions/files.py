"""Files that an expression names: those of this machine, or only uploaded ones."""

import glob
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Protocol

from controlgen.errors import DataError
from controlgen.image_io import IMAGE_SUFFIXES, MAX_BYTES, list_image_files

MAX_MATCHES = 10_000  # of one pattern


class FileSource(Protocol):
    """File contents by name."""

    def glob(self, pattern: str) -> list[str]:
        """Sorted names of the image files that match a pattern such as new/*.png, or in a folder.

        Raises DataError where there are none.
        """

    def read(self, name: str, max_bytes: int = MAX_BYTES) -> bytes:
        """The content of a file. Raises DataError where it is missing or too large."""


class LocalFiles:
    """All files that the user of this machine can read."""

    def glob(self, pattern: str) -> list[str]:
        """See FileSource.

        Raises DataError also for an invalid name, an unreadable folder, and more than 10 000
        matches; the search stops there.
        """
        try:
            if Path(pattern).is_dir():
                return [str(path) for path in list_image_files(Path(pattern))]
            files = sorted(islice(_iter_matches(pattern), MAX_MATCHES + 1))
        except OSError as error:
            raise DataError(f"{pattern}: cannot be searched ({error.strerror})") from None
        except (ValueError, RecursionError):
            raise DataError(f"{pattern}: is not a valid file name or pattern") from None
        if not files:
            raise DataError(f"{pattern}: matches no image file ({', '.join(IMAGE_SUFFIXES)})")
        if len(files) > MAX_MATCHES:
            raise DataError(
                f"{pattern}: matches more than {MAX_MATCHES} images; use a narrower pattern"
            )
        return [str(path) for path in files]

    def read(self, name: str, max_bytes: int = MAX_BYTES) -> bytes:
        """See FileSource. Regular files only: a pipe or a device would block or never end."""
        path = Path(name)
        try:
            if not path.is_file():
                raise DataError(f"{name}: no such file")
            with path.open("rb") as file:
                content = file.read(max_bytes + 1)
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror})") from None
        return _check_size(name, content, max_bytes)


def _iter_matches(pattern: str) -> Iterator[Path]:
    # A generator, so that the caller can stop a search that does not end.
    for name in glob.iglob(pattern, recursive=True):
        path = Path(name)
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            yield path


@dataclass(frozen=True)
class UploadedFiles:
    """File contents that came with a request, by name; no other file can be read."""

    contents: Mapping[str, bytes]

    def glob(self, pattern: str) -> list[str]:
        """See FileSource. * and ? also match a slash; a folder's name matches all files below."""
        folder = pattern.rstrip("/") + "/"
        names = [
            name
            for name in sorted(self.contents)
            if Path(name).suffix.lower() in IMAGE_SUFFIXES
            and (fnmatchcase(name, pattern) or name.startswith(folder))
        ]
        if not names:
            raise DataError(f"{pattern}: matches no uploaded image{self._listing()}")
        return names

    def read(self, name: str, max_bytes: int = MAX_BYTES) -> bytes:
        """See FileSource."""
        if name not in self.contents:
            raise DataError(f"{name}: was not uploaded{self._listing()}")
        return _check_size(name, self.contents[name], max_bytes)

    def _listing(self) -> str:
        names = sorted(self.contents)
        listing = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        return f"; uploaded files: {listing or 'none'}"


def _check_size(name: str, content: bytes, max_bytes: int) -> bytes:
    if len(content) > max_bytes:
        raise DataError(f"{name}: larger than {max_bytes >> 20} MiB")
    return content


def sha256_of_bytes(content: bytes) -> str:
    """SHA-256 in hexadecimal, as in recipes."""
    return hashlib.sha256(content).hexdigest()
