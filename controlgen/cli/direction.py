"""`controlgen direction`: an expression kept as a small file, to be used by name of that file."""

from pathlib import Path

from controlgen.cli.sheet import parse_names
from controlgen.editing import Editor
from controlgen.editing.directions.storage import SUFFIX, save_direction
from controlgen.editing.expressions.resolver import way
from controlgen.utils.files import ensure_writable_file


def keep(folder: Path, expression: str, output: Path, name: str | None, hold: str) -> list[str]:
    """Write what an expression means in this map's feature space; returns lines to be printed.

    Raises ConfigError with the column of a mistake, DataError where a file cannot be read.
    """
    ensure_writable_file(output, "-o", (SUFFIX,))
    editor, held = Editor.load(folder), parse_names(hold)
    found = way(editor, expression, held)
    note = save_direction(
        output,
        found.direction,
        name=name or output.stem,
        made_by=found.expression + (f", held {', '.join(held)}" if held else ""),
        space=editor.space.fingerprint,
        share_inside=found.share,
    )
    return [
        f'{output}: direction {note.name}; use it as direction("{output}")',
        f"share of it that the bank's images span: {note.share_inside:.3f}",
    ]
