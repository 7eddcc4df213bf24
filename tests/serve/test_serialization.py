"""Bad images: each a 4xx with one sentence, wherever an image can be given."""

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

from controlgen.serve import serialization
from controlgen.serve.limits import Limits
from controlgen.serve.request_parsing import RequestParser
from controlgen.utils.cancellation import cancellable
from request_bodies import b64, image_file


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png() -> bytes:
    """A PNG of a few bytes whose header says 50 000 x 50 000."""
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
def test_a_bad_upload_is_4xx_with_one_sentence(server: Any, name: str) -> None:
    content, says = BAD[name]
    answers = [
        httpx.post(f"{server.url}/v1/invert/upload", files={"image": ("x.png", content)}),
        server.post("invert", {"images": [b64(content)]}),
        server.post("edit", {"expression": 'image("x.png")', "images": {"x.png": b64(content)}}),
        server.post("directions", {"more": [b64(content)], "less": [b64(image_file("PNG"))]}),
    ]
    for answer in answers:
        assert answer.status_code == 422, answer.text
        text = answer.json()
        assert text["status"] == 422
        assert says in text["detail"]
        assert "\n" not in text["detail"]
    assert server.get("/health").json()["waiting"] == 0


def test_the_pixels_of_a_request_are_counted_together(limited: Any) -> None:
    # Each is within the limit of one image; a few bytes each, together they are a bomb.
    server = limited(pixels=20_000)
    blank = io.BytesIO()
    Image.new("L", (100, 100)).save(blank, "PNG")
    single = b64(blank.getvalue())
    message = "with it the images have 30000 pixels; at most 20000"
    bodies = [
        ("embed", {"images": [single] * 3}),
        ("directions", {"more": [single] * 2, "less": [single]}),
        ("nearest", {"expression": "seed(1)", "images": dict.fromkeys("abc", single)}),
        (
            "edit",
            {
                "source": {"images": [single] * 2},
                "direction": 'image("a") - seed(1)',
                "images": {"a": single},
            },
        ),
    ]
    for path, body in bodies:
        answer = server.post(path, body)
        assert answer.status_code == 422, answer.text
        assert message in answer.json()["detail"]
    assert server.post("embed", {"images": [single] * 2}).status_code == 200


def test_images_are_read_no_longer_than_a_request_may_take(served: Any) -> None:
    def late() -> None:
        raise TimeoutError

    reading, images = RequestParser(Limits()), [b64(image_file("PNG"))]
    for read in (
        lambda: reading.images(images, served),
        lambda: reading.files(served, {"a": images[0]}),
    ):
        read()
        with cancellable(late), pytest.raises(TimeoutError):
            read()


def test_a_header_that_is_too_large_is_told_the_limit_that_holds(server: Any) -> None:
    answer = server.post("embed", {"images": [b64(huge_png())]})
    assert "at most 16000000 are decoded" in answer.json()["detail"]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_good_upload_is_taken(server: Any, served: Any, kind: str, mode: str) -> None:
    if (kind, mode) == ("JPEG", "RGBA"):
        pytest.skip("a JPEG has no transparency")
    content = image_file(kind, mode, size=(40, 30))
    answer = server.post("embed", {"images": [b64(content)]})
    assert answer.status_code == 200
    from controlgen.image_io import decode_and_resize

    expected = served.editor.embed(decode_and_resize(content, "", served.editor.image_shape))
    np.testing.assert_array_equal(np.float32(answer.json()["features"]), expected)


def test_no_file_of_the_machine_is_read(server: Any, tmp_path: Any) -> None:
    (tmp_path / "secret.png").write_bytes(image_file("PNG"))
    for words in (f'image("{tmp_path}/secret.png")', f'mean("{tmp_path}/*")', 'image("x/../y")'):
        answer = server.post("nearest", {"expression": words})
        assert answer.status_code == 422
        assert "given" in answer.json()["detail"]
    answer = server.post("edit", {"expression": f'seed(1) + direction("{tmp_path}/d")'})
    assert (answer.status_code, "was not uploaded" in answer.json()["detail"]) == (422, True)


def test_a_npy_file_is_believed_only_as_far_as_its_bytes_go(server: Any) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 16)}
    )
    lying = stream.getvalue()
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    packed = io.BytesIO()
    np.savez(packed, a=np.zeros(3))
    for content in (lying, pickled.getvalue(), packed.getvalue(), b"", b"\x93NUMPY\x01\x00"):
        answer = server.post("generate", {"latents": {"npy": b64(content)}})
        assert answer.status_code == 422, answer.text
        assert "not a .npy file" in answer.json()["detail"]
    columns = np.asfortranarray(np.random.default_rng(0).normal(size=(2, 16)))
    stream = io.BytesIO()
    np.save(stream, columns)
    actual = server.post("generate", {"latents": {"npy": b64(stream.getvalue())}}).json()
    expected = server.post("generate", {"latents": columns.tolist()}).json()
    assert actual == expected


@given(arrays(st.sampled_from([np.float32, np.float64, np.uint8]), array_shapes(max_dims=4)))
def test_arrays_are_written_as_numpy_writes_them(array: NDArray[Any]) -> None:
    for given_so in (array, array.T):
        stream = io.BytesIO()
        np.save(stream, np.ascontiguousarray(given_so))
        assert serialization.encode_npy(given_so) == stream.getvalue()
