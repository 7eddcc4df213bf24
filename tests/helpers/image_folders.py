"""Small test images and folders of them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from controlgen.datasets import ImageFolder

SIDE = 16  # pixels of every valid image and of the model, so that nothing is resized


def scene(seed: int = 0) -> np.ndarray:
    """Smooth colours (16 16 3), which JPEG nearly preserves."""
    corners = np.random.default_rng(seed).integers(30, 220, (2, 2, 3), np.uint8)
    return np.asarray(Image.fromarray(corners).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


RGB = Image.fromarray(scene())
GREY = RGB.convert("L")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PNG, JPEG = encoded(RGB, "PNG"), encoded(RGB, "JPEG", quality=95, subsampling=0)


def folder(place: Path, files: dict[str, bytes]) -> Path:
    root = place / "images"
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def unlike(count: int, name: Callable[[int], str] = "{:03d}.png".format) -> dict[str, bytes]:
    return {name(index): encoded(Image.fromarray(scene(index)), "PNG") for index in range(count)}


def both(spec: ImageFolder) -> list[Any]:
    return [spec.with_split("train").open(), spec.with_split("test").open()]


def table(root: Path, lines: list[str]) -> None:
    (root / "groups.csv").write_text("\n".join(["file,class,source_tile", *lines]) + "\n")
