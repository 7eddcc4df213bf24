"""All plots: Matplotlib without pyplot; every PNG carries its provenance as text chunks."""

from controlgen.figures.axes import AxisRow, axis_sheet
from controlgen.figures.confidence import quality_curves, reliability_plot
from controlgen.figures.convergence import point_clouds, training_diagnostics
from controlgen.figures.protocol import (
    Block,
    Point,
    class_edit_grid,
    edit_strip,
    flip_curves,
    flip_matrix,
    inversion_strips,
    loss_curves,
    sample_grid,
)
from controlgen.figures.sheets import (
    Column,
    Pairing,
    closest_pairs,
    contact_sheet,
    nearest_distances,
)
from controlgen.figures.sliders import SliderImages, SliderRow, leakage_maps, slider_rows
from controlgen.figures.spaces import Bar, space_bars

__all__ = [
    "AxisRow",
    "Bar",
    "Block",
    "Column",
    "Pairing",
    "Point",
    "SliderImages",
    "SliderRow",
    "axis_sheet",
    "class_edit_grid",
    "closest_pairs",
    "contact_sheet",
    "edit_strip",
    "flip_curves",
    "flip_matrix",
    "inversion_strips",
    "leakage_maps",
    "loss_curves",
    "nearest_distances",
    "point_clouds",
    "quality_curves",
    "reliability_plot",
    "sample_grid",
    "slider_rows",
    "space_bars",
    "training_diagnostics",
]
