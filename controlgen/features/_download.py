"""Published weights: found in torch's cache or downloaded into it, verified by hash."""

import hashlib
from pathlib import Path

import torch

from controlgen.errors import ArtifactMissing


def cache_path(url: str) -> Path:
    """The path of torch's cache for the file at `url`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def download(url: str, sha256: str, name: str, advice: str) -> Path:
    """The file at `url` in torch's cache; `sha256` may be its first digits alone.

    Raises ArtifactMissing with `advice` if it is neither cached nor can be downloaded.
    """
    path = cache_path(url)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), sha256, progress=False)
        except (OSError, RuntimeError) as error:
            raise ArtifactMissing(
                f"{name}: its standard weights cannot be fetched ({str(error)[:100]}); put "
                f"{path.name} into {path.parent}, or {advice}"
            ) from None
    return path


def sha256_of_weights(path: Path, name: str) -> str:
    """SHA-256 of a file in hex digits. Raises ArtifactMissing if it cannot be read."""
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactMissing(
            f"{path}: cannot be read ({error.strerror}); name the weights of {name}"
        ) from None
