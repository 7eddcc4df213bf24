"""An encoder as an artifact: it knows its images again, resumes, is shipped, and steers."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from sklearn.neighbors import NearestNeighbors

from controlgen import Editor, stages
from controlgen.artifacts import Store
from controlgen.artifacts.store import verify
from controlgen.augmentations import DigitViews
from controlgen.config import EmbedConfig, EncoderConfig
from controlgen.datasets.arrays import ArrayDataset
from controlgen.errors import ConfigError
from controlgen.evaluation.encoder_retrieval import (
    RetrievalGallery,
    nearest_neighbours,
    participation_ratio,
    raw_pixel_features,
)
from controlgen.features import SelfSupervisedConfig
from controlgen.utils.files import read_json

SETTINGS: dict[str, Any] = {
    "name": "toy",
    "dataset": {"kind": "digits"},
    "augment": {"kind": "digits"},
    "images": 32 * 60,
    "batch_size": 32,
    "learning_rate": 4e-3,
    "feature_size": 32,
    "expander": 64,
    "tower": "test_resnet",
    "device": "cpu",
    "checkpoint_images": 800,
}


class Quiet:
    """Says nothing; breaks off where more than `most` images have been seen."""

    def __init__(self, most: float = np.inf) -> None:
        self.most = most

    def start(self, title: str, total: float, start: float = 0, unit: str = "it") -> "Quiet":
        return self

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def update_to(self, done: float, note: str = "") -> None:
        if done > self.most:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def trained(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Store, Path]:
    store = Store(tmp_path_factory.mktemp("encoder") / "store")
    config = EncoderConfig.parse(SETTINGS)
    return config, store, store.open(stages.train_encoder(config, store, Quiet()))


def test_training_makes_it_know_its_images_again(trained: Any) -> None:
    folder = trained[2]
    scores = read_json(folder / "scores.json")
    reference = scores["recognised"]
    assert reference["trained"]["low"] > 4 * reference["untrained"]["high"]
    assert reference["trained"]["n"] == scores["gallery"] == 397
    assert 1 < scores["dimensions"] <= 32

    # What is there, and what its pictures say they are.
    assert set(verify(folder).files) == {
        "README.md",
        "config.json",
        "encoder.json",
        "encoder.safetensors",
        "history.jsonl",
        "losses.png",
        "neighbours.png",
        "scores.json",
        "views.png",
    }
    for name in ("neighbours.png", "views.png"):
        with Image.open(folder / name) as opened:
            assert opened.info["synthetic"] == "no: real images" and min(opened.size) > 200
    rows = [float(line.split('"loss": ')[1].split(",")[0]) for line in history(folder)]
    assert rows[-1] < rows[0]


def history(folder: Path) -> list[str]:
    return (folder / "history.jsonl").read_text().splitlines()


def test_made_once_and_resumed_bit_by_bit(trained: Any, tmp_path: Path) -> None:
    config, store, folder = trained
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    assert store.path(stages.train_encoder(config, store)) == folder
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before

    # Broken off between two checkpoints, then asked for again with other runtime settings.
    other = Store(tmp_path / "store")
    for most in (900, 1300):
        with pytest.raises(KeyboardInterrupt):
            stages.train_encoder(config, other, Quiet(most))
    assert other.refs() == []
    again = config.model_copy(update={"checkpoint_images": 2000})
    resumed = other.open(stages.train_encoder(again, other, Quiet()))
    assert resumed.name == folder.name
    name = "encoder.safetensors"
    assert (resumed / name).read_bytes() == (folder / name).read_bytes()


def test_shipped_it_is_found_by_name_and_others_images_are_left_out(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, store, folder = trained
    ref = stages.train_encoder(config, store)
    target = tmp_path / "artifacts" / "pretrained" / "mine"
    stages.export_encoder(config, ref, store, target)
    assert {"neighbours.png", "views.png"} <= set(verify(target).files)
    monkeypatch.chdir(tmp_path)
    actual, full = SelfSupervisedConfig(path=Path("mine")), SelfSupervisedConfig(path=folder)
    assert actual.open().fingerprint == full.open().fingerprint
    assert actual.identity() == full.identity()

    private = {"kind": "folder", "root": str(tmp_path / "secret" / "tiles")}
    other = EncoderConfig.parse({**SETTINGS, "dataset": private})
    stages.export_encoder(other, ref, store, target)
    assert not {"neighbours.png", "views.png"} & set(verify(target).files)
    assert "views.png" not in (target / "README.md").read_text()
    assert all(b"secret" not in path.read_bytes() for path in target.iterdir())


def test_a_map_is_fitted_in_it_and_edits_by_examples(
    trained: Any, line: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way from the encoder to an edit, with a path that only holds where it was made."""
    _, store, folder = trained
    for kind, ref in (("gan", line.gan), ("bank", line.bank)):
        target = store.root / kind / ref.name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            os.symlink(line.store.path(ref), target)
    monkeypatch.chdir(store.root.parent)
    space = SelfSupervisedConfig(path=Path("store") / "encoder" / folder.name)
    run = line.run.model_copy(update={"embed": EmbedConfig(space=space)})
    features = stages.embed_images("toy", run.embed, line.bank, store, Quiet())
    fitted = store.root.resolve() / "map"
    fitted /= stages.fit_map(run, line.gan, line.bank, features, store, Quiet()).name

    monkeypatch.chdir(tmp_path)
    editor = Editor.load(fitted)
    source = editor.sample(6, seed=3)
    direction = editor.direction(more=source.pixels[:3], less=source.pixels[3:])
    edit = editor.edit(source, direction, amount=1.0)
    assert edit.pixels.shape == source.pixels.shape and np.isfinite(edit.target_similarity).all()
    with pytest.raises(ConfigError) as caught:
        editor.direction(text="a digit eight")
    assert "\n" not in str(caught.value)


# What is asked of a space without labels.


def test_a_gallery_holds_one_image_a_source_where_there_are_enough() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 1, 32, 32), np.uint8)
    still = DigitViews.parse({"shift": 0, "zoom": 0, "blur": 0, "noise": 0})
    many = RetrievalGallery.sample(ArrayDataset(pixels, groups=np.arange(80) // 4), still, 50, 0)
    assert len(many.pixels) == many.sources == 20
    numbers = [np.flatnonzero((pixels == pixel).all((1, 2, 3)))[0] // 4 for pixel in many.pixels]
    assert sorted(numbers) == list(range(20))
    few = RetrievalGallery.sample(ArrayDataset(pixels, groups=np.arange(80) // 20), still, 50, 0)
    assert len(few.pixels) == 50 and few.sources == 4
    # Views that change nothing are always known, and a space that sees nothing knows by chance.
    assert many.recall_at_1(raw_pixel_features).mean == 1.0
    blind = many.recall_at_1(lambda images: np.ones((len(images), 3), np.float32))
    assert blind.mean == pytest.approx(1 / 20) and blind.n == 20


def test_dimensions_count_directions_of_equal_spread() -> None:
    axes = np.concatenate([np.eye(10), -np.eye(10)])
    assert participation_ratio(axes) == pytest.approx(10)
    assert participation_ratio(axes[:, :3] @ np.ones((3, 7))) == pytest.approx(1)
    assert participation_ratio(axes + 100) == pytest.approx(10)
    assert participation_ratio(np.ones((5, 4))) == 0


def test_nearest_others_are_those_of_scikit_learn() -> None:
    rows = np.random.default_rng(1).standard_normal((50, 6)).astype(np.float32)
    queries = np.array([3, 0, 49])
    oracle = NearestNeighbors(n_neighbors=6, metric="cosine").fit(rows)
    expected = oracle.kneighbors(rows[queries], return_distance=False)[:, 1:]
    np.testing.assert_array_equal(nearest_neighbours(rows, queries, 5), expected)


def test_weights_are_kept_in_half_precision(trained: Any) -> None:
    kinds = {str(value.dtype) for value in load_file(trained[2] / "encoder.safetensors").values()}
    assert kinds == {"torch.float16", "torch.int64"}
