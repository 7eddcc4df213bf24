"""Stages: nothing is made twice, kills cost nothing, damaged parents are refused."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from controlgen import Editor, stages
from controlgen.artifacts import ArtifactRef, Store, read_manifest
from controlgen.config import EmbedConfig, FitConfig, RunConfig, SampleConfig, TrainConfig
from controlgen.editing.checkpoint import load_generator
from controlgen.errors import ArtifactCorrupt, ArtifactMissing, ConfigError, Diverged
from controlgen.features import OpenClipConfig
from controlgen.images import to_pixels
from controlgen.stages.artifact_refs import artifact_ref

ROOT = Path(__file__).parents[2]
STATE = "state.safetensors"


def times(folder: Path) -> dict[str, int]:
    """When anything below a folder was last written."""
    paths = [folder, *folder.rglob("*")]
    return {str(path): path.stat().st_mtime_ns for path in paths}


def stage_calls(line: Any, store: Store) -> list[tuple[Callable[[], ArtifactRef], ArtifactRef]]:
    run = line.run
    return [
        (lambda: stages.train_gan(run.name, run.train, store), line.gan),
        (lambda: stages.draw_samples(run, line.gan, store), line.bank),
        (lambda: stages.embed_images(run.name, run.embed, line.bank, store), line.features),
        (lambda: stages.fit_map(run, line.gan, line.bank, line.features, store), line.map),
    ]


def test_a_second_run_returns_the_same_refs_and_touches_nothing(line: Any) -> None:
    before = times(line.store.root)
    for call, expected in stage_calls(line, line.store):
        assert call() == expected
    assert times(line.store.root) == before


def test_every_artifact_verifies_and_names_its_parents(line: Any) -> None:
    expected = {
        line.gan: {},
        line.bank: {"gan": line.gan},
        line.features: {"bank": line.bank},
        line.map: {"gan": line.gan, "bank": line.bank, "features": line.features},
    }
    assert set(line.store.refs()) == set(expected)
    for ref, parents in expected.items():
        manifest = read_manifest(line.store.open(ref))
        assert manifest.parents == {role: str(parent) for role, parent in parents.items()}
        assert manifest.versions["torch"] == importlib.metadata.version("torch")
        config = json.loads((line.store.path(ref) / "config.json").read_text())
        assert config
    # The training state was for resuming; what is left can be published.
    assert not (line.store.path(line.gan) / STATE).exists()


def test_a_changed_setting_makes_another_artifact_and_a_runtime_setting_does_not(
    line: Any, tmp_path: Path
) -> None:
    train = line.run.train
    changed = [
        {"seed": 1},
        {"total_images": 1601},
        {"network": train.network.model_copy(update={"latent_size": 17})},
        {"objective": train.objective.model_copy(update={"gamma": 0.7})},
    ]

    def ref(**change: Any) -> ArtifactRef:
        return artifact_ref("gan", "tiny", train.model_copy(update=change))

    assert len({line.gan, *(ref(**change) for change in changed)}) == len(changed) + 1
    assert ref(checkpoint_images=7, device="auto") == line.gan
    # A stage asked for something new starts to make it: in a store that refuses, it fails.
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        stages.train_gan("tiny", train.model_copy(update={"seed": 1}), Store(tmp_path / "file"))


def test_a_parents_fingerprint_is_in_the_childs_name(line: Any) -> None:
    names = {
        artifact_ref("bank", "tiny", line.run.sample, parent)
        for parent in (line.gan.fingerprint, "0" * 12)
    }
    assert line.bank in names
    assert len(names) == 2


def test_the_bank_holds_what_the_generator_makes_of_its_latents(line: Any) -> None:
    bank = line.store.path(line.bank)
    latents, pixels = np.load(bank / "latents.npy"), np.load(bank / "pixels.npy")
    assert latents.shape == (400, 16)
    assert pixels.shape == (400, 1, 32, 32)
    generator, shape = load_generator(line.store.path(line.gan))
    assert shape == (1, 32, 32)
    with torch.no_grad():
        again = to_pixels(generator(torch.from_numpy(latents)))
    assert np.abs(again.astype(int) - pixels.astype(int)).max() <= 1
    # Another size and batch make the same first items.
    features = np.load(line.store.path(line.features) / "features.npy")
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(features, line.run.embed.space.open().embed(pixels), atol=1e-4)


def test_a_longer_bank_begins_like_a_shorter_one(line: Any, tmp_path: Path) -> None:
    store = copied(line, tmp_path)
    longer = stages.draw_samples(sampling(line, n=410, batch_size=41), line.gan, store)
    banks = [store.path(ref) for ref in (line.bank, longer)]
    rows = [np.load(bank / "latents.npy")[:400] for bank in banks]
    np.testing.assert_array_equal(*rows)
    np.testing.assert_array_equal(*(np.load(bank / "pixels.npy")[:400] for bank in banks))
    # Neither the batch nor the number of threads shows in a single byte.
    others = Store(tmp_path / "others")
    shutil.copytree(line.store.path(line.gan), others.path(line.gan))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = stages.draw_samples(sampling(line, n=400, batch_size=1), line.gan, others)
    finally:
        torch.set_num_threads(threads)
    assert again == line.bank
    saved, result = (item.path(again) / "pixels.npy" for item in (line.store, others))
    assert result.read_bytes() == saved.read_bytes()


def sampling(line: Any, **settings: Any) -> RunConfig:
    """The line's run with another bank."""
    run: RunConfig = line.run.model_copy(update={"sample": SampleConfig(**settings)})
    return run


def copied(line: Any, tmp_path: Path) -> Store:
    shutil.copytree(line.store.root, tmp_path / "store")
    return Store(tmp_path / "store")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_damaged_parent_is_refused_and_stays(line: Any, tmp_path: Path) -> None:
    store, run = copied(line, tmp_path), line.run
    for ref, name in (
        (line.gan, "generator.safetensors"),
        (line.bank, "pixels.npy"),
        (line.features, "features.npy"),
    ):
        flip(store.path(ref) / name)
    other_fit = run.model_copy(update={"fit": FitConfig(map=run.fit.map, held_out=150)})
    embed = EmbedConfig(space=run.evaluate.audit)
    attempts: list[tuple[Callable[[], ArtifactRef], str]] = [
        (lambda: stages.draw_samples(sampling(line, n=16), line.gan, store), "generator"),
        (lambda: stages.embed_images("t", embed, line.bank, store), "pixels"),
        (
            lambda: stages.fit_map(other_fit, line.gan, line.bank, line.features, store),
            "pixels|features",
        ),
    ]
    saved = set(store.root.rglob("*"))
    for attempt, where in attempts:
        with pytest.raises(ArtifactCorrupt, match=f"({where}).*differs"):
            attempt()
    assert set(store.root.rglob("*")) == saved


def test_a_damaged_result_is_set_aside_and_made_again_bit_by_bit(line: Any, tmp_path: Path) -> None:
    store = copied(line, tmp_path)
    bank = store.path(line.bank)
    good = (bank / "pixels.npy").read_bytes()
    flip(bank / "pixels.npy")
    assert stages.draw_samples(line.run, line.gan, store) == line.bank
    assert (bank / "pixels.npy").read_bytes() == good
    assert (bank.with_name(f"{bank.name}.damaged1") / "pixels.npy").is_file()


def test_a_missing_parent_is_named(line: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match=line.gan.name):
        stages.draw_samples(line.run, line.gan, Store(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_holding_out_more_than_half_is_refused(line: Any, tmp_path: Path) -> None:
    run = line.run.model_copy(update={"fit": FitConfig(map=line.run.fit.map, held_out=201)})
    with pytest.raises(ConfigError, match="held_out = 201 leaves less than half"):
        stages.fit_map(run, line.gan, line.bank, line.features, copied(line, tmp_path))


def test_classes_that_are_not_the_datas_are_refused_and_nothing_is_written(
    line: Any, tmp_path: Path
) -> None:
    judged = line.run.evaluate.model_copy(update={"class_names": ("cat", "dog")})
    run = line.run.model_copy(update={"evaluate": judged})
    store = copied(line, tmp_path)
    before = times(store.root)
    with pytest.raises(ConfigError, match="cat"):
        stages.evaluate(run, line.map, line.bank, line.features, store)
    assert times(store.root) == before


def test_other_weights_of_a_feature_space_make_other_features(
    line: Any, toy_clip: Path, tmp_path: Path
) -> None:
    """The same settings over other weights are not the same features."""
    other = tmp_path / "clip"
    shutil.copytree(toy_clip, other)
    weights = load_file(other / "open_clip_model.safetensors")
    weights["visual.proj"] = weights["visual.proj"] * 1.5 + 0.01
    from safetensors.torch import save_file

    save_file(weights, other / "open_clip_model.safetensors")
    result = [OpenClipConfig(model=str(folder)).open().fingerprint for folder in (toy_clip, other)]
    names = {artifact_ref("features", "t", line.run.embed, "0" * 12, item) for item in result}
    assert len(names) == 2


# One process imports the library; its forked children run the stage and are killed while at it.
KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from controlgen import stages
from controlgen.artifacts import Store
from controlgen.config import TrainConfig
from controlgen.stages.artifact_refs import artifact_ref

torch.set_num_threads(1)
config, root = TrainConfig.parse(json.loads(sys.argv[1])), Path(sys.argv[2])
ref = artifact_ref("gan", "killed", config)
state = Store(root).path(ref).with_name(ref.name + ".partial") / "state.safetensors"

class Silent:
    def start(self, *args, **settings): return self
    def __enter__(self): return self
    def __exit__(self, *error): pass
    def update_to(self, done, note=""): pass

kills = 0
while True:
    before = state.stat().st_mtime_ns if state.exists() else 0
    child = os.fork()
    if child == 0:
        stages.train_gan("killed", config, Store(root), Silent())
        os._exit(0)
    if kills < 2:
        while not state.exists() or state.stat().st_mtime_ns == before:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.2))
        os.kill(child, signal.SIGKILL)
        kills += 1
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        print(kills, flush=True)
        sys.exit(status)
    assert not Store(root).has(ref) and Store(root).refs() == []
"""


def test_killed_and_run_again_the_generator_is_bit_equal(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_config(total_images=8 * 40, checkpoint_images=80)
    full = Store(tmp_path / "whole")
    uninterrupted = full.path(stages.train_gan("killed", config, full))
    ended = subprocess.run(
        [sys.executable, "-c", KILLER, json.dumps(config.to_dict()), str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "2\n"
    (resumed,) = (tmp_path / "store" / "gan").iterdir()
    assert resumed.name == uninterrupted.name
    for name in ("generator.safetensors", "critic.safetensors"):
        assert (resumed / name).read_bytes() == (uninterrupted / name).read_bytes()
    rows = [json.loads(line) for line in (resumed / "history.jsonl").read_text().splitlines()]
    recorded = [row["images_seen"] for row in rows]
    assert recorded == sorted(set(recorded))
    assert recorded[-1] == 8 * 40
    assert not (resumed / STATE).exists()


def test_diverged_keeps_the_last_checkpoint(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_config(
        learning_rate={"start": 1e-3, "end": 1e30},
        total_images=10_000,
        burn_in_images=10_000,
        checkpoint_images=8,
    )
    store = Store(tmp_path)
    with pytest.raises(Diverged, match="last checkpoint, if there was one, is kept"):
        stages.train_gan("wild", config, store)
    assert store.refs() == []
    (partial,) = (tmp_path / "gan").iterdir()
    assert partial.name.endswith(".partial")
    state = load_file(partial / STATE)
    assert 8 <= int(state["images_seen"]) < 10_000
    assert all(value.isfinite().all() for value in state.values())


def test_diverged_before_the_first_checkpoint_keeps_the_beginning(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_config(learning_rate={"start": 1e30, "end": 1e30}, total_images=10_000)
    for _ in range(2):
        with pytest.raises(Diverged):
            stages.train_gan("wild", config, Store(tmp_path))
        (partial,) = (tmp_path / "gan").iterdir()
        state = load_file(partial / STATE)
        assert int(state["images_seen"]) == 0
        assert all(value.isfinite().all() for value in state.values())


def test_every_picture_says_it_is_synthetic_and_how_it_was_made(line: Any) -> None:
    from PIL import Image

    pictures = list(line.store.root.rglob("*.png"))
    assert len(pictures) >= 5
    for path in pictures:
        with Image.open(path) as opened:
            chunks = opened.text  # type: ignore[attr-defined]
        shows_real = path.name in ("inversion-real.png", "closest-pairs.png")
        assert chunks["synthetic"] == ("in part" if shows_real else "true"), path
        assert ("real" in chunks) == shows_real, path
        assert {"model", "seed", "recipe", "version"} <= set(chunks), path
        assert chunks["model"] == "/".join(path.relative_to(line.store.root).parts[:2])


def test_cards_name_limits_and_a_command(line: Any) -> None:
    for ref in (line.gan, line.map):
        card = (line.store.path(ref) / "README.md").read_text()
        for part in ("## Limits", "## Made with", "python -m flows."):
            assert part in card
        displayed = {name for name in os.listdir(line.store.path(ref)) if f"({name})" in card}
        assert displayed


def test_real_images_take_part_in_a_map_that_asks_for_them(line: Any, tmp_path: Path) -> None:
    plain = FitConfig.parse({**line.run.fit.to_dict(), "real": 0})
    assert plain.fingerprint() == line.run.fit.fingerprint()
    folder = line.refitted(tmp_path / "store", real=64)
    assert folder.name != line.map.name
    # The cycle comes nearer to those images than one that never saw any.
    pixels = line.run.train.dataset.open().pixels(np.arange(64))
    agreements = []
    for item in (folder, line.map_folder):
        editor = Editor.load(item)
        features = editor.embed(pixels)
        answers = editor.embed(editor.generate(editor.invert(features)))
        agreements.append(float((answers * features).sum(1).mean()))
    assert agreements[0] > agreements[1]
