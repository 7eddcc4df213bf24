"""Ctrl-C and SIGTERM without a configured server, sent to the run or to its whole group."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("prefect")

ROOT = Path(__file__).parents[2]
SECONDS = 60  # for a stopped run to end, also on a busy machine


def start_process(*words: str, cwd: Path, **pipes: int) -> subprocess.Popen[str]:
    saved = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    settings = {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(cwd / "prefect")}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env={**saved, **settings, "OMP_NUM_THREADS": "1"},
        text=True,
        start_new_session=True,
        # In the background of a script SIGINT is ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
        **pipes,
    )


def descendants(parent: int) -> set[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    actual = {child for child, above in pairs if above == parent}
    return actual.union(*(descendants(child) for child in actual))


def is_running(process: int) -> bool:
    """Whether a process is there; one that ended and waits for its parent is not."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True)
    return bool(listed.stdout.strip()) and not listed.stdout.strip().startswith(b"Z")


def wait_until(what: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_a_stopped_run_says_one_line_leaves_no_server_and_goes_on(tmp_path: Path) -> None:
    message = tmp_path / "said"
    sizes = ["train.total_images=400_000", "train.checkpoint_images=160"]
    overrides = [word for size in sizes for word in ("--set", size)]

    def stopped(stop: Callable[[int], None]) -> tuple[int, list[str]]:
        """Train until a checkpoint is written, then stop."""
        words = ["-m", "flows.train_gan", "configs/tiny.toml", "--store", str(tmp_path / "store")]
        began = time.time()
        with message.open("w") as stderr:
            run = start_process(*words, *overrides, cwd=tmp_path, stderr=stderr.fileno())
        try:
            saved = lambda: [  # noqa: E731
                path
                for path in tmp_path.glob("store/gan/*/grids/*.png")
                if path.stat().st_mtime > began
            ]
            wait_until(lambda: len(saved()) > 1 or run.poll() is not None, 300)
            assert run.poll() is None, message.read_text()
            servers = descendants(run.pid)
            assert servers
            stop(run.pid)
            code = run.wait(SECONDS)
            wait_until(lambda: not any(map(is_running, servers)), 10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        lines = [line.strip() for line in message.read_text().replace("\r", "\n").splitlines()]
        return code, [line for line in lines if line]

    def terminate_repeatedly(pid: int) -> None:
        for _ in range(3):
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.05)

    for stop, expected in (
        (lambda pid: os.killpg(pid, signal.SIGINT), 130),
        (lambda pid: os.kill(pid, signal.SIGTERM), 143),
        (terminate_repeatedly, 143),
    ):
        code, lines = stopped(stop)
        bar = [line for line in lines if line.startswith("train tiny-")]
        # The last of many signals may find a process that is ending; a shell says 143 of it, too.
        assert code == expected or (stop is terminate_repeatedly and code == -signal.SIGTERM)
        text = [line for line in lines if line not in bar]
        assert set(text) == {"stopped; run the same command again to go on"}
        assert len(text) == 1 or stop is terminate_repeatedly
        # The first run began at nothing, the others where the one before was stopped.
        assert ("| 0.00/400k" in bar[0]) == (expected == 130), bar[0]
