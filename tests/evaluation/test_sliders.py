"""Sliders and their leakage on a linear toy whose answers are known in closed form."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from controlgen import figures
from controlgen.config import EvaluateConfig
from controlgen.errors import ConfigError
from controlgen.evaluation.context import Subject
from controlgen.evaluation.report import _plain
from controlgen.evaluation.slider_results import CORRECTED, HELD, PLAIN, RANDOM, STAINS_HELD
from controlgen.evaluation.sliders import AMOUNTS, sliders, ways_of
from controlgen.metrics.bootstrap import Interval
from controlgen.rng import normals

TISSUE = ("haematoxylin", "eosin", "nuclear_area")
UNITS = np.array([2.0, 0.5, 10.0])  # one sigma of each attribute in its own unit
MIXED = np.array([[1.0, 0.5, -0.5], [0.0, 1.0, 0.0], [0.8, -0.4, 1.0]])
LEAK = 0.4  # what an open loop leaves on every held attribute, per sigma asked


def painted(values):
    """Values (n a) in sigmas, -8..8 -> Pixels (n 1 4 4) that hold each in two bytes."""
    codes = np.rint((np.asarray(values) + 8) / 16 * 65535).clip(0, 65535).astype(np.int64)
    flat = np.zeros((len(codes), 16), np.uint8)
    flat[:, 0 : 2 * codes.shape[1] : 2], flat[:, 1 : 2 * codes.shape[1] : 2] = divmod(codes, 256)
    return flat.reshape(-1, 1, 4, 4)


def read(pixels, a=3):
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    return (256 * flat[:, 0 : 2 * a : 2] + flat[:, 1 : 2 * a : 2]) / 65535 * 16 - 8


@dataclass
class ToyAttributes:
    """Directions are changes of the attributes themselves: mixed without hold, else exact."""

    mixing: np.ndarray
    names: tuple = TISSUE
    refused: tuple = ()

    def measure(self, pixels):
        return read(pixels) * UNITS + 100

    def standard(self, pixels):
        return self.in_sigmas(self.measure(pixels) - 100)

    def in_sigmas(self, change):
        return change / UNITS

    def direction(self, name, hold=()):
        if name in self.refused and hold:
            raise ConfigError(f"{name}: the features cannot tell these apart; leave one out")
        row = self.mixing[self.names.index(name)].copy()
        row[[self.names.index(held) for held in hold]] = 0
        return row.astype(np.float32)


class ToyEditor:
    """Latents are the attributes in sigmas; a held one moves by LEAK, halved by four rounds."""

    def __init__(self, attributes):
        self.attributes = attributes
        self.asked = []

    def edit(self, source, direction, amount=1.0, residual=False, hold=(), corrections=0):
        self.asked.append((amount, residual, hold, corrections))
        names = self.attributes.names
        leaks = np.array([LEAK * (name in hold) * 0.5 ** (corrections / 4) for name in names])
        return SimpleNamespace(pixels=painted(source.latents + amount * (direction + leaks)))


class Audit:
    """The attributes in sigmas as a feature, not of unit length."""

    def embed(self, pixels):
        return read(pixels).astype(np.float32)


def subject(attributes, editor=None, sources=12):
    latents = normals(0, "toy bank", 0, 40, 3)
    bank = SimpleNamespace(
        latents=latents,
        pixels=painted(latents),
        features=latents,
        train=slice(0, 10),
        held_out=slice(10, 40),
    )
    config = EvaluateConfig(slider_sources=sources, bootstraps=50)
    none = dict.fromkeys(("real_train", "real_test", "judge"))
    return Subject(
        editor=editor or ToyEditor(attributes),
        bank=bank,
        maps={},
        map_name="",
        audit=Audit(),
        class_names=(),
        prompts=(),
        config=config,
        **none,
    )


@pytest.fixture(scope="module")
def mixed():
    return sliders(subject(ToyAttributes(MIXED)))


def matrix(found, way):
    return np.array(found.leak(way).matrix, float)


def share_of(slopes):
    sizes = np.abs(np.asarray(slopes, float))
    return float(np.mean(np.diag(sizes) / sizes.sum(1)))


def held_slopes(leak):
    """Each slider moves its own by one and the two held ones by what is left."""
    return np.full((3, 3), leak) + (1 - leak) * np.eye(3)


def test_an_editor_without_attributes_has_no_sliders():
    assert sliders(subject(None, SimpleNamespace())) is None
    assert sliders(subject(None, SimpleNamespace(attributes=None))) is None


def test_orthogonal_attributes_leak_nothing_and_keep_their_order():
    found = sliders(subject(ToyAttributes(np.eye(3))))
    np.testing.assert_allclose(matrix(found, PLAIN), np.eye(3), atol=1e-3)
    assert found.leak(PLAIN).share.mean == pytest.approx(1, abs=1e-3)
    for name in TISSUE:
        row = found.row(name, PLAIN)
        assert row.spearman == pytest.approx((1, 1, 1, 12))
        assert row.slope.mean == pytest.approx(1, abs=1e-3)
        assert row.usable == (-2, 2)
        np.testing.assert_allclose([point.mean for point in row.curve], AMOUNTS, atol=1e-3)
        assert row.curve[AMOUNTS.index(0)] == Interval(0, 0, 0, 12)


def test_leakage_of_mixed_directions_is_the_closed_form(mixed):
    np.testing.assert_allclose(matrix(mixed, PLAIN), MIXED, atol=1e-3)
    assert mixed.leak(PLAIN).share.mean == pytest.approx(share_of(MIXED), abs=1e-3)
    # All sources move alike, so there is nothing to cancel and nothing to vary.
    assert mixed.leak(PLAIN).share_per_image.mean == pytest.approx(share_of(MIXED), abs=1e-3)
    share = mixed.leak(PLAIN).share
    assert share.high - share.low < 1e-3


@pytest.mark.parametrize(("way", "left"), [(HELD, LEAK), (CORRECTED, LEAK / 4)])
def test_holding_leaves_what_the_toy_leaves(mixed, way, left):
    np.testing.assert_allclose(matrix(mixed, way), held_slopes(left), atol=1e-3)
    assert mixed.leak(way).share.mean == pytest.approx(share_of(held_slopes(left)), abs=1e-3)


def test_holding_the_stains_alone_lets_tissue_move(mixed):
    # Haematoxylin holds eosin alone, so that nuclear area follows by the mixing matrix.
    wanted = MIXED.copy()
    wanted[0, 1], wanted[1, 0], wanted[2, :2] = LEAK / 4, LEAK / 4, LEAK / 4
    np.testing.assert_allclose(matrix(mixed, STAINS_HELD), wanted, atol=1e-3)
    into = {way: mixed.leak(way).into_stains.mean for way in (PLAIN, STAINS_HELD)}
    assert into[PLAIN] == pytest.approx(1.2 / 2.2, abs=1e-3)
    assert into[STAINS_HELD] == pytest.approx(0.2 / 1.2, abs=1e-3)


def test_what_is_asked_of_the_editor():
    editor = ToyEditor(ToyAttributes(MIXED))
    sliders(subject(editor.attributes, editor))
    # Six ways, three attributes, eight amounts: the source itself stands for amount 0.
    assert len(editor.asked) == 6 * 3 * 8
    assert {residual for _, residual, _, _ in editor.asked} == {True}
    assert {amount for amount, *_ in editor.asked} == set(AMOUNTS) - {0.0}
    kinds = {(len(hold), corrections) for _, _, hold, corrections in editor.asked}
    assert kinds == {(0, 0), (0, 8), (2, 0), (2, 8), (1, 8)}


def test_ways_hold_all_others_or_the_other_stains():
    ways = {way.name: way for way in ways_of(TISSUE)}
    assert ways[HELD].hold["eosin"] == ("haematoxylin", "nuclear_area")
    assert ways[STAINS_HELD].hold["eosin"] == ("haematoxylin",)
    assert ways[STAINS_HELD].hold["nuclear_area"] == ("haematoxylin", "eosin")
    assert STAINS_HELD not in {way.name for way in ways_of(("ink", "eosin"))}


def test_a_random_direction_has_the_length_of_the_sliders_own(mixed):
    for index, name in enumerate(TISSUE):
        rows = [row for row in mixed.rows if (row.attribute, row.way) == (name, RANDOM)]
        assert len(rows) == 1
        # Its slope is one coordinate of a vector of that length, and hardly the whole of it.
        assert 0 < abs(rows[0].slope.mean) < np.linalg.norm(MIXED[index])
    other = sliders(subject(ToyAttributes(MIXED)))
    assert other.leak(RANDOM) == mixed.leak(RANDOM)


def test_identity_is_the_audit_cosine_at_one_sigma_to_either_side(mixed):
    start = normals(0, "toy bank", 0, 40, 3)[10:22].astype(np.float64)
    cosines = []
    for moved in (start + MIXED[2], start - MIXED[2]):
        lengths = np.linalg.norm(start, axis=1) * np.linalg.norm(moved, axis=1)
        cosines.append((start * moved).sum(1) / lengths)
    found = mixed.row("nuclear_area", PLAIN).identity
    assert found.mean == pytest.approx(np.mean(cosines), abs=1e-3) and found.n == 12


def test_the_pictured_source_is_the_one_nearest_the_mean(mixed):
    start = normals(0, "toy bank", 0, 40, 3)[10:22]
    nearest = np.square(start).sum(1).argmin()
    walk = next(w for w in mixed.walks if (w.attribute, w.way) == ("eosin", PLAIN))
    wanted = 100 + 0.5 * (start[nearest, 1] + np.array(AMOUNTS))
    np.testing.assert_allclose(walk.measured, wanted, atol=1e-3)
    np.testing.assert_array_equal(walk.pixels[AMOUNTS.index(0)], painted(start)[nearest])


def test_an_attribute_that_cannot_be_held_apart_is_named_and_counts_as_nothing():
    found = sliders(subject(ToyAttributes(np.eye(3), refused=("eosin",))))
    assert [text.split(":")[0] for text in found.refused] == [
        f"eosin, {way}" for way in (HELD, CORRECTED, STAINS_HELD)
    ]
    assert found.row("eosin", HELD) is None
    assert found.leak(HELD).matrix[1] == [None, None, None]
    two = np.mean([1 / 1.8, 0, 1 / 1.8])
    assert found.leak(HELD).share.mean == pytest.approx(two, abs=1e-3)
    assert "cannot tell these apart" in "\n".join(found.markdown())
    assert json.dumps(_plain(found), allow_nan=False)


def test_targets_name_the_better_way_of_holding(mixed):
    goals = {target.name: target for target in mixed.targets()}
    assert list(goals) == [
        "slider of haematoxylin: Spearman, nothing held",
        "slider of nuclear_area: Spearman, nothing held",
        "leakage: diagonal share, others held, corrected",
    ]
    assert all(target.met for target in goals.values())
    assert [target.bound for target in goals.values()] == [0.9, 0.9, 0.6]
    share = goals["leakage: diagonal share, others held, corrected"]
    assert share.measured == pytest.approx(1 / (1 + 2 * LEAK / 4), abs=1e-3)


def test_a_slider_that_runs_backwards_misses_its_goal():
    found = sliders(subject(ToyAttributes(np.diag([-1.0, 1, 1]))))
    row = found.row("haematoxylin", PLAIN)
    assert row.spearman.mean == pytest.approx(-1) and row.usable == (0, 0)
    assert not found.targets()[0].met


def test_json_holds_the_numbers_and_no_pictures(mixed):
    values = json.loads(json.dumps(_plain(mixed), allow_nan=False))
    assert "walks" not in values
    assert values["sources"] == 12 and values["amounts"] == list(AMOUNTS)
    assert len(values["rows"]) == 18 and len(values["leakage"]) == 6
    assert values["rows"][0]["spearman"] == pytest.approx({"mean": 1, "low": 1, "high": 1, "n": 12})


def test_markdown_shows_every_slider_and_both_matrices(mixed):
    text = "\n\n".join(mixed.markdown())
    assert "| nuclear_area | nothing held | 12 | 1.000 (1.000 to 1.000) | 1.00" in text
    assert "| haematoxylin | 1.00 | 0.50 | -0.50 |" in text
    assert "| haematoxylin | 1.00 | 0.10 | 0.10 |" in text
    assert "12 held-out generated images" in text and "equal movement of all 3 gives 0.33" in text
    tables = [part.splitlines() for part in mixed.markdown() if part.startswith("|")]
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_pictures_are_drawn_with_provenance(mixed, tmp_path):
    mixed.draw(tmp_path, {"model": "toy"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leakage.png", "sliders.png"]
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.text["synthetic"] == "true" and picture.text["model"] == "toy"
            pixels = np.asarray(picture.convert("L"))
        assert min(pixels.shape) > 200 and pixels.min() < 50 and pixels.max() == 255


def test_colour_images_and_unknown_rows_can_be_drawn(tmp_path):
    steps = figures.Steps(np.full((2, 3, 8, 8), 90, np.uint8), ["1", "2"])
    points = [figures.Point(-1, -1, -1, -1), figures.Point(1, 1, 1, 1)]
    row = figures.SliderRow("eosin", {"plain": steps}, {"plain": points})
    figures.slider_rows(tmp_path / "rows.png", [row], [-1, 1], {})
    figures.leakage_maps(tmp_path / "maps.png", {"a": [[1, None], [0.2, 1]]}, ["x", "y"], {})
    assert {path.name for path in tmp_path.iterdir()} == {"rows.png", "maps.png"}


def test_fewer_sources_than_asked_for_are_counted_as_what_they_are():
    found = sliders(subject(ToyAttributes(np.eye(3)), sources=500))
    assert found.sources == found.row("eosin", PLAIN).spearman.n == 30
