"""Synthetic tissue: reproducible item by item, true captions, realistic stain."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlgen.attributes import tissue as oracle
from controlgen.config import ClipConfig
from controlgen.errors import ConfigError
from controlgen.synthetic import CaptionedBatch, SyntheticTissue
from controlgen.synthetic.base import RandomTable
from controlgen.synthetic.captions import CaptionScale
from controlgen.synthetic.tissue._captions import ATTRIBUTES, SCALES
from controlgen.synthetic.tissue._parameters import RANGES, SHARES
from controlgen.synthetic.tissue._shapes import (
    SIDE,
    Blobs,
    Glands,
    grain,
    nearest_gland,
    rasterize_depth,
)

TISSUE = SyntheticTissue()
NAMES = TISSUE.attribute_names


@pytest.fixture(scope="module")
def many() -> CaptionedBatch:
    return TISSUE.draw(5, 0, 500)


def column(batch: CaptionedBatch, name: str) -> np.ndarray:
    return batch.attributes[:, NAMES.index(name)]


def mentions(batch: CaptionedBatch, pattern: str) -> np.ndarray:
    # NUCLEI matches the remaining adjectives before "nuclei".
    pattern = pattern.replace("NUCLEI", r"( (?!and\b|glands\b|no\b)\w+)* nuclei")
    return np.array([bool(re.search(rf"\b({pattern})\b", text)) for text in batch.captions])


@settings(max_examples=5, deadline=None)
@given(start=st.integers(1000, 1040), count=st.integers(1, 6), shift=st.integers(0, 35))
def test_an_item_depends_on_seed_and_index_alone(start: int, count: int, shift: int) -> None:
    full = TISSUE.draw(3, start, start + count + shift)
    part = TISSUE.draw(3, start + shift, start + shift + count)
    np.testing.assert_array_equal(full.pixels[shift:], part.pixels)
    assert full.captions[shift:] == part.captions
    np.testing.assert_array_equal(full.attributes[shift:], part.attributes)


def test_shapes_and_no_two_items_are_equal(many: CaptionedBatch) -> None:
    assert many.pixels.shape == (500, *TISSUE.image_shape) and many.pixels.dtype == np.uint8
    assert many.attributes.shape == (500, len(NAMES)) and np.isfinite(many.attributes).all()
    assert len({image.tobytes() for image in many.pixels}) == 500
    assert len(many.captions) == 500 and len(set(many.captions)) > 350
    assert not np.array_equal(TISSUE.draw(6, 0, 1).pixels, many.pixels[:1])


def test_a_small_tile_is_the_large_one_averaged(many: CaptionedBatch) -> None:
    small = SyntheticTissue(size=32)
    samples = small.draw(5, 0, 8)
    assert small.image_shape == (3, 32, 32) and samples.captions == many.captions[:8]
    blocks = many.pixels[:8].reshape(8, 3, 32, 2, 32, 2).mean((3, 5))
    assert np.abs(samples.pixels - blocks).max() <= 0.5


def test_architectures_come_in_their_shares(many: CaptionedBatch) -> None:
    architecture = column(many, "architecture")
    shares = [(architecture == k).mean() for k in (0, 1, 2, 3, 4, -1)]
    np.testing.assert_allclose(shares, SHARES, atol=0.06)


def test_measured_stain_correlates_with_drawn_stain(many: CaptionedBatch) -> None:
    # The oracle's stain vectors are fixed, the drawn ones vary: correlated, but not equal.
    actual = oracle.measure_tissue(many.pixels)
    for name, least in (("haematoxylin", 0.9), ("eosin", 0.8)):
        recorded = actual[:, oracle.NAMES.index(name)]
        assert np.corrcoef(recorded, column(many, name))[0, 1] > least
    middle = np.median(actual, axis=0)
    assert 0.05 < middle[0] < 0.25 and 0.03 < middle[1] < 0.2


def test_malignant_and_benign_glands_differ(many: CaptionedBatch) -> None:
    benign, malignant = (column(many, "architecture") == k for k in (0, 1))
    for name in ("nucleus_size", "pleomorphism", "irregularity", "nuclear_area"):
        assert np.median(column(many, name)[malignant]) > np.median(column(many, name)[benign])
    goblet = column(many, "goblet")
    assert np.median(goblet[benign]) > 0.05 > np.median(goblet[malignant])
    solid, stroma = (column(many, "architecture") == k for k in (2, 3))
    assert not column(many, "gland_area")[solid | stroma].any()
    assert column(many, "stroma")[solid].max() == 0 and column(many, "stroma")[stroma].min() > 0.4


@pytest.mark.parametrize(
    ("more", "less", "name"),
    [
        (
            "(crowded|packed|numerous|many)NUCLEI",
            "(few|sparse)NUCLEI",
            "nuclear_area",
        ),
        ("(large|huge)NUCLEI", "smallNUCLEI", "nucleus_size"),
        ("(dark|hyperchromatic)NUCLEI", "(pale|light)NUCLEI", "darkness"),
        ("round(ed)?NUCLEI", "(spindle|elongated|thin)NUCLEI", "roundness"),
        ("pleomorphic nuclei", "uniform nuclei", "pleomorphism"),
        ("strong h(a)?ematoxylin", "weak h(a)?ematoxylin", "haematoxylin"),
        ("strong eosin|bright pink", "weak eosin|hardly any pink", "eosin"),
        ("wide lumen|open lumen", "no lumen|narrow lumen|slit lumen", "lumen"),
        ("blurred|poor focus", "sharp", "blur"),
    ],
)
def test_words_are_true(many: CaptionedBatch, more: str, less: str, name: str) -> None:
    high, low = mentions(many, more), mentions(many, less)
    assert high.sum() >= 3 and low.sum() >= 3
    values = column(many, name)
    if name == "lumen":
        values = values / np.maximum(column(many, "gland_area"), 1e-6)
    assert values[high].min() > values[low].max()


def test_absence_is_mentioned_only_where_true(many: CaptionedBatch) -> None:
    assert column(many, "gland_area")[mentions(many, "no glands")].max() < 0.02
    assert column(many, "lymphocytes")[mentions(many, "no lymphocytes")].max() < 2
    goblet = column(many, "goblet") / np.maximum(column(many, "gland_area"), 1e-6)
    assert goblet[mentions(many, "no goblet cells|no mucin")].max() < 0.01
    assert set(column(many, "architecture")[mentions(many, "adenocarcinoma|malignant")]) == {1}
    assert set(column(many, "architecture")[mentions(many, "benign|crypts|mucosa")]) == {0}


def test_a_quarter_name_one_thing_and_none_is_too_long(many: CaptionedBatch) -> None:
    from controlgen.features._torchvision import ensure_torchvision

    ensure_torchvision()
    import open_clip

    single = np.mean([not re.search(r",| and ", text) for text in many.captions])
    assert 0.22 < single < 0.5
    tokens = open_clip.get_tokenizer("", context_length=77)(many.captions)
    assert int((tokens != 0).sum(1).max()) <= 16


def test_prompts_name_their_class_and_no_other() -> None:
    prompts = TISSUE.prompts()
    assert len(prompts) == len(TISSUE.classes) == 5
    for index, sentences in enumerate(prompts):
        others = {text for k, texts in enumerate(prompts) if k != index for text in texts}
        assert TISSUE.classes[index] in " ".join(sentences)
        assert len(set(sentences)) == len(sentences) > 10 and not set(sentences) & others


@pytest.mark.parametrize("scale", SCALES)
def test_caption_scales_are_ordered_and_complete(scale: CaptionScale) -> None:
    assert list(scale.cuts) == sorted(scale.cuts) and len(scale.words) == len(scale.cuts) + 1
    assert not isinstance(scale.quantity, str) or scale.quantity in ATTRIBUTES


def test_parameters_have_a_range_for_every_architecture() -> None:
    assert all(len(ranges) == len(SHARES) for ranges in RANGES.values())
    assert all(low <= high for ranges in RANGES.values() for low, high in ranges)


@pytest.mark.parametrize("axes", [(3.0, 3.0), (7.0, 2.5), (1.6, 1.2)])
@pytest.mark.parametrize("angle", [0.0, 0.6])
def test_a_rasterized_ellipse_has_its_area_position_and_direction(
    axes: tuple[float, float], angle: float
) -> None:
    values = (20.3, 40.8, *axes, np.cos(angle), np.sin(angle), 1.0, 0.0)
    blobs = Blobs(np.array([1]), *(np.array([value], np.float32) for value in values))
    planes = rasterize_depth(2, blobs)
    assert planes.shape == (2, SIDE, SIDE) and not planes[0].any()
    plane = planes[1].astype(float)
    assert plane.sum() == pytest.approx(np.pi * axes[0] * axes[1], rel=0.12)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    mass = plane.sum()
    mean_x, mean_y = (plane * x).sum() / mass, (plane * y).sum() / mass
    assert (mean_x, mean_y) == (pytest.approx(20.3, abs=0.1), pytest.approx(40.8, abs=0.1))
    if axes[0] > 2 * axes[1]:
        xx, yy = (plane * (x - mean_x) ** 2).sum(), (plane * (y - mean_y) ** 2).sum()
        xy = (plane * (x - mean_x) * (y - mean_y)).sum()
        assert 0.5 * np.arctan2(2 * xy, xx - yy) == pytest.approx(angle, abs=0.03)


def test_a_blob_at_the_corner_is_cut_and_the_deepest_blob_wins() -> None:
    two = [(0, 0, 6, 6, 1, 0, 0.4, 0), (3, 3, 3, 3, 1, 0, 0.7, 0)]
    columns = [np.array(values, np.float32) for values in zip(*two, strict=True)]
    plane = rasterize_depth(1, Blobs(np.zeros(2, np.intp), *columns))[0]
    assert plane[3, 3] == pytest.approx(0.7) and plane[0, 0] == pytest.approx(0.4)
    assert plane.max() == pytest.approx(0.7) and not plane[12:].any()


def test_an_outline_without_waves_is_a_circle_and_the_nearer_gland_wins() -> None:
    waves = np.zeros((2, 5, 2), np.float32)
    waves[1, 1, 0] = 0.2  # an oval, along x
    f = np.float32
    glands = Glands(
        np.array([0, 0]), np.array([0, 1]), f([16, 48]), f([32, 32]), f([10, 10]), waves
    )
    relative, edge = nearest_gland(2, glands)
    assert (relative[1] == 9).all()
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    left = x < 30
    np.testing.assert_allclose(relative[0][left], np.hypot(x - 16, y - 32)[left] / 10, atol=2e-3)
    np.testing.assert_allclose(edge[0][left], 10, rtol=1e-5)
    cosine, sine = np.array([1.0, 0.0], f), np.array([0.0, 1.0], f)
    np.testing.assert_allclose(glands.edge(cosine, sine, np.array([1, 1])), [12, 8], rtol=1e-5)


@pytest.mark.parametrize("scale", [1.6, 7.0])
def test_grain_is_standard_and_smooth_over_its_scale(scale: float) -> None:
    texture = grain(scale)
    assert abs(texture.mean()) < 1e-4 and texture.std() == pytest.approx(1, abs=1e-3)

    # Gaussian smoothing by s = scale / 2 leaves the correlation exp(-d^2 / 4 s^2) at distance d.
    step = max(1, round(scale / 2))
    correlation = (texture * np.roll(texture, step, 1)).mean()
    assert correlation == pytest.approx(np.exp(-(step**2) / scale**2), abs=0.08)


def test_a_random_table_cannot_be_exceeded() -> None:
    table = RandomTable(np.zeros((2, 5), np.float32))
    assert table.next(2, 2).shape == (2, 2, 2)
    with pytest.raises(IndexError, match="5 columns"):
        table.next(2)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="size"):
        SyntheticTissue.parse({"size": 48})
    config = ClipConfig.load("configs/clip-tissue.toml")
    assert config.world == SyntheticTissue() and config.image_size == TISSUE.size
    with pytest.raises(ConfigError, match="kind"):
        ClipConfig.parse({"world": {"kind": "tissues"}})
