"""A generator that is there in the place of training: same pictures, nothing trained."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlgen import Editor, stages
from controlgen.artifacts import Store, read_manifest
from controlgen.config import RunConfig
from controlgen.errors import ArtifactCorrupt, ArtifactMissing, Incompatible


def taking(line: Any, folder: Path, **change: Any) -> RunConfig:
    run: RunConfig = line.run
    return run.model_copy(update={"generator": folder, **change})


@pytest.mark.parametrize("kind", ["gan", "map"])
def test_the_line_goes_on_from_it(line: Any, tmp_path: Path, kind: str) -> None:
    source = line.store.path(getattr(line, kind))
    run, store = taking(line, source), Store(tmp_path)
    stages.preflight_fit(run)
    gan = stages.train_all_phases(run, store)
    assert stages.train_all_phases(run, store) == gan
    assert [ref.kind for ref in store.refs()] == ["gan"]

    # Same weights, so the same pictures; the map is fitted anew and answers alike.
    bank = stages.draw_samples(run, gan, store)
    features = stages.embed_images(run.name, run.embed, bank, store)
    fitted = stages.fit_map(run, gan, bank, features, store)
    mine, theirs = (Editor.load(path) for path in (store.path(fitted), line.store.path(line.map)))
    np.testing.assert_array_equal(mine.sample(4, seed=3).pixels, theirs.sample(4, seed=3).pixels)
    np.testing.assert_array_equal(
        mine.invert(mine.embed(mine.sample(4, seed=3).pixels)),
        theirs.invert(theirs.embed(theirs.sample(4, seed=3).pixels)),
    )
    text = json.loads((store.path(gan) / "config.json").read_text("utf-8"))
    assert text["taken from"].split()[0] == kind
    assert "taken, not trained" in (store.path(gan) / "README.md").read_text("utf-8")
    assert read_manifest(store.path(gan)).parents == {
        "generator weights": text["generator weights"]
    }


def test_its_name_follows_its_weights_and_not_its_place(line: Any, tmp_path: Path) -> None:
    elsewhere = tmp_path / "moved"
    shutil.copytree(line.store.path(line.gan), elsewhere)
    refs = {
        stages.train_all_phases(taking(line, folder), Store(tmp_path / "store"))
        for folder in (elsewhere, line.store.path(line.gan), line.store.path(line.map))
    }
    assert len(refs) == 1


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda folder: shutil.rmtree(folder), ArtifactMissing),
        (lambda folder: (folder / "generator.safetensors").write_bytes(b"x"), ArtifactCorrupt),
    ],
)
def test_what_is_missing_or_damaged_is_refused(
    line: Any, tmp_path: Path, damage: Any, error: Any
) -> None:
    folder = tmp_path / "given"
    shutil.copytree(line.store.path(line.gan), folder)
    damage(folder)
    store = Store(tmp_path / "store")
    with pytest.raises(error):
        stages.preflight_fit(taking(line, folder))
    with pytest.raises(error):
        stages.train_all_phases(taking(line, folder), store)
    assert store.refs() == []


def test_images_of_another_size_are_refused_in_one_line(
    line: Any, pretrained_histology: Path
) -> None:
    with pytest.raises(Incompatible) as caught:
        stages.preflight_fit(taking(line, pretrained_histology))
    assert "64x64 with 3 channels, the data's are of 32x32 with 1 channel;" in str(caught.value)


@pytest.fixture
def pretrained_histology() -> Path:
    return Path(__file__).parents[2] / "artifacts" / "pretrained" / "histology"


def test_what_is_shipped_of_it_says_where_it_is_from(line: Any, tmp_path: Path) -> None:
    run, store = taking(line, line.store.path(line.map)), Store(tmp_path)
    gan = stages.train_all_phases(run, store)
    bank = stages.draw_samples(run, gan, store)
    features = stages.embed_images(run.name, run.embed, bank, store)
    fitted = stages.fit_map(run, gan, bank, features, store)
    report = stages.evaluate(run, fitted, bank, features, store)
    target = tmp_path / "pretrained" / "mine"
    stages.export_model(run, gan, fitted, report, store, target)
    card = (target / "README.md").read_text("utf-8")
    assert f"taken from map {line.map.name}" in card
    assert "real images shown" not in card
    displayed = json.loads((target / "config.json").read_text("utf-8"))["generator"]
    assert displayed == line.store.path(line.map).name
