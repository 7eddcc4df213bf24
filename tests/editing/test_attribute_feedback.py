"""Attribute feedback: results reach the target attributes although the map responds otherwise."""

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
from controlgen.editing import Samples, attribute_feedback
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
from controlgen.utils.rows import normalize_rows

SIZE = 5  # of latents; features have one more
MIXING = np.array([[1, 0.3, 0, 0, 0], [0.2, 1, 0.4, 0, 0], [0, 0, 1, 0.5, 0.2]])


class Linear:
    """Three attributes, each a weighted sum of an image's numbers."""

    names = ("size", "tilt", "shade")

    def measure(self, pixels: Any) -> Any:
        return read(pixels) @ MIXING.T


def draw(latents: Any) -> Any:
    """Latents (n 5) as pixels (n 1 2 5): each number is two bytes, to 0.0005."""
    full = np.clip((latents + 16) / 32 * 65535, 0, 65535).round().astype(int)
    return np.stack([full // 256, full % 256], 1)[:, None].astype(np.uint8)


def read(pixels: Any) -> Any:
    return (pixels[:, 0, 0].astype(float) * 256 + pixels[:, 0, 1]) / 65535 * 32 - 16


class BiasedEditor(Editor):
    """Images are latents; the map multiplies the latent of a feature by `distortion`."""

    def __init__(self, distortion: Any) -> None:
        self.distortion = np.asarray(distortion, np.float64)
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

    def with_response(self) -> "BiasedEditor":
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
        latents = 100 * features[:, :SIZE].astype(np.float64) / features[:, SIZE:]
        return np.float32(latents @ self.distortion.T)


# The first latent changes the second instead, the third changes too much with the wrong sign.
DISTORTION = np.eye(SIZE)
DISTORTION[0, 0], DISTORTION[1, 0], DISTORTION[2, 2] = 0.1, 0.9, -1.5


@pytest.fixture(scope="module")
def biased() -> BiasedEditor:
    return BiasedEditor(DISTORTION).with_response()


def sources(n: int = 12, seed: int = 1) -> Samples:
    latents = stream(seed, "sources").standard_normal((n, SIZE)).astype(np.float32)
    return Samples(latents, draw(latents))


def attribute_change(editor: BiasedEditor, edit: Any) -> Any:
    standardize = editor.attributes.standardize
    return standardize(edit.pixels) - standardize(edit.source_pixels)


def test_the_response_is_the_closed_form(biased: BiasedEditor) -> None:
    model = biased.attributes
    # (3 6), along the features of the five latents.
    directions = model.to_feature_direction([0, 1, 2], np.eye(3))
    expected = (MIXING / model.spread[:, None]) @ DISTORTION @ (100 * directions[:, :SIZE].T)
    np.testing.assert_allclose(model.response, expected, atol=0.02)
    unbiased = BiasedEditor(np.eye(SIZE)).with_response().attributes.response
    np.testing.assert_allclose(unbiased, np.eye(3), atol=0.02)


@pytest.mark.parametrize("residual", [False, True])
def test_feedback_reaches_the_target_despite_the_distortion(
    biased: BiasedEditor, residual: bool
) -> None:
    for index, name in enumerate(biased.attributes.names):
        others = [item for item in biased.attributes.names if item != name]
        direction = biased.direction(attribute=name, hold=others)
        uncorrected, corrected = (
            attribute_change(
                biased,
                biased.edit(sources(), direction, 1.5, residual, hold=others, corrections=k),
            )
            for k in (0, 8)
        )
        expected = 1.5 * np.eye(3)[index]
        assert np.abs(uncorrected - expected).max() > 0.3
        assert np.abs(corrected - expected).max() < 0.1


def test_with_nothing_held_all_attributes_follow_the_linear_model(
    biased: BiasedEditor,
) -> None:
    direction = biased.direction(attribute="size") - 0.5 * biased.direction(attribute="shade")
    expected = biased.attributes.weights @ direction.astype(np.float64)
    assert np.abs(expected[1]) > 0.05
    corrected = biased.edit(sources(), direction, 1.0, residual=True, corrections=8)
    np.testing.assert_allclose(
        attribute_change(biased, corrected), np.tile(expected, (12, 1)), atol=0.05
    )
    # Off by default: an edit that holds nothing is not corrected.
    plain = biased.edit(sources(), direction, 1.0, residual=True)
    none = biased.edit(sources(), direction, 1.0, residual=True, corrections=0)
    np.testing.assert_array_equal(plain.pixels, none.pixels)
    assert np.abs(attribute_change(biased, plain) - expected).max() > 0.3


def test_the_measured_response_makes_the_first_step_nearly_right(
    biased: BiasedEditor,
) -> None:
    blind = BiasedEditor(DISTORTION)
    direction = biased.direction(attribute="shade", hold="size")
    options = {"residual": True, "hold": "size", "corrections": 1}
    off = {}
    for name, editor in (("measured", biased), ("identity", blind)):
        edit = editor.edit(sources(), direction, 1.0, **options)
        off[name] = np.abs(attribute_change(editor, edit)[:, 2] - 1).mean()
    assert off["measured"] < 0.3 < 1 < off["identity"]


def test_the_response_of_each_image_is_learned() -> None:
    blind = BiasedEditor(DISTORTION)  # assumes the identity as its response
    direction = blind.direction(attribute="size", hold="tilt")
    off = [
        np.abs(
            attribute_change(
                blind, blind.edit(sources(), direction, 1.0, hold="tilt", corrections=k)
            )[:, 0]
            - 1
        ).mean()
        for k in (0, 4, 20)
    ]
    assert off[2] < 0.1 * off[0]
    assert off[0] >= off[1] >= off[2]


def test_a_direction_that_is_no_attribute_sum_leaves_other_attributes_free(
    biased: BiasedEditor,
) -> None:
    pixels = sources(20, 5).pixels
    direction = 3 * biased.direction(more=pixels[:10], less=pixels[10:])
    model = biased.attributes
    assert model.unexplained_share(direction.astype(np.float64)) > 0.01
    free, held = (
        attribute_change(biased, biased.edit(sources(), direction, 1.0, hold="tilt", corrections=k))
        for k in (0, 8)
    )
    assert np.abs(held[:, 1]).max() < 0.05 < np.abs(free[:, 1]).max()
    np.testing.assert_allclose(held[:, [0, 2]], free[:, [0, 2]], atol=0.1)


def test_attribute_sums_are_distinguished_from_other_directions(biased: BiasedEditor) -> None:
    model = biased.attributes
    for hold in ((), ("tilt",)):
        parts = [model.direction(name, hold) for name in ("size", "shade")]
        summed = (2 * parts[0] - 0.3 * parts[1]).astype(np.float64)
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
def test_no_iteration_increases_the_deviation_of_any_image(
    amount: float, iterations: int, hold: tuple[str, ...], residual: bool
) -> None:
    editor = BiasedEditor(DISTORTION + 0.3 * stream(4, "bend").standard_normal((SIZE, SIZE)))
    model = editor.attributes
    name = next(item for item in ("size", "tilt") if item not in hold)
    direction = editor.direction(attribute=name, hold=hold)

    def deviation(corrections: int) -> Any:
        settings = (direction, amount, residual, hold, corrections)
        edit = editor.edit(sources(6), *settings)
        goal = attribute_target(
            model, edit.source_pixels, model.project_out(direction, hold), amount, hold
        )
        gap = goal.values - model.standardize(edit.pixels)
        return (gap**2) @ goal.weights

    assert (deviation(iterations + 1) <= deviation(iterations) + 1e-9).all()


def test_held_attributes_have_twice_the_weight(biased: BiasedEditor) -> None:
    model, pixels = biased.attributes, sources(3).pixels
    direction = model.direction("size", "tilt")
    goal = attribute_target(model, pixels, direction, 2.0, "tilt")
    np.testing.assert_array_equal(goal.weights, [1, HELD_WEIGHT, 1])
    change = goal.values - model.standardize(pixels)
    np.testing.assert_allclose(change[:, 0], 2, atol=1e-3)
    np.testing.assert_array_equal(change[:, 1], 0)
    other = attribute_target(model, pixels, stream(1, "way").standard_normal(SIZE + 1), 1.0, "tilt")
    np.testing.assert_array_equal(other.weights, [0, HELD_WEIGHT, 0])
    np.testing.assert_array_equal(other.free, [True, False, True])


def test_attributes_that_never_vary_get_the_identity_response(biased: BiasedEditor) -> None:
    model = biased.attributes
    weights = model.weights.copy()
    weights[2] = 0
    blind = replace(model, weights=weights, spread=model.spread * [1, 1, 0], response=None)
    actual = measure_response(
        blind,
        biased.generate,
        biased.invert,
        biased.bank_latents[:8],
        biased.bank_features[:8],
    )
    np.testing.assert_array_equal(actual[2], [0, 0, 1])
    none = replace(blind, weights=0 * weights)
    latents, features = biased.bank_latents[:8], biased.bank_features[:8]
    np.testing.assert_array_equal(
        measure_response(none, biased.generate, biased.invert, latents, features), np.eye(3)
    )


@pytest.fixture(scope="module")
def measured(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny line's map, fitted again with attributes."""
    root = tmp_path_factory.mktemp("measured") / "store"
    return Path(line.refitted(root, attributes=StrokeAttributes().to_dict()))


def test_a_map_is_saved_with_its_measured_response(measured: Path) -> None:
    editor = Editor.load(measured)
    model = editor.attributes
    assert model is not None
    items = editor.bank_items(0, attribute_feedback.RESPONSE_ITEMS)
    features = editor.embed(items.pixels)
    columns = model.controllable(())
    first = columns[0]
    direction = model.to_feature_direction(columns, np.eye(len(columns)))[0]
    up, down = (
        editor.edit(items, np.float32(sign * RESPONSE_STEP * direction), 1.0, residual=True)
        for sign in (1, -1)
    )
    slopes = (model.standardize(up.pixels) - model.standardize(down.pixels)) / (2 * RESPONSE_STEP)
    np.testing.assert_allclose(model.response[:, first], slopes.mean(0), atol=2e-3)
    np.testing.assert_allclose(
        up.target_features,
        normalize_rows(features + np.float32(RESPONSE_STEP * direction)),
        atol=1e-5,
    )


def test_an_older_map_has_the_identity_response_and_a_misfit_is_refused(
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
