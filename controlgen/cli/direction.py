"""`controlgen direction`: save an expression's direction as a small file."""

from pathlib import Path

from controlgen.cli._options import parse_csv_list
from controlgen.editing import Editor
from controlgen.editing.directions.storage import SUFFIX, save_direction
from controlgen.editing.expressions.resolver import resolve_direction
from controlgen.utils.files import ensure_writable_file


def save_expression_direction(
    folder: Path, expression: str, output: Path, name: str | None, hold: str
) -> list[str]:
    """Save an expression's direction in the map's feature space; return lines to print.

    Raises ConfigError with the column of a mistake, DataError where a file cannot be read.
    """
    ensure_writable_file(output, "-o", (SUFFIX,))
    editor, held_names = Editor.load(folder), parse_csv_list(hold)
    resolved = resolve_direction(editor, expression, held_names)
    held = f", held {', '.join(held_names)}" if held_names else ""
    metadata = save_direction(
        output,
        resolved.direction,
        name=name or output.stem,
        made_by=resolved.expression + held,
        space=editor.space.fingerprint,
        share_inside=resolved.share,
    )
    return [
        f'{output}: direction {metadata.name}; use it as direction("{output}")',
        f"share of it within the bank's span: {metadata.share_inside:.3f}",
    ]
