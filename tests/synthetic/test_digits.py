"""Synthetic digits: reproducible item by item, framed as documented, with true captions."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlgen.errors import ConfigError
from controlgen.synthetic import SyntheticDigits
from controlgen.synthetic.base import RandomColumns
from controlgen.synthetic.captions import CaptionScale
from controlgen.synthetic.digits._captions import NAMES, SCALES
from controlgen.synthetic.digits._fonts import FONTS
from controlgen.synthetic.digits._rasterize import ATTRIBUTES, draw_strokes, measure_digits
from controlgen.synthetic.digits._strokes import build_stroke_basis, load_templates
from controlgen.types import Pixels

DIGITS = SyntheticDigits()


@pytest.fixture(scope="module")
def many() -> tuple[Pixels, list[str], np.ndarray]:
    return DIGITS.draw(5, 0, 600)


@settings(max_examples=6, deadline=None)
@given(start=st.integers(1000, 1030), count=st.integers(1, 20), shift=st.integers(0, 19))
def test_an_item_depends_on_seed_and_index_alone(start: int, count: int, shift: int) -> None:
    full = DIGITS.draw(3, start, start + count + shift)
    part = DIGITS.draw(3, start + shift, start + shift + count)
    np.testing.assert_array_equal(full.pixels[shift:], part.pixels)
    assert full.captions[shift:] == part.captions
    np.testing.assert_array_equal(full.attributes[shift:], part.attributes)


def test_seeds_and_items_differ() -> None:
    first, other = DIGITS.draw(0, 0, 40).pixels, DIGITS.draw(1, 0, 40).pixels
    assert len({image.tobytes() for image in np.concatenate([first, other])}) == 80


def test_shapes_and_framing(many: tuple[Pixels, list[str], np.ndarray]) -> None:
    pixels, captions, attributes = many
    assert pixels.shape == (600, *DIGITS.image_shape) and pixels.dtype == np.uint8
    assert len(captions) == 600 and attributes.shape == (600, len(DIGITS.attribute_names))
    assert set(attributes[:, 0]) == set(range(10))

    # The frame is black, and no stroke is cut off at the border of the inner 28x28.
    frame = pixels.copy()
    frame[:, :, 2:-2, 2:-2] = 0
    assert not frame.any()
    assert (pixels[:, :, 2].max(2) > 128).mean() < 0.02
    box = attributes[:, [DIGITS.attribute_names.index(name) for name in ("width", "height")]]
    longest = box.max(1)
    assert 18.5 < np.median(longest) < 20.5 and longest.min() > 7 and longest.max() <= 28


def test_centre_of_mass_is_the_middle(many: tuple[Pixels, list[str], np.ndarray]) -> None:
    ink = many[0][:, 0].astype(float)
    rows = (ink.sum(2) @ np.arange(32)) / ink.sum((1, 2))
    columns = (ink.sum(1) @ np.arange(32)) / ink.sum((1, 2))
    # Ink saturates where strokes cross, so the mass is not exactly that of the points.
    assert np.abs(rows - 15.5).mean() < 0.6 and np.abs(columns - 15.5).mean() < 0.6


def test_captions_name_the_digit(many: tuple[Pixels, list[str], np.ndarray]) -> None:
    by_name = 0
    for text, digit in zip(many[1], many[2][:, 0].astype(int), strict=True):
        words = set(re.findall(r"\w+", text))
        mentioned = {k for k in range(10) if NAMES[k] in words or str(k) in words}
        assert mentioned <= {digit}, text
        by_name += bool(mentioned)
    assert 0.85 < by_name / 600 < 1


def test_descriptions_are_true(many: tuple[Pixels, list[str], np.ndarray]) -> None:
    _, captions, attributes = many
    stroke = attributes[:, DIGITS.attribute_names.index("stroke")]
    bold = np.array([bool(re.search(r"\b(bold|thick|heavy)\b", text)) for text in captions])
    thin = np.array([bool(re.search(r"\b(thin|light|fine|hairline)\b", text)) for text in captions])
    assert bold.sum() > 20 and thin.sum() > 20
    assert stroke[bold].min() > stroke[thin].max()
    slant = attributes[:, DIGITS.attribute_names.index("slant")]
    left = np.array(["left" in text or "backward" in text for text in captions])
    right = np.array(["right slanted" in text or "forward" in text for text in captions])
    assert slant[left].max() < slant[right].min()


@pytest.mark.parametrize("scale", SCALES)
def test_caption_scales_are_ordered_and_complete(scale: CaptionScale) -> None:
    assert list(scale.cuts) == sorted(scale.cuts) and len(scale.words) == len(scale.cuts) + 1


def test_measure_on_shapes_with_known_answers() -> None:
    # A bar 4 wide and 20 high, and the same bar drifting right by half a pixel per row upwards.
    upright = np.zeros((32, 32), np.uint8)
    upright[6:26, 14:18] = 255
    leaning = np.zeros((32, 32), np.uint8)
    for row in range(6, 26):
        left = 18 - (row - 6) // 2
        leaning[row, left : left + 4] = 255
    values = dict(
        zip(ATTRIBUTES, measure_digits(np.stack([upright, leaning])[:, None]).T, strict=True)
    )
    np.testing.assert_allclose(values["ink"], 80)
    np.testing.assert_allclose(values["height"], 20)
    np.testing.assert_allclose(values["width"], [4, 13])
    np.testing.assert_allclose(values["slant"], [0, 0.5], atol=0.01)
    assert abs(values["stroke"][0] - 80 / 22) < 0.35
    np.testing.assert_array_equal(measure_digits(np.zeros((1, 1, 32, 32), np.uint8)), 0)


@pytest.mark.parametrize("radius", [0.8, 1.3, 2.2])
def test_a_straight_stroke_is_as_wide_as_its_pen(radius: float) -> None:
    ends = np.linspace(-9, 9, 80, dtype=np.float32)
    points = np.stack([np.full(80, 0.25, np.float32), ends], 1)[None]
    lengths = np.full((1, 80), 18 / 79, np.float32)
    single = np.ones(1, np.float32)
    ink = draw_strokes(points, lengths, radius * single, single)
    middle = ink[0, 10:18].sum(1)
    np.testing.assert_allclose(middle, 2 * radius, rtol=0.12)


def test_curves_pass_through_their_controls_and_have_their_length() -> None:
    strokes = build_stroke_basis(64)
    assert len(strokes.digits) == sum(len(templates) for templates in load_templates())
    # Weights of a point sum to one, of a piece to zero, so that shifts do not distort.
    np.testing.assert_allclose(strokes.basis.sum(2), 1, atol=1e-5)
    np.testing.assert_allclose(strokes.slopes.sum(2), 0, atol=1e-5)
    # The first template of 1 is a straight line of length one.
    index = int(strokes.first[1])
    points = strokes.basis[index] @ strokes.controls[index]
    np.testing.assert_allclose(points[:, 0], 0.5, atol=1e-6)
    np.testing.assert_allclose(points[:, 1], (np.arange(64) + 0.5) / 64, atol=1e-5)
    pieces = strokes.slopes[index] @ strokes.controls[index]
    assert abs(np.linalg.norm(pieces, axis=1).sum() - 1) < 1e-5


def test_templates_stay_near_their_box() -> None:
    strokes = build_stroke_basis(64)
    points = np.matmul(strokes.basis, strokes.controls)
    assert points.min() > -0.15 and points.max() < 1.15


def test_printed_share_selects_printed_digits() -> None:
    printed, hand = (
        SyntheticDigits(printed=1.0).draw(0, 0, 30),
        SyntheticDigits(printed=0.0).draw(0, 0, 30),
    )
    np.testing.assert_array_equal(printed.attributes[:, 0], hand.attributes[:, 0])
    assert not any(np.array_equal(a, b) for a, b in zip(printed.pixels, hand.pixels, strict=True))
    assert printed.attributes[:, 1].min() > 15
    assert len(FONTS) == len(set(FONTS))


def test_nearest_class_mean_beats_chance() -> None:
    # Labels fit the images: the mean images separate the classes.
    first, second = DIGITS.draw(0, 0, 1500), DIGITS.draw(0, 1500, 2000)
    flat, digits = first.pixels.reshape(1500, -1).astype(float), first.attributes[:, 0]
    means = np.stack([flat[digits == digit].mean(0) for digit in range(10)])
    distances = ((second.pixels.reshape(500, -1)[:, None] - means[None]) ** 2).sum(2)
    assert (distances.argmin(1) == second.attributes[:, 0]).mean() > 0.5


def test_prompts_name_every_class_and_no_other() -> None:
    prompts = DIGITS.prompts()
    assert len(prompts) == len(DIGITS.classes) == 10
    for digit, sentences in enumerate(prompts):
        assert len(sentences) > 3
        for sentence in sentences:
            words = set(re.findall(r"\w+", sentence))
            assert [k for k in range(10) if NAMES[k] in words or str(k) in words] == [digit]


def test_random_columns_cannot_be_exceeded() -> None:
    draws = RandomColumns(0, "test", 0, 3, 4)
    draws.normal(3)
    with pytest.raises(IndexError, match="4 columns"):
        draws.normal(2)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="printed"):
        SyntheticDigits.parse({"printed": 1.5})
