"""`controlgen project`: reconstruct real images with the map, and measure the loss."""

from pathlib import Path

import numpy as np

from controlgen._version import __version__
from controlgen.editing import Editor
from controlgen.evaluation.markdown import format_interval
from controlgen.evaluation.projection import AUDIT, ProjectionRow, projection_table
from controlgen.features import LpipsConfig
from controlgen.figures import inversion_strips
from controlgen.image_io import list_image_files, read_image
from controlgen.metrics.perceptual import open_distance
from controlgen.utils.files import reproduction_command

MAX_IMAGES = 1_000
MAX_PICTURED = 12


def project_images(
    folder: Path, images: Path, output: Path, lpips: LpipsConfig | None = None
) -> list[str]:
    """Project an image file or a folder, draw images and projections; return lines to print.

    Raises DataError where there is no image, and the errors of loading a map.
    """
    files = [images] if images.is_file() else list_image_files(images)[:MAX_IMAGES]
    editor = Editor.load(folder)
    pixels = np.concatenate([read_image(file, editor.image_shape) for file in files])
    perceptual = open_distance(lpips, AUDIT.image_size)
    rows = projection_table(editor, pixels, AUDIT.open(), perceptual)
    projected = editor.generate(editor.invert(editor.embed(pixels[:MAX_PICTURED])))
    provenance = {
        "model": str(folder),
        "weights": editor.weights,
        "seed": "",
        "recipe": reproduction_command("project", folder, images),
        "version": __version__,
        "synthetic": "in part",
        "real": f"upper row, from {images.name}",
    }
    inversion_strips(output, {"real": pixels[:MAX_PICTURED], "projected": projected}, provenance)
    return [f"{output}: {len(files)} images", *_format_rows(rows, perceptual.name)]


def _format_rows(rows: list[ProjectionRow], perceptual: str) -> list[str]:
    head = ("cosine, steering", "cosine, audit", perceptual)
    lines = [f"{'':<30}" + "".join(f"{name:>26}" for name in head)]
    for row in rows:
        values = (row.steering_cosine, row.audit_cosine, row.perceptual)
        cells = "".join(f"{format_interval(value):>26}" for value in values)
        lines.append(f"{row.images:<30}{cells}")
    distance = perceptual.partition("-")[0]
    legend = f"Cosines: higher is better; {distance}: lower is better."
    return [*lines, f"{legend} Edits of an image preserve no more."]
