"""Build the schemas of responses from the results of an Editor."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import Edit, Recipe, ResolvedEdit
from controlgen.serve import serialization
from controlgen.serve.schemas import (
    ArrayFormat,
    EditBase,
    EditedImage,
    EditResponse,
    Measurement,
    PixelFormat,
)

# JSON fields of a response -> attributes of an Edit.
RESULT_ARRAYS = {
    "latents": "latents",
    "asked": "target_features",
    "obtained": "features",
    "pixels": "pixels",
}
SOURCE_ARRAYS = ("source_pixels", "source_latents", "source_features")


def encode_array(array: NDArray[Any], form: ArrayFormat | PixelFormat) -> Any:
    """An array in the requested format: None, lists, or base64 of .npy."""
    if form in ("none", "png"):
        return None
    if form == "json":
        return array.tolist()
    return serialization.encode_json_array(array)


def picture_response(
    edit: Edit, row: int, image: str, amount: float, hold: Sequence[str], recipe: Recipe | None
) -> EditedImage:
    """One row of an edit."""
    confidence = edit.reachability
    return EditedImage(
        image=image,
        amount=amount,
        agreement=float(edit.target_similarity[row]),
        progress=float(edit.direction_similarity[row]),
        reachability=None if confidence is None else float(confidence[row]),
        warning=edit.warnings[row],
        measured=_measurements(edit, row, hold),
        recipe=None if recipe is None else recipe.to_dict(),
    )


def _measurements(edit: Edit, row: int, hold: Sequence[str]) -> dict[str, Measurement]:
    if edit.model is None or edit.attributes is None:
        return {}
    names, before, after = edit.attributes
    sigmas = edit.model.to_sigmas(after - before)[row]
    return {
        name: Measurement(
            before=float(before[row, column]),
            after=float(after[row, column]),
            sigmas=float(sigmas[column]),
            held=name in hold,
        )
        for column, name in enumerate(names)
    }


def edit_response(
    model: str,
    request: EditBase,
    edits: Sequence[Edit],
    pictures: list[EditedImage],
    resolved: ResolvedEdit | None = None,
    **replaced: NDArray[Any],
) -> EditResponse:
    """Several edits of the same sources as one response; `replaced` are arrays to use instead."""
    first = edits[0]
    arrays = {
        field: np.concatenate([getattr(edit, attribute) for edit in edits])
        for field, attribute in RESULT_ARRAYS.items()
    }
    arrays |= {field: getattr(first, field) for field in SOURCE_ARRAYS} | replaced
    encoded = {
        field: encode_array(array, request.pixels if "pixels" in field else request.arrays)
        for field, array in arrays.items()
    }
    return EditResponse(
        model=model,
        expression=resolved.expression if resolved else None,
        start=resolved.start if resolved else None,
        share=resolved.share if resolved else None,
        sources=serialization.encode_images(first.source_pixels) if request.pixels == "png" else [],
        pictures=pictures,
        **encoded,
    )
