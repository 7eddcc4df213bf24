"""`controlgen project`: real images through the map and back, and how much of them is left."""

from pathlib import Path

import numpy as np

from controlgen._version import __version__
from controlgen.editing import Editor
from controlgen.evaluation.markdown import shown
from controlgen.evaluation.projection import FaithfulnessRow, faithfulness
from controlgen.evaluation.projection_summary import AUDIT
from controlgen.features import Lpips
from controlgen.figures import inversion_strips
from controlgen.image_io import image_files, read_image
from controlgen.metrics.perceptual import open_distance
from controlgen.utils.files import reproduction_command

MOST_IMAGES = 1_000
PICTURED = 12


def project(folder: Path, images: Path, output: Path, lpips: Lpips | None = None) -> list[str]:
    """Project an image file, or those of a folder, write both rows, and return lines to print.

    Raises DataError where there is nothing to read, and what opening the map raises.
    """
    files = [images] if images.is_file() else image_files(images)[:MOST_IMAGES]
    editor = Editor.load(folder)
    pixels = np.concatenate([read_image(file, editor.image_shape) for file in files])
    perceptual = open_distance(lpips, AUDIT.image_size)
    rows = faithfulness(editor, pixels, AUDIT.open(), perceptual)
    obtained = editor.generate(editor.invert(editor.embed(pixels[:PICTURED])))
    provenance = {
        "model": str(folder),
        "weights": editor.weights,
        "seed": "",
        "recipe": reproduction_command("project", folder, images),
        "version": __version__,
        "synthetic": "in part",
        "real": f"upper row, from {images.name}",
    }
    inversion_strips(output, {"real": pixels[:PICTURED], "projected": obtained}, provenance)
    return [f"{output}: {len(files)} images", *_table(rows, perceptual.name)]


def _table(rows: list[FaithfulnessRow], perceptual: str) -> list[str]:
    head = ("cosine, steering", "cosine, audit", perceptual)
    lines = [f"{'':<30}" + "".join(f"{name:>26}" for name in head)]
    for row in rows:
        values = (row.steering_cosine, row.audit_cosine, row.perceptual)
        lines.append(f"{row.images:<30}" + "".join(f"{shown(value):>26}" for value in values))
    told = f"Cosines: higher is nearer; {perceptual.partition('-')[0]}: lower is."
    return [*lines, f"{told} Edits of an image keep no more."]
