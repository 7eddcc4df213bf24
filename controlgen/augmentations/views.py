"""Random views of an image for self-supervised training.

Two views of an image get the same feature, so features become invariant to these transforms. They
are those of Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
Representations" (SimCLR), section 3, with ranges for small images. torchvision's transforms are
not used: they draw from the global generator, once for a whole batch.
"""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor

from controlgen.augmentations.colour import AnyColour, NoColour, StainColour
from controlgen.augmentations.geometry import POSES, apply_pose_and_shift
from controlgen.base_config import BaseConfig
from controlgen.errors import Incompatible
from controlgen.types import Shape

AMOUNTS = 10  # pose, shift (2), zoom, turn, blur, noise, colour (3)


class Views(BaseConfig):
    """Amounts are drawn uniformly and independently for each image; 0 disables a transform."""

    poses: bool = Field(description="any of the eight poses of a square")
    shift: float = Field(0.1, ge=0, le=0.5, description="largest shift, as a share of the side")
    zoom: float = Field(0.2, ge=0, le=2, description="largest enlargement or reduction, as a share")
    turn_degrees: float = Field(0.0, ge=0, le=180, description="largest rotation, either way")
    blur: float = Field(1.0, ge=0, le=4, description="largest sigma in pixels")
    noise: float = Field(0.1, ge=0, le=1, description="largest sigma, images in -1..1")
    colour: AnyColour = NoColour()
    beyond: Literal["border", "reflection"] = Field(description="padding beyond the edges")

    def check(self, shape: Shape) -> None:
        """Raise Incompatible if images of this shape (c h w) have no such views."""
        if shape[1] != shape[2]:
            raise Incompatible(
                f"augment: views need square images, not {shape[1]}x{shape[2]}; cut square ones"
            )
        try:
            self.colour.check(shape[0])
        except Incompatible:
            raise Incompatible(
                f"augment.colour {self.colour.kind}: does not fit images of {shape[0]} channel(s); "
                'set augment.colour.kind to "plain" or "none"'
            ) from None

    def view(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """A view of each image: Images (n c s s) -> the same shape, clamped to -1..1.

        `rng` is a CPU generator; the amount drawn from it depends on the images' shape alone.
        """
        amount = torch.rand(len(images), AMOUNTS, generator=rng, dtype=torch.float64)
        grain = torch.randn(images.shape, generator=rng).to(images)
        signed = 2 * amount - 1

        # Poses are exact; all other transforms are one bilinear resampling.
        if self.poses:
            pose = (amount[:, 0] * len(POSES)).long()
            images = apply_pose_and_shift(
                images, pose, torch.zeros(len(images), 2, dtype=torch.int64)
            )
        images = self._warp(images, signed[:, 1:5])

        # Colour, then blur and sensor noise.
        images = self.colour.apply(images, signed[:, 7:])
        images = images + _share(amount[:, 5], images) * (gaussian_blur(images, self.blur) - images)
        return (images + self.noise * _share(amount[:, 6], images) * grain).clamp(-1, 1)

    def _warp(self, images: Tensor, amounts: Tensor) -> Tensor:
        # Input position of every output pixel; coordinates are -1..1 from edge to edge.
        if not (self.shift or self.zoom or self.turn_degrees):
            return images
        size = torch.exp(-amounts[:, 2] * math.log1p(self.zoom))
        angle = amounts[:, 3] * math.radians(self.turn_degrees)
        cosine, sine = size * angle.cos(), size * angle.sin()
        across, down = (2 * self.shift * amounts[:, :2]).unbind(1)
        rows = [torch.stack([cosine, -sine, across], 1), torch.stack([sine, cosine, down], 1)]
        matrix = torch.stack(rows, 1).to(images)
        grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
        return functional.grid_sample(
            images, grid, mode="bilinear", padding_mode=self.beyond, align_corners=False
        )


class DigitViews(Views):
    """For writing and other oriented bright shapes: shifted, resized, blurred, never mirrored.

    Rotation is off, because it changes the slant; set `turn_degrees` for invariance to slant.
    """

    kind: Literal["digits"] = "digits"
    poses: bool = False
    beyond: Literal["border", "reflection"] = "border"


class TissueViews(Views):
    """For tissue, which has no orientation and whose stain varies."""

    kind: Literal["tissue"] = "tissue"
    poses: bool = True
    shift: float = Field(0.2, ge=0, le=0.5, description="largest shift, as a share of the side")
    zoom: float = Field(0.4, ge=0, le=2, description="largest enlargement or reduction, as a share")
    colour: AnyColour = StainColour()
    beyond: Literal["border", "reflection"] = "reflection"


AnyViews = Annotated[DigitViews | TissueViews, Field(discriminator="kind")]


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Images (n c h w) blurred by a Gaussian of `sigma` pixels, edges repeated; unchanged at 0."""
    if sigma == 0:
        return images
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-((offsets / sigma) ** 2) / 2)
    weights = (weights / weights.sum()).to(images.dtype)
    flat = images.flatten(0, 1)[:, None]
    flat = functional.pad(flat, (reach,) * 4, mode="replicate")
    flat = functional.conv2d(
        functional.conv2d(flat, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1)
    )
    return flat.view_as(images)


def _share(column: Tensor, images: Tensor) -> Tensor:
    return column.to(images)[:, None, None, None]
