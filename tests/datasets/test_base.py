"""Runs on user data are identified by content, not by path."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import TrainConfig
from controlgen.datasets import IHC, Digits, ImageFolder, MedMNIST, PatchCamelyon, with_content_hash
from controlgen.datasets.folder._listing import MAX_SAMPLES, SAMPLE_BYTES, sampled_sha256
from controlgen.errors import DataError
from controlgen.stains import Macenko


def draw(folder: Path, n: int, seed: int) -> Path:
    folder.mkdir()
    draws = np.random.default_rng(seed)
    for index in range(n):
        Image.fromarray(draws.integers(0, 256, (32, 32), np.uint8)).save(folder / f"{index}.png")
    return folder


def train_on(line: Any, root: Path, tmp_path: Path) -> ArtifactRef:
    """One step on the images of `root`, in one store."""
    data = ImageFolder(root=root, size=32, channels=1, cache=tmp_path / "cache")
    config: TrainConfig = line.run.train.model_copy(
        update={"dataset": data, "total_images": line.run.train.batch_size}
    )
    return stages.train_gan("mine", config, Store(tmp_path / "store"))


def test_a_moved_folder_is_the_same_data_and_a_changed_one_differs(
    line: Any, tmp_path: Path
) -> None:
    here = draw(tmp_path / "here", 12, 0)
    ref = train_on(line, here, tmp_path)
    there = shutil.copytree(here, tmp_path / "there")
    assert train_on(line, there, tmp_path) == ref
    draw(tmp_path / "other", 1, 9)
    shutil.copy(tmp_path / "other" / "0.png", there / "0.png")
    assert train_on(line, there, tmp_path) != ref
    assert train_on(line, here, tmp_path) == ref


def test_other_data_sets_are_unchanged() -> None:
    assert with_content_hash(Digits()) == Digits()


def test_an_archive_is_identified_by_its_members(tmp_path: Path) -> None:
    def save_data(name: str, seed: int, save: Any = np.savez) -> MedMNIST:
        draws = np.random.default_rng(seed)
        members = {
            f"{split}_{part}": values
            for split in ("train", "test")
            for part, values in (
                ("images", draws.integers(0, 256, (9, 32, 32), np.uint8)),
                ("labels", np.zeros((9, 1), np.uint8)),
            )
        }
        save(tmp_path / name, **members)
        return MedMNIST(path=tmp_path / name, cache=tmp_path / "cache")

    here = save_data("here.npz", 0)
    before = with_content_hash(here)
    assert before.fingerprint() == with_content_hash(save_data("there.npz", 0)).fingerprint()
    assert (
        before.fingerprint()
        == with_content_hash(save_data("packed.npz", 0, np.savez_compressed)).fingerprint()
    )
    assert len(before.with_split("test").open()) == 9
    # The same path holds other images now.
    save_data("here.npz", 1)
    assert with_content_hash(here).fingerprint() != before.fingerprint()
    with pytest.raises(DataError, match="holds other images"):
        before.open()
    with pytest.raises(DataError, match="no such file"):
        with_content_hash(MedMNIST(path=tmp_path / "none.npz"))


def test_hdf5_files_are_identified_by_their_bytes(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="controlgen[histology] is not installed")

    def save_data(name: str, seed: int) -> PatchCamelyon:
        draws, root = np.random.default_rng(seed), tmp_path / name
        root.mkdir(exist_ok=True)
        for split in ("train", "test"):
            stem = root / f"camelyonpatch_level_2_split_{split}"
            with h5py.File(f"{stem}_x.h5", "w") as opened:
                opened["x"] = draws.integers(0, 256, (5, 96, 96, 3), np.uint8)
            with h5py.File(f"{stem}_y.h5", "w") as opened:
                opened["y"] = np.zeros((5, 1, 1, 1), np.uint8)
        return PatchCamelyon(root=root, cache=tmp_path / "cache")

    here = save_data("here", 0)
    before = with_content_hash(here)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    there = PatchCamelyon(root=tmp_path / "there")
    assert with_content_hash(there).fingerprint() == before.fingerprint()
    assert len(before.with_split("test").open()) == 5
    save_data("here", 1)
    assert with_content_hash(here).fingerprint() != before.fingerprint()
    with pytest.raises(DataError, match="holds other tiles"):
        before.open()
    with pytest.raises(DataError, match="no such file"):
        with_content_hash(PatchCamelyon(root=tmp_path))


def test_a_large_file_is_sampled_from_end_to_end(tmp_path: Path) -> None:
    path = tmp_path / "large"
    size = 3 * MAX_SAMPLES * SAMPLE_BYTES

    def written(at: int) -> str:
        with path.open("wb") as opened:  # sparse, so that it takes no disk
            opened.truncate(size)
            opened.seek(at)
            opened.write(b"x")
        return sampled_sha256(path)

    assert len({written(at) for at in (0, size - 1, SAMPLE_BYTES - 1)}) == 3
    # Differences between samples are not detected, as documented.
    assert written(2 * SAMPLE_BYTES) == written(2 * SAMPLE_BYTES + 1)


def test_a_stain_reference_is_identified_by_its_bytes(tmp_path: Path) -> None:
    root = draw(tmp_path / "images", 6, 0)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (draw(tmp_path / f"{name}-drawn", 1, seed) / "0.png").rename(tmp_path / f"{name}.png")

    def fingerprints(name: str) -> tuple[str, str]:
        stain = Macenko(reference=tmp_path / f"{name}.png")
        folder = ImageFolder(root=root, size=32, stain=stain, cache=tmp_path / "cache")
        return with_content_hash(folder).fingerprint(), with_content_hash(
            IHC(stain=stain)
        ).fingerprint()

    first, same, other = map(fingerprints, ("a", "b", "c"))
    assert first == same
    assert first[0] != other[0] and first[1] != other[1]
    # Without a reference the identity is unchanged.
    plain = ImageFolder(root=root, size=32, stain=Macenko(), cache=tmp_path / "cache")
    assert with_content_hash(plain).identity()["stain"] == Macenko().identity()
    assert IHC().identity()["stain"] == {"kind": "none"}
