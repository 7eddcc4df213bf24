"""Formats and bits: what configs/tiny.toml makes on one thread, and what edits write from it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors import safe_open

from controlgen import Editor, stages
from controlgen.artifacts import Store
from controlgen.config import (
    ClipConfig,
    CompareConfig,
    EncoderConfig,
    RunConfig,
    SpacesConfig,
)
from golden import FOLDER, check_golden, hash_file, keys_of, processor, without_times

ROOT = Path(__file__).parents[2]
# Pictures with words in them and prose may be reworded; everything else is held to the bit.
WORDED = (
    "analogies", "answers", "components", "figure3", "flip-matrix", "flip-rate", "inversion",
    "inversion-generated", "inversion-real", "losses", "samples",
)  # fmt: skip
KINDS = {
    "clip": ClipConfig,
    "compare": CompareConfig,
    "encoder": EncoderConfig,
    "spaces": SpacesConfig,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Any]]:
    """The store that holds a run of configs/tiny.toml, and its artifacts by kind."""
    overrides = ["train.precision=fp32", "train.device=cpu"]
    run = RunConfig.load(ROOT / "configs" / "tiny.toml", overrides)
    store = Store(tmp_path_factory.mktemp("golden") / "store")
    gan = stages.train_gan(run.name, run.train, store)
    bank = stages.draw_samples(run, gan, store)
    features = stages.embed_images(run.name, run.embed, bank, store)
    fitted = stages.fit_map(run, gan, bank, features, store)
    report = stages.evaluate(run, fitted, bank, features, store)
    refs = {ref.kind: ref for ref in (gan, bank, features, fitted, report)}
    return store, refs


def is_worded(path: Path) -> bool:
    return path.suffix == ".md" or (path.suffix == ".png" and path.stem in WORDED)


def test_names_and_files_of_artifacts(tiny: Any) -> None:
    store, refs = tiny
    listed = {
        str(ref): sorted(
            str(path.relative_to(store.path(ref)))
            for path in store.path(ref).rglob("*")
            if path.is_file()
        )
        for ref in refs.values()
    }
    check_golden("artifacts.json", listed)


def test_arrays_json_and_manifests_have_the_frozen_keys(tiny: Any) -> None:
    store, refs = tiny
    layout: dict[str, Any] = {}
    for kind, ref in refs.items():
        for path in sorted(store.path(ref).glob("*")):
            if path.suffix == ".safetensors":
                with safe_open(path, "np") as opened:
                    layout[f"{kind}/{path.name}"] = {
                        "metadata": sorted(opened.metadata() or {}),
                        **{key: opened.get_slice(key).get_shape() for key in opened.keys()},  # noqa: SIM118
                    }
            elif path.suffix == ".json":
                layout[f"{kind}/{path.name}"] = keys_of(json.loads(path.read_text()))
    check_golden("layout.json", layout)


def test_every_bit_is_what_it_was(tiny: Any) -> None:
    store, refs = tiny
    frozen = FOLDER / "bits.json"
    actual: dict[str, Any] = {"processor": processor(), "files": {}}
    for kind, ref in refs.items():
        for path in sorted(store.path(ref).rglob("*")):
            if path.is_file() and not is_worded(path) and path.name != "manifest.json":
                name = f"{kind}/{path.relative_to(store.path(ref))}"
                actual["files"][name] = hash_file(path)
    if frozen.exists() and json.loads(frozen.read_text())["processor"] != processor():
        pytest.skip("the last bit of a float depends on the processor; this one is another")
    check_golden("bits.json", actual)


def test_fingerprints_of_every_config() -> None:
    prints = {}
    for path in sorted((ROOT / "configs").glob("*.toml")):
        config = KINDS.get(path.stem.partition("-")[0], RunConfig).load(path)
        prints[path.stem] = config.fingerprint()
    check_golden("fingerprints.json", prints)


def test_shipped_models_tell_the_same_of_themselves() -> None:
    from controlgen.serve.registry import open_models

    names = [
        name for name in ("mnist", "histology") if (ROOT / "artifacts/pretrained" / name).is_dir()
    ]
    if len(names) < 2:
        pytest.skip("this tree holds no shipped models")
    models = open_models([ROOT / "artifacts" / "pretrained" / name for name in names], None, 8)
    check_golden(
        "served.json",
        {name: model.to_schema().model_dump(mode="json") for name, model in models.items()},
    )


def chunk(text: Any) -> Any:
    return json.loads(text) if isinstance(text, str) and text.startswith("{") else text


def test_an_edit_its_recipe_its_direction_and_tables(
    tiny: Any,
    controlgen: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    toy_clip: Path,
) -> None:
    """Keys of everything that is written beside a picture."""
    store, refs = tiny
    monkeypatch.chdir(tmp_path)
    folder = store.path(refs["map"])
    (tmp_path / "table.csv").write_text(
        'expression,name\nseed(7),a\n"slerp(seed(1), seed(2), 0.5)",b\n'
    )
    commands = [
        ("edit", folder, "seed(7) + 0.5 * seed(1)", "-o", "a.png", "--save-recipe", "a.toml"),
        ("direction", folder, "seed(1) - seed(2)", "-o", "way.safetensors"),
        ("batch", folder, "table.csv", "-o", "batch"),
        ("nearest", folder, "seed(7)", "-o", "near.png", "--table", "near.csv"),
        ("score", "digits:train", "digits:test", "--n", 20, "--json", "score.json"),
    ]  # fmt: skip
    for command in commands:
        answer = controlgen(*command)
        assert answer.code == 0, answer
    with Image.open("a.png") as picture:
        chunks = {key: keys_of(chunk(text)) for key, text in picture.info.items()}
    with safe_open("way.safetensors", "np") as opened:
        note = json.loads(opened.metadata()["controlgen"])
    with Path("batch/results.csv").open() as results, Path("near.csv").open() as near:
        columns = {"batch": next(csv.reader(results)), "nearest": next(csv.reader(near))}
    recipe = Path("a.toml").read_text().splitlines()
    check_golden(
        "written.json",
        {
            "png": chunks,
            "direction": keys_of(note),
            "csv": columns,
            "batch": sorted(path.name for path in Path("batch").iterdir()),
            "recipe": [line.partition(" =")[0] for line in recipe],
            "score": keys_of(without_times(json.loads(Path("score.json").read_text()))),
        },
    )


@pytest.mark.parametrize("source", ["edit.toml", "edit-with-guidance.png"])
def test_a_recipe_written_before_draws_the_same_picture(
    source: str, controlgen: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """golden/edit.png is frozen: bytes on the processor that drew it, a grey or two elsewhere.

    The recipe inside the other picture still has the key `guidance`, null.
    """
    if not (ROOT / "artifacts" / "pretrained" / "mnist").is_dir():
        pytest.skip("this tree holds no shipped models")
    monkeypatch.chdir(ROOT)
    frozen, samples = FOLDER / "edit.png", tmp_path / "edit.png"
    answer = controlgen("edit", "--recipe", FOLDER / source, "-o", samples)
    assert answer.code == 0, answer
    if json.loads((FOLDER / "bits.json").read_text())["processor"] == processor():
        assert samples.read_bytes() == frozen.read_bytes()
    with Image.open(frozen) as single, Image.open(samples) as other:
        assert single.info == other.info and single.size == other.size
        differences = [abs(a - b) for a, b in zip(single.tobytes(), other.tobytes(), strict=True)]
    assert max(differences) <= 2


def test_the_editor_of_a_frozen_map_opens(tiny: Any) -> None:
    store, refs = tiny
    assert Editor.load(store.path(refs["map"])).latent_size == 16
