"""The picture that a recipe says, byte for byte the same wherever it is drawn."""

import numpy as np

from controlgen import __version__
from controlgen.control import Edit, Editor, Recipe
from controlgen.control.queries import Query
from controlgen.control.steering import check_amount
from controlgen.figures import Column, contact_sheet, edit_strip
from controlgen.images import Target, write_png


def draw_edit(editor: Editor, query: Query, recipe: Recipe, output: Target) -> Edit:
    """Draw what a recipe says as a PNG that carries it; returns the edit at the end of the way.

    Raises as `Editor.answer`, before anything is written.
    """
    check_amount(recipe.amount)
    provenance = {
        "synthetic": "true",
        "model": recipe.model,
        "seed": query.start,
        "recipe": recipe.effective(),
        "version": __version__,
    }
    steps = recipe.steps if recipe.picture == "strip" and recipe.answers == 1 else 1
    amounts = [recipe.amount * step / steps for step in range(1, steps + 1)]
    rounds = recipe.corrections if query.hold else None
    edits = [editor.answer(query, one, recipe.residual, rounds, recipe.refine) for one in amounts]
    if recipe.picture == "result":
        write_png(output, edits[-1].pixels, provenance)
        return edits[-1]

    title = query.expression if len(query.expression) <= 150 else f"{query.expression[:147]}..."
    if recipe.answers > 1:
        many = editor.answers(edits[-1].asked, recipe.answers)
        columns = [Column("source", edits[0].source_pixels), Column("edit", edits[-1].pixels)]
        columns += [
            Column(f"answer {at + 1}\n{many.agreement[0, at]:.3f}", many.pixels[:, at])
            for at in range(recipe.answers)
        ]
        words = "Answers to one feature, ranked by the cosine of what was asked and obtained."
        contact_sheet(output, columns, provenance, title, words)
        return edits[-1]

    # The strip starts with the source itself; each further image goes one step further.
    pixels = np.concatenate([edits[0].source_pixels, *(one.pixels for one in edits)])
    labels = ["source", *(f"{one:g}" for one in np.round(amounts, 3))]
    edit_strip(output, pixels, labels, provenance, title=title.replace("$", r"\$"))
    return edits[-1]
