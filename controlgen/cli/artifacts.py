"""`controlgen list`, `show` and `check`: inspect the artifact store."""

import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from controlgen.artifacts import Store, open_artifact, read_manifest, verify
from controlgen.cli._options import resolve_artifact
from controlgen.errors import ArtifactMissing, ControlGenError


def list_artifacts(store: Path) -> Iterator[str]:
    """A table of all artifacts. Raises ArtifactMissing where there are none."""
    opened = Store(store)
    refs = opened.refs()
    if not refs:
        raise ArtifactMissing(f"{store}: holds no artifacts; create some with `make demo`")
    rows = [("artifact", "seconds", "made from")]
    for ref in refs:
        try:
            manifest = read_manifest(opened.path(ref))
        except ControlGenError:
            rows.append((str(ref), "-", "damaged: see `controlgen check`"))
            continue
        parents = ", ".join(f"{role} {parent}" for role, parent in manifest.parents.items())
        rows.append((str(ref), f"{manifest.seconds:.0f}", parents))

    # Names are copied from here into `show`: never wrap them, however narrow the terminal.
    width = max(len(name) for name, _, _ in rows)
    for name, seconds, parents in rows:
        yield f"{name:<{width}}  {seconds:>7}  {parents}".rstrip()


def describe_artifact(name: str, store: Path) -> Iterator[str]:
    """The manifest of an artifact, its files and its model card."""
    folder = open_artifact(resolve_artifact(name, store))
    manifest = read_manifest(folder)
    yield f"{folder}\nkind {manifest.kind}, made in {manifest.seconds:.0f} s"
    for role, parent in manifest.parents.items():
        yield f"from {role} {parent}"
    yield "with " + ", ".join(f"{key} {value}" for key, value in manifest.versions.items())
    for path in manifest.files:
        yield f"  {path}  {(folder / path).stat().st_size:,} bytes"
    for card in ("README.md", "report.md"):
        if (folder / card).is_file():
            yield "\n" + (folder / card).read_text(encoding="utf-8")


def check_artifacts(name: str | None, store: Path) -> Iterator[str]:
    """Verify one artifact or all; damaged ones are reported on stderr, and the exit code is 2."""
    opened = Store(store)
    if name:
        folders = [resolve_artifact(name, store)]
    else:
        folders = [opened.path(ref) for ref in opened.refs()]
    if not folders:
        raise ArtifactMissing(f"{store}: holds no artifacts to check")
    damaged = False
    for folder in folders:
        try:
            files = len(verify(folder).files)
            yield f"{folder}: {files} files, all intact"
        except ControlGenError as error:
            damaged = True
            print(f"controlgen: {error}", file=sys.stderr)
    if damaged:
        raise typer.Exit(2)
