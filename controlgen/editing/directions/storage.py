"""Directions as self-describing .safetensors files.

The header has one metadata entry, `controlgen`: JSON that describes the direction and its feature
space, with a SHA-256 of the description and the numbers.
"""

import json
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
from controlgen.editing.expressions.files import LocalFiles, sha256_of_bytes
from controlgen.errors import ArtifactCorrupt, ConfigError, Incompatible
from controlgen.types import Direction
from controlgen.utils.files import write_bytes

SUFFIX = ".safetensors"
METADATA_KEY = "controlgen"  # in the header
TENSOR = "direction"
MAX_FILE_BYTES = 1 << 20  # a direction of 4096 numbers takes 16 kB
REMEDY = "save the direction again"


class DirectionMetadata(BaseConfig):
    """Describes a direction. `share_inside`: share of its squared length within the bank's span."""

    name: str = Field(pattern=NAME, max_length=100)
    made_by: str = Field(min_length=1, max_length=2_000, description="an expression or a note")
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
    """A Direction (d) and its metadata."""

    direction: Direction
    metadata: DirectionMetadata


def save_direction(
    path: str | Path,
    direction: Direction,
    *,
    name: str,
    made_by: str,
    space: str,
    share_inside: float,
) -> DirectionMetadata:
    """Write a Direction (d) atomically and return its metadata.

    `space` is the fingerprint of the feature space, `share_inside` the direction's
    `FeaturePCA.explained_share`. Raises ConfigError where the name has other characters than
    lower-case letters, digits and dashes, the direction is not a finite vector, or the path cannot
    be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ConfigError(f"{path}: name a file that ends in {SUFFIX}")
    content = serialize_direction(
        direction, name=name, made_by=made_by, space=space, share_inside=share_inside
    )
    try:
        write_bytes(path, content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None
    return _parse_metadata(str(path), content)[0]


def serialize_direction(
    direction: Direction, *, name: str, made_by: str, space: str, share_inside: float
) -> bytes:
    """The content of a direction file. Raises ConfigError as `save_direction`."""
    numbers = np.ascontiguousarray(direction, "<f4")
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ConfigError(f"direction {name}: must be a vector of finite numbers")
    metadata = DirectionMetadata.parse(
        {
            "name": name,
            "made_by": made_by,
            "space": space,
            "size": len(numbers),
            "share_inside": float(np.clip(share_inside, 0, 1)),  # rounding can exceed 1
            "version": __version__,
        },
        f"direction {name!r}",
    )
    entry = {"note": metadata.to_dict(), "sha256": _sha256(metadata, numbers.tobytes())}
    header = {METADATA_KEY: json.dumps(entry, sort_keys=True, allow_nan=False)}
    content = safetensors.numpy.save({TENSOR: numbers}, header)
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"direction {name}: {len(numbers)} numbers are too many for one file")
    return bytes(content)


def load_direction(path: str | Path, space: str, size: int) -> SavedDirection:
    """Read a direction for the feature space of this fingerprint and size (d).

    Raises DataError where the file is missing or too large, ArtifactCorrupt where it is damaged or
    not a direction, Incompatible where the direction belongs to another space.
    """
    return parse_direction(LocalFiles().read(str(path), MAX_FILE_BYTES), str(path), space, size)


def parse_direction(content: bytes, name: str, space: str, size: int) -> SavedDirection:
    """Parse the content of a direction file called `name`. Raises as `load_direction`."""
    numbers, metadata = _parse_content(name, content)
    if metadata.space != space:
        raise Incompatible(
            f"{name}: direction {metadata.name} belongs to feature space {metadata.space}, not "
            f"{space}; create it again with this model ({metadata.made_by})"
        )
    if metadata.size != size:
        raise Incompatible(
            f"{name}: direction {metadata.name} has {metadata.size} numbers, this feature space "
            f"{size}; create it again with this model"
        )
    return SavedDirection(numbers, metadata)


def _parse_content(path: str, content: bytes) -> tuple[Direction, DirectionMetadata]:
    try:
        tensors = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ArtifactCorrupt(f"{path}: not readable as safetensors ({error})") from None
    tensor = tensors.get(TENSOR)
    if len(tensors) != 1 or tensor is None or tensor["dtype"] != "F32":
        raise ArtifactCorrupt(f"{path}: must hold exactly one direction; {REMEDY}")
    metadata, sha256 = _parse_metadata(path, content)
    data = bytes(tensor["data"])
    if list(tensor["shape"]) != [metadata.size] or sha256 != _sha256(metadata, data):
        raise ArtifactCorrupt(f"{path}: differs from its SHA-256; {REMEDY}")
    numbers = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ArtifactCorrupt(f"{path}: holds numbers that are not finite; {REMEDY}")
    return numbers, metadata


def _parse_metadata(path: str, content: bytes) -> tuple[DirectionMetadata, Any]:
    # safetensors has validated the header: eight bytes of its length, then JSON.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    try:
        entry = json.loads(header["__metadata__"][METADATA_KEY])
        fields, sha256 = entry["note"], entry["sha256"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ArtifactCorrupt(
            f"{path}: is a safetensors file without a direction; use one saved by controlgen"
        ) from None
    try:
        return DirectionMetadata.parse(fields, "its metadata"), sha256
    except ConfigError as error:
        # The file may come from a stranger: its words are cut short and made printable.
        reason = "".join(char if char.isprintable() else "?" for char in str(error)[:300])
        raise ArtifactCorrupt(f"{path}: {reason}; {REMEDY}") from None


def _sha256(metadata: DirectionMetadata, data: bytes) -> str:
    description = json.dumps(metadata.to_dict(), sort_keys=True, allow_nan=False)
    return sha256_of_bytes(description.encode() + b"\n" + data)
