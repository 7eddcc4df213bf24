"""Requests that can be sent as they stand, for the schema: each names a model that is served."""

from typing import Any

import numpy as np

from controlgen import rng
from controlgen.serve import serialization
from controlgen.serve.registry import Served

UPLOAD = "Body_invert_upload_v1_invert_upload_post"  # what FastAPI calls the form of an upload
MORE, LESS = "a digit eight", "a digit three"


def examples(served: Served) -> dict[str, dict[str, Any]]:
    """One for each schema of a request, by its name."""
    editor = served.editor
    model = {"model": served.name}
    (latents,) = rng.normals(7, "example", 0, 1, editor.latent_size)
    image = serialization.to_base64(
        serialization.png(np.full((1, *editor.image_shape), 128, np.uint8))
    )
    text = hasattr(editor.space, "embed_text")
    way = f"text('{MORE}') - text('{LESS}')" if text else "seed(8) - seed(9)"
    moved = {**model, "expression": f"seed(7) + 1.5 * ({way})"}
    sides = {"text": [MORE], "neutral": [LESS]} if text else {"expression": way}
    return {
        "SampleRequest": {**model, "n": 2, "seed": 7},
        "GenerateRequest": {**model, "latents": [[float(f"{one:.2f}") for one in latents]]},
        "EmbedRequest": {**model, **({"texts": [MORE]} if text else {"images": [image]})},
        "InvertRequest": {**model, "images": [image], "arrays": "none"},
        "EditRequest": {**moved, "amount": 0.8},
        "SweepRequest": {**moved, "amounts": [0.5, 1.0]},
        "NearestRequest": {**model, "expression": "slerp(seed(1), seed(2), 0.3)", "n": 4},
        "DirectionRequest": {**model, **sides, "name": "bold"},
    }


def put_into(schema: dict[str, Any], served: Served) -> None:
    """Put them into a whole OpenAPI schema."""
    parts = schema["components"]["schemas"]
    for name, example in examples(served).items():
        parts[name]["examples"] = [example]
    form = parts[UPLOAD]["properties"]
    form["model"]["examples"], form["arrays"]["examples"] = [served.name], ["none"]
