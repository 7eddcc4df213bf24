"""Figures: readable PNGs with provenance, and no other files."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from controlgen import figures
from controlgen.figures import style
from controlgen.rng import stream
from training_curves import GOOD

PROVENANCE = {"model": "toy", "seed": 3, "recipe": {"amount": 1.5}}


def pictures(n, channels=1):
    return stream(0, "pictures", n).integers(0, 256, (n, channels, 16, 16)).astype(np.uint8)


def history(n=200):
    names = ("critic_loss", "generator_loss", "gap", "penalty")
    values = stream(1, "history").random((n, 4))
    return [
        {"images_seen": 64 * i, **dict(zip(names, row, strict=True))}
        for i, row in enumerate(values)
    ]


FIGURES = {
    "losses": lambda path: figures.loss_curves(path, history(), PROVENANCE),
    "one-step": lambda path: figures.loss_curves(path, history(1), PROVENANCE),
    "samples": lambda path: figures.sample_grid(path, pictures(40), PROVENANCE, title="Samples"),
    "colour": lambda path: figures.sample_grid(path, pictures(5, 3), PROVENANCE, columns=4),
    "inversion": lambda path: figures.inversion_strips(
        path, {"target": pictures(6), "a map": pictures(6), "slow": pictures(3)}, PROVENANCE
    ),
    "edit": lambda path: figures.edit_strip(
        path, pictures(3), ["source", "0.5", "1"], PROVENANCE, title="three to eight"
    ),
    "figure3": lambda path: figures.class_edit_grid(
        path,
        [figures.Block("a to b", pictures(1), {"map": pictures(3), "other": pictures(3)})] * 3,
        [0.5, 1, 2],
        PROVENANCE,
    ),
    "curves": lambda path: figures.flip_curves(
        path, {"map": [figures.Point(x, x / 2, x / 3, x / 1.9) for x in (0.5, 1)]}, PROVENANCE
    ),
    "axes": lambda path: figures.axis_sheet(
        path,
        [figures.AxisRow(str(i), "share .2\n$ink", [pictures(5), pictures(5)]) for i in (1, 2)],
        (-2, -1, 0, 1, 2),
        PROVENANCE,
        "sefa: $two",
        "words " * 40,
    ),
    "matrix": lambda path: figures.flip_matrix(
        path, [[None, 0.5], [1.0, None]], ["a", "b"], PROVENANCE
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_a_png_with_provenance(name, tmp_path):
    path = tmp_path / f"{name}.png"
    FIGURES[name](path)
    with Image.open(path) as picture:
        assert picture.text["synthetic"] == "true"
        assert picture.text["seed"] == "3"
        assert picture.text["recipe"] == '{"amount": 1.5}'
        levels = np.asarray(picture.convert("L"))
    assert min(levels.shape) > 100
    assert levels.min() < 80 < 240 < levels.max()
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_sample_grid_contains_the_images(tmp_path):
    # White cells on a black sheet: the share of white pixels is the share of white cells.
    cells = np.zeros((16, 1, 16, 16), np.uint8)
    cells[:4] = 255
    figures.sample_grid(tmp_path / "grid.png", cells, PROVENANCE, columns=4)
    dark = np.asarray(Image.open(tmp_path / "grid.png").convert("L")) < 20
    rows, columns = np.nonzero(dark)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert height / width == pytest.approx(3 / 4, abs=0.03)
    assert dark.sum() / (height * width) > 0.85


def test_smooth_keeps_a_straight_line():
    line = np.linspace(0, 5, 300)
    np.testing.assert_allclose(style.smooth(line), line, atol=0.03)
    noise = stream(2, "noise").normal(size=1000)
    assert style.smooth(noise).std() < 0.4


def test_figures_do_not_import_pyplot():
    code = "import sys, controlgen.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_diagnostics_show_the_drift_and_the_gap(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        "controlgen.figures.convergence.save_png", lambda figure, *_: saved.append(figure)
    )
    rows = [
        {**vars(GOOD), "images_seen": 1000 * k, "critic_real": 1.0 - k, "critic_fake": 0.8 - k}
        for k in range(6)
    ]
    figures.training_diagnostics(tmp_path / "none.png", {"run": [rows]}, {})
    lines = {axes.get_title(loc="left"): axes.lines[0] for axes in saved[0].axes}
    assert len(lines) == 9
    drift = lines["critic: output at reals (its drift)"]
    np.testing.assert_array_equal(drift.get_xdata(), range(6))
    np.testing.assert_array_equal(drift.get_ydata(), [1, 0, -1, -2, -3, -4])
    # The drift cancels in the gap.
    gap = lines["critic: output at reals - at samples"].get_ydata()
    np.testing.assert_allclose(gap, 0.2)
