"""Stain normalisation of synthetic tissue with chosen stains, compared with scikit-image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage import color, data

from controlgen.errors import DataError
from controlgen.stains import Macenko, Reinhard
from controlgen.stains.macenko import REFERENCE
from controlgen.stains.reinhard import REFERENCE as LAB_REFERENCE
from controlgen.stains.reinhard import from_lab, to_lab
from controlgen.types import Pixels

Floats = NDArray[np.float64]
WHITE = 240.0


def unit(*rows: tuple[float, float, float]) -> Floats:
    return np.array([np.array(row) / np.linalg.norm(row) for row in rows])


# Ruifrok and Johnston's haematoxylin and eosin, and a redder, weaker staining.
USUAL = unit((0.65, 0.70, 0.29), (0.07, 0.99, 0.11))
REDDER = unit((0.50, 0.78, 0.38), (0.15, 0.85, 0.45))


def concentrations(seed: int = 0) -> Floats:
    """(4096 2): a tenth of each stain alone, the rest mixed, at most 1.6 and 1.2."""
    rng = np.random.default_rng(seed)
    samples = rng.uniform(0.15, 1, (4096, 2)) * (1.6, 1.2)
    samples[:400, 1] = 0
    samples[400:800, 0] = 0
    return samples


def tile(amounts: Floats, vectors: Floats) -> Pixels:
    """Pixels (1 3 64 64) by Beer-Lambert: I = white exp(-c v)."""
    light = WHITE * np.exp(-amounts @ vectors)
    return np.rint(light).astype(np.uint8).reshape(1, 64, 64, 3).transpose(0, 3, 1, 2)


def degrees(a: Any, b: Any) -> float:
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b), -1, 1))))


def apart(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(float) - b).mean())


@pytest.mark.parametrize("vectors", [USUAL, REDDER], ids=["usual", "redder"])
def test_macenko_recovers_the_drawn_stains(vectors: Floats) -> None:
    amounts = concentrations()
    profile = Macenko().measure(tile(amounts, vectors))
    assert degrees(profile.vectors[0], vectors[0]) < 1.5
    assert degrees(profile.vectors[1], vectors[1]) < 1.5
    np.testing.assert_allclose(profile.levels, np.percentile(amounts, 99, axis=0), rtol=0.03)


def test_scikit_image_finds_the_amounts_with_the_recovered_matrix() -> None:
    amounts = concentrations()
    samples = tile(amounts, REDDER)
    first, second = Macenko().measure(samples).vectors
    third = np.cross(first, second)
    matrix = np.linalg.inv(np.array([first, second, third / np.linalg.norm(third)]))
    light = samples[0].transpose(1, 2, 0) / WHITE
    # scikit-image divides by log(1e-6), so that its densities are relative to the darkest.
    actual = color.separate_stains(light, matrix).reshape(-1, 3)[:, :2] * -np.log(1e-6)
    assert np.abs(actual - amounts).mean() < 0.03


def test_macenko_applies_the_reference_stain() -> None:
    amounts = concentrations()
    samples = tile(amounts, REDDER)
    stain = Macenko()
    scale = np.array(REFERENCE.levels) / np.percentile(amounts, 99, axis=0)
    expected = tile(amounts * scale, np.array(REFERENCE.vectors))
    assert apart(samples, expected) > 12
    assert apart(stain.apply(samples, stain.measure(samples)), expected) < 3


@pytest.mark.parametrize(("stain", "share"), [(Macenko(), 0.25), (Reinhard(), 0.5)])
def test_two_stainings_of_one_tissue_become_similar(stain: Any, share: float) -> None:
    # Reinhard shifts its axes independently, so it cannot undo a rotation of the stain vectors.
    amounts = concentrations()
    single, other = tile(amounts, USUAL), tile(amounts * 0.7, REDDER)
    before = apart(single, other)
    after = apart(*(stain.apply(each, stain.measure(each)) for each in (single, other)))
    assert before > 20
    assert after < share * before


def gentle(path: Path) -> Path:
    """A reference without bright or saturated pixels, so that nothing is clipped."""
    samples = tile(0.3 + concentrations(2) / 2, REDDER)
    Image.fromarray(samples[0].transpose(1, 2, 0)).save(path)
    return path


@pytest.mark.parametrize("member", [Macenko, Reinhard])
def test_normalisation_is_idempotent(member: type[Any], tmp_path: Path) -> None:
    stain = member(reference=gentle(tmp_path / "reference.png"))
    samples = tile(0.3 + concentrations() / 2, USUAL)
    once = stain.apply(samples, stain.measure(samples))
    twice = stain.apply(once, stain.measure(once))
    assert apart(once, samples) > 5
    assert apart(twice, once) < 1


@pytest.mark.parametrize("member", [Macenko, Reinhard])
def test_the_reference_is_a_fixed_point(member: type[Any], tmp_path: Path) -> None:
    samples, other = tile(concentrations(), USUAL), tile(concentrations(1), REDDER)
    path = tmp_path / "reference.png"
    Image.fromarray(samples[0].transpose(1, 2, 0)).save(path)
    stain = member(reference=path)
    assert apart(stain.apply(samples, stain.measure(samples)), samples) < 1
    # Other tissue takes on its profile.
    shifted = stain.measure(stain.apply(other, stain.measure(other)))
    expected = stain.measure(samples)
    np.testing.assert_allclose(shifted.vectors, expected.vectors, atol=0.06)
    np.testing.assert_allclose(shifted.levels, expected.levels, rtol=0.06)


def test_a_single_stain_is_left_unchanged() -> None:
    amounts = concentrations() * (1, 0)
    samples = tile(amounts[amounts[:, 0] > 0][:3600].repeat(2, 0)[:4096], USUAL)
    stain = Macenko()
    profile = stain.measure(samples)
    assert not profile.usable
    np.testing.assert_array_equal(stain.apply(samples, profile), samples)


def test_macenko_finds_haematoxylin_and_dab_in_real_tissue() -> None:
    picture = np.asarray(data.immunohistochemistry()).transpose(2, 0, 1)[None]
    profile = Macenko().measure(picture)
    haematoxylin, dab = unit(*color.rgb_from_hdx[:2])
    assert degrees(profile.vectors[0], haematoxylin) < 12
    assert degrees(profile.vectors[1], dab) < 12
    assert degrees(haematoxylin, dab) > 30


def test_lab_follows_the_paper() -> None:
    # Equations 4 to 6 written out, for one colour.
    red, green, blue = 200.0, 120.0, 180.0
    long = np.log10(0.3811 * red + 0.5783 * green + 0.0402 * blue)
    middle = np.log10(0.1967 * red + 0.7244 * green + 0.0782 * blue)
    short = np.log10(0.0241 * red + 0.1288 * green + 0.8444 * blue)
    expected = [
        (long + middle + short) / np.sqrt(3),
        (long + middle - 2 * short) / np.sqrt(6),
        (long - middle) / np.sqrt(2),
    ]
    actual = to_lab(np.array([[red, green, blue]]))[0] / np.log(10)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@given(st.lists(st.floats(1, 255), min_size=3, max_size=3))
def test_lab_is_invertible(colour: list[float]) -> None:
    np.testing.assert_allclose(from_lab(to_lab(np.array([colour]))), [colour], rtol=1e-9)


def test_reinhard_gives_tissue_the_references_statistics(tmp_path: Path) -> None:
    path = gentle(tmp_path / "reference.png")
    expected = to_lab(np.asarray(Image.open(path)).reshape(-1, 3).astype(float))
    samples = tile(0.3 + concentrations() / 2, USUAL)
    stain = Reinhard(reference=path)
    after = stain.apply(samples, stain.measure(samples))
    actual = to_lab(after[0].reshape(3, -1).T.astype(float))
    assert np.abs(actual.mean(0) - expected.mean(0)).max() < 0.01
    np.testing.assert_allclose(actual.std(0), expected.std(0), rtol=0.03)


def test_reinhards_reference_is_pink_violet() -> None:
    # Its mean colour is a pink violet: most red, least green.
    (mean, _) = LAB_REFERENCE.vectors
    red, green, blue = from_lab(np.array([mean]))[0]
    assert 255 > red > blue > green > 100


def test_glass_around_tissue_is_not_measured() -> None:
    samples = tile(concentrations(), USUAL)
    framed = np.full((1, 3, 96, 96), 253, np.uint8)
    framed[..., 16:80, 16:80] = samples
    for stain in (Macenko(), Reinhard()):
        np.testing.assert_allclose(
            stain.measure(framed).vectors, stain.measure(samples).vectors, atol=1e-9
        )


def blank(path: Path) -> None:
    Image.new("RGB", (32, 32), (250, 250, 250)).save(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read"),
        (lambda path: path.write_text("no image"), "text, not an image"),
        (blank, "too little stained tissue"),
    ],
    ids=["missing", "no image", "blank"],
)
@pytest.mark.parametrize("member", [Macenko, Reinhard])
def test_an_unfit_reference_is_refused_in_one_line(
    member: type[Any], make: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "reference.png"
    make(path)
    samples = tile(concentrations(), USUAL)
    stain = member(reference=path)
    with pytest.raises(DataError, match=message) as caught:
        stain.apply(samples, stain.measure(samples))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_cache_identity_uses_the_references_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        Image.fromarray(tile(concentrations(seed), USUAL)[0].transpose(1, 2, 0)).save(path)
    first, same, other = (Macenko(reference=path).cache_identity() for path in paths)
    assert first == same != other
    assert str(tmp_path) not in str(first)
