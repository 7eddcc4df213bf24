"""Sheets of axes: one row an axis, its amounts from left to right, for several sources."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from controlgen.figures.style import (
    INK,
    MUTED,
    Provenance,
    column_labels,
    new_figure,
    save,
    strip,
)
from controlgen.types import Pixels

CELL = 0.42  # side of one image, in inches
WORDS = 1.5  # width of the words beside a row, in inches


class AxisRow(NamedTuple):
    """One axis: the words at its left and right, and for each source its images (k c h w)."""

    name: str
    words: str
    sources: Sequence[Pixels]


def axis_sheet(
    path: Path,
    rows: Sequence[AxisRow],
    amounts: Sequence[float],
    provenance: Provenance,
    title: str = "",
    footer: str = "",
) -> None:
    """One row an axis, one block of columns a source, one column an amount in sigmas (k)."""
    blocks = len(rows[0].sources)
    width = blocks * (len(amounts) * CELL + 0.12) + 2 * WORDS
    wrapped = textwrap.wrap(footer, int(width * 19))
    figure = new_figure(width, len(rows) * (CELL + 0.06) + 0.55 + 0.14 * len(wrapped))
    figure.get_layout_engine().set(h_pad=0.01, w_pad=0.03, hspace=0, wspace=0)  # type: ignore[union-attr, call-arg]
    panels = figure.subplots(len(rows), blocks, squeeze=False)
    for line, row in zip(panels, rows, strict=True):
        for at, (axes, pixels) in enumerate(zip(line, row.sources, strict=True)):
            strip(axes, pixels, len(amounts), row.name if at == 0 else "")
        line[-1].text(
            1.01,
            0.5,
            row.words,
            transform=line[-1].transAxes,
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
    save(figure, path, provenance)
