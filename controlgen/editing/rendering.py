"""Render the edit of a recipe as a PNG, byte for byte the same on every machine."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from controlgen._version import __version__
from controlgen.editing import Candidates, Edit, Editor, Recipe
from controlgen.editing.apply import edit_resolved
from controlgen.editing.expressions.resolver import ResolvedEdit
from controlgen.figures import Column, contact_sheet, edit_strip
from controlgen.images import PngTarget, write_png

MAX_TITLE = 150  # characters


def render_edit(editor: Editor, resolved: ResolvedEdit, recipe: Recipe, output: PngTarget) -> Edit:
    """Write a PNG that contains its recipe; return the edit at full amount.

    With several candidates, the result of this edit is the best one. Raises as `Editor.apply`,
    before anything is written.
    """
    steps = recipe.steps if recipe.picture == "strip" and recipe.answers == 1 else 1
    amounts = [recipe.amount * step / steps for step in range(1, steps + 1)]
    settings = recipe.settings
    edits = [edit_resolved(editor, resolved, replace(settings, amount=a)) for a in amounts]
    final, candidates = edits[-1], None
    if recipe.answers > 1:
        candidates = editor.candidates(final.target_features, recipe.answers, refine=recipe.refine)
        final = candidates.as_edit(final)
    provenance: dict[str, Any] = {
        "synthetic": "true",
        "model": recipe.model,
        "seed": resolved.start,
        "recipe": recipe.to_dict(),
        "version": __version__,
    }
    if recipe.picture == "result":
        write_png(output, final.pixels, provenance)
        return final

    # A real source is shown with the model's reconstruction, and the PNG declares it.
    columns = [Column("source", final.source_pixels)]
    if resolved.source.ndim == 4:
        columns.append(Column("projected", editor.generate(final.source_latents)))
        provenance |= {"synthetic": "in part", "real": f"the first picture, {resolved.start}"}
    title = resolved.expression
    if len(title) > MAX_TITLE:
        title = f"{title[: MAX_TITLE - 3]}..."
    if candidates is not None:
        columns += [Column("edit", edits[-1].pixels), *_candidate_columns(candidates)]
        note = "Candidates for one target, ranked by the cosine of target and resulting features."
        if candidates.reachability is not None:
            note += " reach: confidence in a result (reachability), 0 to 1."
        contact_sheet(output, columns, provenance, title, note)
        return final
    labels = [f"{amount:g}" for amount in np.round(amounts, 3)]
    columns += [Column(label, edit.pixels) for label, edit in zip(labels, edits, strict=True)]
    pixels = np.concatenate([column.pixels for column in columns])
    names = [column.heading for column in columns]
    edit_strip(output, pixels, names, provenance, title=title.replace("$", r"\$"))
    return final


def _candidate_columns(candidates: Candidates) -> Iterator[Column]:
    for rank, similarity in enumerate(candidates.target_similarity[0]):
        label = f"candidate {rank + 1}\n{similarity:.3f}"
        if candidates.reachability is not None:
            label += f"\nreach {candidates.reachability[0, rank]:.2f}"
        yield Column(label, candidates.pixels[:, rank])
