"""What the repository carries: small, as good as it says, and every picture says what it is."""

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "artifacts" / "pretrained"
MIB = 1 << 20
LARGEST = {"mnist": 8, "histology": 16, "clip-mini": 16, "clip-tissue": 16}  # MiB


def pictures() -> list[Path]:
    """The PNGs that are tracked; where there is no git, those of the folders that hold them."""
    try:
        process = subprocess.run(
            ["git", "ls-files", "-z", "*.png"], cwd=ROOT, capture_output=True, check=True
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return sorted([*SHIPPED.rglob("*.png"), *(ROOT / "docs").glob("*.png")])
    return [ROOT / name for name in process.split("\0") if name]


def size_of(folder: Path, suffix: str = "") -> int:
    """Bytes of the files below a folder."""
    actual = (path for path in folder.rglob(f"*{suffix}") if path.is_file())
    return sum(path.stat().st_size for path in actual)


@pytest.mark.parametrize("name", LARGEST)
def test_a_shipped_folder_is_small(name: str) -> None:
    assert size_of(SHIPPED / name) < LARGEST[name] * MIB


def test_all_weights_together_are_small() -> None:
    assert 0 < size_of(SHIPPED, ".safetensors") < 40 * MIB


def test_the_embedded_clip_is_small_and_reads_digits() -> None:
    folder = SHIPPED / "clip-mini"
    with safe_open(folder / "open_clip_model.safetensors", "numpy") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    count = sum(math.prod(shape) for shape in shapes)
    assert 1_000_000 < count <= 9_000_000
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["MNIST zero-shot accuracy"]["mean"] >= 0.94
    fits = {name: value for name, value in scores.items() if name.startswith("linear R2, ")}
    assert len(fits) == 5 and min(fits.values()) >= 0.92, fits


def test_the_tissue_card_says_what_it_is_not_for_and_who_looked_for_copies() -> None:
    card = (SHIPPED / "histology" / "README.md").read_text()
    assert "not for diagnosis" in card
    (line,) = (line for line in card.splitlines() if line.startswith("| memorisation |"))
    assert "samples lie nearer to a training image" in line


@pytest.mark.parametrize("path", pictures(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_picture_says_whether_it_is_synthetic(path: Path) -> None:
    with Image.open(path) as opened:
        opened.load()
        chunks = opened.text  # type: ignore[attr-defined]
    assert chunks.get("synthetic"), path
    assert chunks.get("version"), path


def test_the_readmes_first_picture_is_drawn_again(
    controlgen: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    displayed, again = ROOT / "docs" / "edit.png", tmp_path / "again.png"
    answer = controlgen("edit", "--recipe", displayed, "-o", again)
    assert (answer.code, answer.err) == (0, "")
    # Another processor sums in another order, and a value may round to the next grey.
    with Image.open(again) as new, Image.open(displayed) as old:
        assert new.text == old.text  # type: ignore[attr-defined]
        pixels = [np.asarray(item.convert("RGB"), np.int16) for item in (new, old)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 2
