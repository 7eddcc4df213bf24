"""What a run shows: bars on the terminal and, where a Prefect server runs, artifacts in its UI."""

import csv
import json
import logging
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_LEVEL,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from controlgen.artifacts import ArtifactRef, Store
from controlgen.errors import ConfigError
from controlgen.stages.training_monitor import PICTURE, read_evidence
from controlgen.utils.progress import TqdmBar

P = ParamSpec("P")
R = TypeVar("R")
RUN_LOGS = ("prefect.flow_runs", "prefect.task_runs")
SECONDS_BETWEEN = 5.0  # a progress artifact costs about 50 ms


def stage(function: Callable[P, R]) -> Callable[P, R]:
    """A Prefect task around one stage; the artifact store is the only cache."""
    made: Callable[P, R] = task(cache_policy=NO_CACHE, persist_result=False)(function)
    return made


@contextmanager
def quiet_prefect() -> Iterator[None]:
    """Flows without the heartbeat thread (a second a flow), patient with a busy machine, silent.

    Where no server is configured, the temporary one that Prefect starts outlives a Ctrl-C.
    """
    if not server_runs():
        from flows.server import LastingServer

        LastingServer()
    settings = {
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_LOGGING_LEVEL: "WARNING",
    }
    # A run logs an exception with its traceback before letting it rise; told once is enough.
    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(_not_risen)
    try:
        with temporary_settings(settings):
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(_not_risen)


def _not_risen(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or not record.name.startswith(RUN_LOGS)


def server_runs() -> bool:
    """Whether a Prefect server is configured; without one nothing is sent anywhere."""
    return bool(PREFECT_API_URL.value())


def check_server() -> None:
    """Raise ConfigError where a Prefect server is configured and nothing answers there.

    Where none is, the temporary one needs a folder of its own to write to.
    """
    url = PREFECT_API_URL.value()
    if not url:
        _check_home(PREFECT_HOME.value())
        return
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=10):
            pass
    except urllib.error.HTTPError:
        return  # something answers
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"PREFECT_API_URL = {url}: no Prefect server answers there ({error}); start one with "
            "`make ui`, or unset PREFECT_API_URL to run without"
        ) from None


def _check_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise ConfigError(
            f"PREFECT_HOME = {home}: cannot be written ({error.strerror}), and Prefect keeps its "
            "notes of a run there; name another folder"
        ) from None


class _Meter(TqdmBar):
    """A bar and, at most every few seconds, a progress artifact."""

    def __init__(self, title: str, total: float, start: float, unit: str) -> None:
        super().__init__(title, total, start, unit)
        self._total = total
        self._artifact: UUID | None = None
        if server_runs() and TaskRunContext.get() is not None:
            share = 100 * start / total
            self._artifact = _unwrap(create_progress_artifact(progress=share, description=title))
        self._told = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._artifact is not None and error is None:
            update_progress_artifact(artifact_id=self._artifact, progress=100.0)

    def to(self, done: float, note: str = "") -> None:
        """Move the bar to `done`, and now and then the artifact."""
        super().to(done, note)
        if self._artifact is not None and time.monotonic() - self._told > SECONDS_BETWEEN:
            self._told = time.monotonic()
            share = min(100.0, 100 * done / self._total)
            update_progress_artifact(artifact_id=self._artifact, progress=share)


class FlowReporter:
    """Opens meters that a Prefect UI can show."""

    def meter(self, title: str, total: float, start: float = 0, unit: str = "it") -> _Meter:
        """A new meter."""
        return _Meter(title, total, start, unit)


def publish(ref: ArtifactRef, store: Store) -> ArtifactRef:
    """Put an artifact's report and card, its tables and its pictures into the Prefect UI.

    Of a training that broke off: the verdict on it and the evidence, where it was watched.
    """
    if not server_runs() or TaskRunContext.get() is None:
        return ref
    folder, key = store.path(ref), f"{ref.kind}-{ref.name}"
    if folder.is_dir():
        _publish_made(folder, key)
    else:
        _publish_broken(folder.with_name(f"{folder.name}.partial"), key)
    return ref


def _publish_made(folder: Path, key: str) -> None:
    for name, end in (("report.md", ""), ("README.md", "-card")):
        if (folder / name).is_file():
            create_markdown_artifact(markdown=(folder / name).read_text(), key=_key(key + end))
    for path in sorted(folder.glob("table*.csv")):
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        create_table_artifact(table=rows, key=_key(f"{key}-{path.stem}"))
    if (folder / "report.json").is_file():
        targets = json.loads((folder / "report.json").read_text()).get("targets")
        if targets:
            create_table_artifact(table=targets, key=_key(f"{key}-targets"))
    for picture in sorted(folder.glob("*.png")):
        _publish_picture(picture, key)


def _publish_broken(folder: Path, key: str) -> None:
    evidence = read_evidence(folder)
    if evidence is None:
        return
    told = evidence[1]
    reasons = "".join(f"- {reason}\n" for reason in told.reasons)
    create_markdown_artifact(markdown=f"# {told.name}\n\n{reasons}", key=_key(f"{key}-verdict"))
    if (folder / PICTURE).is_file():
        _publish_picture(folder / PICTURE, key)


def _publish_picture(picture: Path, key: str) -> None:
    create_markdown_artifact(markdown=_inline(picture), key=_key(f"{key}-{picture.stem}"))


def _key(text: str) -> str:
    # Prefect takes small letters, digits and dashes.
    return re.sub("[^a-z0-9]+", "-", text.lower())


def _inline(picture: Path) -> str:
    # The server cannot read this machine's disk, so the picture travels inside the markdown.
    import base64

    encoded = base64.b64encode(picture.read_bytes()).decode()
    return f"## {picture.name}\n\n![{picture.name}](data:image/png;base64,{encoded})\n"


def _unwrap(value: Any) -> UUID:
    assert isinstance(value, UUID)
    return value
