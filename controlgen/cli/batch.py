"""`controlgen batch` and `controlgen nearest`: many expressions at once, and the bank searched."""

import csv
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen._version import __version__
from controlgen.utils.files import write_text
from controlgen.cli.sheet import parse_names
from controlgen.editing import Editor, Recipe
from controlgen.editing.apply import check_amount
from controlgen.editing.dataframes import columns_of
from controlgen.editing.expressions.parser import Node, parse
from controlgen.editing.rendering import draw_edit
from controlgen.errors import ConfigError, ControlGenError
from controlgen.figures import Column, contact_sheet
from controlgen.utils.files import ensure_writable_file, reproduction_command
from controlgen.utils.progress import TqdmReporter

COLUMNS = ("expression", "name", "amount", "residual", "refine", "hold")
SETTINGS = ("amount", "residual", "refine")  # that results.csv repeats
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MOST_ROWS = 20_000
ARRAYS = ("latents", "asked", "obtained")  # of an edit, saved for all rows
YES, NO = ("1", "true", "yes"), ("", "0", "false", "no")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    line: int
    name: str
    tree: Node
    amount: float
    residual: bool
    refine: int
    hold: tuple[str, ...]


class Result(NamedTuple):
    """One edit: its expression in one spelling, what is told of it by name (numbers, and a warning
    in words), and its latent (z), feature asked for and obtained (d)."""

    expression: str
    told: Mapping[str, float | str]
    arrays: Mapping[str, NDArray[np.float32]]


def batch(folder: Path, table: Path, output: Path) -> list[str]:
    """Make every expression of a CSV table; returns lines to be printed.

    The folder holds NAME.png (with its recipe), results.csv, and names.txt, latents.npy, asked.npy
    and obtained.npy in the order of the table. It is there whole or not at all. Raises ConfigError,
    which says the line of the table, and DataError.
    """
    rows = read_table(table)
    if output.exists():
        raise ConfigError(f"-o {output}: is there already; name a folder that is not")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"-o {output}: the folder {output.parent} does not exist")
    editor = Editor.load(folder)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        results: list[Result] = []
        with TqdmReporter().meter(f"batch {table.name}", len(rows), unit="edits") as meter:
            for done, row in enumerate(rows, 1):
                results.append(_made(editor, row, folder, partial))
                meter.to(done)
        _save(partial, rows, results)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    agreement = np.array([one.told["agreement"] for one in results])
    return [
        f"{output}: {len(rows)} pictures and results.csv; asked and obtained agree to "
        f"{agreement.mean():.3f} on average, {agreement.min():.3f} at the least"
    ]


def read_table(path: Path) -> list[Row]:
    """The rows of a CSV file with a column `expression`, and maybe others of COLUMNS.

    hold: measured attributes to be left alone, with commas between. Raises ConfigError with the
    line of the first mistake.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened, strict=True)
            header = list(reader.fieldnames or ())
            _check_header(path, header)
            rows: list[Row] = []
            for values in reader:
                if len(rows) == MOST_ROWS:
                    raise ConfigError(f"{path}: more than {MOST_ROWS} rows; split it")
                rows.append(_row(path, reader.line_num, len(rows), values))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a CSV file") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid CSV ({error})") from None
    if not rows:
        raise ConfigError(f"{path}: holds no rows")
    seen: dict[str, int] = {}
    for row in rows:
        if seen.setdefault(row.name.lower(), row.line) != row.line:
            raise ConfigError(
                f"{path}, line {row.line}: {row.name} is the name of line "
                f"{seen[row.name.lower()]} as well"
            )
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or "expression" not in header or len(set(header)) < len(header):
        raise ConfigError(
            f"{path}, line 1: columns {', '.join(header) or '(none)'}; there are "
            f"{', '.join(COLUMNS)}, each at most once, and expression must be there"
        )


def _row(path: Path, line: int, at: int, values: dict[str, str]) -> Row:
    where = f"{path}, line {line}"
    if None in values or None in values.values():
        raise ConfigError(f"{where}: not as many values as there are columns")
    name = values.get("name") or f"{at:05d}"
    if not NAME.fullmatch(name):
        raise ConfigError(f"{where}: name {name!r}: use letters, digits, dots, - and _")
    amount = _number(where, "amount", values)
    if amount is not None:
        check_amount(amount, f"{where}: amount {values['amount']!r}")
    residual = (values.get("residual") or "").lower()
    if residual not in YES + NO:
        raise ConfigError(f"{where}: residual {residual!r}: write true or false")
    refine = (values.get("refine") or "").strip() or "0"
    if not (refine.isascii() and refine.isdigit() and len(refine) < 10):
        raise ConfigError(f"{where}: refine {refine!r}: write a whole number of steps, 0 or more")
    try:
        hold = parse_names(values.get("hold") or "", "hold")
        tree = parse(values["expression"])
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    moved = 1.0 if amount is None else amount
    return Row(line, name, tree, moved, residual in YES, int(refine), hold)


def _number(where: str, column: str, values: Mapping[str, str]) -> float | None:
    text = (values.get(column) or "").strip()
    try:
        number = float(text) if text else None
    except ValueError:
        number = np.nan
    if number is not None and not np.isfinite(number):
        raise ConfigError(f"{where}: {column} {text!r} is not a finite number")
    return number


def _made(editor: Editor, row: Row, folder: Path, output: Path) -> Result:
    try:
        query = editor.query(row.tree, row.hold)
        recipe = Recipe(
            model=str(folder),
            weights=editor.weights,
            expression=query.expression,
            amount=row.amount,
            picture="result",
            residual=row.residual,
            refine=row.refine,
            files=dict(query.files),
            controlgen=__version__,
        )
        edit = draw_edit(editor, query, recipe, output / f"{row.name}.png")
    except ControlGenError as error:
        raise type(error)(f"line {row.line}: {error}") from None
    told = {"share": query.share, **{name: one[0] for name, one in columns_of(edit).items()}}
    arrays = {name: getattr(edit, name)[0] for name in ARRAYS}
    return Result(query.expression, told, arrays)


def _save(folder: Path, rows: Sequence[Row], results: Sequence[Result]) -> None:
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["name", "expression", *SETTINGS, *results[0].told])
        for row, result in zip(rows, results, strict=True):
            settings = [f"{row.amount:g}", str(row.residual).lower(), row.refine]
            told = [one if isinstance(one, str) else f"{one:.6g}" for one in result.told.values()]
            writer.writerow([row.name, result.expression, *settings, *told])
    (folder / "names.txt").write_text("".join(f"{row.name}\n" for row in rows), encoding="utf-8")
    for name in ARRAYS:
        stacked = np.stack([one.arrays[name] for one in results])
        np.save(folder / f"{name}.npy", stacked, allow_pickle=False)


def nearest(
    folder: Path, expression: str, output: Path, n: int, among: int, table: Path | None
) -> list[str]:
    """Write the bank items nearest to an expression as a sheet; returns lines to be printed."""
    tree = parse(expression)
    if table is not None:
        ensure_writable_file(table, "--table")
        if table.absolute() == output.absolute():
            raise ConfigError(f"--table {table}: is the picture's name as well; name another")
    editor = Editor.load(folder)
    feature = editor.feature(tree)
    editor.bank_items(0, 1)  # a map that cannot draw its bank again says so before any bar
    among = min(among, editor.bank.n) if editor.bank is not None else among
    with TqdmReporter().meter(f"bank of {folder.name}", among, unit="images") as meter:
        found = editor.gallery.nearest(feature, n, among, meter.to)
    columns = [
        Column(f"bank({item})\n{cosine:.3f}", found.pixels[at : at + 1])
        for at, (item, cosine) in enumerate(zip(found.items, found.cosine, strict=True))
    ]
    provenance = {
        "model": str(folder),
        "weights": editor.weights,
        "seed": "" if editor.bank is None else str(editor.bank.seed),
        "recipe": reproduction_command("nearest", folder, expression, n=n, among=among),
        "version": __version__,
    }
    words = f"Cosine of features with what was asked for, among the bank's first {among} images."
    contact_sheet(output, columns, provenance, expression, words)
    lines = [f"bank({i}),{c:.6f}" for i, c in zip(found.items, found.cosine, strict=True)]
    if table is not None:
        write_text(table, "\n".join(["item,cosine", *lines]) + "\n")
    return [f"{output}: {words}", *(line.replace(",", "  ") for line in lines)]
