"""A run on a user's folder is named by what the folder holds, not by where it lies."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from controlgen import stages
from controlgen.artifacts import Ref, Store
from controlgen.config import TrainConfig
from controlgen.datasets import Digits, ImageFolder, pinned


def draw(folder: Path, n: int, seed: int) -> Path:
    folder.mkdir()
    draws = np.random.default_rng(seed)
    for index in range(n):
        Image.fromarray(draws.integers(0, 256, (32, 32), np.uint8)).save(folder / f"{index}.png")
    return folder


def trained(line: Any, root: Path, tmp_path: Path) -> Ref:
    """One step on the images of `root`, in one store."""
    data = ImageFolder(root=root, size=32, channels=1, cache=tmp_path / "cache")
    config: TrainConfig = line.run.train.model_copy(
        update={"dataset": data, "total_images": line.run.train.batch_size}
    )
    return stages.train_gan("mine", config, Store(tmp_path / "store"))


def test_a_moved_folder_is_the_same_data_and_a_changed_one_is_not(
    line: Any, tmp_path: Path
) -> None:
    here = draw(tmp_path / "here", 12, 0)
    ref = trained(line, here, tmp_path)
    there = shutil.copytree(here, tmp_path / "there")
    assert trained(line, there, tmp_path) == ref
    draw(tmp_path / "other", 1, 9)
    shutil.copy(tmp_path / "other" / "0.png", there / "0.png")
    assert trained(line, there, tmp_path) != ref
    assert trained(line, here, tmp_path) == ref


def test_sources_that_are_their_own_name_stay_as_they_are() -> None:
    assert pinned(Digits()) == Digits()
