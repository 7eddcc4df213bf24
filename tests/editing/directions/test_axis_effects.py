"""Axes of an editor: by number, what they do in a known world, pictures, and the command line."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from controlgen import Editor
from controlgen.attributes import Strokes
from controlgen.cli import axes as axes_module
from controlgen.editing.directions.axes import FAMILIES, Sefa
from controlgen.editing.directions.storage import load_direction
from controlgen.editing.feature_pca import Statistics
from controlgen.errors import ConfigError, DataError
from controlgen.evaluation.axes import (
    AMOUNTS,
    RANDOM,
    RULED_BY,
    SampleRuler,
    Trial,
    random_axis,
    ruler_of,
    try_family,
)
from controlgen.metrics.bootstrap import interval
from controlgen.regressors import Ridge
from controlgen.rng import normals

UNUSED: Any = None
STRENGTHS = (0.05, 0.3, 0.1, 0.2)  # largest first: latents 2, 4, 3, 1


class Quarters(nn.Module):
    """Latent i moves the grey level of quarter i of a 4x4 picture, each by its strength."""

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
    """Features: the four quarters' means beside a large constant, at unit length."""

    size, fingerprint = 5, "grey"

    def embed(self, pixels: Any, batch_size: int = 256) -> Any:
        means = pixels.reshape(len(pixels), 2, 2, 2, 2).mean((2, 4)).reshape(-1, 4) / 255
        rows = np.concatenate([means, np.full((len(means), 1), 3.0)], axis=1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def editor() -> Editor:
    generator: Any = Quarters()
    space: Any = Grey()
    made = Editor(generator, space, UNUSED, UNUSED, (1, 4, 4))
    latents = normals(0, "bank", 0, 800, 4)
    features = made.embed(made.generate(latents))
    made.map = Ridge(alpha=1e-9).build().fit(features, latents)
    made.statistics = Statistics.of(features)
    return made


def quarters_of(pixels: Any) -> Any:
    return pixels[:, 0, ::2, ::2].reshape(-1, 4).astype(float)


@pytest.mark.parametrize("family", ["sefa", "ganspace"])
@pytest.mark.parametrize(("index", "quarter"), [(1, 1), (2, 3), (3, 2), (4, 0)])
def test_a_latent_axis_moves_its_quarter_in_latents_and_in_features(
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
    # By latents and by features: the same quarter gets brighter, by about one sigma of its own.
    for edit in (
        editor.edit_latents(source, axis.latent, 1.0),
        editor.edit(source, axis.direction, 1.0, residual=True),
    ):
        change = (quarters_of(edit.pixels) - before).mean(0) / 127.5
        assert change.argmax() == quarter
        assert change[quarter] == pytest.approx(STRENGTHS[quarter], rel=0.15)
        assert np.abs(np.delete(change, quarter)).max() < 0.03


def test_pca_axes_are_asked_for_in_features(editor: Editor) -> None:
    axis = editor.axis("pca", 1)
    assert axis.latent is None and axis.consistency is None
    source = editor.sample(12, seed=3)
    edit = editor.edit(source, axis.direction, 1.0, residual=True)
    change = (quarters_of(edit.pixels) - quarters_of(source.pixels)).mean(0)
    assert np.abs(change).argmax() == 1


def test_families_and_axes_are_found_once(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    plain = Sefa.find

    def find(self: Sefa, *arguments: Any) -> Any:
        counted.append(self.kind)
        return plain(self, *arguments)

    monkeypatch.setattr(Sefa, "find", find)
    fresh = Editor(editor.generator, editor.space, editor.map, editor.statistics, (1, 4, 4))
    first = fresh.axis("sefa", 2)
    assert fresh.axis("sefa", 2) is first and fresh.axis("sefa", 1) is not first
    assert counted == ["sefa"]


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (0, 'axis("sefa", 0): axes are counted from 1'),
        (-1, 'axis("sefa", -1): axes are counted from 1'),
        (5, 'axis("sefa", 5): there are 4 of them'),
        (1.5, 'axis("sefa", 1.5): axes are counted in whole numbers from 1'),
        (True, 'axis("sefa", True): axes are counted in whole numbers from 1'),
    ],
)
def test_an_index_that_there_is_not_is_refused(editor: Editor, index: Any, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        editor.axis("sefa", index)
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_an_unknown_family_names_those_that_there_are(editor: Editor) -> None:
    with pytest.raises(ConfigError, match="sefa, ganspace, pca"):
        editor.axis("ica", 1)
    assert set(FAMILIES) == {"sefa", "ganspace", "pca"}


# --- effects and pictures ---

TRIAL = Trial(axes=3, pictured=2, sources=40, seed=5, bootstraps=200)


@pytest.fixture(scope="module")
def report(editor: Editor) -> Any:
    ruler, ruled_by = ruler_of(editor, 5)
    return try_family(editor, "sefa", TRIAL, ruler, ruled_by)


def test_effects_are_those_of_the_known_world(editor: Editor, report: Any) -> None:
    """One sigma along axis k brightens four pixels by its strength, half of full white's span."""
    ruler, _ = ruler_of(editor, 5)
    assert isinstance(ruler, SampleRuler)
    sigma = dict(zip(ruler.names, ruler.spread, strict=True))["ink"]
    assert [effect.name for effect in report.effects] == ["1", "2", "3", RANDOM]
    for effect, latent in zip(report.effects[:3], (1, 3, 2), strict=True):
        ink = effect.changes["ink"]
        assert ink.mean * sigma == pytest.approx(4 * STRENGTHS[latent] / 2, rel=0.05)
        assert ink.low <= ink.mean <= ink.high and ink.n == 40
        assert effect.share == pytest.approx(STRENGTHS[latent] ** 2 / 0.1425)
        assert effect.consistency > 0.97
    moved = [effect.moved.mean for effect in report.effects[:3]]
    assert moved[0] > moved[1] > moved[2] > 0
    assert report.effects[3].share is None and report.known == 4


def test_an_effect_is_the_mean_of_symmetric_changes_with_its_interval(
    editor: Editor, report: Any
) -> None:
    ruler, _ = ruler_of(editor, 5)
    assert isinstance(ruler, SampleRuler)
    z = editor.sample(40, seed=5).latents
    axis = np.float32([0, 1, 0, 0])
    more, less = (Strokes().measure(editor.generate(z + sign * axis)) for sign in (1, -1))
    for at, name in enumerate(Strokes().names):
        values = (more - less)[:, at] / 2 / ruler.spread[at]
        wanted = interval(values, 5, 200)
        np.testing.assert_allclose(report.effects[0].changes[name], wanted, rtol=1e-9)


def test_pictures_are_the_samples_moved(editor: Editor, report: Any) -> None:
    z = editor.sample(2, seed=5).latents
    assert len(report.walks) == 4
    for row, latent in enumerate((1, 3, 2)):
        assert len(report.walks[row]) == 2
        for source in range(2):
            moves = np.zeros((len(AMOUNTS), 4), np.float32)
            moves[:, latent] = AMOUNTS
            wanted = editor.generate(z[source] + moves)
            np.testing.assert_array_equal(report.walks[row][source], wanted)


def test_axes_of_features_are_walked_through_the_map(editor: Editor) -> None:
    found = try_family(editor, "pca", Trial(axes=2, pictured=2, sources=8, seed=5))
    assert not found.latent and found.effects[0].changes == {}
    source = editor.sample(2, seed=5)
    direction = editor.axis("pca", 2).direction
    for at, amount in enumerate(AMOUNTS):
        wanted = editor.edit(source, direction, amount, residual=True).pixels
        got = np.stack([walk[at] for walk in found.walks[1]])
        assert np.abs(got.astype(int) - wanted).max() <= 1
    middle = np.stack([walk[AMOUNTS.index(0)] for walk in found.walks[0]])
    np.testing.assert_array_equal(middle, source.pixels)
    assert "nothing" not in found.markdown().splitlines()[0]


def test_a_random_axis_is_as_long_as_an_axis(editor: Editor) -> None:
    latent = random_axis(editor.axes.family("sefa"), editor.statistics, 3)
    assert np.linalg.norm(latent) == pytest.approx(1, rel=1e-5)
    statistics = editor.statistics
    features = random_axis(editor.axes.family("pca"), statistics, 3)
    for row in (features, *editor.axes.family("pca").rows):
        along = statistics.components @ row
        assert (along**2 / statistics.variances).sum() == pytest.approx(1, rel=1e-3)
    assert statistics.share_inside(features) == pytest.approx(1, abs=1e-4)


def test_what_is_measured_is_the_maps_where_it_has_attributes(editor: Editor) -> None:
    model: Any = SimpleNamespace(names=("shade",))
    own = Editor(editor.generator, editor.space, UNUSED, UNUSED, (1, 4, 4), model)
    assert ruler_of(own) == (model, "sigmas of the map's bank")
    colour = Editor(editor.generator, editor.space, UNUSED, UNUSED, (3, 4, 4))
    assert ruler_of(colour)[0] is None
    _, words = ruler_of(editor)
    assert f"{RULED_BY} samples" in words


def test_the_table_states_n_seed_and_chance(report: Any) -> None:
    text = report.markdown()
    assert "3 of 4 axes" in text and "n 40 samples, seed 5" in text
    assert "about 0.16" in text  # 40 ** -0.5
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[0].split(" | ")[-5:] == ["ink", "thickness", "slant", "width", "height |"]
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 1", "| 2", "| 3", "| random"]


def test_words_beside_a_row_name_what_clearly_moves(report: Any) -> None:
    first = report.rows()[0]
    share, changes = first.words.split("\n")
    assert share == "share 0.63, consistent 1.00"
    assert "ink +" in changes and changes.count(",") <= 1
    assert not report.rows()[3].words.startswith("share")


# --- the command line ---------------------------------------------------------------------------


@pytest.fixture
def axes(controlgen, line):
    """Runs `controlgen axes ...` on the tiny map in this process."""
    return partial(controlgen, "axes", line.map, "--store", line.store.root)


def test_a_folder_holds_every_family_its_tables_and_directions(axes, line, tmp_path):
    output, save = tmp_path / "axes", tmp_path / "files"
    code, out, err = axes("-o", output, "--n", 2, "--seed", 3, "--save", save)
    assert code == 0, err
    assert {p.name for p in output.iterdir()} == {
        "axes.md",
        "ganspace.png",
        "pca.png",
        "sefa.png",
    }
    text = (output / "axes.md").read_text()
    for family in ("sefa", "ganspace", "pca"):
        assert f"### {family}: 2 of" in text and f"### {family}: 2 of" in out
        with Image.open(output / f"{family}.png") as opened:
            assert opened.text["synthetic"] == "true"
            assert opened.text["model"].endswith(str(line.map))
            assert opened.text["seed"] == "3"

    # The files are the editor's own axes, in the editor's own space.
    assert "6 directions" in out
    assert len(list(save.iterdir())) == 6
    editor = Editor.load(line.map_folder)
    for family, index in (("sefa", 2), ("pca", 1)):
        path = save / f"{family}-{index}.safetensors"
        direction, note = load_direction(path, editor.space.fingerprint, editor.space.size)
        np.testing.assert_allclose(direction, editor.axis(family, index).direction, atol=1e-6)
        assert (note.name, note.made_by) == (f"{family}-{index}", f'axis("{family}", {index})')
        wanted = editor.statistics.share_inside(direction)
        assert note.share_inside == pytest.approx(wanted, abs=1e-5)


def test_one_family_makes_one_png(axes, tmp_path):
    output = tmp_path / "one.png"
    code, out, err = axes("-o", output, "--family", "sefa", "--n", 1)
    assert code == 0, err
    assert [p.name for p in tmp_path.iterdir()] == ["one.png"]
    assert "1 of 16 axes" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "a.png"], "name it with --family"),
        (["-o", "a.jpg", "--family", "sefa"], "a folder, or a file that ends in .png"),
        (["-o", "out", "--family", "ica"], "there is sefa, ganspace, pca"),
        (["-o", "taken"], "is no folder"),
        (["-o", "folder.png", "--family", "pca"], "is a folder"),
        (["-o", "no/where.png", "--family", "pca"], "does not exist"),
        (["-o", "out", "--save", "files.zip"], "--save files.zip: name a folder"),
        (["-o", "out", "--save", "taken"], "is no folder"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_computed(
    axes, tmp_path, monkeypatch, words, says
):
    def load(*arguments, **settings):
        raise AssertionError("a map was opened")

    monkeypatch.setattr(axes_module.Editor, "load", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.iterdir())
    code, out, err = axes(*words)
    assert (code, out) == (2, "")
    assert says in err and err.startswith("controlgen: ") and err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_no_more_axes_are_walked_than_there_are(editor: Editor) -> None:
    heard: list[int] = []
    trial = Trial(axes=9, pictured=1, sources=2, bootstraps=10)
    found = try_family(editor, "sefa", trial, report=heard.append)
    assert [effect.name for effect in found.effects] == ["1", "2", "3", "4", RANDOM]
    assert heard == [1, 2, 3, 4, 5]


def test_axes_and_kept_directions_are_words_of_the_language(
    line: Any, controlgen: Callable[..., Any], tmp_path: Path
) -> None:
    editor = Editor.load(line.map_folder)
    found = editor.parse('2 * axis("sefa", 1)')
    wanted = editor.statistics.project(editor.axis("sefa", 1).direction)
    np.testing.assert_allclose(found, 2 * wanted, atol=1e-6)
    path = tmp_path / "eight.safetensors"
    eight = 'text("a digit eight") - text("a digit three")'
    told = controlgen("direction", line.map_folder, eight, "-o", path)
    assert (told.code, told.err) == (0, ""), told
    kept = load_direction(path, editor.space.fingerprint, editor.space.size)
    assert (kept.note.name, kept.note.made_by) == ("eight", eight)
    np.testing.assert_array_equal(kept.direction, editor.parse(eight))
    # As a word it is the same change, and an edit made with it remembers the file.
    query = editor.query(f'seed(3) + 1.5 * direction("{path}")')
    same = editor.query(f"seed(3) + 1.5 * ({eight})")
    np.testing.assert_allclose(query.direction, same.direction, atol=1e-6)
    assert list(query.files) == [str(path)]
    assert 0 < same.share < query.share == pytest.approx(1, abs=1e-3)
    with pytest.raises(ConfigError, match="column 1: axis.*counted from 1"):
        editor.parse('axis("sefa", 0)')
    with pytest.raises(DataError, match="column 5: .*no such file"):
        editor.parse('2 * direction("none.safetensors")')
