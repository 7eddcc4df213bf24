"""Edits that hold attributes, on images of six numbers with closed forms."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlgen import Editor, stages
from controlgen.artifacts import Store
from controlgen.artifacts.store import write_manifest
from controlgen.attributes import StrokeAttributes, TissueAttributes
from controlgen.editing import Samples
from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ArtifactCorrupt, ConfigError, Incompatible
from controlgen.rng import stream

SIZE = 6
REACH = 16.0  # latents lie in -REACH..REACH


def draw(latents: Any) -> Any:
    """Latents (n 6) as pixels (n 1 2 6): each number is two bytes, to 0.0005."""
    full = np.clip((latents + REACH) / (2 * REACH) * 65535, 0, 65535).round().astype(int)
    return np.stack([full // 256, full % 256], 1)[:, None].astype(np.uint8)


def read(pixels: Any) -> Any:
    high, low = pixels[:, 0, 0].astype(float), pixels[:, 0, 1].astype(float)
    return (high * 256 + low) / 65535 * 2 * REACH - REACH


@dataclass(frozen=True)
class CoupledAttributes:
    """Three attributes; the second depends on the first and on its square."""

    names: tuple[str, ...] = ("size", "tilt", "shade")

    def measure(self, pixels: Any) -> Any:
        z = read(pixels)
        tilt = z[:, 1] + 0.6 * z[:, 0] + 0.15 * z[:, 0] ** 2
        return np.stack([3 * z[:, 0] + 7, tilt, -z[:, 2]], 1)


class ToyEditor(Editor):
    """An image for each latent, unit features, and a map that may be off by `bias`."""

    def __init__(self, bias: float = 0.0, model: AttributeModel | None = None) -> None:
        self.bias = np.float32([0, bias, 0, 0, 0, 0])
        self.space: Any = self
        self.size = SIZE + 1
        self.image_shape = (1, 2, SIZE)
        latents = stream(0, "bank").standard_normal((2000, SIZE)).astype(np.float32)
        features = self.embed(draw(latents))
        self.statistics = FeaturePCA.fit(features)
        settings: Any = CoupledAttributes()
        fitted = AttributeModel.fit_from_images(settings, draw(latents), features, self.statistics)
        self.attributes = fitted if model is None else model
        self.confidence_model = None

    @property
    def latent_size(self) -> int:
        return SIZE

    def generate(self, latents: Any) -> Any:
        return draw(latents)

    def embed(self, pixels: Any) -> Any:
        rows = np.concatenate([0.1 * read(pixels), np.ones((len(pixels), 1))], 1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def invert(self, features: Any) -> Any:
        return np.float32(10 * features[:, :SIZE] / features[:, SIZE:]) + self.bias


EXACT, OFF = ToyEditor(), ToyEditor(bias=0.4)
HELD = ("tilt", "shade")


def sources(n: int = 16, seed: int = 1) -> Samples:
    latents = stream(seed, "sources").standard_normal((n, SIZE)).astype(np.float32)
    return Samples(latents, draw(latents))


def deviations(editor: ToyEditor, edit: Any) -> Any:
    """Root mean square over the held attributes, in sigmas (n)."""
    change = editor.attributes.standardize(edit.pixels) - editor.attributes.standardize(
        edit.source_pixels
    )
    return np.sqrt((change[:, 1:] ** 2).mean(1))


def test_hold_without_corrections_is_an_edit_along_the_held_direction() -> None:
    free = EXACT.attributes.direction("size")
    held = EXACT.attributes.project_out(free, HELD)
    for residual in (False, True):
        actual = EXACT.edit(sources(), free, 1.5, residual, hold=HELD, corrections=0)
        expected = EXACT.edit(sources(), held, 1.5, residual)
        np.testing.assert_array_equal(actual.target_features, expected.target_features)
        np.testing.assert_array_equal(actual.pixels, expected.pixels)
        unheld = EXACT.edit(sources(), free, 1.5, residual)
        assert deviations(EXACT, actual).mean() < 0.7 * deviations(EXACT, unheld).mean()


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("kind", ["samples", "pixels"])
def test_corrections_restore_held_attributes_and_keep_the_edited_one(
    residual: bool, kind: str
) -> None:
    source: Any = sources() if kind == "samples" else sources().pixels
    direction = OFF.direction(attribute="size", hold=HELD)
    edits = [OFF.edit(source, direction, 1.5, residual, hold=HELD, corrections=k) for k in range(6)]
    actual = [deviations(OFF, edit).mean() for edit in edits]
    assert actual[1] < 0.5 * actual[0]
    assert actual[5] < 0.03 < actual[0]
    # The edited attribute changes as much as without corrections.
    shifted = [
        OFF.attributes.to_sigmas(edit.attributes.after - edit.attributes.before)[:, 0]
        for edit in (edits[0], edits[5])
    ]
    assert shifted[0].min() > 0.8
    assert np.abs(shifted[1] - shifted[0]).mean() < 0.1
    # The target features are those of the returned result.
    last = edits[5]
    np.testing.assert_allclose(np.linalg.norm(last.target_features, axis=1), 1, atol=1e-5)
    if not residual:
        np.testing.assert_array_equal(last.latents, OFF.invert(last.target_features))
    np.testing.assert_array_equal(last.pixels, OFF.generate(last.latents))
    np.testing.assert_array_equal(last.features, OFF.embed(last.pixels))


@settings(max_examples=40)
@given(
    st.floats(-4, 4, width=32),
    st.integers(0, 4),
    st.sets(st.sampled_from(["tilt", "shade", "size"]), min_size=1, max_size=2),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_no_correction_makes_any_image_worse(
    amount: float, iterations: int, hold: set[str], residual: bool, seed: int
) -> None:
    direction = stream(seed, "direction").standard_normal(SIZE + 1).astype(np.float32) / 10
    names = sorted(hold)
    columns = [OFF.attributes.names.index(name) for name in names]

    def deviation(corrections: int) -> Any:
        edit = OFF.edit(
            *(sources(5, seed), direction, amount, residual), hold=names, corrections=corrections
        )
        measured = [OFF.attributes.standardize(p) for p in (edit.pixels, edit.source_pixels)]
        return ((measured[0] - measured[1])[:, columns] ** 2).sum(1)

    assert (deviation(iterations + 1) <= deviation(iterations) + 1e-9).all()


def test_the_reference_is_the_source_image_not_its_reconstruction() -> None:
    """The map is off by 0.4 in the held attribute; feedback corrects that too."""
    pixels = sources().pixels
    zero = np.zeros(SIZE + 1, np.float32)
    uncorrected, corrected = (OFF.edit(pixels, zero, hold=("tilt",), corrections=k) for k in (0, 5))
    off = [
        np.abs(edit.attributes.after - edit.attributes.before)[:, 1].mean()
        for edit in (uncorrected, corrected)
    ]
    assert off[0] == pytest.approx(0.4, abs=0.01)
    assert off[1] < 0.02


def test_an_attribute_equal_to_a_held_one_does_not_hinder_feedback() -> None:
    """The third attribute equals the held one."""
    model = OFF.attributes
    weights = model.weights.copy()
    weights[2] = weights[1]
    twin = ToyEditor(bias=0.4, model=replace(model, weights=weights))
    direction = twin.direction(attribute="size", hold="tilt")
    actual = [
        np.abs(twin.attributes.to_sigmas(edit.attributes.after - edit.attributes.before)[:, 1])
        for edit in (twin.edit(sources(), direction, hold="tilt", corrections=k) for k in (0, 5))
    ]
    assert actual[1].mean() < 0.03 < 0.1 < actual[0].mean()


@pytest.mark.parametrize("corrections", [None, 0, 3])
def test_a_residual_edit_of_amount_zero_stays_the_identity(corrections: int | None) -> None:
    source = sources()
    source = Samples(source.latents, OFF.generate(source.latents))
    direction = OFF.direction(attribute="size")
    edit = OFF.edit(source, direction, 0.0, residual=True, hold=HELD, corrections=corrections)
    np.testing.assert_array_equal(edit.latents, source.latents)
    np.testing.assert_array_equal(edit.pixels, source.pixels)


def test_the_default_is_eight_corrections_with_hold_and_none_without() -> None:
    direction = OFF.direction(attribute="size")
    actual = OFF.edit(sources(), direction, hold=HELD)
    expected = OFF.edit(sources(), direction, hold=HELD, corrections=8)
    np.testing.assert_array_equal(actual.pixels, expected.pixels)
    assert not np.array_equal(
        actual.pixels, OFF.edit(sources(), direction, hold=HELD, corrections=0).pixels
    )
    free = OFF.edit(sources(), direction)
    np.testing.assert_array_equal(free.latents, OFF.invert(free.target_features))


def test_an_edit_has_attributes_before_and_after() -> None:
    edit = EXACT.edit(sources(3), EXACT.direction(attribute="shade"))
    names, before, after = edit.attributes
    assert names == ("size", "tilt", "shade")
    np.testing.assert_array_equal(before, CoupledAttributes().measure(sources(3).pixels))
    np.testing.assert_array_equal(after, CoupledAttributes().measure(edit.pixels))
    for other in (
        EXACT.edit_latents(sources(3), np.ones(SIZE, np.float32)),
        EXACT.interpolate(sources(3), sources(3, 2), 0.5),
    ):
        np.testing.assert_array_equal(
            other.attributes.after, CoupledAttributes().measure(other.pixels)
        )


def test_directions_of_images_and_expressions_hold_attributes() -> None:
    model, pixels = EXACT.attributes, sources(8).pixels
    groups = {"more": pixels[:4], "less": pixels[4:]}
    expected = model.project_out(EXACT.direction(**groups), HELD)
    np.testing.assert_array_equal(EXACT.direction(**groups, hold=HELD), expected)
    parsed = EXACT.direction_from_expression(
        '2 * attribute("size") - attribute("shade")', hold="tilt"
    )
    summed = 2 * model.direction("size", "tilt") - model.direction("shade", "tilt")
    np.testing.assert_allclose(parsed, summed, atol=1e-6)
    np.testing.assert_allclose(
        EXACT.direction_from_expression('attribute("size")'), model.direction("size"), atol=1e-6
    )
    # A term is worth one sigma, with and without hold.
    assert model.weights[0] @ EXACT.direction_from_expression(
        'attribute("size")', hold=HELD
    ) == pytest.approx(1, 1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"hold": ("tlt",)}, "'tlt': there is size, tilt, shade"),
        ({"hold": "tilt", "corrections": -1}, "corrections = -1: give 0 or more"),
        ({"corrections": 1}, "corrections = 1: .* name attributes to hold"),
    ],
)
def test_misuse_of_hold_is_refused(arguments: dict[str, Any], says: str) -> None:
    direction = EXACT.direction(more=sources(9, 3).pixels, less=sources(9, 4).pixels)
    with pytest.raises(ConfigError, match=says):
        EXACT.edit(sources(1), direction, **arguments)


def test_corrections_measure_refined_images() -> None:
    """The effect of refinement on a held attribute is corrected as well."""

    class Refined(ToyEditor):
        def refine(self, latents: Any, target_features: Any, steps: int) -> Any:
            return latents + np.float32([0, 0.3 * steps, 0, 0, 0, 0])

    editor = Refined()
    source = sources(30)
    direction = editor.attributes.direction("size")
    off = {}
    for iterations in (0, 2):
        edit = editor.edit(source, direction, 1.0, hold=HELD, corrections=iterations, refine=1)
        off[iterations] = deviations(editor, edit).mean()
        np.testing.assert_array_equal(edit.pixels, editor.generate(edit.latents))
    assert off[0] > 0.15
    assert off[2] < 0.5 * off[0]


def test_a_map_without_attributes_explains_how_to_add_them() -> None:
    plain = ToyEditor()
    plain.attributes = None
    direction = np.ones(SIZE + 1, np.float32) / 10
    pixels = sources(2).pixels
    for attempt in (
        lambda: plain.edit(pixels, direction, hold=("tilt",)),
        lambda: plain.direction(attribute="tilt"),
        lambda: plain.direction(more=pixels[:1], less=pixels[1:], hold="tilt"),
        lambda: plain.direction_from_expression('attribute("tilt")'),
    ):
        with pytest.raises(ConfigError, match=r"no measured attributes; .*fit\.attributes"):
            attempt()
    assert plain.edit(pixels, direction).attributes is None


@pytest.fixture(scope="module")
def measured(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny line's map, fitted again with attributes."""
    root = tmp_path_factory.mktemp("measured") / "store"
    shutil.copytree(line.store.root, root)
    return fitted(line, Store(root), StrokeAttributes())


def fitted(line: Any, store: Store, attributes: Any) -> Path:
    settings = line.run.fit.model_copy(update={"attributes": attributes})
    run = line.run.model_copy(update={"fit": settings})
    return store.path(stages.fit_map(run, line.gan, line.bank, line.features, store))


def sealed(folder: Path) -> Path:
    (folder / "manifest.json").unlink()
    write_manifest(folder, "map", folder.name, "0", {}, 0.0)
    return folder


def test_attributes_change_the_maps_name_and_their_r2_is_on_the_card(
    measured: Path, line: Any
) -> None:
    assert measured.name != line.map.name
    assert not (line.map_folder / "attributes.json").exists()
    model = Editor.load(measured).attributes
    assert model is not None
    card = (measured / "README.md").read_text()
    for name, value in zip(model.names, model.r2, strict=True):
        assert f"| R2 of {name} on features | {value:.3f} " in card


def test_attributes_are_saved_and_loaded_with_a_map(measured: Path, line: Any) -> None:
    assert Editor.load(line.map_folder).attributes is None
    editor = Editor.load(measured)
    assert editor.attributes is not None
    assert editor.attributes.names == StrokeAttributes().names
    # Fitted on the training part of the bank only.
    part = len(np.load(line.store.path(line.bank) / "latents.npy")) - line.run.fit.held_out
    pixels = np.load(line.store.path(line.bank) / "pixels.npy")[:part]
    features = np.load(line.store.path(line.features) / "features.npy")[:part]
    expected = AttributeModel.fit_from_images(
        StrokeAttributes(), pixels, features, editor.statistics
    ).arrays()
    own = editor.attributes.arrays()
    assert own.pop("response").shape == (len(editor.attributes.names),) * 2
    for name, value in own.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-12)
    edit = editor.edit(editor.sample(3), editor.direction(attribute="ink"), 0.5, hold="height")
    assert edit.attributes is not None
    assert edit.attributes.after.shape == (3, 5)


def test_images_that_cannot_be_measured_are_refused_before_the_fit(
    line: Any, tmp_path: Path
) -> None:
    shutil.copytree(line.store.root, tmp_path / "store")
    store = Store(tmp_path / "store")
    before = store.refs()
    with pytest.raises(Incompatible, match="give RGB tiles"):
        fitted(line, store, TissueAttributes())
    assert store.refs() == before
    assert not list((tmp_path / "store").rglob("*.partial"))


def test_attributes_that_do_not_fit_the_map_are_refused(measured: Path, tmp_path: Path) -> None:
    def changed(name: str, old: str, new: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(measured, folder)
        path = folder / "attributes.json"
        path.write_text(path.read_text().replace(old, new))
        return sealed(folder)

    with pytest.raises(Incompatible, match="differently; fit the map again"):
        Editor.load(changed("renamed", '"ink"', '"inc"'))
    with pytest.raises(Incompatible, match="RGB"):
        folder = changed("tissue", '"strokes"', '"tissue"')
        described = json.loads((folder / "attributes.json").read_text())
        names = ["haematoxylin", "eosin", "nuclear_area", "nuclear_count", "lumen", "texture"]
        (folder / "attributes.json").write_text(json.dumps(described | {"names": names}))
        Editor.load(sealed(folder))
    folder = changed("none", "", "")
    (folder / "attributes.safetensors").write_bytes(
        (folder / "statistics.safetensors").read_bytes()
    )
    with pytest.raises(ArtifactCorrupt, match=r"attributes\.safetensors: the attributes' mean"):
        Editor.load(sealed(folder))
