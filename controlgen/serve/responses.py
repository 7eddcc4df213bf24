"""What an Editor says, put into the schemas."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import Edit, Query, Recipe
from controlgen.serve import serialization
from controlgen.serve.schemas import Answer, Arrays, Measurement, Moved, Picture, Shown
from controlgen.types import Pixels

SOURCE = ("source_pixels", "source_latents", "source_features")  # arrays of the sources


def numbers(array: NDArray[Any], how: Arrays | Shown) -> Any:
    """An array as a request wants it: not at all, as lists, or as base64 of .npy."""
    if how in ("none", "png"):
        return None
    if how == "json":
        return array.tolist()
    return {"npy": serialization.to_base64(serialization.npy(array))}


def images(pixels: Pixels) -> list[str]:
    """Pixels (n c h w) as base64 of n PNG files."""
    return [serialization.to_base64(serialization.png(one[None])) for one in pixels]


def picture(
    edit: Edit,
    row: int,
    image: str,
    amount: float,
    hold: Sequence[str],
    recipe: Recipe | None,
) -> Picture:
    """One row of an edit."""
    believed = edit.reachability
    return Picture(
        image=image,
        amount=amount,
        agreement=float(edit.agreement[row]),
        progress=float(edit.progress[row]),
        reachability=None if believed is None else float(believed[row]),
        warning=edit.warnings[row],
        measured=_measured(edit, row, hold),
        recipe=None if recipe is None else recipe.effective(),
    )


def _measured(edit: Edit, row: int, hold: Sequence[str]) -> dict[str, Measurement]:
    if edit.model is None or edit.attributes is None:
        return {}
    names, before, after = edit.attributes
    sigmas = edit.model.in_sigmas(after - before)[row]
    return {
        name: Measurement(
            before=float(before[row, at]),
            after=float(after[row, at]),
            sigmas=float(sigmas[at]),
            held=name in hold,
        )
        for at, name in enumerate(names)
    }


def answer(
    model: str,
    asked: Moved,
    edits: Sequence[Edit],
    pictures: list[Picture],
    query: Query | None = None,
    **other: NDArray[Any],
) -> Answer:
    """All of several edits of the same sources; `other` are rows in place of those of the edits."""
    first = edits[0]
    rows = {
        name: np.concatenate([getattr(one, name) for one in edits])
        for name in ("latents", "asked", "obtained", "pixels")
    }
    rows |= {name: getattr(first, name) for name in SOURCE} | other
    told = {
        name: numbers(row, asked.pixels if "pixels" in name else asked.arrays)
        for name, row in rows.items()
    }
    return Answer(
        model=model,
        expression=query.expression if query else None,
        start=query.start if query else None,
        share=query.share if query else None,
        sources=images(first.source_pixels) if asked.pixels == "png" else [],
        pictures=pictures,
        **told,
    )
