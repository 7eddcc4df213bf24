"""`controlgen edit`: output, pictures and mistakes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_lines import TO_EIGHT, assert_rejected
from controlgen import Editor, __version__
from controlgen.attributes import StrokeAttributes
from controlgen.editing import rendering
from controlgen.features import EfficientNetLite0Config
from controlgen.figures import edit_strip
from controlgen.metrics.inversion import paired_cosine


def test_edit_writes_a_strip_with_provenance(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path
) -> None:
    output = tmp_path / "edit.png"
    command = ["edit", line.map, "--store", line.store.root, "--seed", 7, "--add", TO_EIGHT]
    answer = controlgen(*command, "--amount", 1.5, "--steps", 3, "-o", output)
    assert answer.code == 0, answer.err
    assert answer.err == ""
    assert "agreement" in answer.out
    with Image.open(output) as opened:
        chunks = opened.text  # type: ignore[attr-defined]
        assert opened.format == "PNG"
        picture = np.asarray(opened.convert("L"))
    assert chunks["synthetic"] == "true"
    assert str(line.map_folder) in chunks["model"]
    assert chunks["seed"] == "7"
    recipe = json.loads(chunks["recipe"])
    assert recipe["expression"] == f"seed(7) + ({TO_EIGHT.replace('-', ' - ')})"
    assert (recipe["amount"], recipe["steps"]) == (1.5, 3)
    assert chunks["version"] == __version__
    assert picture.shape[1] > 2 * picture.shape[0]  # source, three steps
    assert picture.std() > 5
    # The same command writes the same picture, another seed a different one.
    again = tmp_path / "again.png"
    controlgen(*command, "--amount", 1.5, "--steps", 3, "-o", again)
    assert again.read_bytes() == output.read_bytes()
    command[command.index(7)] = 8
    controlgen(*command, "--amount", 1.5, "--steps", 3, "-o", again)
    assert again.read_bytes() != output.read_bytes()


def test_edit_of_an_image_file(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path, recwarn: Any
) -> None:
    pixels = line.run.train.dataset.open().pixels(np.array([3]))
    Image.fromarray(pixels[0, 0]).convert("RGB").resize((50, 50)).save(tmp_path / "mine.jpg")
    output = tmp_path / "out.PNG"
    answer = controlgen(
        *("edit", line.map_folder, "--image", tmp_path / "mine.jpg", "--steps", 1),
        *("--add", f'text("$1$ $\\\\frac{{$") - image("{tmp_path / "mine.jpg"}")'),
        *("--residual", "--generator", line.store.path(line.gan), "-o", output),
    )
    assert answer.code == 0, answer.err
    with Image.open(output) as opened:
        chunks = opened.text  # type: ignore[attr-defined]
    assert chunks["seed"] == "image mine.jpg"
    assert json.loads(chunks["recipe"])["residual"] is True
    # The provenance marks the first picture as real.
    assert chunks["synthetic"] == "in part"
    assert chunks["real"] == "the first picture, image mine.jpg"


def test_edit_of_an_image_shows_and_reports_its_projection(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: dict[str, Any] = {}

    def strip(path: Any, pixels: Any, labels: Any, provenance: Any, title: str) -> None:
        saved.update(pixels=pixels, labels=labels)
        edit_strip(path, pixels, labels, provenance, title)

    monkeypatch.setattr(rendering, "edit_strip", strip)
    pixels = line.run.train.dataset.open().pixels(np.array([3]))
    Image.fromarray(pixels[0, 0]).save(tmp_path / "mine.png")
    command = ["edit", line.map_folder, f'image("{tmp_path / "mine.png"}") + ({TO_EIGHT})']
    answer = controlgen(*command, "--steps", 2, "-o", tmp_path / "strip.png")
    assert (answer.code, answer.err) == (0, "")

    # The projection follows the source; the numbers are those of `project`.
    editor = Editor.load(line.map_folder)
    projected = editor.generate(editor.invert(editor.embed(pixels)))
    assert saved["labels"] == ["source", "projected", "0.5", "1"]
    np.testing.assert_array_equal(saved["pixels"][:2], np.concatenate([pixels, projected]))
    audit = EfficientNetLite0Config(image_size=128).open()
    cosine = paired_cosine(audit.embed(pixels), audit.embed(projected))[0]
    message = [text for text in answer.out.splitlines() if "as the model reconstructs it" in text]
    assert len(message) == 1 and f"audit cosine {cosine:.3f} " in message[0], answer.out

    # The strip's recipe repeats it; the result alone is fully synthetic.
    controlgen("edit", "--recipe", tmp_path / "strip.png", "-o", tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "strip.png").read_bytes()
    answer = controlgen(*command, "--plain", "-o", tmp_path / "plain.png")
    assert "as the model reconstructs it" in answer.out
    with Image.open(tmp_path / "plain.png") as opened:
        assert opened.text["synthetic"] == "true"  # type: ignore[attr-defined]
    answer = controlgen(*command[:2], f"seed(1) + ({TO_EIGHT})", "-o", tmp_path / "seed.png")
    assert "as the model reconstructs it" not in answer.out


@pytest.fixture(scope="module")
def measured_map(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's map, fitted again with measured attributes."""
    root = tmp_path_factory.mktemp("measured") / "store"
    return Path(line.refitted(root, attributes={"kind": "strokes"}))


def test_edit_by_attribute_prints_measurements(
    controlgen: Callable[..., Any], measured_map: Path, line: Any, tmp_path: Path
) -> None:
    output = tmp_path / "edit.png"
    command = ["edit", measured_map, "--seed", 4, "--steps", 2, "-o", output]
    answer = controlgen(
        *command, "--add", 'attribute("ink") - 0.5*attribute("slant")', "--hold", "width, height"
    )
    assert (answer.code, answer.err) == (0, "")
    with Image.open(output) as opened:
        recipe = json.loads(opened.text["recipe"])  # type: ignore[attr-defined]
    assert recipe["expression"].endswith(' + hold("width", "height")')
    header, *lines = answer.out.split("\n\n")[1].splitlines()
    assert header.split() == ["measured", "before", "after", "sigmas"]
    rows = {item.split()[0]: item.split()[1:] for item in lines}
    assert tuple(rows) == StrokeAttributes().names
    assert [name for name, row in rows.items() if row[-1] == "held"] == ["width", "height"]

    # The numbers agree with the same edit in Python.
    editor = Editor.load(measured_map)
    assert editor.attributes is not None
    direction = editor.direction_from_expression(
        'attribute("ink")-attribute("slant")/2', hold=("width", "height")
    )
    source = editor.sample(1, 4).latents
    edit = editor.edit(source, direction, hold=("width", "height"))
    assert edit.attributes is not None
    expected = np.stack([edit.attributes.before[0], edit.attributes.after[0]], 1)
    actual = np.array([[float(number) for number in row[:2]] for row in rows.values()])
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)
    change = (expected[:, 1] - expected[:, 0]) / editor.attributes.spread
    sigmas = [float(row[2]) for row in rows.values()]
    np.testing.assert_allclose(sigmas, change, atol=0.006)

    # A map without attributes prints none.
    answer = controlgen("edit", line.map_folder, "--add", TO_EIGHT, "-o", output)
    assert (answer.code, "measured" in answer.out) == (0, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--add", 'attribute("inc")'), "column 11: unknown attribute 'inc', did you mean 'ink'?"),
        (("--add", TO_EIGHT, "--hold", "ink,,slant"), "a name is blank"),
        (("--add", TO_EIGHT, "--hold", "ink,ink"), "name each one once"),
        (("--add", 'attribute("ink")', "--hold", "slant,ink"), "cannot change and be held"),
        (("--add", 'mean(attribute("ink"))'), "mean takes images here; add directions outside"),
    ],
)
def test_attribute_mistake_prints_one_line(
    controlgen: Callable[..., Any],
    measured_map: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    message: str,
) -> None:
    assert_rejected(controlgen("edit", measured_map, *options, "-o", tmp_path / "a.png"), message)
    assert list(tmp_path.iterdir()) == []


def test_edit_without_output_suggests_one(
    controlgen: Callable[..., Any], measured_map: Path
) -> None:
    assert_rejected(controlgen("edit", measured_map, "--seed", 4), "as in -o edit.png")


@pytest.mark.parametrize("kind", ["cycle-mlp", "flow"])
def test_candidates_are_drawn_best_first(
    kind: str, controlgen: Callable[..., Any], line: Any, tmp_path: Path
) -> None:
    output, folder = tmp_path / "answers.png", line.map_folder
    if kind == "flow":
        quick = {"kind": kind, "width": 32, "depth": 1, "match_steps": 60, "cycle_steps": 0}
        folder = line.refitted(tmp_path / "store", map=quick)
    answer = controlgen("edit", folder, f"seed(3) + {TO_EIGHT}", "--answers", 3, "-o", output)
    assert (answer.code, answer.err) == (0, ""), answer
    again = tmp_path / "again.png"
    answer = controlgen("edit", "--recipe", output, "-o", again)
    assert (answer.code, answer.err) == (0, ""), answer
    assert again.read_bytes() == output.read_bytes()
    with Image.open(output) as opened:
        assert json.loads(opened.text["recipe"])["answers"] == 3  # type: ignore[attr-defined]
        assert opened.width > 1.5 * opened.height
