"""Published weights that are downloads: found in torch's cache, fetched into it, known by hash."""

import hashlib
from pathlib import Path

import torch

from controlgen.errors import ArtifactMissing


def cached(url: str) -> Path:
    """Where torch's own loader keeps the file behind `url`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def fetched(url: str, sha256: str, name: str, way: str) -> Path:
    """The file behind `url`, in torch's cache; `sha256` may be the first digits alone.

    Raises ArtifactMissing where it is neither there nor to be had, and says `way`, the other way.
    """
    path = cached(url)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), sha256, progress=False)
        except (OSError, RuntimeError) as error:
            raise ArtifactMissing(
                f"{name}: its standard weights cannot be fetched ({str(error)[:100]}); put "
                f"{path.name} into {path.parent}, or {way}"
            ) from None
    return path


def digest(path: Path, name: str) -> str:
    """SHA-256 of a file in hex digits. Raises ArtifactMissing where it cannot be read."""
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactMissing(
            f"{path}: cannot be read ({error.strerror}); name the weights of {name}"
        ) from None
