"""The examples run from the first line to the last, at small sizes, and write what they promise."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PRETRAINED = ROOT / "artifacts" / "pretrained"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def read_notebook(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def parameters_cell(notebook: Any) -> Any:
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


def run_python(folder: Path, *arguments: object) -> str:
    """Run Python in a folder; its standard output."""
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout


def run_script(name: str, folder: Path, *arguments: object) -> str:
    """Run a script of the examples, warnings as errors; its standard output."""
    return run_python(folder, "-W", "error", EXAMPLES / name, *arguments)


def run_notebook(path: Path, folder: Path, **parameters: Any) -> Any:
    """Execute a notebook in a folder, its parameters overridden; the notebook with its outputs."""
    notebook = read_notebook(path)
    cell = parameters_cell(notebook)
    for name, value in parameters.items():
        assert f"\n{name} = " in cell.source, f"{path.name} has no parameter {name}"
        cell.source += f"\n{name} = {value!r}"
    copy = folder / path.name
    nbformat.write(notebook, copy)
    # In its own process: pytest's filters make errors of warnings of Jupyter's event loop.
    run_python(folder, "-c", "from nbclient.cli import main; main()", "--inplace", copy)
    return read_notebook(copy)


def printed_text(notebook: Any) -> str:
    streams = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    ]
    assert [output.text for output in streams if output.name == "stderr"] == []
    return "".join(output.text for output in streams)


def count_figures(notebook: Any) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture(autouse=True)
def settings_of_jupyter_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Jupyter nor IPython reads or writes the user's folders; files go to tmp_path."""
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / "jupyter"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def server_url(tmp_path: Path) -> Iterator[str]:
    """A `controlgen serve` of the digits, in its own process."""
    words = ("serve", str(PRETRAINED / "mnist"), "--port", "0", "--no-studio")
    log = tmp_path / "server.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "controlgen", *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    assert process.stdout is not None
    with process:
        try:
            address = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
            assert address, log.read_text()
            yield address[0]
        finally:
            process.terminate()


def test_the_table_names_every_example() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".ipynb"}}
    assert set(re.findall(r"^\| \[(\S+)\]", table, re.MULTILINE)) == files


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    notebook = read_notebook(path)
    assert "You need" in notebook.cells[0].source
    assert notebook.cells[1] is parameters_cell(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_edit_digits(tmp_path: Path) -> None:
    notebook = run_notebook(
        EXAMPLES / "edit_digits.ipynb",
        tmp_path,
        MODEL=str(PRETRAINED / "mnist"),
        N_IMAGES=200,
        N_SOURCES=2,
        N_CANDIDATES=48,
        N_FRAMES=3,
    )
    text = printed_text(notebook)
    assert "images (200, 1, 32, 32)" in text
    assert "mean slant of c" in text
    assert count_figures(notebook) == 4
    (film,) = tmp_path.glob("*/three-to-eight.gif")
    with Image.open(film) as frames:
        assert frames.n_frames == 4
        assert frames.size == (2 * 96, 96)


def test_steer_tissue(tmp_path: Path) -> None:
    notebook = run_notebook(
        EXAMPLES / "steer_tissue.ipynb",
        tmp_path,
        MODEL=str(PRETRAINED / "histology"),
        N_SAMPLES=16,
        N_SOURCES=2,
        N_AVERAGED=4,
        AMOUNTS=(-1, 0, 1),
    )
    assert "not for diagnosis" in notebook.cells[0].source
    text = printed_text(notebook)
    assert all(word in text for word in ("nuclear_count", "mean confidence", "stains held"))
    assert count_figures(notebook) == 4
    (contact_sheet,) = tmp_path.glob("*/more-nuclei.png")
    with Image.open(contact_sheet) as picture:
        assert min(picture.size) > 200


@pytest.mark.parametrize("size", [32, 64])
def test_own_images(tmp_path: Path, size: int) -> None:
    arguments: list[object] = ["--train-images", 32, "--bank", 80, "--fit-steps", 10]
    arguments += ["--size", size]
    if size == 64:
        folder, noise = tmp_path / "photos", np.random.default_rng(0)
        folder.mkdir()
        for number in range(24):
            photo = noise.integers(0, 256, (64, 80, 3), dtype=np.uint8)
            Image.fromarray(photo).save(folder / f"{number}.png")
        arguments.append(folder)
    text = run_script("own_images.py", tmp_path, *arguments)
    assert "amount +2: mean brightness" in text
    with Image.open(tmp_path / "own-images" / "brighter.png") as picture:
        assert picture.mode == ("L" if size == 32 else "RGB")
        assert picture.size == (3 * 8 * (size + 2), 3 * 7 * (size + 2))


def test_http_client(tmp_path: Path, server_url: str) -> None:
    text = run_script("http_client.py", tmp_path, "--url", server_url, "--n", 2)
    assert "model mnist: images (1, 32, 32)" in text
    with Image.open(tmp_path / "http-client" / "edits.png") as picture:
        assert picture.size == (64, 64)
    with Image.open(tmp_path / "http-client" / "edit.png") as picture:
        assert "a slanted digit" in picture.info["recipe"]
