"""Synthetic slides of defined pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlgen.datasets.slides.dataset import Slides

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("openslide")

GLASS, TISSUE, OTHER = (240, 240, 240), (180, 60, 150), (120, 70, 160)
EDGE = 128  # pixels of the squares in `squares`


def halved(image: np.ndarray) -> np.ndarray:
    height, width, _ = image.shape
    blocks = image.reshape(height // 2, 2, width // 2, 2, 3)
    return np.rint(blocks.mean((1, 3))).astype(np.uint8)


def write_levels(
    path: Path, levels: list[np.ndarray], mpp: tuple[float, float] | None = (0.5, 0.5)
) -> Path:
    """A tiled pyramid for openslide's generic TIFF reader: resolution per centimetre."""
    with tifffile.TiffWriter(path) as writer:
        tags: dict[str, Any] = {}
        if mpp is not None:
            tags = {"resolution": (1e4 / mpp[0], 1e4 / mpp[1]), "resolutionunit": "CENTIMETER"}
        for number, level in enumerate(levels):
            writer.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression="deflate",
                compressionargs={"level": 1},
                subfiletype=int(number > 0),
                **(tags if number == 0 else {}),
            )
    return path


def write_slide(path: Path, image: np.ndarray, **options: Any) -> Path:
    levels = [image]
    for _ in range(2):
        levels.append(halved(levels[-1]))
    return write_levels(path, levels, **options)


def glass(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-3, 4, (height, width, 3))
    return np.clip(np.array(GLASS) + noise, 0, 255).astype(np.uint8)


def squares(rows: int = 6, columns: int = 10) -> np.ndarray:
    """Squares of EDGE pixels; red encodes the column, green the row."""
    image = np.full((rows * EDGE, columns * EDGE, 3), 5, np.uint8)
    image[..., 0] = (np.arange(columns * EDGE) // EDGE * 20 + 50)[None]
    image[..., 1] = (np.arange(rows * EDGE) // EDGE * 30 + 40)[:, None]
    return image


def blot(seed: int = 0, colour: tuple[int, int, int] = TISSUE) -> np.ndarray:
    """Glass of 768 x 1280 pixels with a noisy rectangle of tissue: rows 128..640, 256..1024."""
    image = glass(768, 1280, seed)
    noise = np.random.default_rng(seed + 1).integers(-25, 26, (512, 768, 3))
    image[128:640, 256:1024] = np.clip(np.array(colour) + noise, 0, 255)
    return image


def everything(data: Any) -> tuple[np.ndarray, np.ndarray]:
    indices = np.arange(len(data))
    return data.pixels(indices), data.coordinates(indices)


def both(spec: Slides) -> list[tuple[np.ndarray, np.ndarray]]:
    return [everything(spec.with_split(split).open()) for split in ("train", "test")]


def covered(places: np.ndarray, side: int) -> np.ndarray:
    """Number of tiles that cover each pixel of the blot."""
    canvas = np.zeros((768, 1280), int)
    for _, x, y in places:
        canvas[y : y + side, x : x + side] += 1
    return canvas


def broken(path: Path, level: int) -> None:
    """Overwrite the data of a level's tiles, but not the file's structure."""
    with tifffile.TiffFile(path) as opened:
        offsets = opened.pages[level].dataoffsets
    content = bytearray(path.read_bytes())
    for offset in offsets:
        content[offset : offset + 50] = b"\xff" * 50
    path.write_bytes(content)
