"""Files that an expression names: those of this machine, or only what was given with a request."""

import glob
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Protocol

from controlgen.errors import DataError
from controlgen.image_io import LARGEST_BYTES, USUAL, image_files

MOST_FILES = 10_000  # that one pattern may match


class Files(Protocol):
    """Contents by name."""

    def matching(self, pattern: str) -> list[str]:
        """Names of the image files that a pattern such as new/*.png matches, or a folder holds.

        In order of their names. Raises DataError where there is none.
        """

    def read(self, name: str, most: int = LARGEST_BYTES) -> bytes:
        """The content of a file of at most so many bytes. Raises DataError, which names it."""


class LocalFiles:
    """Whatever this machine's user may read."""

    def matching(self, pattern: str) -> list[str]:
        """See Files. Raises DataError also where more than 10 000 match, without seeing them all.

        And where the system does not take the name, or does not let us look.
        """
        try:
            if Path(pattern).is_dir():
                return [str(path) for path in image_files(Path(pattern))]
            files = sorted(islice(_matched(pattern), MOST_FILES + 1))
        except OSError as error:
            raise DataError(f"{pattern}: cannot be looked for ({error.strerror})") from None
        except (ValueError, RecursionError):
            raise DataError(f"{pattern}: cannot be the name of a file") from None
        if not files:
            raise DataError(f"{pattern}: matches no image file ({', '.join(USUAL)})")
        if len(files) > MOST_FILES:
            raise DataError(
                f"{pattern}: matches more than {MOST_FILES} images, no more are read; name fewer"
            )
        return [str(path) for path in files]

    def read(self, name: str, most: int = LARGEST_BYTES) -> bytes:
        """See Files. Regular files only: a pipe or a device would block or never end."""
        path = Path(name)
        try:
            if not path.is_file():
                raise DataError(f"{name}: no such file")
            with path.open("rb") as opened:
                content = opened.read(most + 1)
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror})") from None
        return _small(name, content, most)


def _matched(pattern: str) -> Iterator[Path]:
    # As they are found, so that whoever has enough of them can stop.
    for name in glob.iglob(pattern, recursive=True):
        path = Path(name)
        if path.suffix.lower() in USUAL and path.is_file():
            yield path


@dataclass(frozen=True)
class GivenFiles:
    """Contents that came with a request, by name; nothing else can be read."""

    contents: Mapping[str, bytes]

    def matching(self, pattern: str) -> list[str]:
        """See Files. * and ? also match a slash; a folder's name stands for all below it."""
        inside = pattern.rstrip("/") + "/"
        found = [
            name
            for name in sorted(self.contents)
            if Path(name).suffix.lower() in USUAL
            and (fnmatchcase(name, pattern) or name.startswith(inside))
        ]
        if not found:
            raise DataError(f"{pattern}: matches no image that was given{self._given()}")
        return found

    def read(self, name: str, most: int = LARGEST_BYTES) -> bytes:
        """See Files."""
        if name not in self.contents:
            raise DataError(f"{name}: was not given{self._given()}")
        return _small(name, self.contents[name], most)

    def _given(self) -> str:
        names = sorted(self.contents)
        told = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        return f"; there is {told}" if names else "; nothing was"


def _small(name: str, content: bytes, most: int) -> bytes:
    if len(content) > most:
        raise DataError(f"{name}: larger than {most >> 20} MiB")
    return content


def digest(content: bytes) -> str:
    """SHA-256 as it stands in recipes."""
    return hashlib.sha256(content).hexdigest()
