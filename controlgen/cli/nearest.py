"""`controlgen nearest`: search the bank for the images nearest to an expression."""

from pathlib import Path

from controlgen._version import __version__
from controlgen.editing import Editor
from controlgen.editing.expressions.parser import parse
from controlgen.errors import ConfigError
from controlgen.figures import Column, contact_sheet
from controlgen.utils.files import ensure_writable_file, reproduction_command, write_text
from controlgen.utils.progress import TqdmReporter


def find_nearest(
    folder: Path, expression: str, output: Path, n: int, among: int, table: Path | None
) -> list[str]:
    """Draw the n bank images nearest to an expression, best first; return lines to print."""
    tree = parse(expression)
    if table is not None:
        ensure_writable_file(table, "--table")
        if table.absolute() == output.absolute():
            raise ConfigError(f"--table {table}: is also the name of the picture; choose another")
    editor = Editor.load(folder)
    feature = editor.feature_from_expression(tree)
    editor.bank_items(0, 1)  # a map that cannot regenerate its bank fails before the progress bar
    among = min(among, editor.bank.n) if editor.bank is not None else among
    with TqdmReporter().start(f"bank of {folder.name}", among, unit="images") as progress:
        matches = editor.bank_index.nearest(feature, n, among, progress.update_to)
    ranked = list(zip(matches.items, matches.cosine, strict=True))
    columns = [
        Column(f"bank({item})\n{cosine:.3f}", matches.pixels[rank : rank + 1])
        for rank, (item, cosine) in enumerate(ranked)
    ]
    provenance = {
        "model": str(folder),
        "weights": editor.weights,
        "seed": "" if editor.bank is None else str(editor.bank.seed),
        "recipe": reproduction_command("nearest", folder, expression, n=n, among=among),
        "version": __version__,
    }
    caption = f"Cosine of features with the expression's, among the bank's first {among} images."
    contact_sheet(output, columns, provenance, expression, caption)
    rows = [f"bank({item}),{cosine:.6f}" for item, cosine in ranked]
    if table is not None:
        write_text(table, "\n".join(["item,cosine", *rows]) + "\n")
    return [f"{output}: {caption}", *(row.replace(",", "  ") for row in rows)]
