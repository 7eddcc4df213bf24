"""What the repository carries: copies that verify, with cards that claim only what was measured."""

from pathlib import Path
from typing import get_args

import pytest

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.store import verify
from controlgen.config import ClipConfig, RunConfig, SpacesConfig
from controlgen.datasets import MNIST, AnyDataset
from controlgen.stages.export import FREE
from controlgen.synthetic import SyntheticTissue
from controlgen.utils.files import read_json, write_json


def test_a_clip_of_another_world_is_shipped_without_scores_of_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: MNIST) -> None:
        raise AssertionError("digits were opened for a model of tissue")

    monkeypatch.setattr(MNIST, "open", refused)
    store, ref = Store(tmp_path / "store"), ArtifactRef("clip", "clip-tissue-0123456789ab")
    with store.create(ref, {}) as folder:
        write_json(folder / "open_clip_config.json", {})
        (folder / "open_clip_model.safetensors").write_bytes(b"weights")
    target = tmp_path / "pretrained" / "clip-tissue"
    stages.export_clip(ClipConfig(name="clip-tissue", world=SyntheticTissue()), ref, store, target)
    assert set(verify(target).files) == {
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    }
    assert (target / "open_clip_model.safetensors").read_bytes() == b"weights"
    card = (target / "README.md").read_text()
    assert "tissue: 600,000 procedural captioned images" in card
    assert "configs/clip-tissue.toml" in card and "MNIST" not in card


@pytest.mark.parametrize("audited", [True, False])
@pytest.mark.parametrize("kind", ["folder", "mnist"])
def test_pictures_and_places_of_other_peoples_images_are_not_passed_on(
    kind: str, audited: bool, tmp_path: Path
) -> None:
    root = tmp_path / "private" / "tiles"
    dataset = {"kind": "folder", "root": str(root)} if kind == "folder" else {"kind": "mnist"}
    run = RunConfig.parse(
        {"name": "toy", "train": {"dataset": dataset}, "about": "toy tiles", "limits": ["A toy."]}
    )
    store = Store(tmp_path / "store")
    refs = [ArtifactRef(item, "toy-0123456789ab") for item in ("gan", "map", "report")]
    with store.create(refs[0], {}) as folder:
        (folder / "losses.png").write_bytes(b"losses")
    with store.create(refs[1], {"gan": refs[0]}) as folder:
        (folder / "map.safetensors").write_bytes(b"map")
    with store.create(refs[2], {"map": refs[1]}) as folder:
        displayed = ["inversion-real.png", "closest-pairs.png"]
        actual = {"verdict": "no sign", "share": {"mean": 0.01, "low": 0, "high": 0.02}}
        copies = {"found": {**actual, "samples": 100}} if audited else None
        text = {"shows_real": displayed, "targets": [], "copies": copies, "quality": {}}
        write_json(folder / "report.json", text)
        for name in (*displayed, "samples.png"):
            (folder / name).write_bytes(b"picture")
        links = "\n\n".join(f"![{name}]({name})" for name in (*displayed, "samples.png"))
        (folder / "report.md").write_text(f"# Report\n\n{links}\n")
    target = tmp_path / "pretrained" / "toy"
    stages.export_model(run, *refs, store, target)

    # What is linked to is there, and real images are only where they may be shown.
    files, report = set(verify(target).files), (target / "report.md").read_text()
    linked = {part.partition(")")[0] for part in report.split("](")[1:]}
    assert linked <= files and "samples.png" in linked
    assert (kind == "mnist") == ("closest-pairs.png" in files) == ("inversion-real.png" in linked)
    card = (target / "README.md").read_text()
    # Nothing looks audited that was not, and what is left out is said to lie where it does.
    assert ("not audited" in card) != audited
    assert ("no sign: 0.010 (0.000 to 0.020) of 100 samples" in card) == audited
    lies = "report/toy-0123456789ab of the store in which the model was trained"
    assert (lies in report) == (kind == "folder")
    assert (lies in card) == (kind == "folder" and audited)
    assert "toy tiles; images only" in card and "A toy." in card and "samples.png" in card
    for path in target.iterdir():
        assert b"private" not in path.read_bytes(), path


def test_a_comparison_is_shipped_without_where_the_data_lay(tmp_path: Path) -> None:
    settings = {
        "name": "toy",
        "dataset": {"kind": "folder", "root": str(tmp_path / "private" / "t")},
    }
    config = SpacesConfig.parse({**settings, "spaces": {"a": {"kind": "efficientnet-lite0"}}})
    store, ref = Store(tmp_path / "store"), ArtifactRef("spaces", "toy-0123456789ab")
    with store.create(ref, {}) as folder:
        write_json(folder / "config.json", config.to_dict())
        write_json(folder / "report.json", {"spaces": []})
    target = tmp_path / "pretrained" / "toy"
    stages.export_comparison(config, ref, store, target)
    assert set(verify(target).files) == {"config.json", "report.json"}
    assert read_json(target / "config.json")["dataset"]["root"] == "t"
    assert read_json(target / "report.json") == {"spaces": []}


def test_what_may_be_shown_are_kinds_of_data_sets() -> None:
    kinds = {member.model_fields["kind"].default for member in get_args(get_args(AnyDataset)[0])}
    assert set(FREE) <= kinds
