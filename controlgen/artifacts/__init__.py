"""Artifacts on disk: found, written atomically, verified, listed."""

from controlgen.artifacts.store import ArtifactRef, Store, open_artifact, read_manifest, verify

__all__ = ["ArtifactRef", "Store", "open_artifact", "read_manifest", "verify"]
