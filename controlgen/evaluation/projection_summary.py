"""How much of a real image a model can show, said beside every edit of one."""

from controlgen.editing import Editor
from controlgen.evaluation.markdown import shown
from controlgen.evaluation.projection import projection
from controlgen.features import EfficientNetLite0
from controlgen.metrics.perceptual import open_distance
from controlgen.types import Pixels

AUDIT = EfficientNetLite0(image_size=128)  # also where the nearest training tile is found


def faithful_line(editor: Editor, pixels: Pixels) -> str:
    """One line on images (n c h w) put through the map and back, before any edit of them.

    It opens the audit network: a third of a second, and some 50 ms an image, on one core.
    """
    perceptual = open_distance(None, AUDIT.image_size)
    row = projection(editor, pixels, AUDIT.open(), perceptual)
    what, them = ("the image", "it") if row.n == 1 else (f"{row.n} images", "them")
    audit, distance = (
        f"{found.mean:.3f}" if row.n == 1 else shown(found)
        for found in (row.audit_cosine, row.perceptual)
    )
    return (
        f"{what} as the model can show {them}, unedited: audit cosine {audit} (1 is the same), "
        f"{perceptual.name} {distance} (0 is the same); edits keep no more"
    )
