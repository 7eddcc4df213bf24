"""What requests of the tests are made of."""

import base64
import io

import numpy as np
from PIL import Image

TEXT = 'text("a digit eight") - text("a digit three")'


def file_of(kind: str, mode: str = "L", size: tuple[int, int] = (8, 8)) -> bytes:
    """An image file of some noise."""
    plane = np.random.default_rng(0).integers(0, 256, size[::-1], np.uint8)
    stream = io.BytesIO()
    Image.fromarray(plane).convert(mode).save(stream, kind)
    return stream.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
