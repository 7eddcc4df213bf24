"""Every plot: Matplotlib without pyplot; each PNG says what it is."""

from controlgen.figures.protocol import (
    Block,
    Point,
    edit_strip,
    figure3,
    flip_curves,
    flip_matrix,
    inversion_strips,
    loss_curves,
    sample_grid,
)

__all__ = [
    "Block",
    "Point",
    "edit_strip",
    "figure3",
    "flip_curves",
    "flip_matrix",
    "inversion_strips",
    "loss_curves",
    "sample_grid",
]
