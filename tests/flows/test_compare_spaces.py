"""The comparison of spaces as a command, and the configurations that come with it."""

import json
from pathlib import Path

import pytest

pytest.importorskip("prefect")

from prefect.cache_policies import NO_CACHE

from controlgen import stages
from controlgen.artifacts import Store
from controlgen.config import RunConfig, SpacesConfig
from controlgen.synthetic.tissue import _captions as words
from flows.cli import load_and_run
from flows.compare_spaces import compare_spaces_task, main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(toy_clip: Path, tmp_path: Path) -> Path:
    """A comparison on scikit-learn's digits, with one space that is not there."""
    path = tmp_path / "toy.toml"
    path.write_text(
        f"""
        name = "toy"
        dataset = {{ kind = "digits" }}
        images = 64
        bootstraps = 20
        [spaces]
        toy = {{ kind = "open_clip", model = "{toy_clip}" }}
        gone = {{ kind = "open_clip", model = "no-such-model" }}
        """
    )
    return path


def test_the_task_makes_the_stages_report_and_nothing_else_is_kept(
    config: Path, tmp_path: Path
) -> None:
    settings, store = SpacesConfig.load(config), Store(tmp_path / "store")
    result = compare_spaces_task.fn(settings, str(store.root))
    rows = json.loads((store.open(result) / "report.json").read_text())["spaces"]
    assert [row["name"] for row in rows] == ["largest class", "colour alone", "toy", "gone"]
    assert rows[1]["size"] == 2 and rows[2]["probe"]["mean"] > rows[0]["probe"]["mean"]
    assert not list(store.open(result).glob("*.safetensors"))

    # The stage alone finds the task's report; the store is the only cache.
    assert stages.compare_spaces(settings, store) == result
    assert store.refs() == [result]
    assert compare_spaces_task.cache_policy == NO_CACHE
    assert compare_spaces_task.persist_result is False


def test_the_command_shows_its_settings(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_and_run(main, SpacesConfig, config, ["images=32"], Path("nowhere"), dry_run=True)
    displayed = json.loads(capsys.readouterr().out)
    assert displayed == SpacesConfig.load(config, ["images=32"]).to_dict()
    assert displayed["images"] == 32 and not Path("nowhere").exists()


def test_the_shipped_comparison_speaks_the_tissue_worlds_own_words() -> None:
    config = SpacesConfig.load(ROOT / "configs" / "spaces-histology.toml")
    assert config.name == "spaces-histology"
    assert config.prompts == {
        "benign": words.ARCHITECTURES[0],
        "adenocarcinoma": words.ARCHITECTURES[1],
    }


def test_the_quick_histology_run_needs_no_data_and_no_labels() -> None:
    run = RunConfig.load(ROOT / "configs" / "histology-quick.toml")
    assert run.train.dataset.kind == "ihc" and not run.train.dataset.open().class_names
    assert run.evaluate.judge == "none" and run.evaluate.memorisation == 0
    assert run.fit.attributes is not None and run.fit.attributes.kind == "tissue"
    run.fit.attributes.check(run.train.dataset.open().image_shape)
    assert 2 * run.fit.held_out <= run.sample.n
