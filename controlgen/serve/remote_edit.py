"""The result of an edit on a server, decoded from its response."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen.editing.edit import AttributeChange, Edit
from controlgen.serve import serialization
from controlgen.serve.serialization import decode_json_array, decode_json_pixels


@dataclass(frozen=True)
class RemoteEdit(Edit):
    """An Edit computed by a server, whose measurements come with the response.

    Attributes:
        response: The decoded JSON of the response.
    """

    response: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """The recipe that reproduces the first image; None for a source and a direction."""
        recipe: Mapping[str, Any] | None = self.response["pictures"][0]["recipe"]
        return recipe

    @property
    def png(self) -> bytes:
        """The first image as a PNG file, which carries its recipe."""
        return serialization.from_base64(self.response["pictures"][0]["image"], "picture")

    @property
    def reachability(self) -> NDArray[np.float32] | None:
        """See Edit."""
        values = [picture["reachability"] for picture in self.response["pictures"]]
        return None if None in values else np.asarray(values, np.float32)

    @property
    def warnings(self) -> tuple[str, ...]:
        """See Edit."""
        return tuple(picture["warning"] for picture in self.response["pictures"])

    @property
    def attributes(self) -> AttributeChange | None:
        """See Edit."""
        rows = [picture["measured"] for picture in self.response["pictures"]]
        if not rows[0]:
            return None
        before, after = (
            np.array([[row[name][side] for name in rows[0]] for row in rows])
            for side in ("before", "after")
        )
        return AttributeChange(tuple(rows[0]), before, after)


def decode_edit(response: Mapping[str, Any]) -> RemoteEdit:
    """Decode a response of /v1/edit or /v1/sweep with arrays and pixels as npy."""
    return RemoteEdit(
        pixels=decode_json_pixels(response["pixels"]),
        latents=decode_json_array(response["latents"]),
        target_features=decode_json_array(response["asked"]),
        features=decode_json_array(response["obtained"]),
        source_pixels=decode_json_pixels(response["source_pixels"]),
        source_latents=decode_json_array(response["source_latents"]),
        source_features=decode_json_array(response["source_features"]),
        response=response,
    )
