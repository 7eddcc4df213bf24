"""Training an encoder as a command."""

import json
from pathlib import Path

import pytest

pytest.importorskip("prefect")

from prefect.cache_policies import NO_CACHE

from controlgen.artifacts import Store
from controlgen.config import EncoderConfig
from flows.cli import load_and_run
from flows.train_encoder import main, train_encoder_task

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "encoder-mnist.toml"
QUICK = [
    'dataset={ kind = "digits" }',
    'tower="test_resnet"',
    "images=64",
    "batch_size=32",
    "device=cpu",
]


def test_the_task_makes_an_encoder_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    config = EncoderConfig.load(CONFIG, QUICK)
    result = train_encoder_task.fn(config, str(store.root))
    assert result.kind == "encoder" and (store.open(result) / "encoder.safetensors").is_file()
    assert train_encoder_task.fn(config, str(store.root)) == result and store.refs() == [result]
    assert train_encoder_task.cache_policy == NO_CACHE


def test_the_command_shows_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    load_and_run(main, EncoderConfig, CONFIG, QUICK, Path("nowhere"), dry_run=True)
    displayed = json.loads(capsys.readouterr().out)
    assert displayed == EncoderConfig.load(CONFIG, QUICK).to_dict()
    assert displayed["augment"]["kind"] == "digits" and not displayed["augment"]["poses"]


def test_tissue_is_seen_without_an_up_and_without_labels() -> None:
    config = EncoderConfig.load(ROOT / "configs" / "encoder-histology.toml")
    assert config.augment.poses and config.augment.colour.kind == "stain"
    assert config.dataset.size == 64 and config.dataset.classes == "none"
