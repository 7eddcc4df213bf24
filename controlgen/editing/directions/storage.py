"""Directions as files: one small .safetensors whose header says what the direction is.

The header's metadata holds one entry, `controlgen`: a note in JSON with the SHA-256 of the note and
of the numbers. No other file is needed to know in which feature space the direction has a meaning.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from pydantic import Field, field_validator
from safetensors import SafetensorError

from controlgen._version import __version__
from controlgen.base_config import BaseConfig
from controlgen.config import NAME
from controlgen.editing.expressions.files import LocalFiles
from controlgen.errors import ArtifactCorrupt, ConfigError, Incompatible
from controlgen.types import Direction
from controlgen.utils.files import atomic_write

SUFFIX = ".safetensors"
ENTRY = "controlgen"  # of the metadata
TENSOR = "direction"
LARGEST_FILE = 1 << 20  # bytes; a direction of 4096 numbers has 16 kB
AGAIN = "save the direction again"


class DirectionNote(BaseConfig):
    """What is known of a direction. `share_inside` is its squared length inside the bank's span."""

    name: str = Field(pattern=NAME, max_length=100)
    made_by: str = Field(min_length=1, max_length=2_000, description="an expression, or words")
    space: str = Field(min_length=1, max_length=64, description="fingerprint of the feature space")
    size: int = Field(ge=1, description="d of the feature space")
    share_inside: float = Field(ge=0, le=1)
    version: str = Field(min_length=1, max_length=64, description="of controlgen")
    format: Literal[1] = 1

    @field_validator("made_by", "space", "version")
    @classmethod
    def _printable(cls, text: str) -> str:
        if not text.isprintable():
            raise ValueError("must be one line of printable text")
        return text


class SavedDirection(NamedTuple):
    """A Direction (d) and the note it came with."""

    direction: Direction
    note: DirectionNote


def save_direction(
    path: str | Path,
    direction: Direction,
    *,
    name: str,
    made_by: str,
    space: str,
    share_inside: float,
) -> DirectionNote:
    """Write a Direction (d), whole or not at all; returns the note that the file carries.

    `space` is the fingerprint of the feature space, `share_inside` what Statistics.share_inside
    says of the direction. Raises ConfigError for a name other than small letters, digits and
    dashes, a direction that is no finite vector, and a path that cannot be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ConfigError(f"{path}: name a file that ends in {SUFFIX}")
    content = direction_bytes(
        direction, name=name, made_by=made_by, space=space, share_inside=share_inside
    )
    _write(path, content)
    return _note(str(path), content)[0]


def direction_bytes(
    direction: Direction, *, name: str, made_by: str, space: str, share_inside: float
) -> bytes:
    """The content of such a file. Raises likewise."""
    numbers = np.ascontiguousarray(direction, "<f4")
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ConfigError(f"direction {name}: must be one row of finite numbers")
    note = DirectionNote.parse(
        {
            "name": name,
            "made_by": made_by,
            "space": space,
            "size": len(numbers),
            # Rounding may leave a share just above 1.
            "share_inside": float(np.clip(share_inside, 0, 1)),
            "version": __version__,
        },
        f"direction {name!r}",
    )
    body = {"note": note.effective(), "sha256": _digest(note, numbers.tobytes())}
    metadata = {ENTRY: json.dumps(body, sort_keys=True, allow_nan=False)}
    content = safetensors.numpy.save({TENSOR: numbers}, metadata)
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"direction {name}: {len(numbers)} numbers are too many for one file")
    return bytes(content)


def load_direction(path: str | Path, space: str, size: int) -> SavedDirection:
    """Read a direction for the feature space of this fingerprint and size (d).

    Raises DataError where there is no such file or one too large, ArtifactCorrupt where it is no
    direction file or one byte of it is off, Incompatible where it belongs to another space.
    """
    return direction_of(LocalFiles().read(str(path), LARGEST_FILE), str(path), space, size)


def direction_of(content: bytes, name: str, space: str, size: int) -> SavedDirection:
    """The same of a file's content; `name` is what errors call it."""
    numbers, note = _parsed(name, content)
    if note.space != space:
        raise Incompatible(
            f"{name}: direction {note.name} belongs to feature space {note.space}, this one is "
            f"{space}; make it again here ({note.made_by})"
        )
    if note.size != size:
        raise Incompatible(
            f"{name}: direction {note.name} has {note.size} numbers, this feature space {size}; "
            "make it again here"
        )
    return SavedDirection(numbers, note)


def _parsed(path: str, content: bytes) -> tuple[Direction, DirectionNote]:
    # The numbers and the note, both as they were written.
    try:
        tensors = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ArtifactCorrupt(f"{path}: not readable as safetensors ({error})") from None
    tensor = tensors.get(TENSOR)
    if len(tensors) != 1 or tensor is None or tensor["dtype"] != "F32":
        raise ArtifactCorrupt(f"{path}: holds other tensors than one direction; {AGAIN}")
    note, digest = _note(path, content)
    data = bytes(tensor["data"])
    if list(tensor["shape"]) != [note.size] or digest != _digest(note, data):
        raise ArtifactCorrupt(f"{path}: differs from its SHA-256; {AGAIN}")
    numbers = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ArtifactCorrupt(f"{path}: holds numbers that are not finite; {AGAIN}")
    return numbers, note


def _note(path: str, content: bytes) -> tuple[DirectionNote, Any]:
    # The header was read without complaint before: eight bytes of its length, then JSON.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    try:
        body = json.loads(header["__metadata__"][ENTRY])
        described, digest = body["note"], body["sha256"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ArtifactCorrupt(
            f"{path}: is a safetensors file but not a direction; name one that was saved as such"
        ) from None
    try:
        return DirectionNote.parse(described, "its note"), digest
    except ConfigError as error:
        # What a stranger's file says is repeated only where it is short and can be printed.
        told = "".join(sign if sign.isprintable() else "?" for sign in str(error)[:300])
        raise ArtifactCorrupt(f"{path}: {told}; {AGAIN}") from None


def _digest(note: DirectionNote, data: bytes) -> str:
    described = json.dumps(note.effective(), sort_keys=True, allow_nan=False)
    return hashlib.sha256(described.encode() + b"\n" + data).hexdigest()


def _write(path: Path, content: bytes) -> None:
    try:
        with atomic_write(path) as partial, partial.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None
