"""Names of artifacts and the provenance written into their pictures."""

from typing import Any

from controlgen._version import __version__
from controlgen.artifacts import ArtifactRef
from controlgen.base_config import BaseConfig

VERSION = {
    "gan": 1,
    "bank": 1,
    "features": 1,
    "map": 3,
    "report": 7,
    "clip": 1,
    "encoder": 1,
    "spaces": 1,
    "comparison": 3,
}
GRID = 100  # images of a grid, ten per row
STATE = "state.safetensors"
RESEARCH = "Synthetic images for research; they show what a small model learned, not the world."
WHAT_CLIP = (
    "A small CLIP (image and text tower) for open_clip, trained on procedural captioned images "
    "only. It has seen no photograph, no scan and no label of any data set."
)
WHAT_ENCODER = (
    "An encoder trained on unlabelled images alone (VICReg, Bardes et al. 2022): views of an image "
    "get the same feature. `controlgen` opens it as the feature space `self-supervised`."
)
CLIP_LIMITS = (
    "Knows nothing but what its world draws; other pictures get meaningless features.",
    "Understands short sentences in the manner of its captions only.",
)


def artifact_ref(kind: str, name: str, config: BaseConfig, *parents: str) -> ArtifactRef:
    """The ArtifactRef of a config with its parents' fingerprints."""
    fingerprint = config.fingerprint(*parents, version=VERSION[kind])
    return ArtifactRef(kind, f"{name}-{fingerprint}")


def provenance(ref: ArtifactRef, recipe: str, seed: int) -> dict[str, Any]:
    """The provenance that every PNG carries."""
    return {
        "synthetic": "true",
        "model": str(ref),
        "seed": str(seed),
        "recipe": recipe,
        "version": __version__,
    }
