"""Preprocessing of Images of any size and 1 or 3 channels, batched and differentiable.

The same steps as open_clip's `image_transform` for inference (antialiased resize, centre crop or
pad, normalise), on tensors instead of Pillow images.
"""

from typing import Literal

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor

from controlgen.base_config import BaseConfig
from controlgen.images import tensor_to_channels

Triple = tuple[float, float, float]


class Preprocessing(BaseConfig):
    """The preprocessing of a feature space; part of its fingerprint."""

    size: tuple[int, int] = Field(description="height and width the network sees")
    mean: Triple = Field(description="per channel, of values in 0..1")
    std: Triple = Field(description="per channel, of values in 0..1")
    interpolation: Literal["bicubic", "bilinear", "bilinear-tensorflow1"] = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    fill_color: int = Field(default=0, ge=0, le=255, description="byte padding a `longest` resize")

    def apply(self, images: Tensor) -> Tensor:
        """Images (n 1|3 h w) in -1..1 -> normalised float (n 3 H W).

        Values outside -1..1 are clipped, as when stored as Pixels.
        """
        shades = (images.float().clamp(-1, 1) + 1) / 2
        shades = self._fit(self._resize(shades))
        coloured = tensor_to_channels(shades, 3)
        mean, std = coloured.new_tensor(self.mean), coloured.new_tensor(self.std)
        return (coloured - mean[:, None, None]) / std[:, None, None]

    def _resize(self, shades: Tensor) -> Tensor:
        size = self._resized((shades.shape[2], shades.shape[3]))
        # Pillow resizes across, then down, and clips bicubic overshoots to bytes after each pass.
        if self.interpolation == "bilinear-tensorflow1":
            return resize_like_tensorflow1(shades, size)
        for size_of_axis in ((shades.shape[2], size[1]), size):
            if size_of_axis != tuple(shades.shape[2:]):
                shades = functional.interpolate(
                    shades,
                    size_of_axis,
                    mode=self.interpolation,
                    align_corners=False,
                    antialias=True,
                ).clamp(0, 1)
        return shades

    def _resized(self, old: tuple[int, int]) -> tuple[int, int]:
        # open_clip rounds in two ways: torchvision floors the long side, timm rounds both.
        (height, width), (wanted_height, wanted_width) = old, self.size
        if self.resize_mode == "squash":
            return self.size
        if self.resize_mode == "shortest" and wanted_height == wanted_width:
            if height <= width:
                return wanted_height, int(wanted_height * width / height)
            return int(wanted_height * height / width), wanted_height
        ratios = height / wanted_height, width / wanted_width
        ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
        return round(height / ratio), round(width / ratio)

    def _fit(self, shades: Tensor) -> Tensor:
        # Pad first if a side is too short (the odd pixel right and below), then crop the centre.
        wanted_height, wanted_width = self.size
        short_y = max(wanted_height - shades.shape[2], 0)
        short_x = max(wanted_width - shades.shape[3], 0)
        if short_y or short_x:
            left, top = short_x // 2, short_y // 2
            sides = (left, short_x - left, top, short_y - top)
            shades = functional.pad(shades, sides, value=self.fill_color / 255)
        top = int(round((shades.shape[2] - wanted_height) / 2))
        left = int(round((shades.shape[3] - wanted_width) / 2))
        return shades[:, :, top : top + wanted_height, left : left + wanted_width]


def resize_like_tensorflow1(shades: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (n c h w) -> (n c H W) bilinearly as TensorFlow 1 did: the resize that FID is
    defined on.

    Output pixel i is sampled at i h / H of the input, not at pixel centres, without antialiasing.
    """
    for axis, length in ((2, size[0]), (3, size[1])):
        count = shades.shape[axis]
        places = torch.arange(length, device=shades.device) * (count / length)
        first = places.long()
        share = (places - first).view(-1, *(1,) * (3 - axis))
        near = shades.index_select(axis, first)
        far = shades.index_select(axis, (first + 1).clamp(max=count - 1))
        shades = near + (far - near) * share
    return shades


def unit_rows(features: Tensor) -> Tensor:
    """Each row (n d) divided by its Euclidean length."""
    return functional.normalize(features.float(), dim=-1)
