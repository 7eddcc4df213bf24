"""`controlgen project`: the table and picture of projected images."""

import re
from functools import partial

import numpy as np
import pytest
from PIL import Image

from controlgen.datasets import Digits
from controlgen.editing import Editor
from controlgen.metrics.inversion import paired_cosine


@pytest.fixture
def project(controlgen):
    """Runs `controlgen project ...` in this process: exit code, stdout, stderr."""
    return partial(controlgen, "project")


def save(folder, pixels):
    folder.mkdir()
    for at, image in enumerate(pixels):
        Image.fromarray(image[0]).save(folder / f"{at:02d}.png")
    return folder


def test_project_prints_similarity_of_projections(project, line, tmp_path):
    editor = Editor.load(line.store.path(line.map))
    data = Digits().open()
    pixels = data.pixels(np.arange(5))
    folder = save(tmp_path / "images", pixels)
    output = tmp_path / "out.png"
    code, out, err = project(line.map, folder, "--store", line.store.root, "-o", output)
    assert (code, err) == (0, "")
    assert "5 images" in out

    # The first number of the first row is the mean cosine of image and projection.
    features = editor.embed(pixels)
    expected = paired_cosine(
        features, editor.embed(editor.generate(editor.invert(features)))
    ).mean()
    row = next(text for text in out.splitlines() if text.startswith("real, projected"))
    assert float(re.findall(r"-?[0-9.]+", row)[0]) == pytest.approx(expected, abs=6e-4)
    assert "real, an unrelated real image" in out
    with Image.open(output) as opened:
        assert opened.text["synthetic"] == "in part"
        assert opened.text["real"] == "upper row, from images"


def test_single_image_has_no_unrelated_pair(project, line, tmp_path):
    data = Digits().open()
    folder = save(tmp_path / "images", data.pixels(np.arange(1)))
    command = [line.map, folder / "00.png", "--store", line.store.root, "-o", tmp_path / "out.png"]
    code, out, err = project(*command)
    assert (code, err) == (0, "")
    assert "1 images" in out and "unrelated" not in out


def test_folder_without_images_prints_one_line(project, line, tmp_path):
    (tmp_path / "none").mkdir()
    for name, why in (("none", "holds no image file"), ("nowhere", "no such folder")):
        command = [line.map, tmp_path / name, "--store", line.store.root, "-o", tmp_path / "o.png"]
        code, out, err = project(*command)
        assert (code, out) == (2, "")
        assert why in err and len(err.splitlines()) == 1
    assert not (tmp_path / "o.png").exists()
