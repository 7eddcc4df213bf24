"""`controlgen sheet`: what is asked is checked first, then steered, measured and drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen._version import __version__
from controlgen.datasets import ImageFolder
from controlgen.editing import Editor
from controlgen.editing.apply import check_amount
from controlgen.editing.edit import Edit, Samples
from controlgen.editing.expressions.resolver import way
from controlgen.errors import ConfigError
from controlgen.evaluation.projection_summary import AUDIT, faithful_line
from controlgen.features import FeatureSpace
from controlgen.figures import Column, contact_sheet
from controlgen.image_io import image_files, read_image
from controlgen.metrics.memorisation import (
    has_poses,
    in_pose,
    nearest,
    nearest_posed,
    posed_blocks,
)
from controlgen.types import Dataset, Pixels, Shape
from controlgen.utils.files import reproduction_command
from controlgen.utils.progress import TqdmReporter

MOST_ROWS, MOST_AMOUNTS = 32, 9
MOST_WARNINGS = 12  # that are printed


@dataclass(frozen=True)
class Request:
    """What was asked on the command line; `n` None means 8 samples, or all files of a folder."""

    add: str
    amounts: str
    output: Path
    n: int | None
    seed: int | None
    images: Path | None
    hold: str
    corrections: int | None
    residual: bool
    refine: int
    tiles: Path | None

    @property
    def title(self) -> str:
        """What was asked, over the sheet."""
        parts = [self.add, f"amounts {self.amounts}"]
        parts += [f"hold {self.hold}"] if self.hold else []
        rounds = self.corrections
        parts += [] if rounds is None else [f"corrections {rounds}"]
        parts += ["residual"] if self.residual else []
        parts += [f"refine {self.refine}"] if self.refine else []
        return ", ".join(parts)

    def command(self, folder: Path, rows: int) -> str:
        """What draws the sheet again, for its provenance."""
        return reproduction_command(
            *("sheet", folder),
            add=self.add,
            amounts=self.amounts,
            n=rows,
            seed=(self.seed or 0) if self.images is None else None,
            images=self.images,
            hold=self.hold,
            corrections=self.corrections,
            residual=self.residual,
            refine=self.refine or None,
            tiles=self.tiles,
        )


@dataclass(frozen=True)
class Rows:
    """Where the rows of a sheet start, and a word for each."""

    source: Samples | Pixels
    names: list[str]


def draw(request: Request, folder: Path) -> list[str]:
    """Make the sheet with the map in `folder` and write it; returns lines to be printed.

    Raises ConfigError, DataError and what opening the map raises, before the first edit is made.
    """
    amounts, asked = parse_amounts(request.amounts), parse_names(request.hold)
    editor = Editor.load(folder)
    if asked and editor.attributes is None:
        raise ConfigError(
            f"--hold {request.hold}: {folder} measures no attributes; fit a map with "
            "fit.attributes set, or leave --hold out"
        )
    direction, hold, share, _ = way(editor, request.add, asked)
    rows = _rows(request, editor)
    training = None if request.tiles is None else open_tiles(request.tiles, editor.image_shape)
    audit = None if training is None else AUDIT.open()

    # One edit an amount, each of all rows at once.
    rounds, refine = request.corrections, request.refine
    settings: dict[str, Any] = {"hold": hold, "corrections": rounds, "refine": refine}
    edits = [
        editor.edit(rows.source, direction, amount, request.residual, **settings)
        for amount in amounts
    ]
    shown = _shown(editor, request)

    # What the model can show of a real image stands beside it, and is said: edits keep no more.
    real, projected, told = [], None, []
    if request.images is not None:
        real.append(f"sources from {request.images.name}")
        projected = editor.generate(edits[0].source_latents)
        told.append(faithful_line(editor, edits[0].source_pixels))
    columns = _columns(rows, edits, amounts, shown, projected)
    footer = _footer(edits[-1], amounts[-1], shown)
    if projected is not None:
        footer += " projected: what the model can show of the source, unedited."
    provenance = {
        "model": str(folder),
        "weights": editor.weights,
        "seed": f"{request.seed or 0}" if request.images is None else "",
        "recipe": request.command(folder, len(rows.names)),
        "version": __version__,
    }

    # The nearest training tile stands beside the end of the path, in the pose that matched.
    if training is not None and audit is not None and request.tiles is not None:
        column, words = _nearest(training, audit, edits[-1].pixels)
        columns.append(column)
        footer += f" {words}"
        told.append(words)
        real.append(f"nearest tiles from {request.tiles.name}")
    if real:
        provenance |= {"synthetic": "in part", "real": ", ".join(real)}
    apart = int(training is not None)
    contact_sheet(request.output, columns, provenance, request.title, footer, apart=apart)
    told += _warnings(rows, edits, amounts)
    lines = [f"{request.output}: {len(rows.names)} rows", *_agreements(edits, amounts)]
    if share:
        lines.append(f"share of the change that the bank's images span: {share:.3f}")
    return [*lines, *told]


def parse_amounts(text: str) -> tuple[float, ...]:
    """Numbers between commas. Raises ConfigError."""
    try:
        amounts = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--amounts {text}: write numbers with commas between, as in --amounts=-1,0,1,2"
        ) from None
    for amount in amounts:
        check_amount(amount, f"--amounts {text}: {amount:g}")
    if len(amounts) > MOST_AMOUNTS:
        raise ConfigError(f"--amounts: {len(amounts)} are too many; give at most {MOST_AMOUNTS}")
    return amounts


def parse_names(text: str, said: str = "--hold") -> tuple[str, ...]:
    """Names between commas; none of an empty text. Raises ConfigError where one is blank.

    `said`: where they were written, for the error.
    """
    names = tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    if not all(names):
        raise ConfigError(f"{said} {text}: a name is blank; write names with commas between")
    return names


def open_tiles(folder: Path, shape: Shape) -> Dataset:
    """The training split of a folder of images, at the model's size (c h w). Raises DataError."""
    found = ImageFolder(root=folder, size=shape[1], channels=1 if shape[0] == 1 else 3)
    return found.open()


def short(value: float) -> str:
    """A number in at most four or five characters: two decimals below 1, none from 10 on."""
    digits = 2 if abs(value) < 1 else 1 if abs(value) < 10 else 0
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("-")[:2] == "0." else text


def _rows(request: Request, editor: Editor) -> Rows:
    if request.images is None:
        n = request.n or 8
        return Rows(editor.sample(n, request.seed or 0), [f"sample {at}" for at in range(n)])
    if request.seed is not None:
        raise ConfigError("--seed and --images: give one of them, not both")
    files = image_files(request.images)
    if request.n is None and len(files) > MOST_ROWS:
        raise ConfigError(
            f"{request.images}: {len(files)} images, a sheet has at most {MOST_ROWS} rows; "
            "--n takes the first of them by name"
        )
    chosen = files[: request.n]
    pixels = [read_image(file, editor.image_shape) for file in chosen]
    return Rows(np.concatenate(pixels), [file.name for file in chosen])


def _shown(editor: Editor, request: Request) -> dict[str, str]:
    # Name -> abbreviation of the attributes: those that were spoken of come first.
    if editor.attributes is None:
        return {}
    said = request.add + request.hold
    names = sorted(editor.attributes.names, key=lambda name: name not in said)
    initials = ["".join(word[0] for word in name.split("_")).upper() for name in names]
    return dict(zip(names, initials, strict=True))


def _columns(
    rows: Rows,
    edits: Sequence[Edit],
    amounts: Sequence[float],
    shown: Mapping[str, str],
    projected: Pixels | None,
) -> list[Column]:
    names = [name if len(name) <= 18 else f"...{name[-15:]}" for name in rows.names]
    before = edits[0].attributes and edits[0].attributes.before
    captions = [
        f"{words}\n{name}" if words else name
        for words, name in zip(_captions(before, edits[0], shown), names, strict=True)
    ]
    columns = [Column("source", edits[0].source_pixels, captions)]
    if projected is not None:
        measuring = edits[0].model
        values = None if measuring is None else measuring.measure(projected)
        columns.append(Column("projected", projected, _captions(values, edits[0], shown)))
    for amount, edit in zip(amounts, edits, strict=True):
        heading = f"{amount:g}\nagree {short(float(edit.agreement.mean()))}"
        after = edit.attributes and edit.attributes.after
        columns.append(Column(heading, edit.pixels, _believed(_captions(after, edit, shown), edit)))
    return columns


def _believed(captions: Sequence[str], edit: Edit) -> list[str]:
    # With a line of how far each answer can be believed, where the map knows.
    if edit.reachability is None:
        return list(captions)
    lines = (f"reach {short(float(score))}" for score in edit.reachability)
    return [f"{words}\n{line}".lstrip() for words, line in zip(captions, lines, strict=True)]


def _captions(
    values: NDArray[np.float64] | None, edit: Edit, shown: Mapping[str, str]
) -> list[str]:
    # Two numbers a line under each image, or nothing where nothing is measured.
    if values is None or edit.attributes is None:
        return [""] * len(edit.pixels)
    places = [edit.attributes.names.index(name) for name in shown]
    lines = []
    for row in values:
        words = [
            f"{word} {short(row[at])}" for word, at in zip(shown.values(), places, strict=True)
        ]
        lines.append("\n".join("  ".join(words[at : at + 2]) for at in range(0, len(words), 2)))
    return lines


def _footer(last: Edit, amount: float, shown: Mapping[str, str]) -> str:
    least, change = last.agreement.min(), last.progress.mean()
    parts = [
        "Images under an amount are synthetic. agree: mean cosine of the feature asked for and "
        f"the one obtained. At {amount:g} the least of {len(last.agreement)} is {least:.2f}, and "
        f"the change itself agrees to {change:.2f}."
    ]
    if shown:
        legend = ", ".join(f"{initial} {name.replace('_', ' ')}" for name, initial in shown.items())
        parts.append(f"Measured: {legend}.")
    if last.reachability is not None:
        parts.append("reach: how far an answer can be believed (reachability), 0 to 1.")
    return " ".join(parts)


def _nearest(training: Dataset, audit: FeatureSpace, pixels: Pixels) -> tuple[Column, str]:
    posed, count = has_poses(training.image_shape), len(training)
    with TqdmReporter().meter("nearest training tiles", count, 0, "tiles") as meter:

        def read(indices: NDArray[np.int64]) -> Pixels:
            meter.to(int(indices[0]))
            return training.pixels(indices)

        blocks = posed_blocks(read, np.arange(count), audit.embed, poses=False)
        if posed:
            found = nearest_posed(pixels, audit.embed, blocks)
        else:
            found = nearest(audit.embed(pixels), blocks)
        meter.to(count)
    tiles = training.pixels(found.item)
    if posed:
        tiles = np.concatenate(
            [in_pose(tiles[at : at + 1], int(pose)) for at, pose in enumerate(found.pose)]
        )
    captions = [f"distance {value:.3f}" for value in found.distance]
    words = (
        f"Nearest of {count} training tiles to the last column by {AUDIT.kind}"
        f"{', in all eight poses' if posed else ''}: cosine distance {found.distance.min():.3f} "
        f"to {found.distance.max():.3f}."
    )
    return Column("nearest\ntraining tile", tiles, captions), words


def _agreements(edits: Sequence[Edit], amounts: Sequence[float]) -> list[str]:
    lines = []
    for amount, edit in zip(amounts, edits, strict=True):
        lines.append(
            f"amount {amount:g}: asked and obtained agree to {edit.agreement.mean():.3f} (cosine "
            f"of features), the change itself to {edit.progress.mean():.3f}"
        )
        if edit.reachability is not None:
            lines[-1] += f"; believed to {edit.reachability.mean():.2f} (reachability, 0..1)"
    return lines


def _warnings(rows: Rows, edits: Sequence[Edit], amounts: Sequence[float]) -> list[str]:
    # A line for each answer that falls below the score from which the map warns.
    lines = [
        f"{name} at {amount:g} can hardly be believed ({edit.reachability[row]:.2f}): {words}"
        for amount, edit in zip(amounts, edits, strict=True)
        if edit.reachability is not None
        for row, (name, words) in enumerate(zip(rows.names, edit.warnings, strict=True))
        if words
    ]
    left = len(lines) - MOST_WARNINGS
    return lines[:MOST_WARNINGS] + ([f"and {left} more answers"] if left > 0 else [])
