"""Artifacts on disk: written atomically, verified when opened, listed."""

from controlgen.artifacts.store import ArtifactRef, Store, open_artifact, read_manifest, verify

__all__ = ["ArtifactRef", "Store", "open_artifact", "read_manifest", "verify"]
