"""The artifact store: artifacts are written atomically and verified when read."""

import hashlib
import importlib.metadata
import json
import platform
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from controlgen.errors import ArtifactCorrupt, ArtifactMissing, ConfigError, ControlGenError
from controlgen.utils.files import sha256_of_file, sync_to_disk, write_text

MANIFEST = "manifest.json"
LOCK = ".lock"
FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, order=True)
class ArtifactRef:
    """The kind and name of an artifact, e.g. gan/mnist-1f3c9a2b7d40; passed between tasks."""

    kind: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `kind/name`. Raises ConfigError."""
        kind, slash, name = text.strip("/").rpartition("/")
        if not slash or not re.fullmatch(r"[a-z0-9-]+", kind) or not NAME.fullmatch(name):
            raise ConfigError(
                f"{text}: write an artifact as kind/name; `controlgen list` shows them"
            )
        return cls(kind, name)

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def fingerprint(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("-")[2]


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json: origin, versions and the SHA-256 of every file."""

    kind: str
    name: str
    fingerprint: str
    parents: dict[str, str]
    seconds: float
    versions: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)  # relative path -> SHA-256
    format: int = FORMAT

    def to_text(self) -> str:
        """Canonical JSON whose last entry is the SHA-256 of all the others."""
        body = {key: getattr(self, key) for key in self.__dataclass_fields__}
        body["sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        return json.dumps(body, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_text(cls, text: str, where: Path) -> Self:
        """Parse and verify. Raises ArtifactCorrupt if a single byte differs."""
        try:
            body = json.loads(text)
            body.pop("sha256")
            manifest = cls(**body)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ArtifactCorrupt(
                f"{where}: not a manifest of this project; make it again"
            ) from None
        if manifest.to_text() != text:
            raise ArtifactCorrupt(f"{where}: has been altered; make the artifact again")
        return manifest


class Store:
    """The artifacts below a root folder: <root>/<kind>/<name>-<fingerprint>/."""

    def __init__(self, root: str | Path = "artifacts") -> None:
        self.root = Path(root)

    def path(self, ref: ArtifactRef) -> Path:
        """The folder of an artifact, existing or not.

        Args:
            ref: the artifact.

        Returns:
            <root>/<kind>/<name>.
        """
        return self.root / ref.kind / ref.name

    def has(self, ref: ArtifactRef) -> bool:
        """Whether an artifact exists and verifies; a damaged one is moved aside, never used or
        deleted.

        Args:
            ref: the artifact.

        Returns:
            True if its folder is complete and unaltered.
        """
        folder = self.path(ref)
        if not folder.is_dir():
            return False
        try:
            verify(folder)
        except (ArtifactCorrupt, ArtifactMissing):
            _set_aside(folder)
            return False
        return True

    def refs(self) -> list[ArtifactRef]:
        """All complete artifacts.

        Returns:
            References sorted by kind and name.
        """
        folders = (path.parent for path in self.root.glob(f"*/*/{MANIFEST}"))
        return sorted(ArtifactRef(p.parent.name, p.name) for p in folders if _finished(p))

    def open(self, ref: ArtifactRef) -> Path:
        """Verify an artifact and return its folder.

        Args:
            ref: the artifact.

        Returns:
            The folder.

        Raises:
            ArtifactMissing: if there is none.
            ArtifactCorrupt: if a file differs from the manifest.
        """
        return open_artifact(self.path(ref))

    @contextmanager
    def create(self, ref: ArtifactRef, parents: Mapping[str, ArtifactRef | str]) -> Iterator[Path]:
        """Create an artifact: yield a `.partial` folder to fill, which is renamed at the end.

        Files of an earlier, killed attempt are still in it, for resuming.

        Args:
            ref: the new artifact.
            parents: role -> artifact (or text) that it was made from.

        Yields:
            The folder to fill.

        Raises:
            ConfigError: if the store cannot be written.
            ControlGenError: if another process is making the artifact, or has just made it.
        """
        final = self.path(ref)
        partial = final.with_name(f"{final.name}.partial")
        try:
            partial.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"store {self.root}: cannot be written ({error.strerror})") from None
        with _exclusive(partial):
            _refuse_made(final, partial)
            start = time.monotonic()
            before = _read_seconds(partial)
            try:
                yield partial
            finally:
                seconds = before + time.monotonic() - start
                _write_seconds(partial, seconds)
            described = {role: str(parent) for role, parent in parents.items()}
            write_manifest(partial, ref.kind, ref.name, ref.fingerprint, described, seconds)
            partial.rename(final)
            sync_to_disk(final.parent)

    def making(
        self, ref: ArtifactRef, parents: Mapping[str, ArtifactRef | str]
    ) -> AbstractContextManager[Path]:
        """The same as `create`."""
        return self.create(ref, parents)


def write_manifest(
    folder: Path, kind: str, name: str, fingerprint: str, parents: dict[str, str], seconds: float
) -> Manifest:
    """Write the manifest over all files of `folder`, everything fsynced."""
    for hidden in folder.glob(".*"):
        if hidden.is_file() and hidden.name != LOCK:
            hidden.unlink()
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (MANIFEST, LOCK))
    for path in files:
        sync_to_disk(path)
    digests = {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files}
    manifest = Manifest(kind, name, fingerprint, parents, round(seconds, 1), _versions(), digests)
    write_text(folder / MANIFEST, manifest.to_text())
    (folder / LOCK).unlink(missing_ok=True)
    return manifest


def open_artifact(folder: str | Path) -> Path:
    """Verify an artifact's folder and return it. Raises ArtifactMissing, ArtifactCorrupt."""
    path = Path(folder)
    if not (path / MANIFEST).is_file():
        raise ArtifactMissing(f"{path}: no artifact there; `controlgen list` shows what there is")
    verify(path)
    return path


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact. Raises ArtifactMissing, ArtifactCorrupt."""
    try:
        text = (folder / MANIFEST).read_bytes().decode()
    except FileNotFoundError:
        raise ArtifactMissing(f"{folder}: holds no {MANIFEST}, so it is no artifact") from None
    except UnicodeDecodeError:
        raise ArtifactCorrupt(f"{folder / MANIFEST}: has been altered; make it again") from None
    return Manifest.from_text(text, folder / MANIFEST)


def verify(folder: Path) -> Manifest:
    """Compare every file with the manifest. Raises ArtifactCorrupt with the first mismatch."""
    manifest = read_manifest(folder)
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ArtifactCorrupt(f"{path}: is missing; make the artifact again")
        if sha256_of_file(path) != digest:
            raise ArtifactCorrupt(f"{path}: differs from its SHA-256; make the artifact again")
    return manifest


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise ControlGenError(
            f"{folder}: another process is making this artifact; wait for it or stop it"
        ) from None


def _refuse_made(final: Path, partial: Path) -> None:
    # Another process may have finished between the caller's check and the lock.
    if final.exists():
        (partial / LOCK).unlink()
        partial.rmdir()
        raise ControlGenError(
            f"{final}: another process has just made this artifact; run again to use it"
        )


def _finished(folder: Path) -> bool:
    return not folder.name.endswith(".partial") and ".damaged" not in folder.name


def _set_aside(folder: Path) -> None:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.damaged{number}")).exists():
        number += 1
    folder.rename(aside)


def _read_seconds(partial: Path) -> float:
    try:
        return float((partial / ".seconds").read_text())
    except (OSError, ValueError):
        return 0.0


def _write_seconds(partial: Path, seconds: float) -> None:
    if partial.is_dir():
        (partial / ".seconds").write_text(str(seconds))


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("controlgen", "torch", "open_clip_torch", "scikit-learn", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
