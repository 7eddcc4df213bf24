"""What the repository carries: copies that verify, with cards that claim only what was measured."""

from pathlib import Path

import pytest

from controlgen import stages
from controlgen.artifacts import Ref, Store
from controlgen.artifacts.store import verify, write_json
from controlgen.config import ClipConfig
from controlgen.datasets import MNIST
from controlgen.worlds import Tissue


def test_a_clip_of_another_world_is_shipped_without_scores_of_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: MNIST) -> None:
        raise AssertionError("digits were opened for a model of tissue")

    monkeypatch.setattr(MNIST, "open", refused)
    store, ref = Store(tmp_path / "store"), Ref("clip", "clip-tissue-0123456789ab")
    with store.making(ref, {}) as folder:
        write_json(folder / "open_clip_config.json", {})
        (folder / "open_clip_model.safetensors").write_bytes(b"weights")
    target = tmp_path / "pretrained" / "clip-tissue"
    stages.ship_clip(ClipConfig(name="clip-tissue", world=Tissue()), ref, store, target)
    assert set(verify(target).files) == {
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    }
    assert (target / "open_clip_model.safetensors").read_bytes() == b"weights"
    card = (target / "README.md").read_text()
    assert "tissue: 600,000 procedural captioned images" in card
    assert "configs/clip-tissue.toml" in card and "MNIST" not in card
