"""Image files that are given to be edited are read as those that are trained on."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from controlgen import image_io
from controlgen.datasets import ImageFolder
from controlgen.errors import DataError
from controlgen.image_io import decode_and_resize, read_image


def test_read_image_converts_and_resizes(tmp_path: Path) -> None:
    Image.new("RGBA", (9, 5), (255, 0, 0, 255)).save(tmp_path / "red.png")
    grey = read_image(tmp_path / "red.png", (1, 8, 8))
    assert grey.tolist() == np.full((1, 1, 8, 8), 76).tolist()
    actual = read_image(tmp_path / "red.png", (3, 4, 6))
    assert actual.shape == (1, 3, 4, 6)
    assert (actual == np.array([255, 0, 0], np.uint8)[None, :, None, None]).all()


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (33, 32), (16, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_to_be_edited_is_cut_as_the_same_training_image_is(
    tmp_path: Path, size: tuple[int, int], channels: int
) -> None:
    plane = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(plane).save(tmp_path / name)
    trained = ImageFolder(root=tmp_path, size=16, channels=channels).open()
    given_one = read_image(tmp_path / "a.png", (channels, 16, 16))
    np.testing.assert_array_equal(given_one, trained.pixels(np.array([0])))


def test_transparency_is_laid_on_white() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(buffer, "PNG")
    assert (decode_and_resize(buffer.getvalue(), ".png", (1, 8, 8)) == 255).all()


def test_what_has_no_one_meaning_is_refused(tmp_path: Path) -> None:
    deep = np.full((8, 8), 300, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png: 16 bits per channel"):
        read_image(tmp_path / "deep.png", (1, 8, 8))
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 255)]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"two\.tif: 2 frames"):
        read_image(tmp_path / "two.tif", (1, 8, 8))


def test_a_tiff_of_signed_numbers_is_refused() -> None:
    ramp, shape = np.arange(256, dtype=np.uint8).reshape(16, 16), (1, 16, 16)
    files = {}
    for kind in (1, 2):
        buffer = io.BytesIO()
        Image.fromarray(ramp).save(buffer, "TIFF", tiffinfo={339: kind})
        files[kind] = buffer.getvalue()
    np.testing.assert_array_equal(decode_and_resize(files[1], ".tif", shape)[0, 0], ramp)
    with pytest.raises(DataError, match="a TIFF of signed numbers; .* convert to unsigned 8 bits"):
        decode_and_resize(files[2], ".tif", shape)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(DataError, match=r"nowhere\.png: no such file"):
        read_image(tmp_path / "nowhere.png", (1, 8, 8))
    reasons = {"text.png": "text, not", "page.png": "text, not", "empty.png": "empty", ".": ""}
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=f"{name}: {reason}"):
            read_image(tmp_path / name, (1, 8, 8))


@pytest.mark.parametrize("shrink", [1.5, 4])
def test_a_decompression_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrink: float
) -> None:
    """Pillow warns above its limit and raises above twice the limit; both are refused here."""
    Image.new("L", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(64 * 64 / shrink))
    monkeypatch.setattr(image_io, "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(DataError, match="bomb"):
        read_image(tmp_path / "bomb.png", (1, 8, 8))


def picture_bytes(kind: str) -> bytes:
    buffer = io.BytesIO()
    plane = np.random.default_rng(1).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(plane).save(buffer, format=kind)
    return buffer.getvalue()


FILES = {kind: picture_bytes(kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP")}


@settings(max_examples=150)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_a_damaged_file_gives_pixels_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pillow's remarks about odd metadata
        try:
            assert read_image(path, (1, 16, 16)).shape == (1, 1, 16, 16)
        except DataError as error:
            assert str(path) in str(error)
