"""Pixel conversions (uint8 0..255 <-> float -1..1), grids and PNG writing."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin
from torch import Tensor

from controlgen.types import Latents, Pixels
from controlgen.utils.files import atomic_write

RecolouredPixels = UInt8[np.ndarray, "n k h w"]  # Pixels with another number of channels
PngTarget = Path | BytesIO  # where a PNG is written
ImageGrid = UInt8[np.ndarray, "1 c H W"]  # one image laid out from many
LARGE = 400_000  # bytes of a PNG above which fewer colours save enough


def to_signed_float(pixels: Pixels) -> Tensor:
    """Pixels uint8 (n c h w) -> Images float32 in -1..1."""
    # Read-only arrays (a decoded file, a memory map) are copied: torch takes writable ones only.
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).float() / 127.5 - 1


def to_pixels(images: Tensor) -> Pixels:
    """Images (n c h w) -> Pixels uint8, rounded to nearest and clipped at -1 and 1."""
    scaled = (images.detach().float().cpu() + 1) * 127.5
    return np.asarray(scaled.round().clamp(0, 255).to(torch.uint8).numpy())


def generate_pixels(
    generator: Callable[[Tensor], Tensor], latents: Tensor | Latents, at_once: int = 256
) -> Pixels:
    """Generate Pixels (n c h w) from latents (n z) on the generator's device, in batches."""
    rows = torch.as_tensor(latents)
    with torch.no_grad():
        return np.concatenate([to_pixels(generator(part)) for part in rows.split(at_once)])


def to_channels(pixels: Pixels, channels: int) -> RecolouredPixels:
    """Pixels with 1 or 3 channels: grey is repeated, RGB becomes ITU-R 601 luma."""
    if pixels.shape[1] == channels:
        return pixels
    if pixels.shape[1] == 1:
        return np.repeat(pixels, channels, axis=1)
    luma = np.tensordot(pixels, np.array([0.299, 0.587, 0.114]), axes=([1], [0]))
    return np.rint(luma)[:, None].astype(np.uint8)


def tensor_to_channels(images: Tensor, channels: int) -> Tensor:
    """The differentiable `to_channels`, on Images."""
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1)
    weights = images.new_tensor([0.299, 0.587, 0.114])
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def grid(pixels: Pixels, columns: int, gap: int = 2, paper: int = 255) -> ImageGrid:
    """Lay n images out row by row as one image: Pixels (n c h w) -> (1 c H W)."""
    n, channels, height, width = pixels.shape
    rows = -(-n // columns)
    shape = (1, channels, rows * (height + gap) + gap, columns * (width + gap) + gap)
    sheet = np.full(shape, paper, np.uint8)
    for index in range(n):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        sheet[0, :, top : top + height, left : left + width] = pixels[index]
    return sheet


@contextmanager
def atomic_target(target: PngTarget) -> Iterator[PngTarget]:
    """Yield where to write: a stream itself, or a temporary file that then replaces the path."""
    if not isinstance(target, Path):
        yield target
        return
    with atomic_write(target) as partial:
        yield partial


def shrink_png(source: Path, target: Path) -> None:
    """Copy a PNG; reduce a large one to its best 256 colours and keep its text chunks.

    A PNG below LARGE bytes, or one that would not shrink, is copied unchanged.
    """
    content = source.read_bytes()
    if len(content) >= LARGE:
        with Image.open(source) as picture:
            chunks = PngImagePlugin.PngInfo()
            for key, value in picture.info.items():
                if isinstance(value, str):
                    chunks.add_text(str(key), value)
            reduced, smaller = picture.convert("RGB").quantize(256), BytesIO()
        reduced.save(smaller, format="PNG", pnginfo=chunks, optimize=True)
        content = min(content, smaller.getvalue(), key=len)
    target.write_bytes(content)


def write_png(target: PngTarget, pixels: Pixels, provenance: dict[str, Any], zoom: int = 1) -> None:
    """Write an image (1 c h w) with its provenance as PNG text chunks, atomically.

    Every PNG carries `synthetic`, the model and how to reproduce it (seed, recipe, version).
    """
    plane = pixels[0].transpose(1, 2, 0).repeat(zoom, 0).repeat(zoom, 1)
    picture = Image.fromarray(plane[..., 0] if plane.shape[2] == 1 else plane)
    chunks = PngImagePlugin.PngInfo()
    for key, value in provenance.items():
        chunks.add_text(key, value if isinstance(value, str) else json.dumps(value))
    with atomic_target(target) as output:
        picture.save(output, format="PNG", pnginfo=chunks)
