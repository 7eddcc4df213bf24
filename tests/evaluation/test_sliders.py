"""Sliders and their leakage on a linear toy with closed-form results."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from controlgen import figures
from controlgen.config import EvaluateConfig
from controlgen.errors import ConfigError
from controlgen.evaluation.context import EvaluationContext
from controlgen.evaluation.report import to_json_values
from controlgen.evaluation.slider_results import CORRECTED, HELD, PLAIN, RANDOM, STAINS_HELD
from controlgen.evaluation.sliders import AMOUNTS, evaluate_sliders, slider_modes
from controlgen.metrics.bootstrap import Interval
from controlgen.rng import normals

TISSUE = ("haematoxylin", "eosin", "nuclear_area")
UNITS = np.array([2.0, 0.5, 10.0])  # one sigma of each attribute in its own unit
MIXED = np.array([[1.0, 0.5, -0.5], [0.0, 1.0, 0.0], [0.8, -0.4, 1.0]])
LEAK = 0.4  # change of every held attribute without corrections, per requested sigma


def encode(values):
    """Values (n a) in sigmas, -8..8 -> Pixels (n 1 4 4) with two bytes for each."""
    codes = np.rint((np.asarray(values) + 8) / 16 * 65535).clip(0, 65535).astype(np.int64)
    flat = np.zeros((len(codes), 16), np.uint8)
    flat[:, 0 : 2 * codes.shape[1] : 2], flat[:, 1 : 2 * codes.shape[1] : 2] = divmod(codes, 256)
    return flat.reshape(-1, 1, 4, 4)


def decode(pixels, a=3):
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    return (256 * flat[:, 0 : 2 * a : 2] + flat[:, 1 : 2 * a : 2]) / 65535 * 16 - 8


@dataclass
class ToyAttributes:
    """Directions are changes of the attributes: mixed without hold, else exact."""

    mixing: np.ndarray
    names: tuple = TISSUE
    refused: tuple = ()

    def measure(self, pixels):
        return decode(pixels) * UNITS + 100

    def standardize(self, pixels):
        return self.to_sigmas(self.measure(pixels) - 100)

    def to_sigmas(self, change):
        return change / UNITS

    def direction(self, name, hold=()):
        if name in self.refused and hold:
            raise ConfigError(f"{name}: the features cannot tell these apart; leave one out")
        row = self.mixing[self.names.index(name)].copy()
        row[[self.names.index(held) for held in hold]] = 0
        return row.astype(np.float32)


class ToyEditor:
    """Latents are the attributes in sigmas; a held one changes by LEAK, halved by 4 corrections."""

    def __init__(self, attributes):
        self.attributes = attributes
        self.calls = []

    def edit(self, source, direction, amount=1.0, residual=False, hold=(), corrections=0):
        self.calls.append((amount, residual, hold, corrections))
        names = self.attributes.names
        leaks = np.array([LEAK * (name in hold) * 0.5 ** (corrections / 4) for name in names])
        return SimpleNamespace(pixels=encode(source.latents + amount * (direction + leaks)))


class Audit:
    """The attributes in sigmas as a feature, not of unit length."""

    def embed(self, pixels):
        return decode(pixels).astype(np.float32)


def make_context(attributes, editor=None, sources=12):
    latents = normals(0, "toy bank", 0, 40, 3)
    bank = SimpleNamespace(
        latents=latents,
        pixels=encode(latents),
        features=latents,
        train=slice(0, 10),
        held_out=slice(10, 40),
    )
    config = EvaluateConfig(slider_sources=sources, bootstraps=50)
    none = dict.fromkeys(("real_train", "real_test", "judge"))
    return EvaluationContext(
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
    return evaluate_sliders(make_context(ToyAttributes(MIXED)))


def matrix(results, mode):
    return np.array(results.leakage_of(mode).matrix, float)


def share_of(slopes):
    sizes = np.abs(np.asarray(slopes, float))
    return float(np.mean(np.diag(sizes) / sizes.sum(1)))


def held_slopes(leak):
    """Each slider changes its own attribute by one and the two held ones by `leak`."""
    return np.full((3, 3), leak) + (1 - leak) * np.eye(3)


def test_an_editor_without_attributes_has_no_sliders():
    assert evaluate_sliders(make_context(None, SimpleNamespace())) is None
    assert evaluate_sliders(make_context(None, SimpleNamespace(attributes=None))) is None


def test_orthogonal_attributes_do_not_leak_and_are_monotone():
    results = evaluate_sliders(make_context(ToyAttributes(np.eye(3))))
    np.testing.assert_allclose(matrix(results, PLAIN), np.eye(3), atol=1e-3)
    assert results.leakage_of(PLAIN).share.mean == pytest.approx(1, abs=1e-3)
    for name in TISSUE:
        row = results.row(name, PLAIN)
        assert row.spearman == pytest.approx((1, 1, 1, 12))
        assert row.slope.mean == pytest.approx(1, abs=1e-3)
        assert row.usable == (-2, 2)
        np.testing.assert_allclose([point.mean for point in row.curve], AMOUNTS, atol=1e-3)
        assert row.curve[AMOUNTS.index(0)] == Interval(0, 0, 0, 12)


def test_leakage_of_mixed_directions_is_the_closed_form(mixed):
    np.testing.assert_allclose(matrix(mixed, PLAIN), MIXED, atol=1e-3)
    assert mixed.leakage_of(PLAIN).share.mean == pytest.approx(share_of(MIXED), abs=1e-3)
    # All sources change alike, so nothing cancels and nothing varies.
    assert mixed.leakage_of(PLAIN).share_per_image.mean == pytest.approx(share_of(MIXED), abs=1e-3)
    share = mixed.leakage_of(PLAIN).share
    assert share.high - share.low < 1e-3


@pytest.mark.parametrize(("mode", "left"), [(HELD, LEAK), (CORRECTED, LEAK / 4)])
def test_leakage_of_held_attributes_is_the_closed_form(mixed, mode, left):
    np.testing.assert_allclose(matrix(mixed, mode), held_slopes(left), atol=1e-3)
    assert mixed.leakage_of(mode).share.mean == pytest.approx(share_of(held_slopes(left)), abs=1e-3)


def test_holding_the_stains_does_not_hold_tissue(mixed):
    # Haematoxylin holds only eosin, so nuclear area follows the mixing matrix.
    expected = MIXED.copy()
    expected[0, 1], expected[1, 0], expected[2, :2] = LEAK / 4, LEAK / 4, LEAK / 4
    np.testing.assert_allclose(matrix(mixed, STAINS_HELD), expected, atol=1e-3)
    into_stains = {mode: mixed.leakage_of(mode).into_stains.mean for mode in (PLAIN, STAINS_HELD)}
    assert into_stains[PLAIN] == pytest.approx(1.2 / 2.2, abs=1e-3)
    assert into_stains[STAINS_HELD] == pytest.approx(0.2 / 1.2, abs=1e-3)


def test_arguments_of_the_edits():
    editor = ToyEditor(ToyAttributes(MIXED))
    evaluate_sliders(make_context(editor.attributes, editor))
    # Six modes, three attributes, eight amounts: amount 0 is the source itself.
    assert len(editor.calls) == 6 * 3 * 8
    assert {residual for _, residual, _, _ in editor.calls} == {True}
    assert {amount for amount, *_ in editor.calls} == set(AMOUNTS) - {0.0}
    kinds = {(len(hold), corrections) for _, _, hold, corrections in editor.calls}
    assert kinds == {(0, 0), (0, 8), (2, 0), (2, 8), (1, 8)}


def test_modes_hold_all_others_or_the_other_stains():
    modes = {mode.name: mode for mode in slider_modes(TISSUE)}
    assert modes[HELD].hold["eosin"] == ("haematoxylin", "nuclear_area")
    assert modes[STAINS_HELD].hold["eosin"] == ("haematoxylin",)
    assert modes[STAINS_HELD].hold["nuclear_area"] == ("haematoxylin", "eosin")
    assert STAINS_HELD not in {mode.name for mode in slider_modes(("ink", "eosin"))}


def test_the_random_direction_has_the_length_of_the_direction(mixed):
    for index, name in enumerate(TISSUE):
        rows = [row for row in mixed.rows if (row.attribute, row.mode) == (name, RANDOM)]
        assert len(rows) == 1
        # The slope is one coordinate of a vector of that length.
        assert 0 < abs(rows[0].slope.mean) < np.linalg.norm(MIXED[index])
    other = evaluate_sliders(make_context(ToyAttributes(MIXED)))
    assert other.leakage_of(RANDOM) == mixed.leakage_of(RANDOM)


def test_identity_is_the_audit_cosine_at_one_sigma(mixed):
    start = normals(0, "toy bank", 0, 40, 3)[10:22].astype(np.float64)
    cosines = []
    for shifted in (start + MIXED[2], start - MIXED[2]):
        lengths = np.linalg.norm(start, axis=1) * np.linalg.norm(shifted, axis=1)
        cosines.append((start * shifted).sum(1) / lengths)
    identity = mixed.row("nuclear_area", PLAIN).identity
    assert identity.mean == pytest.approx(np.mean(cosines), abs=1e-3) and identity.n == 12


def test_the_strip_is_of_the_source_nearest_the_mean(mixed):
    start = normals(0, "toy bank", 0, 40, 3)[10:22]
    nearest = np.square(start).sum(1).argmin()
    strips = {(strip.attribute, strip.mode): strip for strip in mixed.strips}
    strip = strips["eosin", PLAIN]
    expected = 100 + 0.5 * (start[nearest, 1] + np.array(AMOUNTS))
    np.testing.assert_allclose(strip.measured, expected, atol=1e-3)
    np.testing.assert_array_equal(strip.pixels[AMOUNTS.index(0)], encode(start)[nearest])


def test_an_attribute_without_a_direction_is_reported_and_counts_as_0():
    results = evaluate_sliders(make_context(ToyAttributes(np.eye(3), refused=("eosin",))))
    assert [text.split(":")[0] for text in results.refused] == [
        f"eosin, {mode}" for mode in (HELD, CORRECTED, STAINS_HELD)
    ]
    assert results.row("eosin", HELD) is None
    assert results.leakage_of(HELD).matrix[1] == [None, None, None]
    two = np.mean([1 / 1.8, 0, 1 / 1.8])
    assert results.leakage_of(HELD).share.mean == pytest.approx(two, abs=1e-3)
    assert "cannot tell these apart" in "\n".join(results.markdown())
    assert json.dumps(to_json_values(results), allow_nan=False)


def test_goals_use_the_better_mode(mixed):
    goals = {goal.name: goal for goal in mixed.goals()}
    assert list(goals) == [
        "slider of haematoxylin: Spearman, nothing held",
        "slider of nuclear_area: Spearman, nothing held",
        "leakage: diagonal share, others held, corrected",
    ]
    assert all(goal.met for goal in goals.values())
    assert [goal.bound for goal in goals.values()] == [0.9, 0.9, 0.6]
    share = goals["leakage: diagonal share, others held, corrected"]
    assert share.measured == pytest.approx(1 / (1 + 2 * LEAK / 4), abs=1e-3)


def test_a_reversed_slider_misses_its_goal():
    results = evaluate_sliders(make_context(ToyAttributes(np.diag([-1.0, 1, 1]))))
    row = results.row("haematoxylin", PLAIN)
    assert row.spearman.mean == pytest.approx(-1) and row.usable == (0, 0)
    assert not results.goals()[0].met


def test_json_contains_numbers_and_no_images(mixed):
    values = json.loads(json.dumps(to_json_values(mixed), allow_nan=False))
    assert "strips" not in values
    assert {row["way"] for row in values["leakage"]} == {row.mode for row in mixed.leakage}
    assert values["sources"] == 12 and values["amounts"] == list(AMOUNTS)
    assert len(values["rows"]) == 18 and len(values["leakage"]) == 6
    assert values["rows"][0]["spearman"] == pytest.approx({"mean": 1, "low": 1, "high": 1, "n": 12})


def test_markdown_contains_every_slider_and_both_matrices(mixed):
    text = "\n\n".join(mixed.markdown())
    assert "| nuclear_area | nothing held | 12 | 1.000 (1.000 to 1.000) | 1.00" in text
    assert "| haematoxylin | 1.00 | 0.50 | -0.50 |" in text
    assert "| haematoxylin | 1.00 | 0.10 | 0.10 |" in text
    assert (
        "12 held-out generated images" in text
        and "equal change of all 3 attributes gives 0.33" in text
    )
    tables = [part.splitlines() for part in mixed.markdown() if part.startswith("|")]
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_figures_are_written_with_provenance(mixed, tmp_path):
    mixed.draw(tmp_path, {"model": "toy"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leakage.png", "sliders.png"]
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.text["synthetic"] == "true" and picture.text["model"] == "toy"
            pixels = np.asarray(picture.convert("L"))
        assert min(pixels.shape) > 200 and pixels.min() < 50 and pixels.max() == 255


def test_figures_of_colour_images_and_missing_values(tmp_path):
    steps = figures.SliderImages(np.full((2, 3, 8, 8), 90, np.uint8), ["1", "2"])
    points = [figures.Point(-1, -1, -1, -1), figures.Point(1, 1, 1, 1)]
    row = figures.SliderRow("eosin", {"plain": steps}, {"plain": points})
    figures.slider_rows(tmp_path / "rows.png", [row], [-1, 1], {})
    figures.leakage_maps(tmp_path / "maps.png", {"a": [[1, None], [0.2, 1]]}, ["x", "y"], {})
    assert {path.name for path in tmp_path.iterdir()} == {"rows.png", "maps.png"}


def test_fewer_sources_than_configured_are_counted():
    results = evaluate_sliders(make_context(ToyAttributes(np.eye(3)), sources=500))
    assert results.sources == results.row("eosin", PLAIN).spearman.n == 30
