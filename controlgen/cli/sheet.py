"""`controlgen sheet`: edit several images by several amounts, and draw a contact sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen._version import __version__
from controlgen.datasets import ImageFolder
from controlgen.editing import Editor
from controlgen.editing.apply import EditSettings, validate_amount
from controlgen.editing.edit import Edit, Samples
from controlgen.editing.expressions.resolver import resolve_direction
from controlgen.errors import ConfigError
from controlgen.evaluation.projection import AUDIT, projection_summary
from controlgen.features import FeatureSpace
from controlgen.figures import Column, contact_sheet
from controlgen.image_io import list_image_files, read_image
from controlgen.metrics.memorisation import (
    apply_pose,
    has_poses,
    iter_pose_features,
    nearest,
    nearest_posed,
)
from controlgen.types import Dataset, Indices, Pixels, Shape
from controlgen.utils.files import reproduction_command
from controlgen.utils.progress import TqdmReporter

DEFAULT_ROWS, MAX_ROWS, MAX_AMOUNTS = 8, 32, 9
MAX_WARNINGS = 12  # that are printed


@dataclass(frozen=True)
class SheetSources:
    """The images that the rows start from, and their names."""

    source: Samples | Pixels
    names: list[str]


def run_sheet(
    folder: Path,
    add: str,
    amounts_text: str,
    settings: EditSettings,
    n: int | None,
    seed: int | None,
    images: Path | None,
    tiles: Path | None,
    output: Path,
) -> list[str]:
    """Draw a sheet with the map in `folder`; return lines to print.

    n: None means 8 samples, or all files of `images`. Raises ConfigError, DataError and the errors
    of loading a map, before the first edit.
    """
    amounts = parse_amounts(amounts_text)
    editor = Editor.load(folder)
    held = ",".join(settings.hold)
    if held and editor.attributes is None:
        raise ConfigError(
            f"--hold {held}: {folder} measures no attributes; fit a map with fit.attributes set, "
            "or leave --hold out"
        )
    direction, hold, share, _ = resolve_direction(editor, add, settings.hold)
    rows = _open_sources(editor, n, seed, images)
    training = None
    if tiles is not None:
        training = open_tile_dataset(tiles, editor.image_shape), AUDIT.open()
    edits = [
        editor.edit(rows.source, direction, **asdict(replace(settings, amount=amount, hold=hold)))
        for amount in amounts
    ]
    initials = _attribute_initials(editor, add + held)

    # Real images are shown with their reconstruction: edits preserve no more than that.
    real, projected, notes = [], None, []
    if images is not None:
        real.append(f"sources from {images.name}")
        projected = editor.generate(edits[0].source_latents)
        notes.append(projection_summary(editor, edits[0].source_pixels))
    columns = _columns(rows, edits, amounts, initials, projected)
    footer = _footer(edits[-1], amounts[-1], initials)
    if projected is not None:
        footer += " projected: the model's reconstruction of the source, unedited."
    if tiles is not None and training is not None:
        column, note = _nearest_tiles(*training, edits[-1].pixels)
        columns.append(column)
        footer += f" {note}"
        notes.append(note)
        real.append(f"nearest tiles from {tiles.name}")
    options: dict[str, Any] = {
        "add": add,
        "amounts": amounts_text,
        "n": len(rows.names),
        "seed": (seed or 0) if images is None else None,
        "images": images,
        "hold": held,
        "corrections": settings.corrections,
        "residual": settings.residual,
        "refine": settings.refine or None,
        "tiles": tiles,
    }
    provenance = _provenance(editor, folder, options, real)
    detached = int(tiles is not None)
    contact_sheet(output, columns, provenance, _title(options), footer, detached=detached)
    lines = [f"{output}: {len(rows.names)} rows", *_agreements(edits, amounts)]
    if share:
        lines.append(f"share of the change within the bank's span: {share:.3f}")
    return [*lines, *notes, *_warnings(rows, edits, amounts)]


def parse_amounts(text: str) -> tuple[float, ...]:
    """Numbers between commas. Raises ConfigError."""
    try:
        amounts = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--amounts {text}: write numbers with commas between, as in --amounts=-1,0,1,2"
        ) from None
    for amount in amounts:
        validate_amount(amount, f"--amounts {text}: {amount:g}")
    if len(amounts) > MAX_AMOUNTS:
        raise ConfigError(f"--amounts: {len(amounts)} are too many; give at most {MAX_AMOUNTS}")
    return amounts


def open_tile_dataset(folder: Path, shape: Shape) -> Dataset:
    """The training split of a folder of images, at the model's size (c h w). Raises DataError."""
    return ImageFolder(root=folder, size=shape[1], channels=1 if shape[0] == 1 else 3).open()


def format_short(value: float) -> str:
    """A number in at most five characters: two decimals below 1, none from 10 on."""
    digits = 2 if abs(value) < 1 else 1 if abs(value) < 10 else 0
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("-")[:2] == "0." else text


def _provenance(
    editor: Editor, folder: Path, options: Mapping[str, Any], real: Sequence[str]
) -> dict[str, str]:
    chunks = {
        "model": str(folder),
        "weights": editor.weights,
        "seed": "" if options["seed"] is None else str(options["seed"]),
        "recipe": reproduction_command("sheet", folder, **options),
        "version": __version__,
    }
    return chunks | ({"synthetic": "in part", "real": ", ".join(real)} if real else {})


def _title(options: Mapping[str, object]) -> str:
    parts = [str(options["add"]), f"amounts {options['amounts']}"]
    for name in ("hold", "corrections", "residual", "refine"):
        value = options[name]
        if value is True:
            parts.append(name)
        elif value is not None and value is not False and value != "":
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def _open_sources(
    editor: Editor, n: int | None, seed: int | None, images: Path | None
) -> SheetSources:
    if images is None:
        n = n or DEFAULT_ROWS
        return SheetSources(editor.sample(n, seed or 0), [f"sample {index}" for index in range(n)])
    if seed is not None:
        raise ConfigError("--seed and --images: give only one of them")
    files = list_image_files(images)
    if n is None and len(files) > MAX_ROWS:
        raise ConfigError(
            f"{images}: {len(files)} images, but a sheet has at most {MAX_ROWS} rows; --n takes "
            "the first of them by name"
        )
    pixels = [read_image(file, editor.image_shape) for file in files[:n]]
    return SheetSources(np.concatenate(pixels), [file.name for file in files[:n]])


def _attribute_initials(editor: Editor, text: str) -> dict[str, str]:
    # Attribute -> initials for captions; attributes that the command line names come first.
    if editor.attributes is None:
        return {}
    names = sorted(editor.attributes.names, key=lambda name: name not in text)
    return {name: "".join(word[0] for word in name.split("_")).upper() for name in names}


def _columns(
    rows: SheetSources,
    edits: Sequence[Edit],
    amounts: Sequence[float],
    initials: Mapping[str, str],
    projected: Pixels | None,
) -> list[Column]:
    names = [name if len(name) <= 18 else f"...{name[-15:]}" for name in rows.names]
    before = edits[0].attributes and edits[0].attributes.before
    captions = [
        f"{values}\n{name}" if values else name
        for values, name in zip(_captions(before, edits[0], initials), names, strict=True)
    ]
    columns = [Column("source", edits[0].source_pixels, captions)]
    if projected is not None:
        model = edits[0].model
        values = None if model is None else model.measure(projected)
        columns.append(Column("projected", projected, _captions(values, edits[0], initials)))
    for amount, edit in zip(amounts, edits, strict=True):
        heading = f"{amount:g}\nagree {format_short(float(edit.target_similarity.mean()))}"
        after = edit.attributes and edit.attributes.after
        captions = _with_reachability(_captions(after, edit, initials), edit)
        columns.append(Column(heading, edit.pixels, captions))
    return columns


def _with_reachability(captions: Sequence[str], edit: Edit) -> list[str]:
    if edit.reachability is None:
        return list(captions)
    lines = (f"reach {format_short(float(score))}" for score in edit.reachability)
    return [f"{values}\n{line}".lstrip() for values, line in zip(captions, lines, strict=True)]


def _captions(
    values: NDArray[np.float64] | None, edit: Edit, initials: Mapping[str, str]
) -> list[str]:
    # Two attributes per line; empty without attributes.
    if values is None or edit.attributes is None:
        return [""] * len(edit.pixels)
    columns = [edit.attributes.names.index(name) for name in initials]
    captions = []
    for row in values:
        cells = [
            f"{initial} {format_short(row[column])}"
            for initial, column in zip(initials.values(), columns, strict=True)
        ]
        captions.append("\n".join("  ".join(cells[at : at + 2]) for at in range(0, len(cells), 2)))
    return captions


def _footer(last: Edit, amount: float, initials: Mapping[str, str]) -> str:
    agreement, progress = last.target_similarity, last.direction_similarity
    parts = [
        "Images under an amount are synthetic. agree: mean agreement, the cosine of target and "
        f"result features. At {amount:g} the smallest of {len(agreement)} is "
        f"{agreement.min():.2f}, and the mean progress, the cosine of requested and achieved "
        f"change, is {progress.mean():.2f}."
    ]
    if initials:
        legend = (f"{initial} {name.replace('_', ' ')}" for name, initial in initials.items())
        parts.append(f"Measured: {', '.join(legend)}.")
    if last.reachability is not None:
        parts.append("reach: confidence in a result (reachability), 0 to 1.")
    return " ".join(parts)


def _nearest_tiles(training: Dataset, audit: FeatureSpace, pixels: Pixels) -> tuple[Column, str]:
    # The training tile nearest to each result, turned to the pose of the match.
    posed, count = has_poses(training.image_shape), len(training)
    with TqdmReporter().start("nearest training tiles", count, 0, "tiles") as progress:

        def read(indices: Indices) -> Pixels:
            progress.update_to(int(indices[0]))
            return training.pixels(indices)

        blocks = iter_pose_features(read, np.arange(count), audit.embed, poses=False)
        if posed:
            match = nearest_posed(pixels, audit.embed, blocks)
        else:
            match = nearest(audit.embed(pixels), blocks)
        progress.update_to(count)
    tiles = training.pixels(match.item)
    if posed:
        tiles = np.concatenate(
            [apply_pose(tiles[at : at + 1], int(pose)) for at, pose in enumerate(match.pose)]
        )
    captions = [f"distance {distance:.3f}" for distance in match.distance]
    note = (
        f"Nearest of {count} training tiles to the last column by {AUDIT.kind}"
        f"{', in all eight poses' if posed else ''}: cosine distance {match.distance.min():.3f} "
        f"to {match.distance.max():.3f}."
    )
    return Column("nearest\ntraining tile", tiles, captions), note


def _agreements(edits: Sequence[Edit], amounts: Sequence[float]) -> list[str]:
    lines = []
    for amount, edit in zip(amounts, edits, strict=True):
        lines.append(
            f"amount {amount:g}: agreement {edit.target_similarity.mean():.3f} (cosine of target "
            f"and result features), progress {edit.direction_similarity.mean():.3f}"
        )
        if edit.reachability is not None:
            lines[-1] += f"; confidence {edit.reachability.mean():.2f} (reachability, 0..1)"
    return lines


def _warnings(rows: SheetSources, edits: Sequence[Edit], amounts: Sequence[float]) -> list[str]:
    lines = [
        f"{name} at {amount:g} has low confidence ({edit.reachability[row]:.2f}): {warning}"
        for amount, edit in zip(amounts, edits, strict=True)
        if edit.reachability is not None
        for row, (name, warning) in enumerate(zip(rows.names, edit.warnings, strict=True))
        if warning
    ]
    hidden = len(lines) - MAX_WARNINGS
    return lines[:MAX_WARNINGS] + ([f"and {hidden} more warnings"] if hidden > 0 else [])
