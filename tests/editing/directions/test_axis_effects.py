"""Axes of a toy editor: by index, their measured effects and strips, and in expressions."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from controlgen import Editor
from controlgen.attributes import StrokeAttributes
from controlgen.editing.directions.axes import FAMILIES, Sefa
from controlgen.editing.directions.storage import load_direction
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ConfigError, DataError
from controlgen.evaluation.axes import (
    AMOUNTS,
    RANDOM,
    SCALE_SAMPLES,
    AxisProtocol,
    SampleAttributeScale,
    attribute_scale,
    evaluate_axis_family,
    random_axis,
)
from controlgen.metrics.bootstrap import mean_interval
from controlgen.regressors import RidgeConfig
from controlgen.rng import normals

UNUSED: Any = None
STRENGTHS = (0.05, 0.3, 0.1, 0.2)  # largest first: latents 2, 4, 3, 1


class Quarters(nn.Module):
    """Latent i sets the grey level of quarter i of a 4x4 image, scaled by its strength."""

    latent_size = 4

    def first_layer(self) -> Tensor:
        return torch.diag(torch.tensor(STRENGTHS))

    def first_activation(self, latents: Tensor) -> Tensor:
        return latents @ self.first_layer()

    first_stage = first_activation

    def forward(self, latents: Tensor) -> Tensor:
        quarters = self.first_activation(latents).reshape(-1, 1, 2, 2)
        return quarters.repeat_interleave(2, 2).repeat_interleave(2, 3)


class Grey:
    """Features: the means of the four quarters and a large constant, normalised."""

    size, fingerprint = 5, "grey"

    def embed(self, pixels: Any, batch_size: int = 256) -> Any:
        means = pixels.reshape(len(pixels), 2, 2, 2, 2).mean((2, 4)).reshape(-1, 4) / 255
        rows = np.concatenate([means, np.full((len(means), 1), 3.0)], axis=1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def editor() -> Editor:
    generator: Any = Quarters()
    space: Any = Grey()
    result = Editor(generator, space, UNUSED, UNUSED, (1, 4, 4))
    latents = normals(0, "bank", 0, 800, 4)
    features = result.embed(result.generate(latents))
    result.map = RidgeConfig(alpha=1e-9).build().fit(features, latents)
    result.statistics = FeaturePCA.fit(features)
    return result


def quarters_of(pixels: Any) -> Any:
    return pixels[:, 0, ::2, ::2].reshape(-1, 4).astype(float)


@pytest.mark.parametrize("family", ["sefa", "ganspace"])
@pytest.mark.parametrize(("index", "quarter"), [(1, 1), (2, 3), (3, 2), (4, 0)])
def test_latent_axis_brightens_its_quarter(
    editor: Editor, family: str, index: int, quarter: int
) -> None:
    axis = editor.axis(family, index)
    assert axis.latent is not None and axis.consistency is not None
    np.testing.assert_allclose(axis.latent, np.eye(4)[quarter], atol=0.06)
    assert axis.consistency > 0.97
    strengths = np.square(STRENGTHS)
    assert axis.share == pytest.approx(strengths[quarter] / strengths.sum(), abs=0.02)
    source = editor.sample(12, seed=3)
    before = quarters_of(source.pixels)
    # Along the latent and along the feature direction the same quarter brightens by one sigma.
    for edit in (
        editor.edit_latents(source, axis.latent, 1.0),
        editor.edit(source, axis.direction, 1.0, residual=True),
    ):
        change = (quarters_of(edit.pixels) - before).mean(0) / 127.5
        assert change.argmax() == quarter
        assert change[quarter] == pytest.approx(STRENGTHS[quarter], rel=0.15)
        assert np.abs(np.delete(change, quarter)).max() < 0.03


def test_pca_axes_have_feature_directions_only(editor: Editor) -> None:
    axis = editor.axis("pca", 1)
    assert axis.latent is None and axis.consistency is None
    source = editor.sample(12, seed=3)
    edit = editor.edit(source, axis.direction, 1.0, residual=True)
    change = (quarters_of(edit.pixels) - quarters_of(source.pixels)).mean(0)
    assert np.abs(change).argmax() == 1


def test_families_and_axes_are_computed_once(
    editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    original = Sefa.fit

    def fit(self: Sefa, *arguments: Any) -> Any:
        calls.append(self.kind)
        return original(self, *arguments)

    monkeypatch.setattr(Sefa, "fit", fit)
    fresh = Editor(editor.generator, editor.space, editor.map, editor.statistics, (1, 4, 4))
    first = fresh.axis("sefa", 2)
    assert fresh.axis("sefa", 2) is first and fresh.axis("sefa", 1) is not first
    assert calls == ["sefa"]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (0, 'axis("sefa", 0): axis indices start at 1'),
        (-1, 'axis("sefa", -1): axis indices start at 1'),
        (5, 'axis("sefa", 5): there are only 4 axes'),
        (1.5, 'axis("sefa", 1.5): an axis index is a whole number'),
        (True, 'axis("sefa", True): an axis index is a whole number'),
    ],
)
def test_invalid_index_is_rejected(editor: Editor, index: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        editor.axis("sefa", index)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_unknown_family_lists_the_families(editor: Editor) -> None:
    with pytest.raises(ConfigError, match="sefa, ganspace, pca"):
        editor.axis("ica", 1)
    assert set(FAMILIES) == {"sefa", "ganspace", "pca"}


PROTOCOL = AxisProtocol(axes=3, strips=2, sources=40, seed=5, bootstraps=200)


@pytest.fixture(scope="module")
def report(editor: Editor) -> Any:
    scale, scale_text = attribute_scale(editor, 5)
    return evaluate_axis_family(editor, "sefa", PROTOCOL, scale, scale_text)


def test_effects_equal_those_of_the_toy_generator(editor: Editor, report: Any) -> None:
    """One sigma along axis k brightens four pixels by half of its strength."""
    scale, _ = attribute_scale(editor, 5)
    assert isinstance(scale, SampleAttributeScale)
    sigma = dict(zip(scale.names, scale.spread, strict=True))["ink"]
    assert [effect.name for effect in report.effects] == ["1", "2", "3", RANDOM]
    for effect, latent in zip(report.effects[:3], (1, 3, 2), strict=True):
        ink = effect.changes["ink"]
        assert ink.mean * sigma == pytest.approx(4 * STRENGTHS[latent] / 2, rel=0.05)
        assert ink.low <= ink.mean <= ink.high and ink.n == 40
        assert effect.share == pytest.approx(STRENGTHS[latent] ** 2 / 0.1425)
        assert effect.consistency > 0.97
    shifted = [effect.feature_change.mean for effect in report.effects[:3]]
    assert shifted[0] > shifted[1] > shifted[2] > 0
    assert report.effects[3].share is None and report.available == 4


def test_effect_is_the_mean_of_symmetric_changes(editor: Editor, report: Any) -> None:
    scale, _ = attribute_scale(editor, 5)
    assert isinstance(scale, SampleAttributeScale)
    z = editor.sample(40, seed=5).latents
    axis = np.float32([0, 1, 0, 0])
    more, less = (StrokeAttributes().measure(editor.generate(z + sign * axis)) for sign in (1, -1))
    for at, name in enumerate(StrokeAttributes().names):
        values = (more - less)[:, at] / 2 / scale.spread[at]
        expected = mean_interval(values, 5, 200)
        np.testing.assert_allclose(report.effects[0].changes[name], expected, rtol=1e-9)


def test_strips_are_the_edited_samples(editor: Editor, report: Any) -> None:
    z = editor.sample(2, seed=5).latents
    assert len(report.strips) == 4
    for row, latent in enumerate((1, 3, 2)):
        assert len(report.strips[row]) == 2
        for source in range(2):
            moves = np.zeros((len(AMOUNTS), 4), np.float32)
            moves[:, latent] = AMOUNTS
            expected = editor.generate(z[source] + moves)
            np.testing.assert_array_equal(report.strips[row][source], expected)


def test_feature_axes_go_through_the_map(editor: Editor) -> None:
    actual = evaluate_axis_family(editor, "pca", AxisProtocol(axes=2, strips=2, sources=8, seed=5))
    assert not actual.latent and actual.effects[0].changes == {}
    source = editor.sample(2, seed=5)
    direction = editor.axis("pca", 2).direction
    for at, amount in enumerate(AMOUNTS):
        expected = editor.edit(source, direction, amount, residual=True).pixels
        got = np.stack([walk[at] for walk in actual.strips[1]])
        assert np.abs(got.astype(int) - expected).max() <= 1
    middle = np.stack([walk[AMOUNTS.index(0)] for walk in actual.strips[0]])
    np.testing.assert_array_equal(middle, source.pixels)
    assert "nothing" not in actual.markdown().splitlines()[0]


def test_random_axis_has_the_length_of_an_axis(editor: Editor) -> None:
    latent = random_axis(editor.axes.family("sefa"), editor.statistics, 3)
    assert np.linalg.norm(latent) == pytest.approx(1, rel=1e-5)
    statistics = editor.statistics
    features = random_axis(editor.axes.family("pca"), statistics, 3)
    for row in (features, *editor.axes.family("pca").vectors):
        along = statistics.components @ row
        assert (along**2 / statistics.variances).sum() == pytest.approx(1, rel=1e-3)
    assert statistics.explained_share(features) == pytest.approx(1, abs=1e-4)


def test_scale_uses_the_attributes_of_the_map(editor: Editor) -> None:
    model: Any = SimpleNamespace(names=("shade",))
    own = Editor(editor.generator, editor.space, UNUSED, UNUSED, (1, 4, 4), model)
    assert attribute_scale(own) == (model, "sigmas of the map's bank")
    colour = Editor(editor.generator, editor.space, UNUSED, UNUSED, (3, 4, 4))
    assert attribute_scale(colour)[0] is None
    _, words = attribute_scale(editor)
    assert f"{SCALE_SAMPLES} samples" in words


def test_table_states_n_seed_and_chance_level(report: Any) -> None:
    text = report.markdown()
    assert "3 of 4 axes" in text and "n 40 samples, seed 5" in text
    assert "about 0.16" in text  # 40 ** -0.5
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[0].split(" | ")[-5:] == ["ink", "thickness", "slant", "width", "height |"]
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 1", "| 2", "| 3", "| random"]


def test_row_text_names_significant_changes(report: Any) -> None:
    first = report.rows()[0]
    share, changes = first.summary.split("\n")
    assert share == "share 0.63, consistent 1.00"
    assert "ink +" in changes and changes.count(",") <= 1
    assert not report.rows()[3].summary.startswith("share")


def test_number_of_axes_is_limited_to_the_available(editor: Editor) -> None:
    progress: list[int] = []
    protocol = AxisProtocol(axes=9, strips=1, sources=2, bootstraps=10)
    actual = evaluate_axis_family(editor, "sefa", protocol, report=progress.append)
    assert [effect.name for effect in actual.effects] == ["1", "2", "3", "4", RANDOM]
    assert progress == [1, 2, 3, 4, 5]


def test_axes_and_saved_directions_work_in_expressions(
    line: Any, controlgen: Callable[..., Any], tmp_path: Path
) -> None:
    editor = Editor.load(line.map_folder)
    actual = editor.direction_from_expression('2 * axis("sefa", 1)')
    expected = editor.statistics.project(editor.axis("sefa", 1).direction)
    np.testing.assert_allclose(actual, 2 * expected, atol=1e-6)
    path = tmp_path / "eight.safetensors"
    eight = 'text("a digit eight") - text("a digit three")'
    answer = controlgen("direction", line.map_folder, eight, "-o", path)
    assert (answer.code, answer.err) == (0, ""), answer
    saved = load_direction(path, editor.space.fingerprint, editor.space.size)
    assert (saved.metadata.name, saved.metadata.made_by) == ("eight", eight)
    np.testing.assert_array_equal(saved.direction, editor.direction_from_expression(eight))
    # In an expression it is the same direction, and the recipe lists the file.
    query = editor.resolve(f'seed(3) + 1.5 * direction("{path}")')
    same = editor.resolve(f"seed(3) + 1.5 * ({eight})")
    np.testing.assert_allclose(query.direction, same.direction, atol=1e-6)
    assert list(query.files) == [str(path)]
    assert 0 < same.share < query.share == pytest.approx(1, abs=1e-3)
    with pytest.raises(ConfigError, match="column 1: axis.*start at 1"):
        editor.direction_from_expression('axis("sefa", 0)')
    with pytest.raises(DataError, match="column 5: .*no such file"):
        editor.direction_from_expression('2 * direction("none.safetensors")')
