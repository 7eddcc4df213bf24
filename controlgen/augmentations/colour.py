"""Colour jitter: three amounts in -1..1 for each image, and exactly nothing at amount 0."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from controlgen.base_config import BaseConfig
from controlgen.errors import Incompatible

# Optical densities per channel (red, green, blue) of the two stains, Ruifrok and Johnston 2001,
# "Quantification of histochemical staining by color deconvolution", table 1; unit rows.
HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
DARKEST = 1 / 255  # smallest transmitted share; darker pixels have the same density


class NoColour(BaseConfig):
    """No colour jitter."""

    kind: Literal["none"] = "none"

    def check(self, channels: int) -> None:
        """Any number of channels."""

    def apply(self, images: Tensor, amounts: Tensor) -> Tensor:
        """The images themselves."""
        return images


class PlainColour(BaseConfig):
    """Brightness, contrast and saturation, for grey and everyday pictures.

    The scales are those of Karras et al. 2020 (appendix B), but amounts are drawn evenly between
    two limits, not from a normal, so that no image becomes extreme. Nothing is clamped.
    """

    kind: Literal["plain"] = "plain"
    brightness: float = Field(0.2, ge=0, le=1, description="largest change, images in -1..1")
    contrast: float = Field(0.5, ge=0, le=2, description="most doublings of the contrast")
    saturation: float = Field(1.0, ge=0, le=2, description="most doublings of the saturation")

    def check(self, channels: int) -> None:
        """Any number of channels; a single channel has no saturation."""

    def apply(self, images: Tensor, amounts: Tensor) -> Tensor:
        """(x + b) 2^c, then colours 2^s as far from the channels' mean; `amounts` (n 3) scale."""
        limits = images.new_tensor([self.brightness, self.contrast, self.saturation])
        shift, contrast, saturation = _columns(amounts.to(images) * limits)
        images = (images + shift) * torch.exp2(contrast)
        return images + (torch.exp2(saturation) - 1) * (images - images.mean(1, keepdim=True))


class StainColour(BaseConfig):
    """Strength of haematoxylin and eosin and a small hue rotation, in optical density.

    Laboratories and scanners differ in the amount of each stain and in its recorded colour (Tellez
    et al. 2019, arXiv:1902.06543, jitter the same space). White stays white. For haematoxylin and
    eosin only; other stains have other vectors.
    """

    kind: Literal["stain"] = "stain"
    strength: float = Field(0.2, ge=0, le=0.5, description="largest relative change of a stain")
    hue_degrees: float = Field(5.0, ge=0, le=20, description="largest hue rotation")

    def check(self, channels: int) -> None:
        """Raise Incompatible unless there are three channels."""
        if channels != 3:
            raise Incompatible(
                f"train.augment.colour stain: needs red, green and blue, the images have {channels}"
                ' channel(s); set train.augment.colour.kind to "plain" or "none"'
            )

    def apply(self, images: Tensor, amounts: Tensor) -> Tensor:
        """Optical densities o -> o A(amounts), `images` (n 3 h w), `amounts` (n 3).

        With t = (x + 1) / 2 the transmitted light and o = -ln t its density (Beer-Lambert), the
        light becomes t exp(-o (A - 1)). Written as x + (x + 1) (exp(...) - 1) it is x itself, bit
        by bit, at A = 1. Generated images may leave -1..1: they use the factor of the nearest
        colour inside, so that the gradient never vanishes, and the light is not clamped.
        """
        change = self._change(amounts).to(images)
        density = -((images + 1) / 2).clamp(DARKEST, 1).log()
        added = torch.einsum("nchw,nck->nkhw", density, change)
        return images + (images + 1) * torch.expm1(-added)

    def _change(self, amounts: Tensor) -> Tensor:
        # A - 1 (n 3 3), acting on rows. Both summands are exactly 0 at amount 0.
        limits = amounts.new_tensor([self.strength, self.strength, math.radians(self.hue_degrees)])
        haematoxylin, eosin, angle = (amounts * limits)[:, :, None, None].unbind(1)
        stains = _stains().to(amounts)
        of_density = torch.linalg.inv(stains)
        staining = haematoxylin * torch.outer(of_density[:, 0], stains[0])
        staining = staining + eosin * torch.outer(of_density[:, 1], stains[1])

        # Rodrigues' rotation about the neutral axis (1 1 1): greys keep their density.
        cross = amounts.new_tensor([[0, 1, -1], [-1, 0, 1], [1, -1, 0]]) / math.sqrt(3)
        turn = angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)
        return staining + turn + staining @ turn


AnyColour = Annotated[NoColour | PlainColour | StainColour, Field(discriminator="kind")]


def _stains() -> Tensor:
    # Unit rows: haematoxylin, eosin and their normal.
    pair = torch.tensor([HAEMATOXYLIN, EOSIN], dtype=torch.float64)
    third = torch.linalg.cross(pair[0], pair[1])
    return torch.nn.functional.normalize(torch.cat([pair, third[None]]))


def _columns(table: Tensor) -> tuple[Tensor, ...]:
    return table[:, :, None, None, None].unbind(1)
