"""How much of a real image is left when it is projected: what to know before trusting its edits."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controlgen.errors import DataError
from controlgen.evaluation.context import Embedding, Perceptual
from controlgen.metrics.bootstrap import Interval, interval
from controlgen.metrics.inversion import paired_cosine, pixel_error
from controlgen.rng import normals, stream
from controlgen.types import Features, Indices, Latents, Pixels


class Projecting(Protocol):
    """An editor: images to features, features to latents, latents to images."""

    @property
    def latent_size(self) -> int: ...

    def embed(self, pixels: Pixels) -> Features: ...

    def invert(self, features: Features) -> Latents: ...

    def generate(self, latents: Latents) -> Pixels: ...


@dataclass(frozen=True)
class FaithfulnessRow:
    """Images and what became of them: cosines -1..1, perceptual distance, pixel error 0..4."""

    images: str
    n: int
    audit_cosine: Interval
    steering_cosine: Interval
    perceptual: Interval
    pixel_error: Interval


def faithfulness(
    editor: Projecting,
    pixels: Pixels,
    audit: Embedding,
    perceptual: Perceptual,
    seed: int = 0,
    bootstraps: int = 1000,
    sources: NDArray[np.int64] | None = None,
) -> list[FaithfulnessRow]:
    """Three rows: real images (n c h w) through the map; as many generated images through it, the
    case the map was fitted on; and each real image beside a real image of another source, the
    floor, which is what a projection that kept nothing of the image but its kind would score.

    `sources` (n) names the source of each image: intervals are over sources, and the unrelated
    image is of another one. With a single source there is no such image, and no third row.
    """
    owners = np.arange(len(pixels)) if sources is None else sources
    latents = normals(seed, "faithfulness", 0, len(pixels), editor.latent_size)
    generated = editor.generate(latents)
    cases = {
        "real, projected": (pixels, _projected(editor, pixels), owners),
        "generated, projected": (generated, _projected(editor, generated), None),
    }
    if len(np.unique(owners)) > 1:
        cases["real, an unrelated real image"] = pixels, pixels[unrelated(owners, seed)], owners
    return [
        _row(name, editor, before, after, audit, perceptual, seed, bootstraps, grouped)
        for name, (before, after, grouped) in cases.items()
    ]


def projection(
    editor: Projecting, pixels: Pixels, audit: Embedding, perceptual: Perceptual
) -> FaithfulnessRow:
    """The first of these rows alone, with the seed and the bootstraps that are usual."""
    after = _projected(editor, pixels)
    return _row("real, projected", editor, pixels, after, audit, perceptual, 0, 1000, None)


def _row(
    name: str,
    editor: Projecting,
    before: Pixels,
    after: Pixels,
    audit: Embedding,
    perceptual: Perceptual,
    seed: int,
    bootstraps: int,
    sources: NDArray[np.int64] | None,
) -> FaithfulnessRow:
    measures = (
        paired_cosine(audit.embed(before), audit.embed(after)),
        paired_cosine(editor.embed(before), editor.embed(after)),
        perceptual.distance(before, after),
        pixel_error(before, after),
    )
    found = [interval(values, seed, bootstraps, sources) for values in measures]
    return FaithfulnessRow(name, len(before), *found)


def unrelated(sources: NDArray[np.int64], seed: int) -> Indices:
    """For each image an image of another source (n), drawn by seed.

    Raises DataError where all are of one source.
    """
    if len(np.unique(sources)) < 2:
        raise DataError(
            "faithfulness: all images are of one source, so none is unrelated; add some of another"
        )
    draws = stream(seed, "unrelated")
    return np.array([draws.choice(np.flatnonzero(sources != own)) for own in sources], np.int64)


def _projected(editor: Projecting, pixels: Pixels) -> Pixels:
    return editor.generate(editor.invert(editor.embed(pixels)))
