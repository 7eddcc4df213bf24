"""`controlgen serve` as a process: address, warnings and shutdown."""

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
from request_bodies import TEXT, open_partial_request

CODE = "from controlgen.cli.app import main; main()"


@pytest.fixture
def started() -> Iterator[Callable[..., Any]]:
    """Start the process and wait for its address."""
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
        line = process.stdout.readline()
        assert " at http://" in line, process.communicate()
        return process, line.split(" at ")[1].split()[0]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_running_request_completes_after_sigterm(started: Any, line: Any) -> None:
    process, url = started(line.map_folder, "--no-studio")
    body = {"expression": f"seed(1) + {TEXT}", "amounts": [0.5] * 16, "refine": 50}
    with ThreadPoolExecutor(1) as pool:
        posted = pool.submit(httpx.post, f"{url}/v1/sweep", json=body, timeout=60)
        while not posted.done() and httpx.get(f"{url}/health").json()["waiting"] == 0:
            time.sleep(0.02)
        assert not posted.done(), posted.result().text
        process.send_signal(signal.SIGTERM)
        response = posted.result()
    assert response.status_code == 200
    assert len(response.json()["pictures"]) == 16
    _, errors = process.communicate(timeout=30)
    assert "POST /v1/sweep 200" in errors
    assert "Traceback" not in errors


def test_second_signal_cancels_partial_requests_without_traceback(started: Any, line: Any) -> None:
    process, url = started(line.map_folder, "--no-studio")
    httpx.get(f"{url}/health")
    with open_partial_request(url, 50):
        time.sleep(0.5)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        _, errors = process.communicate(timeout=20)  # well before the timeout of the body
    assert "Traceback" not in errors and "Error" not in errors, errors


def test_address_accepts_connections_when_announced(
    line: Any, controlgen: Callable[..., Any], monkeypatch: Any
) -> None:
    addresses = []

    def run(server: Any, sockets: Any) -> None:
        with socket.create_connection(sockets[0].getsockname(), timeout=5) as connection:
            addresses.append(connection.getpeername())

    monkeypatch.setattr(uvicorn.Server, "run", run)
    result = controlgen("serve", line.map_folder, "--no-studio", "--port", "0")
    assert (result.code, result.err, len(addresses)) == (0, "", 1)
    assert f":{addresses[0][1]} " in result.out
    # The log handler is removed.
    assert logging.getLogger("controlgen.serve").handlers == []


def test_hanging_request_does_not_block_exit(
    line: Any, controlgen: Callable[..., Any], monkeypatch: Any
) -> None:
    release, exit_codes = threading.Event(), []

    def run(server: Any, sockets: Any) -> None:
        server.config.app.state.jobs.submit(lambda: release.wait(20))

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(os, "_exit", exit_codes.append)
    result = controlgen("serve", line.map_folder, "--no-studio", "--port", "0")
    release.set()
    assert exit_codes == [1]
    assert result.err == "controlgen: a request did not stop; exiting\n"


def test_token_from_environment_and_saved_directions(
    started: Any, line: Any, controlgen: Callable[..., Any], tmp_path: Path
) -> None:
    result = controlgen("direction", line.map_folder, TEXT, "-o", tmp_path / "eight.safetensors")
    assert result.code == 0
    words = (line.map_folder, "--no-studio", "--directions", tmp_path)
    _, url = started(*words, CONTROLGEN_TOKEN="hush")
    assert httpx.get(f"{url}/v1/models").status_code == 401
    with Client(url, token="hush") as client:
        assert client.about["directions"] == ["eight.safetensors"]
        edit = client.apply('seed(1) + direction("eight.safetensors")')
        assert edit.recipe is not None
        assert edit.recipe["model"] == line.map_folder.name


@pytest.mark.parametrize(("token", "who"), [("", "ANYONE"), ("hush", "anyone with the token")])
def test_public_address_prints_a_warning(
    line: Any, controlgen: Callable[..., Any], monkeypatch: Any, token: str, who: str
) -> None:
    served: list[Any] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: served.append(self))
    words = ("serve", line.map_folder, "--no-studio", "--port", "0", "--token", token)
    result = controlgen(*words, "--host", "0.0.0.0")
    assert (result.code, len(served)) == (0, 1)
    assert "WARNING: 0.0.0.0 is not loopback" in result.err
    assert who in result.err
    result = controlgen(*words)
    assert (result.code, result.err, len(served)) == (0, "", 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("MAP", "--port", "TAKEN"), "cannot bind (Address already in use)"),
        (("MAP", "MAP"), "another model is served as"),
        (("nowhere",), "nowhere: no such artifact"),
        (("MAP", "--directions", "EMPTY"), "holds no .safetensors file"),
        (("MAP", "--host", "256.0.0.1"), "cannot bind"),
        (("MAP", "--token", " "), "--token: is blank"),
        (("MAP", "--token", "a\nb"), "not allowed in an HTTP header"),
    ],
)
def test_serve_mistake_prints_one_line(
    line: Any, controlgen: Callable[..., Any], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        placeholders = {"MAP": line.map_folder, "TAKEN": other.getsockname()[1], "EMPTY": tmp_path}
        arguments = [str(placeholders.get(word, word)) for word in words]
        if "--port" not in arguments:
            arguments += ["--port", "0"]
        result = controlgen("serve", *arguments, "--no-studio")
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1
