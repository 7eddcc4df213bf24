"""`controlgen axes`: files, directions and mistakes."""

from functools import partial

import numpy as np
import pytest
from PIL import Image

from controlgen import Editor
from controlgen.cli import axes as axes_module
from controlgen.editing.directions.storage import load_direction


@pytest.fixture
def axes(controlgen, line):
    """Runs `controlgen axes ...` on the tiny map in this process."""
    return partial(controlgen, "axes", line.map, "--store", line.store.root)


def test_folder_holds_all_families_tables_and_directions(axes, line, tmp_path):
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

    # The files hold the editor's axes in its feature space.
    assert "6 directions" in out
    assert len(list(save.iterdir())) == 6
    editor = Editor.load(line.map_folder)
    for family, index in (("sefa", 2), ("pca", 1)):
        path = save / f"{family}-{index}.safetensors"
        direction, metadata = load_direction(path, editor.space.fingerprint, editor.space.size)
        np.testing.assert_allclose(direction, editor.axis(family, index).direction, atol=1e-6)
        assert (metadata.name, metadata.made_by) == (
            f"{family}-{index}",
            f'axis("{family}", {index})',
        )
        expected = editor.statistics.explained_share(direction)
        assert metadata.share_inside == pytest.approx(expected, abs=1e-5)


def test_one_family_writes_one_png(axes, tmp_path):
    output = tmp_path / "one.png"
    code, out, err = axes("-o", output, "--family", "sefa", "--n", 1)
    assert code == 0, err
    assert [p.name for p in tmp_path.iterdir()] == ["one.png"]
    assert "1 of 16 axes" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "a.png"], "choose it with --family"),
        (["-o", "a.jpg", "--family", "sefa"], "a folder, or a file that ends in .png"),
        (["-o", "out", "--family", "ica"], "choose from sefa, ganspace, pca"),
        (["-o", "taken"], "is no folder"),
        (["-o", "folder.png", "--family", "pca"], "is a folder"),
        (["-o", "no/where.png", "--family", "pca"], "does not exist"),
        (["-o", "out", "--save", "files.zip"], "--save files.zip: name a folder"),
        (["-o", "out", "--save", "taken"], "is no folder"),
    ],
)
def test_axes_mistake_is_rejected_before_any_computation(
    axes, tmp_path, monkeypatch, words, message
):
    def load(*arguments, **settings):
        raise AssertionError("a map was loaded")

    monkeypatch.setattr(axes_module.Editor, "load", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.iterdir())
    code, out, err = axes(*words)
    assert (code, out) == (2, "")
    assert message in err and err.startswith("controlgen: ") and err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
