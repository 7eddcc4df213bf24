"""How much of a real image survives its projection through the map, before any edit."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import Editor
from controlgen.errors import DataError
from controlgen.evaluation.context import Embedding, Perceptual
from controlgen.evaluation.markdown import format_interval
from controlgen.features import EfficientNetLite0Config
from controlgen.metrics.bootstrap import Interval, mean_interval
from controlgen.metrics.inversion import paired_cosine, pixel_error
from controlgen.metrics.perceptual import open_distance
from controlgen.rng import normals, stream
from controlgen.types import Features, Indices, Latents, Pixels

AUDIT = EfficientNetLite0Config(image_size=128)  # also the space of the nearest training tile


class ProjectingEditor(Protocol):
    """The part of an editor that projects: images to features to latents to images."""

    @property
    def latent_size(self) -> int: ...

    def embed(self, pixels: Pixels) -> Features: ...

    def invert(self, features: Features) -> Latents: ...

    def generate(self, latents: Latents) -> Pixels: ...


@dataclass(frozen=True)
class ProjectionRow:
    """Images against their projections: cosines -1..1, perceptual distance, pixel error 0..4."""

    images: str
    n: int
    audit_cosine: Interval
    steering_cosine: Interval
    perceptual: Interval
    pixel_error: Interval


def projection_table(
    editor: ProjectingEditor,
    pixels: Pixels,
    audit: Embedding,
    perceptual: Perceptual,
    seed: int = 0,
    bootstraps: int = 1000,
    sources: NDArray[np.int64] | None = None,
) -> list[ProjectionRow]:
    """Compare images with their projections: real, generated, and the floor.

    The first row is of real images (n c h w) through the map, the second of as many generated
    images, on which the map was fitted. The floor pairs each real image with one of another source:
    the score of a projection that preserves nothing but the kind of image.

    `sources` (n) names the source of each image: intervals are over sources, and the unrelated
    image is of another source. With a single source there is no third row.
    """
    groups = np.arange(len(pixels)) if sources is None else sources
    latents = normals(seed, "faithfulness", 0, len(pixels), editor.latent_size)
    generated = editor.generate(latents)
    cases = {
        "real, projected": (pixels, _project(editor, pixels), groups),
        "generated, projected": (generated, _project(editor, generated), None),
    }
    if len(np.unique(groups)) > 1:
        unrelated = pixels[unrelated_images(groups, seed)]
        cases["real, an unrelated real image"] = pixels, unrelated, groups
    scorer = _PairScorer(editor, audit, perceptual, seed, bootstraps)
    return [
        scorer.row(name, before, after, case_sources)
        for name, (before, after, case_sources) in cases.items()
    ]


def projection_summary(editor: Editor, pixels: Pixels) -> str:
    """Describe the projection of images (n c h w) in one line.

    It opens the audit network: a third of a second, and some 50 ms an image, on one core.
    """
    perceptual = open_distance(None, AUDIT.image_size)
    scorer = _PairScorer(editor, AUDIT.open(), perceptual, 0, 1000)
    row = scorer.row("real, projected", pixels, _project(editor, pixels), None)
    images, them = ("the image", "it") if row.n == 1 else (f"{row.n} images", "them")
    audit, distance = (
        f"{value.mean:.3f}" if row.n == 1 else format_interval(value)
        for value in (row.audit_cosine, row.perceptual)
    )
    return (
        f"{images} as the model reconstructs {them}, unedited: audit cosine {audit} "
        f"(1: identical), {perceptual.name} {distance} (0: identical); edits preserve no more"
    )


def unrelated_images(sources: NDArray[np.int64], seed: int) -> Indices:
    """For each image the index of a random image of another source: (n).

    Raises DataError if all are of one source.
    """
    if len(np.unique(sources)) < 2:
        raise DataError(
            "projection: all images are of one source, so none is unrelated; add images of another"
        )
    draws = stream(seed, "unrelated")
    return np.array([draws.choice(np.flatnonzero(sources != own)) for own in sources], np.int64)


@dataclass(frozen=True)
class _PairScorer:
    editor: ProjectingEditor
    audit: Embedding
    perceptual: Perceptual
    seed: int
    bootstraps: int

    def row(
        self, name: str, before: Pixels, after: Pixels, sources: NDArray[np.int64] | None
    ) -> ProjectionRow:
        measures = (
            paired_cosine(self.audit.embed(before), self.audit.embed(after)),
            paired_cosine(self.editor.embed(before), self.editor.embed(after)),
            self.perceptual.distance(before, after),
            pixel_error(before, after),
        )
        intervals = [
            mean_interval(values, self.seed, self.bootstraps, sources) for values in measures
        ]
        return ProjectionRow(name, len(before), *intervals)


def _project(editor: ProjectingEditor, pixels: Pixels) -> Pixels:
    return editor.generate(editor.invert(editor.embed(pixels)))
