"""The picture that a recipe says, byte for byte the same wherever it is drawn."""

from typing import Any

import numpy as np

from controlgen._version import __version__
from controlgen.editing import Answers, Edit, Editor, Recipe
from controlgen.editing.apply import check_amount
from controlgen.editing.expressions.resolver import Query
from controlgen.figures import Column, contact_sheet, edit_strip
from controlgen.images import Target, write_png


def draw_edit(editor: Editor, query: Query, recipe: Recipe, output: Target) -> Edit:
    """Draw what a recipe says as a PNG that carries it; returns the edit at the end of the way.

    Of several answers that is the edit whose outcome is the best of them.
    Raises as `Editor.answer`, before anything is written.
    """
    check_amount(recipe.amount)
    provenance: dict[str, Any] = {
        "synthetic": "true",
        "model": recipe.model,
        "seed": query.start,
        "recipe": recipe.effective(),
        "version": __version__,
    }
    steps = recipe.steps if recipe.picture == "strip" and recipe.answers == 1 else 1
    amounts = [recipe.amount * step / steps for step in range(1, steps + 1)]
    rounds = recipe.corrections
    edits = [editor.answer(query, one, recipe.residual, rounds, recipe.refine) for one in amounts]
    last, many = edits[-1], None
    if recipe.answers > 1:
        many = editor.answers(last.asked, recipe.answers, refine=recipe.refine)
        last = many.edit(last)
    if recipe.picture == "result":
        write_png(output, last.pixels, provenance)
        return last

    # Real images are the sources of some edits: what the model can show of one stands beside it,
    # and the picture says that not all of it was generated.
    beginning = {"source": edits[0].source_pixels}
    if query.source.ndim == 4:
        beginning["projected"] = editor.generate(edits[0].source_latents)
        provenance |= {"synthetic": "in part", "real": f"the first picture, {query.start}"}
    title = query.expression if len(query.expression) <= 150 else f"{query.expression[:147]}..."
    if many is not None:
        columns = [Column(name, one) for name, one in beginning.items()]
        columns += [Column("edit", edits[-1].pixels)]
        columns += [Column(_heading(many, at), many.pixels[:, at]) for at in range(recipe.answers)]
        words = "Answers to one feature, ranked by the cosine of what was asked and obtained."
        if many.reachability is not None:
            words += " reach: how far an answer can be believed (reachability), 0 to 1."
        contact_sheet(output, columns, provenance, title, words)
        return last

    # The strip starts with the source itself; each further image goes one step further.
    pixels = np.concatenate([*beginning.values(), *(one.pixels for one in edits)])
    labels = [*beginning, *(f"{one:g}" for one in np.round(amounts, 3))]
    edit_strip(output, pixels, labels, provenance, title=title.replace("$", r"\$"))
    return last


def _heading(many: Answers, at: int) -> str:
    words = f"answer {at + 1}\n{many.agreement[0, at]:.3f}"
    return words if many.reachability is None else f"{words}\nreach {many.reachability[0, at]:.2f}"
