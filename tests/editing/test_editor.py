"""Editor: samples by index, edits and their measures, identities, and refused arguments."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

import controlgen
from controlgen import Editor, stages
from controlgen.artifacts import Store
from controlgen.artifacts.store import write_manifest
from controlgen.editing import Samples, feature_math
from controlgen.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    ConfigError,
    ControlGenError,
    DataError,
    Incompatible,
)

EIGHT = 'text("a digit eight") - text("a digit three")'


@pytest.fixture(scope="module")
def real(line: Any) -> Any:
    return line.run.train.dataset.open().pixels(np.arange(12))


@pytest.fixture(scope="module")
def direction(editor: Editor, real: Any) -> Any:
    return editor.direction(more=real[:3], less=real[3:6])


def grey_levels_apart(a: Any, b: Any) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_sample_i_does_not_depend_on_the_number_of_samples(editor: Editor) -> None:
    many = editor.sample(300, seed=5)
    for index in (0, 7, 255, 256, 299):
        single = editor.sample(1, seed=5, start=index)
        np.testing.assert_array_equal(single.latents[0], many.latents[index])
        assert grey_levels_apart(single.pixels[0], many.pixels[index]) <= 1
    assert not np.array_equal(editor.sample(1, seed=6).latents, many.latents[:1])
    # Standard normal: 4 800 numbers, so the mean is off by 0.014 and the variance by 0.02.
    assert abs(many.latents.mean()) < 0.06
    assert abs(many.latents.var() - 1) < 0.1


def test_samples_are_the_banks_first_items(editor: Editor, line: Any) -> None:
    """A seed gives the same image in a stage and in an editor."""
    bank = line.store.path(line.bank)
    actual = editor.sample(20, seed=line.run.sample.seed)
    np.testing.assert_array_equal(actual.latents, np.load(bank / "latents.npy")[:20])
    assert grey_levels_apart(actual.pixels, np.load(bank / "pixels.npy")[:20]) <= 1


@pytest.mark.parametrize("kind", ["latents", "samples", "pixels"])
def test_a_residual_edit_of_amount_zero_is_exactly_the_identity(
    editor: Editor, direction: Any, real: Any, kind: str
) -> None:
    samples = editor.sample(9, seed=1)
    source = {"latents": samples.latents, "samples": samples, "pixels": real}[kind]
    edit = editor.edit(source, direction, amount=0.0, residual=True)
    np.testing.assert_array_equal(edit.latents, edit.source_latents)
    if kind == "pixels":
        np.testing.assert_array_equal(edit.source_pixels, real)
        np.testing.assert_array_equal(edit.pixels, editor.generate(edit.source_latents))
    else:
        np.testing.assert_array_equal(edit.source_latents, samples.latents)
        np.testing.assert_array_equal(edit.pixels, samples.pixels)
    shifted = editor.edit(source, direction, amount=1.0, residual=True)
    assert not np.array_equal(shifted.latents, shifted.source_latents)


@pytest.mark.parametrize("residual", [False, True])
def test_an_edit_has_target_latents_pixels_and_features(
    editor: Editor, direction: Any, residual: bool
) -> None:
    source = editor.sample(5, seed=2)
    edit = editor.edit(source, direction, amount=0.7, residual=residual)
    before = editor.space.embed(source.pixels)
    np.testing.assert_array_equal(edit.source_features, before)
    expected = before + np.float32(0.7) * direction
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(edit.target_features, expected, atol=1e-6)
    latents = editor.map.predict(edit.target_features)
    if residual:
        latents = source.latents + latents - editor.map.predict(before)
    np.testing.assert_allclose(edit.latents, latents, atol=1e-4)
    np.testing.assert_array_equal(edit.pixels, editor.generate(edit.latents))
    np.testing.assert_array_equal(edit.features, editor.space.embed(edit.pixels))
    # Both similarities, by hand.
    np.testing.assert_allclose(
        edit.target_similarity, (edit.target_features * edit.features).sum(1), atol=1e-5
    )
    changes = edit.target_features - before, edit.features - before
    lengths = [np.linalg.norm(change, axis=1) for change in changes]
    expected = (changes[0] * changes[1]).sum(1) / lengths[0] / lengths[1]
    np.testing.assert_allclose(edit.direction_similarity, expected, atol=1e-4)


def test_a_direction_from_groups_by_hand(editor: Editor, real: Any, line: Any) -> None:
    actual = editor.direction(more=real[:4], less=real[4:6])
    means = []
    for group in (real[:4], real[4:6]):
        row = editor.space.embed(group).mean(0)
        means.append(row / np.linalg.norm(row))
    # The part of the difference within the span of the bank's components.
    change = editor.statistics.project(means[0] - means[1])
    np.testing.assert_allclose(actual, change, atol=1e-6)
    assert np.linalg.norm(actual) > 1e-3
    np.testing.assert_allclose(actual, -editor.direction(more=real[4:6], less=real[:4]), atol=1e-6)


def test_a_direction_from_texts_is_the_expression_of_the_same_texts(editor: Editor) -> None:
    actual = editor.direction(text="a bold digit", neutral="a thin digit")
    assert actual.shape == (editor.space.size,)
    parsed = editor.direction_from_expression('text("a bold digit") - text("a thin digit")')
    np.testing.assert_allclose(actual, parsed, atol=1e-6)
    rows = editor.space.embed_text(["a bold digit", "a thin digit"])
    expected = editor.statistics.project(rows[0] - rows[1])
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    # Several texts of a side are averaged as unit features.
    several = editor.direction(text=["one", "two"], neutral="three")
    single, two, three = editor.space.embed_text(["one", "two", "three"])
    expected = editor.statistics.project((single + two) / np.linalg.norm(single + two) - three)
    np.testing.assert_allclose(several, expected, atol=1e-5)
    parsed = editor.direction_from_expression('text("one", "two") - text("three")')
    np.testing.assert_allclose(parsed, several, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "give text= and neutral=, or more= and less="),
        ({"text": "a"}, "give text="),
        ({"neutral": "a"}, "give text="),
        ({"more": "REAL"}, "give text="),
        ({"text": "a", "neutral": "b", "more": "REAL", "less": "REAL"}, "give text="),
        ({"text": "a", "less": "REAL"}, "give text="),
        ({"text": "", "neutral": "b"}, "empty or blank"),
        ({"text": "a", "neutral": "  "}, "empty or blank"),
        ({"text": [], "neutral": "b"}, "empty or blank"),
        ({"more": "REAL", "less": "NONE"}, "at least one image"),
        ({"more": "NONE", "less": "REAL"}, "at least one image"),
    ],
)
def test_misuse_of_direction_is_refused(
    editor: Editor, real: Any, arguments: dict[str, Any], says: str
) -> None:
    images = {"REAL": real[:2], "NONE": real[:0]}
    given = {
        key: images.get(value, value) if isinstance(value, str) else value
        for key, value in arguments.items()
    }
    with pytest.raises(ConfigError, match=says):
        editor.direction(**given)


def test_a_space_without_text_is_refused(line: Any, editor: Editor) -> None:
    class SpaceWithoutText:
        size = editor.space.size

    parts = (
        editor.generator,
        SpaceWithoutText(),
        editor.map,
        editor.statistics,
        editor.image_shape,
    )
    with pytest.raises(ConfigError, match="does not embed text; use groups"):
        Editor(*parts).direction(text="a", neutral="b")


def test_wrong_shapes_are_refused(editor: Editor, direction: Any, real: Any) -> None:
    z, d = editor.latent_size, editor.space.size
    latents = np.zeros((2, z), np.float32)
    refused: list[Any] = [
        lambda: editor.generate(np.zeros((2, z + 1), np.float32)),
        lambda: editor.generate(np.zeros(z, np.float32)),
        lambda: editor.invert(np.zeros((2, d + 1), np.float32)),
        lambda: editor.invert(np.zeros(d, np.float32)),
        lambda: editor.edit(latents, direction[:-1]),
        lambda: editor.edit(latents, direction[None]),
        lambda: editor.edit(latents, direction[:1]),
        lambda: editor.edit(np.zeros((2, z - 1), np.float32), direction),
        lambda: editor.edit(real.astype(np.float32), direction),
        lambda: editor.edit_latents(latents, np.zeros(z + 1, np.float32)),
        lambda: editor.edit_latents(latents, np.zeros(1, np.float32)),
    ]
    for attempt in refused:
        with pytest.raises(Incompatible):
            attempt()
    for amount in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="finite"):
            editor.edit(latents, direction, amount=amount)
        with pytest.raises(ConfigError, match="finite"):
            editor.edit_latents(latents, latents[0], amount=amount)
    for n, start in ((0, 0), (1, -1), (-3, 0)):
        with pytest.raises(ConfigError, match="sample"):
            editor.sample(n, start=start)


def test_real_images_are_given_as_pixels_or_files(
    editor: Editor, direction: Any, real: Any, tmp_path: Path
) -> None:
    edit = editor.edit(real, direction, amount=0.5)
    assert edit.pixels.shape == real.shape
    assert edit.pixels.dtype == np.uint8
    np.testing.assert_array_equal(edit.source_pixels, real)
    expected = editor.map.predict(editor.space.embed(real))
    np.testing.assert_allclose(edit.source_latents, expected, atol=1e-5)
    Image.fromarray(real[0, 0]).save(tmp_path / "real.png")
    parsed = editor.direction_from_expression(f'image("{tmp_path / "real.png"}")')
    project = editor.statistics.project
    np.testing.assert_allclose(parsed, project(editor.embed(real[:1])[0]), atol=1e-6)
    with pytest.raises(DataError, match="no such file"):
        editor.direction_from_expression('image("nothing.png")')


def test_read_only_arrays_are_accepted(editor: Editor, real: Any) -> None:
    """A memory-mapped bank is read only; torch would warn about it."""
    samples = editor.sample(2)
    for rows, function in ((samples.latents, editor.generate), (real, editor.embed)):
        frozen = rows.copy()
        frozen.flags.writeable = False
        np.testing.assert_array_equal(function(frozen), function(rows))


def test_edit_latents_adds_exactly(editor: Editor) -> None:
    source = editor.sample(4, seed=3)
    step = np.linspace(-1, 1, editor.latent_size, dtype=np.float32)
    edit = editor.edit_latents(source, step, amount=0.5)
    np.testing.assert_array_equal(edit.latents, source.latents + np.float32(0.5) * step)
    np.testing.assert_array_equal(edit.pixels, editor.generate(edit.latents))
    np.testing.assert_array_equal(edit.target_features, edit.features)
    nothing = editor.edit_latents(source, step, amount=0.0)
    np.testing.assert_array_equal(nothing.pixels, source.pixels)


def test_interpolation_reaches_both_ends(editor: Editor) -> None:
    start, end = editor.sample(3, seed=1), editor.sample(3, seed=2)
    for position, samples in ((0.0, start), (1.0, end)):
        target = editor.interpolate(start, end, position).target_features
        np.testing.assert_allclose(target, editor.embed(samples.pixels), atol=1e-5)
        result = editor.interpolate_latents(start.latents, end.latents, position)
        assert grey_levels_apart(result, samples.pixels) <= 1
    middle = editor.interpolate(start, end, 0.5).target_features
    np.testing.assert_allclose(np.linalg.norm(middle, axis=1), 1, atol=1e-5)
    halves = [
        feature_math.paired_cosine(middle, editor.embed(item.pixels)) for item in (start, end)
    ]
    np.testing.assert_allclose(halves[0], halves[1], atol=1e-4)


def test_differentiable_features_agree_with_those_of_pixels(editor: Editor) -> None:
    latents = editor.sample(4, seed=8).latents
    leaf = torch.from_numpy(latents).requires_grad_()
    features = editor.features_of_latents(leaf)
    of_pixels = editor.embed(editor.generate(latents))
    assert feature_math.paired_cosine(features.detach().numpy(), of_pixels).min() > 0.999
    (slope,) = torch.autograd.grad(features[0, 0], leaf)
    assert slope[0].abs().max() > 0
    assert slope[1:].abs().max() == 0


def test_a_loaded_map_has_the_arrays_on_disk(editor: Editor, line: Any) -> None:
    on_disk = load_file(line.map_folder / "generator.safetensors")
    in_memory = editor.generator.state_dict()
    assert on_disk.keys() == in_memory.keys()
    for name, value in on_disk.items():
        np.testing.assert_array_equal(value, in_memory[name].numpy())
    for name, value in load_file(line.map_folder / "map.safetensors").items():
        np.testing.assert_array_equal(value, editor.map.arrays()[name])
    assert isinstance(controlgen.Editor.load(str(line.map_folder)).sample(1), Samples)


def test_the_maps_own_generator_is_accepted_and_any_other_refused(
    line: Any, tmp_path: Path
) -> None:
    own = Editor.load(line.map_folder, generator=line.store.path(line.gan))
    assert own.image_shape == (1, 32, 32)
    shorter = line.run.train.model_copy(update={"total_images": 32})
    store = Store(tmp_path)
    other = stages.train_gan("other", shorter, store)
    with pytest.raises(Incompatible, match="fitted to another generator"):
        Editor.load(line.map_folder, generator=store.path(other))
    with pytest.raises(ArtifactMissing, match="holds no generator"):
        Editor.load(line.map_folder, generator=line.store.path(line.bank))


def resealed(folder: Path) -> Path:
    """Write a manifest for the folder as it is."""
    (folder / "manifest.json").unlink()
    write_manifest(folder, "map", folder.name, "0", {}, 0.0)
    return folder


def test_another_version_of_the_feature_space_is_refused(line: Any, tmp_path: Path) -> None:
    folder = tmp_path / "map"
    shutil.copytree(line.map_folder, folder)
    described = json.loads((folder / "space.json").read_text())
    described["weights"] = "0" * 12
    (folder / "space.json").write_text(json.dumps(described))
    with pytest.raises(Incompatible, match="another version of its feature space"):
        Editor.load(resealed(folder))


def test_other_folders_are_refused(line: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match="not a map"):
        Editor.load(line.store.path(line.gan))
    with pytest.raises(ArtifactMissing, match="no artifact there"):
        Editor.load(tmp_path / "nothing")
    folder = tmp_path / "map"
    shutil.copytree(line.map_folder, folder)
    weights = bytearray((folder / "map.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "map.safetensors").write_bytes(weights)
    with pytest.raises(ArtifactCorrupt, match=r"map\.safetensors: differs"):
        Editor.load(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("generator.json", {"channels": 3}),
        ("map.json", {"kind": "psychic"}),
        ("map.json", {"width": 64}),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(
    line: Any, tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    """Also where the manifest is valid."""
    folder = tmp_path / "map"
    shutil.copytree(line.map_folder, folder)
    described = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(described | change))
    with pytest.raises(ControlGenError):
        Editor.load(resealed(folder))


def test_an_expression_resolves_to_a_start_point_and_a_direction(line: Any, editor: Editor) -> None:
    actual = editor.resolve(f"seed(4, 2) + 1.5 * ({EIGHT})")
    assert actual.start == "4, sample 2"
    np.testing.assert_array_equal(actual.source, editor.sample(1, 4, 2).latents)
    np.testing.assert_allclose(
        actual.direction, 1.5 * editor.direction_from_expression(EIGHT), atol=1e-6
    )
    # Applying it is the edit along the direction, scaled by the amount.
    same = editor.edit(actual.source, editor.direction_from_expression(EIGHT), 3.0, residual=True)
    np.testing.assert_array_equal(editor.apply(actual, 2.0, residual=True).pixels, same.pixels)
    # A bank item equals the stored one.
    stored = np.load(line.store.path(line.bank) / "pixels.npy")
    item = editor.resolve("bank(3)")
    np.testing.assert_array_equal(editor.generate(item.source), stored[3:4])
    assert not item.direction.any()
    with pytest.raises(ConfigError, match=f"its items are 0 to {len(stored) - 1}"):
        editor.bank_items(len(stored), len(stored) + 1)


def test_an_expression_without_a_start_point_starts_from_the_average(editor: Editor) -> None:
    actual = editor.resolve("mean(seed(1), seed(2))")
    assert actual.start == "average"
    average = editor.statistics.mean / np.linalg.norm(editor.statistics.mean)
    np.testing.assert_allclose(actual.source, editor.invert(average[None]), atol=1e-4)
    # At amount 1 the target is the mean itself, within the span of the bank.
    features = editor.embed(np.concatenate([editor.sample(1, s).pixels for s in (1, 2)]))
    expected = features.mean(0) / np.linalg.norm(features.mean(0))
    edit = editor.apply(actual)
    start = edit.source_features[0]
    inside = start + editor.statistics.project(expected - start)
    np.testing.assert_allclose(edit.target_features[0], inside / np.linalg.norm(inside), atol=1e-5)


@pytest.mark.parametrize("expression", [EIGHT, "-seed(1)", "seed(1) / 2 - seed(2) / 2"])
def test_a_direction_is_not_an_image(editor: Editor, expression: str) -> None:
    assert editor.direction_from_expression(expression).any()
    with pytest.raises(ConfigError, match="add a start point"):
        editor.resolve(expression)
