"""Progress bars on the terminal and, if a Prefect server runs, artifacts in its UI."""

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
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from controlgen.artifacts import ArtifactRef, Store
from controlgen.errors import ConfigError
from controlgen.stages.training_monitor import PICTURE, load_observations
from controlgen.utils.progress import TqdmBar

P = ParamSpec("P")
R = TypeVar("R")
RUN_LOGS = ("prefect.flow_runs", "prefect.task_runs")
SECONDS_BETWEEN = 5.0  # a progress artifact costs about 50 ms


def uncached_task(function: Callable[P, R]) -> Callable[P, R]:
    """A Prefect task without a cache of its own: the artifact store is the only cache."""
    wrapped: Callable[P, R] = task(cache_policy=NO_CACHE, persist_result=False)(function)
    return wrapped


@contextmanager
def quiet_prefect() -> Iterator[None]:
    """Run flows silently, without heartbeat thread (1 s a flow), with a long start-up timeout."""
    settings = {
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_LOGGING_LEVEL: "WARNING",
        PREFECT_LOGGING_TO_API_ENABLED: server_runs(),  # a temporary server's logs are lost
    }
    # Prefect logs an exception with its traceback and then raises it; once is enough.
    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(_is_not_traceback)
    try:
        with temporary_settings(settings):
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(_is_not_traceback)


def _is_not_traceback(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or not record.name.startswith(RUN_LOGS)


def server_runs() -> bool:
    """Whether a Prefect server is configured; without one nothing is published."""
    return bool(PREFECT_API_URL.value())


def check_server() -> None:
    """Raise ConfigError if a Prefect server is configured but does not answer.

    Without a configured server, the folder of the temporary one must be writable.
    """
    url = PREFECT_API_URL.value()
    if not url:
        _check_home(PREFECT_HOME.value())
        return
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=10):
            pass
    except urllib.error.HTTPError:
        return  # a server answers, even if not on this path
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"PREFECT_API_URL = {url}: no Prefect server answers there ({error}); start one with "
            "`make ui`, or unset PREFECT_API_URL to run without"
        ) from None


def describe_start_failure(error: RuntimeError) -> str:
    """One line on why Prefect's temporary server did not start."""
    last = (str(error).strip().splitlines() or ["no reason given"])[-1]
    return (
        f"Prefect's temporary server did not start: {last.strip()} (its records are in "
        "PREFECT_HOME, by default ~/.prefect; `make ui` starts a permanent server)"
    )


def _check_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise ConfigError(
            f"PREFECT_HOME = {home}: cannot be written ({error.strerror}); Prefect stores "
            "its records of a run there; name another folder"
        ) from None


class _PublishedBar(TqdmBar):
    """A progress bar that also updates a progress artifact every few seconds."""

    def __init__(self, title: str, total: float, start: float, unit: str) -> None:
        super().__init__(title, total, start, unit)
        self._total = total
        self._artifact: UUID | None = None
        if server_runs() and TaskRunContext.get() is not None:
            share = 100 * start / total
            self._artifact = _unwrap(create_progress_artifact(progress=share, description=title))
        self._published_at = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._artifact is not None and error is None:
            update_progress_artifact(artifact_id=self._artifact, progress=100.0)

    def update_to(self, done: float, note: str = "") -> None:
        """Move the bar to `done`, and from time to time the artifact."""
        super().update_to(done, note)
        if self._artifact is not None and time.monotonic() - self._published_at > SECONDS_BETWEEN:
            self._published_at = time.monotonic()
            share = min(100.0, 100 * done / self._total)
            update_progress_artifact(artifact_id=self._artifact, progress=share)


class FlowReporter:
    """Starts progress bars that a Prefect UI can show."""

    def start(self, title: str, total: float, start: float = 0, unit: str = "it") -> _PublishedBar:
        """Start a progress bar."""
        return _PublishedBar(title, total, start, unit)


def publish(ref: ArtifactRef, store: Store) -> ArtifactRef:
    """Publish an artifact's report, model card, tables and pictures in the Prefect UI.

    For a training that failed: its verdict and observations, if it was monitored.
    """
    if not server_runs() or TaskRunContext.get() is None:
        return ref
    folder, key = store.path(ref), f"{ref.kind}-{ref.name}"
    if folder.is_dir():
        _publish_finished(folder, key)
    else:
        _publish_failed(folder.with_name(f"{folder.name}.partial"), key)
    return ref


def _publish_finished(folder: Path, key: str) -> None:
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


def _publish_failed(folder: Path, key: str) -> None:
    stored = load_observations(folder)
    if stored is None:
        return
    verdict = stored[1]
    reasons = "".join(f"- {reason}\n" for reason in verdict.reasons)
    create_markdown_artifact(markdown=f"# {verdict.name}\n\n{reasons}", key=_key(f"{key}-verdict"))
    if (folder / PICTURE).is_file():
        _publish_picture(folder / PICTURE, key)


def _publish_picture(picture: Path, key: str) -> None:
    create_markdown_artifact(markdown=_inline(picture), key=_key(f"{key}-{picture.stem}"))


def _key(text: str) -> str:
    # Prefect allows lower-case letters, digits and dashes.
    return re.sub("[^a-z0-9]+", "-", text.lower())


def _inline(picture: Path) -> str:
    # The server may run on another machine, so the picture is embedded in the markdown.
    import base64

    encoded = base64.b64encode(picture.read_bytes()).decode()
    return f"## {picture.name}\n\n![{picture.name}](data:image/png;base64,{encoded})\n"


def _unwrap(value: Any) -> UUID:
    assert isinstance(value, UUID)
    return value
