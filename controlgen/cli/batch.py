"""`controlgen batch`: run every expression of a CSV table."""

import csv
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.cli._options import parse_csv_list
from controlgen.cli.edit import make_recipe
from controlgen.editing import Editor
from controlgen.editing.apply import EditSettings, validate_amount
from controlgen.editing.dataframes import edit_columns
from controlgen.editing.expressions.parser import Expr, parse
from controlgen.editing.rendering import render_edit
from controlgen.errors import ConfigError, ControlGenError
from controlgen.utils.progress import TqdmReporter

COLUMNS = ("expression", "name", "amount", "residual", "refine", "hold")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_ROWS = 20_000
YES, NO = ("1", "true", "yes"), ("", "0", "false", "no")


@dataclass(frozen=True)
class BatchRow:
    """One line of the table."""

    line: int
    name: str
    tree: Expr
    settings: EditSettings


class BatchResult(NamedTuple):
    """One edit: canonical expression, measurements by column, and arrays by file name."""

    expression: str
    columns: Mapping[str, float | str]
    arrays: Mapping[str, NDArray[np.float32]]


def run_batch(folder: Path, table: Path, output: Path) -> list[str]:
    """Run every expression of a CSV table; return lines to print.

    The folder is written completely or not at all. It holds NAME.png (with its recipe),
    results.csv, and names.txt, latents.npy, asked.npy (target features) and obtained.npy (result
    features) in the order of the table. Raises ConfigError with the line of the table, DataError.
    """
    rows = read_table(table)
    if output.exists():
        raise ConfigError(f"-o {output}: already exists; choose a new folder")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"-o {output}: the folder {output.parent} does not exist")
    editor = Editor.load(folder)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        results: list[BatchResult] = []
        with TqdmReporter().start(f"batch {table.name}", len(rows), unit="edits") as progress:
            for done, row in enumerate(rows, 1):
                results.append(_run_row(editor, row, folder, partial))
                progress.update_to(done)
        _save_results(partial, rows, results)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    agreement = np.array([result.columns["agreement"] for result in results])
    return [
        f"{output}: {len(rows)} pictures and results.csv; agreement {agreement.mean():.3f} on "
        f"average, {agreement.min():.3f} at least"
    ]


def read_table(path: Path) -> list[BatchRow]:
    """The rows of a CSV file with the column `expression` and optionally the others of COLUMNS.

    `hold` lists measured attributes with commas between. Raises ConfigError with the line of the
    first mistake.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or ())
            _check_header(path, header)
            rows: list[BatchRow] = []
            for values in reader:
                if len(rows) == MAX_ROWS:
                    raise ConfigError(f"{path}: more than {MAX_ROWS} rows; split it")
                rows.append(_parse_row(path, reader.line_num, len(rows), values))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a CSV file") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid CSV ({error})") from None
    if not rows:
        raise ConfigError(f"{path}: holds no rows")
    lines: dict[str, int] = {}
    for row in rows:
        first = lines.setdefault(row.name.lower(), row.line)
        if first != row.line:
            raise ConfigError(
                f"{path}, line {row.line}: name {row.name} is already used on line {first}"
            )
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or "expression" not in header or len(set(header)) < len(header):
        raise ConfigError(
            f"{path}, line 1: columns {', '.join(header) or '(none)'}; allowed are "
            f"{', '.join(COLUMNS)}, each at most once, and expression is required"
        )


def _parse_row(path: Path, line: int, index: int, values: dict[str, str]) -> BatchRow:
    where = f"{path}, line {line}"
    if None in values or None in values.values():
        raise ConfigError(f"{where}: the number of values differs from the number of columns")
    name = values.get("name") or f"{index:05d}"
    if not NAME.fullmatch(name):
        raise ConfigError(f"{where}: name {name!r}: use letters, digits, dots, - and _")
    amount = _parse_amount(where, values)
    residual = (values.get("residual") or "").lower()
    if residual not in YES + NO:
        raise ConfigError(f"{where}: residual {residual!r}: write true or false")
    refine = (values.get("refine") or "").strip() or "0"
    if not (refine.isascii() and refine.isdigit() and len(refine) < 10):
        raise ConfigError(f"{where}: refine {refine!r}: write a whole number of steps, 0 or more")
    try:
        hold = parse_csv_list(values.get("hold") or "", "hold")
        tree = parse(values["expression"])
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    settings = EditSettings(amount, residual in YES, hold, refine=int(refine))
    return BatchRow(line, name, tree, settings)


def _parse_amount(where: str, values: Mapping[str, str]) -> float:
    text = (values.get("amount") or "").strip() or "1"
    label = f"{where}: amount {text!r}"
    try:
        amount = float(text)
    except ValueError:
        raise ConfigError(f"{label}: is not a number") from None
    validate_amount(amount, label)
    return amount


def _run_row(editor: Editor, row: BatchRow, folder: Path, output: Path) -> BatchResult:
    try:
        resolved = editor.resolve(row.tree, row.settings.hold)
        recipe = make_recipe(folder, editor, resolved, row.settings, picture="result")
        edit = render_edit(editor, resolved, recipe, output / f"{row.name}.png")
    except ControlGenError as error:
        raise type(error)(f"line {row.line}: {error}") from None
    columns = {name: values[0] for name, values in edit_columns(edit).items()}
    arrays = {
        "latents": edit.latents[0],
        "asked": edit.target_features[0],
        "obtained": edit.features[0],
    }
    return BatchResult(resolved.expression, {"share": resolved.share, **columns}, arrays)


def _save_results(folder: Path, rows: Sequence[BatchRow], results: Sequence[BatchResult]) -> None:
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        header = ("name", "expression", "amount", "residual", "refine", *results[0].columns)
        writer.writerow(header)
        for row, result in zip(rows, results, strict=True):
            settings = row.settings
            options = (f"{settings.amount:g}", str(settings.residual).lower(), settings.refine)
            values = result.columns.values()
            cells = [value if isinstance(value, str) else f"{value:.6g}" for value in values]
            writer.writerow([row.name, result.expression, *options, *cells])
    (folder / "names.txt").write_text("".join(f"{row.name}\n" for row in rows), encoding="utf-8")
    for name in results[0].arrays:
        stacked = np.stack([result.arrays[name] for result in results])
        np.save(folder / f"{name}.npy", stacked, allow_pickle=False)
