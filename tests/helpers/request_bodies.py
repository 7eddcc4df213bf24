"""Bodies and connections for the requests of tests."""

import base64
import io
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

TEXT = 'text("a digit eight") - text("a digit three")'


def image_file(kind: str, mode: str = "L", size: tuple[int, int] = (8, 8)) -> bytes:
    """An image file with noise."""
    plane = np.random.default_rng(0).integers(0, 256, size[::-1], np.uint8)
    stream = io.BytesIO()
    Image.fromarray(plane).convert(mode).save(stream, kind)
    return stream.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@contextmanager
def open_partial_request(url: str, length: int) -> Iterator[socket.socket]:
    """A connection with the headers of a request for samples, before its body."""
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(
            b"POST /v1/sample HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % length
        )
        yield connection
