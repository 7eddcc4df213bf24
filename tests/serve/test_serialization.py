"""Decoding of untrusted images and arrays: each invalid one is a 4xx of one line."""

import io
import struct
import zipfile
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from PIL import Image

from controlgen.image_io import decode_and_resize
from controlgen.serve import serialization
from controlgen.serve.limits import Limits
from controlgen.serve.request_parsing import RequestParser
from controlgen.utils.cancellation import cancellable
from request_bodies import b64, image_file


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png() -> bytes:
    """A small PNG whose header claims 50 000 x 50 000 pixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def zip_bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.png", bytes(5_000_000))
    return stream.getvalue()


def deep_png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(stream, "PNG")
    return stream.getvalue()


BAD = {
    "empty": (b"", "empty"),
    "truncated": (image_file("PNG", size=(64, 64))[:200], "damaged"),
    "wrong magic": (b"\x00" + image_file("PNG")[1:], "not an image"),
    "text": (b"hello", "text, not an image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text, not an image"),
    "huge header": (huge_png(), "decompression bomb"),
    "zip bomb": (zip_bomb(), "a zip archive, not an image"),
    "16 bits": (deep_png(), "16 bits per channel"),
    "CMYK": (image_file("JPEG", "CMYK"), "CMYK"),
    "gif": (image_file("GIF"), "a GIF"),
    "too many bytes": (bytes(8_000_001), "at most 8000000"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_image_is_one_line(server: Any, name: str) -> None:
    content, message = BAD[name]
    responses = [
        httpx.post(f"{server.url}/v1/invert/upload", files={"image": ("x.png", content)}),
        server.post("invert", {"images": [b64(content)]}),
        server.post("edit", {"expression": 'image("x.png")', "images": {"x.png": b64(content)}}),
        server.post("directions", {"more": [b64(content)], "less": [b64(image_file("PNG"))]}),
    ]
    for response in responses:
        assert response.status_code == 422, response.text
        problem = response.json()
        assert problem["status"] == 422
        assert message in problem["detail"]
        assert "\n" not in problem["detail"]
    assert server.get("/health").json()["waiting"] == 0


def test_the_pixels_of_a_request_are_limited_together(limited: Any) -> None:
    # Each image is within its own limit; together these small files are a bomb.
    server = limited(pixels=20_000)
    blank = io.BytesIO()
    Image.new("L", (100, 100)).save(blank, "PNG")
    image = b64(blank.getvalue())
    message = "the images up to this one have 30000 pixels; at most 20000"
    bodies = [
        ("embed", {"images": [image] * 3}),
        ("directions", {"more": [image] * 2, "less": [image]}),
        ("nearest", {"expression": "seed(1)", "images": dict.fromkeys("abc", image)}),
        (
            "edit",
            {
                "source": {"images": [image] * 2},
                "direction": 'image("a") - seed(1)',
                "images": {"a": image},
            },
        ),
    ]
    for path, body in bodies:
        response = server.post(path, body)
        assert response.status_code == 422, response.text
        assert message in response.json()["detail"]
    assert server.post("embed", {"images": [image] * 2}).status_code == 200


def test_decoding_of_images_checks_the_deadline(served: Any) -> None:
    def check() -> None:
        raise TimeoutError

    parser, image = RequestParser(served, Limits()), b64(image_file("PNG"))
    for parse in (lambda: parser.images([image]), lambda: parser.files({"a": image})):
        parse()
        with cancellable(check), pytest.raises(TimeoutError):
            parse()


def test_a_decompression_bomb_names_the_limit(server: Any) -> None:
    response = server.post("embed", {"images": [b64(huge_png())]})
    assert "at most 16000000 are decoded" in response.json()["detail"]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_valid_image_is_accepted(server: Any, served: Any, kind: str, mode: str) -> None:
    if (kind, mode) == ("JPEG", "RGBA"):
        pytest.skip("a JPEG has no transparency")
    content = image_file(kind, mode, size=(40, 30))
    response = server.post("embed", {"images": [b64(content)]})
    assert response.status_code == 200
    expected = served.editor.embed(decode_and_resize(content, "", served.editor.image_shape))
    np.testing.assert_array_equal(np.float32(response.json()["features"]), expected)


def test_expressions_cannot_read_files_of_the_machine(server: Any, tmp_path: Any) -> None:
    (tmp_path / "secret.png").write_bytes(image_file("PNG"))
    for expression in (
        f'image("{tmp_path}/secret.png")',
        f'mean("{tmp_path}/*")',
        'image("x/../y")',
    ):
        response = server.post("nearest", {"expression": expression})
        assert response.status_code == 422
        assert "upload" in response.json()["detail"]
    response = server.post("edit", {"expression": f'seed(1) + direction("{tmp_path}/d")'})
    assert response.status_code == 422
    assert "was not uploaded" in response.json()["detail"]


def npy_with_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def test_only_complete_npy_files_of_numbers_are_accepted(server: Any) -> None:
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    archive = io.BytesIO()
    np.savez(archive, a=np.zeros(3))
    for content in (
        npy_with_header((1 << 40, 16)),
        npy_with_header((1 << 28,)),
        npy_with_header((1 << 70,)),
        npy_with_header((-1, 4)),
        pickled.getvalue(),
        archive.getvalue(),
        b"",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16,
    ):
        response = server.post("generate", {"latents": {"npy": b64(content)}})
        assert response.status_code == 422, response.text
        assert "not a .npy file" in response.json()["detail"]
    columns = np.asfortranarray(np.random.default_rng(0).normal(size=(2, 16)))
    stream = io.BytesIO()
    np.save(stream, columns)
    by_npy = server.post("generate", {"latents": {"npy": b64(stream.getvalue())}}).json()
    by_lists = server.post("generate", {"latents": columns.tolist()}).json()
    assert by_npy == by_lists


@given(arrays(st.sampled_from([np.float32, np.float64, np.uint8]), array_shapes(max_dims=4)))
def test_arrays_survive_a_round_trip(array: NDArray[Any]) -> None:
    for view in (array, array.T):
        content = serialization.encode_npy(view)
        decoded = serialization.decode_npy(content, "array")
        assert decoded.dtype == view.dtype and decoded.flags.writeable
        np.testing.assert_array_equal(decoded, view)
