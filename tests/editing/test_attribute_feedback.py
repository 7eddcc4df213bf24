"""The closed loop: what is asked of attributes is what comes out, where it can come out."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlgen import Editor
from controlgen.attributes import StrokeAttributes
from controlgen.editing import Samples, attribute_feedback, feature_math
from controlgen.editing.attribute_feedback import (
    HELD_WEIGHT,
    RESPONSE_STEP,
    attribute_target,
    measure_response,
)
from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ArtifactCorrupt
from controlgen.rng import stream
from controlgen.utils.array_files import load_arrays, save_arrays

SIZE = 5  # of latents; features have one more
MIXING = np.array([[1, 0.3, 0, 0, 0], [0.2, 1, 0.4, 0, 0], [0, 0, 1, 0.5, 0.2]])


class Linear:
    """Three attributes, each a weighted sum of what a picture shows."""

    names = ("size", "tilt", "shade")

    def measure(self, pixels: Any) -> Any:
        return read(pixels) @ MIXING.T


def draw(latents: Any) -> Any:
    """Latents (n 5) as pixels (n 1 2 5): each number is two bytes, to 0.0005."""
    full = np.clip((latents + 16) / 32 * 65535, 0, 65535).round().astype(int)
    return np.stack([full // 256, full % 256], 1)[:, None].astype(np.uint8)


def read(pixels: Any) -> Any:
    return (pixels[:, 0, 0].astype(float) * 256 + pixels[:, 0, 1]) / 65535 * 32 - 16


class Answering(Editor):
    """Pictures are latents; the map answers a feature by `bent` times what it says."""

    def __init__(self, bent: Any) -> None:
        self.bent = np.asarray(bent, np.float64)
        self.space: Any = self
        self.size, self.image_shape = SIZE + 1, (1, 2, SIZE)
        latents = stream(0, "bank").standard_normal((1500, SIZE)).astype(np.float32)
        self.bank_latents, self.bank_features = latents, self.embed(draw(latents))
        self.statistics = FeaturePCA.fit(self.bank_features)
        linear: Any = Linear()
        self.attributes: Any = AttributeModel.fit_from_images(
            linear, draw(latents), self.bank_features, self.statistics
        )
        self.confidence_model = None

    def calibrated(self) -> "Answering":
        model = self.attributes
        bank = self.bank_latents[:64], self.bank_features[:64]
        self.attributes = replace(
            model, response=measure_response(model, self.generate, self.invert, *bank)
        )
        return self

    @property
    def latent_size(self) -> int:
        return SIZE

    def generate(self, latents: Any) -> Any:
        return draw(latents)

    def embed(self, pixels: Any) -> Any:
        # Near a pole of the sphere, where it is nearly flat.
        rows = np.concatenate([0.01 * read(pixels), np.ones((len(pixels), 1))], 1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def invert(self, features: Any) -> Any:
        message = 100 * features[:, :SIZE].astype(np.float64) / features[:, SIZE:]
        return np.float32(message @ self.bent.T)


# The second latent answers the first one's wish, the third the wrong way round and too much.
BENT = np.eye(SIZE)
BENT[0, 0], BENT[1, 0], BENT[2, 2] = 0.1, 0.9, -1.5


@pytest.fixture(scope="module")
def bent() -> Answering:
    return Answering(BENT).calibrated()


def sources(n: int = 12, seed: int = 1) -> Samples:
    latents = stream(seed, "sources").standard_normal((n, SIZE)).astype(np.float32)
    return Samples(latents, draw(latents))


def measured_change(editor: Answering, edit: Any) -> Any:
    standard = editor.attributes.standard
    return standard(edit.pixels) - standard(edit.source_pixels)


def test_the_response_is_the_closed_form(bent: Answering) -> None:
    model = bent.attributes
    lift = model.to_feature_direction([0, 1, 2], np.eye(3))  # (3 6), along the features of the five latents
    expected = (MIXING / model.spread[:, None]) @ BENT @ (100 * lift[:, :SIZE].T)
    np.testing.assert_allclose(model.response, expected, atol=0.02)
    straight = Answering(np.eye(SIZE)).calibrated().attributes.response
    np.testing.assert_allclose(straight, np.eye(3), atol=0.02)


@pytest.mark.parametrize("residual", [False, True])
def test_what_is_asked_comes_out_though_the_map_answers_otherwise(
    bent: Answering, residual: bool
) -> None:
    for index, name in enumerate(bent.attributes.names):
        others = [item for item in bent.attributes.names if item != name]
        direction = bent.direction(attribute=name, hold=others)
        open_loop, closed = (
            measured_change(
                bent, bent.edit(sources(), direction, 1.5, residual, hold=others, corrections=k)
            )
            for k in (0, 8)
        )
        expected = 1.5 * np.eye(3)[index]
        assert np.abs(open_loop - expected).max() > 0.3
        assert np.abs(closed - expected).max() < 0.1


def test_with_nothing_held_the_others_go_where_the_linear_model_says(bent: Answering) -> None:
    direction = bent.direction(attribute="size") - 0.5 * bent.direction(attribute="shade")
    expected = bent.attributes.weights @ direction.astype(np.float64)
    assert np.abs(expected[1]) > 0.05
    closed = bent.edit(sources(), direction, 1.0, residual=True, corrections=8)
    np.testing.assert_allclose(measured_change(bent, closed), np.tile(expected, (12, 1)), atol=0.05)
    # Nobody asks for it by default: an edit that holds nothing is the plain one.
    plain = bent.edit(sources(), direction, 1.0, residual=True)
    none = bent.edit(sources(), direction, 1.0, residual=True, corrections=0)
    np.testing.assert_array_equal(plain.pixels, none.pixels)
    assert np.abs(measured_change(bent, plain) - expected).max() > 0.3


def test_a_first_step_by_the_measured_response_does_nearly_all(bent: Answering) -> None:
    blind = Answering(BENT)
    direction = bent.direction(attribute="shade", hold="size")
    settings_ = {"residual": True, "hold": "size", "corrections": 1}
    off = {}
    for name, editor in (("measured", bent), ("as asked", blind)):
        edit = editor.edit(sources(), direction, 1.0, **settings_)
        off[name] = np.abs(measured_change(editor, edit)[:, 2] - 1).mean()
    assert off["measured"] < 0.3 < 1 < off["as asked"]


def test_an_images_own_response_is_learned_on_the_way() -> None:
    blind = Answering(BENT)  # believes that what is asked comes out
    direction = blind.direction(attribute="size", hold="tilt")
    off = [
        np.abs(
            measured_change(
                blind, blind.edit(sources(), direction, 1.0, hold="tilt", corrections=k)
            )[:, 0]
            - 1
        ).mean()
        for k in (0, 4, 20)
    ]
    assert off[2] < 0.1 * off[0]
    assert off[0] >= off[1] >= off[2]


def test_a_change_that_is_not_of_attributes_keeps_what_it_did_to_the_others(
    bent: Answering,
) -> None:
    pixels = sources(20, 5).pixels
    direction = 3 * bent.direction(more=pixels[:10], less=pixels[10:])
    model = bent.attributes
    assert model.unexplained_share(direction.astype(np.float64)) > 0.01
    free, held = (
        measured_change(bent, bent.edit(sources(), direction, 1.0, hold="tilt", corrections=k))
        for k in (0, 8)
    )
    assert np.abs(held[:, 1]).max() < 0.05 < np.abs(free[:, 1]).max()
    np.testing.assert_allclose(held[:, [0, 2]], free[:, [0, 2]], atol=0.1)


def test_sums_of_attributes_are_told_from_other_changes(bent: Answering) -> None:
    model = bent.attributes
    for hold in ((), ("tilt",)):
        ways = [model.direction(name, hold) for name in ("size", "shade")]
        summed = (2 * ways[0] - 0.3 * ways[1]).astype(np.float64)
        assert model.unexplained_share(summed) < 1e-9
    assert model.unexplained_share(np.zeros(SIZE + 1)) == 0
    off = summed + 0.1 * np.linalg.norm(summed) * model.statistics.components[-1]
    assert 1e-4 < model.unexplained_share(off) < 0.1


@settings(max_examples=30)
@given(
    st.floats(-3, 3, width=32),
    st.integers(0, 6),
    st.sampled_from([(), ("tilt",), ("size", "shade")]),
    st.booleans(),
)
def test_no_round_takes_any_image_further_from_its_goal(
    amount: float, rounds: int, hold: tuple[str, ...], residual: bool
) -> None:
    editor = Answering(BENT + 0.3 * stream(4, "bend").standard_normal((SIZE, SIZE)))
    model = editor.attributes
    name = next(item for item in ("size", "tilt") if item not in hold)
    direction = editor.direction(attribute=name, hold=hold)

    def deviation(corrections: int) -> Any:
        move = (direction, amount, residual)
        edit = editor.edit(sources(6), *move, hold=hold, corrections=corrections)
        aimed = attribute_target(
            model, edit.source_pixels, model.project_out(direction, hold), amount, hold
        )
        gap = aimed.values - model.standardize(edit.pixels)
        return (gap**2) @ aimed.weights

    assert (deviation(rounds + 1) <= deviation(rounds) + 1e-9).all()


def test_what_is_held_counts_twice(bent: Answering) -> None:
    model, pixels = bent.attributes, sources(3).pixels
    direction = model.direction("size", "tilt")
    aimed = attribute_target(model, pixels, direction, 2.0, "tilt")
    np.testing.assert_array_equal(aimed.weights, [1, HELD_WEIGHT, 1])
    asked = aimed.values - model.standardize(pixels)
    np.testing.assert_allclose(asked[:, 0], 2, atol=1e-3)
    np.testing.assert_array_equal(asked[:, 1], 0)
    other = attribute_target(model, pixels, stream(1, "way").standard_normal(SIZE + 1), 1.0, "tilt")
    np.testing.assert_array_equal(other.weights, [0, HELD_WEIGHT, 0])
    np.testing.assert_array_equal(other.free, [True, False, True])


def test_attributes_that_never_vary_are_left_out(bent: Answering) -> None:
    model = bent.attributes
    weights = model.weights.copy()
    weights[2] = 0
    blind = replace(model, weights=weights, spread=model.spread * [1, 1, 0], response=None)
    actual = measure_response(
        blind, bent.generate, bent.invert, bent.bank_latents[:8], bent.bank_features[:8]
    )
    np.testing.assert_array_equal(actual[2], [0, 0, 1])
    none = replace(blind, weights=0 * weights)
    latents, features = bent.bank_latents[:8], bent.bank_features[:8]
    np.testing.assert_array_equal(
        measure_response(none, bent.generate, bent.invert, latents, features), np.eye(3)
    )


@pytest.fixture(scope="module")
def measured(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny line's map, fitted again with attributes."""
    root = tmp_path_factory.mktemp("measured") / "store"
    return Path(line.refitted(root, attributes=StrokeAttributes().to_dict()))


def test_a_map_is_saved_with_the_response_of_its_own_edits(measured: Path) -> None:
    editor = Editor.load(measured)
    model = editor.attributes
    assert model is not None
    items = editor.bank_items(0, attribute_feedback.RESPONSE_ITEMS)
    features = editor.embed(items.pixels)
    steered = model.controllable(())
    column = steered[0]
    mode = model.to_feature_direction(steered, np.eye(len(steered)))[0]
    up, down = (
        editor.edit(items, np.float32(sign * RESPONSE_STEP * mode), 1.0, residual=True)
        for sign in (1, -1)
    )
    slopes = (model.standardize(up.pixels) - model.standardize(down.pixels)) / (2 * RESPONSE_STEP)
    np.testing.assert_allclose(model.response[:, column], slopes.mean(0), atol=2e-3)
    np.testing.assert_allclose(
        up.target_features,
        feature_math.normalize_rows(features + np.float32(RESPONSE_STEP * mode)),
        atol=1e-5,
    )


def test_a_map_of_before_is_corrected_as_well_and_a_wrong_response_refused(
    measured: Path, tmp_path: Path
) -> None:
    model = Editor.load(measured).attributes
    assert model is not None
    arrays = load_arrays(measured / "attributes.safetensors")
    statistics = model.statistics
    before = {name: value for name, value in arrays.items() if name != "response"}
    old = AttributeModel.restore(model.settings, before, statistics)
    assert old.response is None
    np.testing.assert_array_equal(old.response_matrix([0, 1]), np.eye(2))
    with pytest.raises(ArtifactCorrupt, match="response is missing or not of shape"):
        AttributeModel.restore(model.settings, arrays | {"response": np.eye(2)}, statistics)
    folder = tmp_path / "old"
    shutil.copytree(measured, folder)
    save_arrays(folder / "attributes.safetensors", arrays)
    np.testing.assert_array_equal(
        load_arrays(folder / "attributes.safetensors")["response"], model.response
    )
