"""`controlgen serve` as a process: its address, its warnings, and how it stops."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from controlgen import Client
from request_bodies import TEXT, begun

CODE = "from controlgen.cli.app import main; main()"


@pytest.fixture
def started() -> Iterator[Callable[..., Any]]:
    """Starts the process and waits for its address."""
    processes = []

    def start(*words: object, **environment: str) -> Any:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, "serve", *map(str, words), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )
        processes.append(process)
        assert process.stdout is not None
        told = process.stdout.readline()
        assert " at http://" in told, process.communicate()
        return process, told.split(" at ")[1].split()[0]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_what_was_begun_is_finished_after_the_signal(started: Any, line: Any) -> None:
    process, url = started(line.map_folder, "--no-studio")
    asked = {"expression": f"seed(1) + {TEXT}", "amounts": [0.5] * 16, "refine": 50}
    with ThreadPoolExecutor(1) as pool:
        posted = pool.submit(httpx.post, f"{url}/v1/sweep", json=asked, timeout=60)
        while not posted.done() and httpx.get(f"{url}/health").json()["waiting"] == 0:
            time.sleep(0.02)
        assert not posted.done(), posted.result().text
        process.send_signal(signal.SIGTERM)
        answer = posted.result()
    assert answer.status_code == 200
    assert len(answer.json()["pictures"]) == 16
    _, errors = process.communicate(timeout=30)
    assert "POST /v1/sweep 200" in errors
    assert "Traceback" not in errors


def test_a_second_signal_gives_up_what_is_not_whole_without_a_traceback(
    started: Any, line: Any
) -> None:
    process, url = started(line.map_folder, "--no-studio")
    httpx.get(f"{url}/health")
    with begun(url, 50):
        time.sleep(0.5)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        _, errors = process.communicate(timeout=20)  # far sooner than the body is waited for
    assert "Traceback" not in errors and "Error" not in errors, errors


def test_the_address_can_be_asked_as_soon_as_it_is_announced(
    line: Any, controlgen: Callable[..., Any], monkeypatch: Any
) -> None:
    asked = []

    def run(server: Any, sockets: Any) -> None:
        with socket.create_connection(sockets[0].getsockname(), timeout=5) as one:
            asked.append(one.getpeername())

    monkeypatch.setattr(uvicorn.Server, "run", run)
    told = controlgen("serve", line.map_folder, "--no-studio", "--port", "0")
    assert (told.code, told.err, len(asked)) == (0, "", 1)
    assert f":{asked[0][1]} " in told.out
    # Its way of logging ended with it.
    assert logging.getLogger("controlgen.serve").handlers == []


def test_a_request_that_does_not_stop_does_not_hold_up_the_end(
    line: Any, controlgen: Callable[..., Any], monkeypatch: Any
) -> None:
    free, ended = threading.Event(), []

    def stopped(server: Any, sockets: Any) -> None:
        server.config.app.state.work.submit(lambda _: free.wait(20))

    monkeypatch.setattr(uvicorn.Server, "run", stopped)
    monkeypatch.setattr(os, "_exit", ended.append)
    told = controlgen("serve", line.map_folder, "--no-studio", "--port", "0")
    free.set()
    assert ended == [1]
    assert told.err == "controlgen: ended over a request that did not stop\n"


def test_a_token_of_the_environment_and_saved_directions(
    started: Any, line: Any, controlgen: Callable[..., Any], tmp_path: Path
) -> None:
    told = controlgen("direction", line.map_folder, TEXT, "-o", tmp_path / "eight.safetensors")
    assert told.code == 0
    words = (line.map_folder, "--no-studio", "--directions", tmp_path)
    _, url = started(*words, CONTROLGEN_TOKEN="hush")
    assert httpx.get(f"{url}/v1/models").status_code == 401
    with Client(url, token="hush") as client:
        assert client.about["directions"] == ["eight.safetensors"]
        edit = client.answer('seed(1) + direction("eight.safetensors")')
        assert edit.recipe is not None
        assert edit.recipe["model"] == line.map_folder.name


@pytest.mark.parametrize(("token", "who"), [("", "EVERYONE"), ("hush", "whoever has the token")])
def test_beyond_loopback_there_is_a_loud_line(
    line: Any, controlgen: Callable[..., Any], monkeypatch: Any, token: str, who: str
) -> None:
    served: list[Any] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: served.append(self))
    words = ("serve", line.map_folder, "--no-studio", "--port", "0", "--token", token)
    told = controlgen(*words, "--host", "0.0.0.0")
    assert (told.code, len(served)) == (0, 1)
    assert "WARNING: 0.0.0.0 is not loopback" in told.err
    assert who in told.err
    told = controlgen(*words)
    assert (told.code, told.err, len(served)) == (0, "", 2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("MAP", "--port", "TAKEN"), "cannot be had (Address already in use)"),
        (("MAP", "MAP"), "another model is served as"),
        (("nowhere",), "nowhere: no such artifact"),
        (("MAP", "--directions", "EMPTY"), "holds no .safetensors file"),
        (("MAP", "--host", "256.0.0.1"), "cannot be had"),
        (("MAP", "--token", " "), "--token: blank"),
        (("MAP", "--token", "a\nb"), "--token: blank, or with signs"),
    ],
)
def test_a_mistake_is_one_line(
    line: Any, controlgen: Callable[..., Any], tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        known = {"MAP": line.map_folder, "TAKEN": taken.getsockname()[1], "EMPTY": tmp_path}
        given = [str(known.get(word, word)) for word in words]
        if "--port" not in given:
            given += ["--port", "0"]
        told = controlgen("serve", *given, "--no-studio")
    assert (told.code, told.out) == (2, "")
    assert says in told.err
    assert told.err.count("\n") == 1
