"""Sheets of axes: one row per axis, amounts from left to right, for several sources."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from controlgen.figures.style import (
    INK,
    MUTED,
    Provenance,
    column_labels,
    draw_strip,
    new_figure,
    save_png,
)
from controlgen.types import Pixels

IMAGE_INCHES = 0.42  # side of one image
TEXT_INCHES = 1.5  # width of the text on either side of a row


class AxisRow(NamedTuple):
    """One axis: text at the left and right, and images (k c h w) for each source."""

    name: str
    summary: str
    strips: Sequence[Pixels]


def axis_sheet(
    path: Path,
    rows: Sequence[AxisRow],
    amounts: Sequence[float],
    provenance: Provenance,
    title: str = "",
    footer: str = "",
) -> None:
    """Draw one row per axis, one block of columns per source, one column per amount (k, sigmas)."""
    blocks = len(rows[0].strips)
    width = blocks * (len(amounts) * IMAGE_INCHES + 0.12) + 2 * TEXT_INCHES
    wrapped = textwrap.wrap(footer, int(width * 19))
    figure = new_figure(width, len(rows) * (IMAGE_INCHES + 0.06) + 0.55 + 0.14 * len(wrapped))
    figure.get_layout_engine().set(h_pad=0.01, w_pad=0.03, hspace=0, wspace=0)  # type: ignore[union-attr, call-arg]
    panels = figure.subplots(len(rows), blocks, squeeze=False)
    for row_panels, row in zip(panels, rows, strict=True):
        for index, (axes, pixels) in enumerate(zip(row_panels, row.strips, strict=True)):
            draw_strip(axes, pixels, len(amounts), row.name if index == 0 else "")
        row_panels[-1].text(
            1.01,
            0.5,
            row.summary,
            transform=row_panels[-1].transAxes,
            va="center",
            fontsize=6,
            color=INK,
            parse_math=False,
        )
    for axes in panels[0]:
        column_labels(axes, [f"{amount:+g}" if amount else "0" for amount in amounts])
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=INK, parse_math=False)
    if wrapped:
        figure.supxlabel(
            "\n".join(wrapped), x=0.01, ha="left", fontsize=6.5, color=MUTED, parse_math=False
        )
    save_png(figure, path, provenance)
