"""The whole line through Prefect: same artifacts as the stages alone, and what a server shows."""

import http.server
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect")

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from controlgen.artifacts import ArtifactRef, Store, read_manifest
from controlgen.errors import ConfigError, DataError
from flows.cli import main as flow_main
from flows.cli import run_with_export
from flows.fit_map import RunArtifacts
from flows.pipeline import main, pipeline
from flows.prefect_ui import (
    FlowReporter,
    check_server,
    publish,
    quiet_prefect,
    server_runs,
    uncached_task,
)

# Prefect's own threads and SQLite connections end after the test that warnings are blamed on.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="session")
def harness() -> Iterator[None]:
    """A temporary server with a database of its own; a busy machine starts it slowly."""
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session")
def flow_run(line: Any, harness: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """The flow on the settings of `line`, in another store."""
    store = Store(tmp_path_factory.mktemp("flow") / "store")
    with quiet_prefect():
        chain, report = pipeline(line.run, str(store.root))
    return store, chain, report


def artifacts() -> list[Any]:
    with get_client(sync_client=True) as client:
        return list(client.read_artifacts(limit=200))


def test_the_flow_makes_what_the_stages_make_bit_by_bit(line: Any, flow_run: Any) -> None:
    store, chain, report = flow_run
    assert chain == RunArtifacts(line.gan, line.bank, line.features, line.map)
    assert set(store.refs()) == {*chain, report}
    for ref in chain:
        alone, through = (read_manifest(item.open(ref)).files for item in (line.store, store))
        exact = {name for name in alone if name.endswith((".safetensors", ".npy"))}
        assert exact
        assert {name: through[name] for name in exact} == {name: alone[name] for name in exact}
    assert (store.open(report) / "report.md").is_file()


def test_running_again_returns_at_once_and_touches_nothing(line: Any, flow_run: Any) -> None:
    store, chain, report = flow_run
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    with quiet_prefect():
        assert pipeline(line.run, str(store.root)) == (chain, report)
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before


def test_a_server_shows_progress_tables_cards_and_pictures(flow_run: Any) -> None:
    store, chain, report = flow_run
    actual = artifacts()
    kinds = {item.type for item in actual}
    assert {"progress", "table", "markdown"} <= kinds
    # Every stage told its progress and ended at 100 per cent.
    text = {item.description: item.data for item in actual if item.type == "progress"}
    for verb, ref in zip(("train", "sample", "embed", "fit"), chain, strict=True):
        assert text[f"{verb} {ref.name}"] == 100.0
    assert text[f"evaluate {report.name}"] == 100.0
    # The report and the cards are there by key, word for word, and so are the pictures.
    by_key = {item.key: item.data for item in actual if item.key}
    assert by_key[f"report-{report.name}"] == (store.path(report) / "report.md").read_text()
    card = by_key[f"map-{chain.map.name}-card"]
    assert card == (store.path(chain.map) / "README.md").read_text()
    assert "data:image/png;base64," in by_key[f"gan-{chain.gan.name}-grid"]
    assert "flip rate" in str(by_key[f"report-{report.name}-targets"])


def test_flows_and_tasks_are_recorded_as_completed(flow_run: Any) -> None:
    with get_client(sync_client=True) as client:
        flow_runs = client.read_flow_runs()
        task_runs = client.read_task_runs()
    assert {run.state_name for run in flow_runs} == {"Completed"}
    names = {run.name.rpartition("-")[0] for run in task_runs}
    assert {"train_gan_task", "draw_samples_task", "fit_map_task", "evaluate_task"} <= names


def test_without_a_server_nothing_is_sent(line: Any, flow_run: Any, tmp_path: Path) -> None:
    """What publishes asks first; outside of a task, or without a server, a meter is a bar."""
    assert server_runs()
    count = len(artifacts())
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert not server_runs()
        with FlowReporter().start("nowhere", 10, unit="images") as meter:
            meter.update_to(10)
    with FlowReporter().start("outside of a task", 10) as meter:
        meter.update_to(10)
    assert len(artifacts()) == count


def test_as_a_process_with_no_server_configured(tmp_path: Path) -> None:
    """What a user has at first: nothing of Prefect set up, and no network needed."""
    saved = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    root = Path(__file__).parents[2]
    settings = {"PYTHONPATH": str(root), "PREFECT_HOME": str(tmp_path / "prefect")}
    command = ["-m", "flows.train_gan", "configs/tiny.toml", "--store", str(tmp_path / "store")]
    ended = subprocess.run(
        [sys.executable, *command, "--set", "train.total_images=32"],
        cwd=root,
        env={**saved, **settings, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    (result,) = Store(tmp_path / "store").refs()
    assert ended.stdout == f"{tmp_path / 'store' / str(result)}\n"
    assert Store(tmp_path / "store").has(result)
    # Nothing but the bar: no log line of Prefect, no warning.
    lines = {line.strip() for line in ended.stderr.replace("\r", "\n").splitlines()} - {""}
    assert all(line.startswith(f"train {result.name}") for line in lines), ended.stderr


def test_a_library_error_inside_a_task_is_one_line_and_exit_2(
    harness: None,
    tmp_path: Path,
    toy_clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A data set that is not to be had: known only once the flow runs."""
    from controlgen.datasets import mnist_files

    def nothing(*args: Any, **settings: Any) -> Any:
        raise DataError("mnist: not in the cache; mirror: no route; npm: not installed")

    monkeypatch.setattr(mnist_files, "fetch_verified", nothing)
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "")
        if name.startswith("controlgen.datasets.") and hasattr(module, "fetch_verified"):
            monkeypatch.setattr(module, "fetch_verified", nothing)
    config = Path(__file__).parents[2] / "configs" / "tiny.toml"
    command = [str(config), "--set", 'train.dataset.kind="mnist"', "--store", str(tmp_path / "s")]
    monkeypatch.setattr(sys, "argv", ["flows.pipeline", *command])
    # pytest's own capturing handler is not what a user has: a console handler on stderr is.
    console = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(console)
    try:
        with pytest.raises(SystemExit) as ended:
            run_with_export(main)
    finally:
        logging.getLogger().removeHandler(console)
    answer = capfd.readouterr()
    assert ended.value.code == 2
    assert answer.out == ""
    assert (
        answer.err == "DataError: mnist: not in the cache; mirror: no route; npm: not installed\n"
    )
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("embed.space.model=nope", "ArtifactMissing: "),
        ('fit.attributes={ kind = "tissue" }', "Incompatible: tissue attributes: images of shape"),
        ("fit={ held_out = 20, reachability = {} }", "ConfigError: fit.reachability: fit.held_out"),
        ('evaluate.class_names=["cat", "dog"]', "ConfigError: evaluate: the data's classes are"),
        ('evaluate.audit={ kind = "open_clip", model = "nope" }', "ArtifactMissing: "),
    ],
)
def test_what_a_later_stage_would_refuse_is_refused_before_training(
    harness: None,
    tmp_path: Path,
    toy_clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    override: str,
    message: str,
) -> None:
    config = Path(__file__).parents[2] / "configs" / "tiny.toml"
    space = f'embed.space={{ kind = "open_clip", model = "{toy_clip}" }}'
    command = [str(config), "--set", space, "--set", override, "--store", str(tmp_path / "s")]
    monkeypatch.setattr(sys, "argv", ["flows.pipeline", *command])
    with pytest.raises(SystemExit) as ended:
        run_with_export(main)
    answer = capfd.readouterr()
    assert ended.value.code == 2
    assert (answer.out, answer.err.count("\n")) == ("", 1), answer.err
    assert answer.err.startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/api"
    config = str(Path(__file__).parents[2] / "configs" / "tiny.toml")
    monkeypatch.setattr(sys, "argv", ["flows.pipeline", config, "--store", str(tmp_path / "store")])
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(SystemExit) as ended:
        run_with_export(main)
    assert ended.value.code == 2
    answer = capfd.readouterr()
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert answer.err.startswith(f"ConfigError: PREFECT_API_URL = {url}: no Prefect server answers")
    assert "make ui" in answer.err and "unset PREFECT_API_URL" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_written_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / "prefect"
    nowhere = temporary_settings({PREFECT_HOME: home}, restore_defaults={PREFECT_API_URL})
    message = re.escape(f"PREFECT_HOME = {home}: cannot be written (Not a directory)")
    with nowhere, pytest.raises(ConfigError, match=message):
        check_server()
    fine = temporary_settings(
        {PREFECT_HOME: tmp_path / "a" / "b"}, restore_defaults={PREFECT_API_URL}
    )
    with fine:
        check_server()
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_server_that_does_not_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError(
            "Timed out while attempting to connect to ephemeral Prefect API server. stderr: "
            "Traceback\n  File x\nOperationalError: no such table"
        )

    monkeypatch.setattr(sys, "argv", ["flow"])
    with pytest.raises(SystemExit) as ended:
        flow_main(fail, "A flow.")
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "did not start: OperationalError: no such table " in error and error.count("\n") == 1


def test_any_answer_is_a_server() -> None:
    """A hosted server need not have the health page of a local one."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as answering:
        threading.Thread(target=answering.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{answering.server_address[1]}/api"
        with temporary_settings({PREFECT_API_URL: url}):
            check_server()


def metadata_of(ref: ArtifactRef, store: Store) -> dict[str, Any]:
    """What a task publishes of an artifact, by what its key ends in."""
    from prefect import flow

    @uncached_task
    def show(ref: ArtifactRef) -> ArtifactRef:
        return publish(ref, store)

    @flow(validate_parameters=False)
    def showing_flow(ref: ArtifactRef) -> ArtifactRef:
        return show(ref)

    with quiet_prefect():
        assert showing_flow(ref) == ref
    key = f"{ref.kind}-{ref.name}".replace("_", "-")
    actual = {
        artifact.key: artifact.data
        for artifact in artifacts()
        if artifact.key and artifact.key.startswith(key)
    }
    return {name.removeprefix(key): data for name, data in actual.items()}


def test_a_comparison_shows_its_tables_beside_report_and_card(
    harness: None, tmp_path: Path
) -> None:
    store, ref = Store(tmp_path), ArtifactRef("comparison", "two_toys-0123456789ab")
    with store.create(ref, {}) as folder:
        (folder / "report.md").write_text("the report")
        (folder / "README.md").write_text("the card")
        (folder / "report.json").write_text('{"outcomes": []}')
        (folder / "table1.csv").write_text('member,value\na,1.5\n"b, c",\n')
        (folder / "samples.png").write_bytes(b"picture")
    displayed = metadata_of(ref, store)
    assert set(displayed) == {"", "-card", "-table1", "-samples"}  # and no table of no targets
    assert (displayed[""], displayed["-card"]) == ("the report", "the card")
    rows = [{"member": "a", "value": "1.5"}, {"member": "b, c", "value": ""}]
    assert json.loads(displayed["-table1"]) == rows


def test_a_training_that_broke_off_shows_its_verdict_and_evidence(
    harness: None, tmp_path: Path
) -> None:
    store, ref = Store(tmp_path), ArtifactRef("gan", "broken-0123456789ab")
    assert metadata_of(ref, store) == {}
    partial = store.path(ref).with_name(f"{store.path(ref).name}.partial")
    partial.mkdir(parents=True)
    for name in ("grid.png", "convergence.png"):
        (partial / name).write_bytes(b"picture")
    assert metadata_of(ref, store) == {}  # a picture without its verdict is of an earlier attempt
    text = {"name": "diverged", "reasons": ["the loss became nan"]}
    (partial / "verdict.json").write_text(json.dumps(text))
    (partial / "watch.jsonl").write_text("")
    displayed = metadata_of(ref, store)
    assert set(displayed) == {"-verdict", "-convergence"}
    assert "diverged" in displayed["-verdict"] and "the loss became nan" in displayed["-verdict"]


def test_an_error_reaches_the_caller_as_itself(harness: None) -> None:
    from prefect import flow

    @uncached_task
    def refuse(ref: ArtifactRef) -> ArtifactRef:
        raise DataError(f"{ref}: no")

    @flow(validate_parameters=False)
    def refusing_flow(ref: ArtifactRef) -> ArtifactRef:
        return refuse(ref)

    with quiet_prefect(), pytest.raises(DataError, match="gan/x-1: no"):
        refusing_flow(ArtifactRef("gan", "x-1"))


def test_tasks_cache_nothing_and_persist_nothing() -> None:
    """The artifact store is the only cache."""
    from prefect import Task
    from prefect.cache_policies import NO_CACHE

    from flows import compare, draw_samples, embed_images, evaluate, fit_map, train_clip, train_gan

    modules = (train_gan, draw_samples, embed_images, fit_map, evaluate, train_clip, compare)
    tasks = [
        member for module in modules for member in vars(module).values() if isinstance(member, Task)
    ]
    assert len({task.name for task in tasks}) == 10
    for task in tasks:
        assert task.cache_policy == NO_CACHE
        assert task.persist_result is False
        assert task.retries == 0
