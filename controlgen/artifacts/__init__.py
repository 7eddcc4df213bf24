"""Artifacts on disk: found, written atomically, verified, listed."""

from controlgen.artifacts.store import Ref, Store, open_artifact, read_manifest, verify

__all__ = ["Ref", "Store", "open_artifact", "read_manifest", "verify"]
