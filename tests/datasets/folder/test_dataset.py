"""Image folders: cutting, cache and content hash."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlgen.base_config import BaseConfig
from controlgen.datasets import ImageFolder
from controlgen.errors import ConfigError, DataError
from image_folders import GREY, PNG, SIDE, both, encoded, folder, scene, unlike


def test_the_centre_square_is_resized_with_antialiasing(tmp_path: Path) -> None:
    # A fine checkerboard between red margins: the square is the averaged board.
    picture = np.full((64, 96, 3), (255, 0, 0), np.uint8)
    picture[:, 16:80] = (np.indices((64, 64)).sum(0) % 2 * 255)[..., None]
    root = folder(tmp_path, {"a.png": encoded(Image.fromarray(picture), "PNG")})
    actual = ImageFolder(root=root, size=16, cache=tmp_path).open().pixels(np.array([0]))[0]
    assert np.abs(actual[:, 2:-2, 2:-2].astype(int) - 127).max() <= 2
    assert np.abs(actual.astype(int) - 127).max() < 20


def test_tiles_are_in_reading_order(tmp_path: Path) -> None:
    # Three by two squares of one colour each, and a remainder of another one on two sides.
    colours = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    picture = np.zeros((50, 80, 3), np.uint8)
    picture[:48, :72] = colours.repeat(24, 0).repeat(24, 1)
    files = {"a.png": encoded(Image.fromarray(picture), "PNG"), **unlike(1, "b/{}.png".format)}
    root = folder(tmp_path, files)
    spec = ImageFolder(root=root, size=8, cut="tiles", tile=24, cache=tmp_path)
    data = spec.open()
    assert len(data) == 6 and set(data.groups(np.arange(6))) == {0}
    expected = np.broadcast_to(colours.reshape(6, 3, 1, 1), (6, 3, 8, 8))
    np.testing.assert_array_equal(data.pixels(np.arange(6)), expected)
    with pytest.raises(DataError, match="of one source, so there is no test split"):
        spec.with_split("test").open()


def test_grey_folders(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": PNG})
    data = ImageFolder(root=root, size=SIDE, channels=1, cache=tmp_path).open()
    assert data.image_shape == (1, SIDE, SIDE)
    np.testing.assert_array_equal(data.pixels(np.array([0]))[0, 0], np.asarray(GREY))


@pytest.mark.parametrize(
    "setting",
    [
        {"cut": "tiles"},
        {"tile": 64},
        {"cut": "tiles", "tile": 32, "size": 64},
        {"channels": 1, "stain": {"kind": "macenko"}},
        {"channels": 2},
        {"test_share": 1.0},
        {"content": "abc"},
        {"colour": True},
    ],
    ids=lambda setting: "-".join(setting),
)
def test_conflicting_settings_are_refused(setting: dict[str, Any]) -> None:
    assert ImageFolder.parse({"root": "x"}).size == 64
    with pytest.raises(ConfigError):
        ImageFolder.parse({"root": "x", **setting})


def test_a_changed_file_invalidates_the_cache(tmp_path: Path) -> None:
    root = folder(tmp_path, unlike(5))
    spec = ImageFolder(root=root, size=SIDE, cache=tmp_path / "cache")
    before = [side.pixels(np.arange(len(side))) for side in both(spec)]
    (root / "002.png").write_bytes(encoded(Image.fromarray(scene(99)), "PNG"))
    after = [side.pixels(np.arange(len(side))) for side in both(spec)]
    changed = sum((a != b).any(axis=(1, 2, 3)).sum() for a, b in zip(before, after, strict=True))
    assert changed == 1


def test_the_content_hash_is_independent_of_the_path(tmp_path: Path) -> None:
    files = unlike(4)
    specs = [
        ImageFolder(root=folder(tmp_path / place, files), size=SIDE, cache=tmp_path / place)
        for place in ("one", "two")
    ]
    first, second = (spec.with_content_hash() for spec in specs)
    assert specs[0].fingerprint() != specs[1].fingerprint()
    assert first.fingerprint() == second.fingerprint() and first.root != second.root
    assert first.with_split("test").fingerprint() != first.fingerprint()
    # A changed byte changes the hash; the hashed config then refuses to open.
    (first.root / "003.png").write_bytes(PNG)
    assert first.with_content_hash().content != second.content
    with pytest.raises(DataError, match="holds other images"):
        first.open()
    assert len(second.open()) == 3
    # A file that is not an image changes nothing.
    (second.root / "notes.txt").write_text("words")
    assert second.with_content_hash().content == second.content


class Inverted(BaseConfig):
    """A stain normaliser with a visible effect."""

    kind: str = "inverted"

    def measure(self, pixels: np.ndarray) -> int:
        return int(pixels[0, :, 0, 0].sum())

    def apply(self, pixels: np.ndarray, profile: int) -> np.ndarray:
        return 255 - pixels

    def cache_identity(self) -> dict[str, Any]:
        return self.identity()


def test_stain_is_measured_on_the_file_and_applied_to_its_tiles(tmp_path: Path) -> None:
    root = folder(tmp_path, unlike(3))
    plain = ImageFolder(root=root, size=8, cut="tiles", tile=8, cache=tmp_path / "cache")
    stained = plain.model_copy(update={"stain": Inverted()})
    indices = np.arange(len(plain.open()))
    np.testing.assert_array_equal(
        stained.open().pixels(indices), 255 - plain.open().pixels(indices)
    )
