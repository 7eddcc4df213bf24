"""A real server on loopback over the tiny line, and what requests need."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from controlgen import Editor
from controlgen.serve.api import create_app
from controlgen.serve.limits import Limits
from controlgen.serve.models import Served


@dataclass(frozen=True)
class Running:
    """A server in a thread."""

    url: str
    app: FastAPI
    served: Served

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/{path}", json=body, headers=headers, timeout=60)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=60)


@contextmanager
def running(app: FastAPI, served: Served) -> Iterator[Running]:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=asyncio.run, args=(server.serve([bound]),))
    thread.start()
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    try:
        while not server.started:
            assert thread.is_alive(), "the server ended before it began"
            threading.Event().wait(0.01)
        yield Running(url, app, served)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        bound.close()


@pytest.fixture(scope="session")
def served(line: Any) -> Served:
    """The tiny map, loaded once."""
    return Served("tiny", Editor.load(line.map_folder), "# A card", 4)


@pytest.fixture(scope="session")
def server(served: Served) -> Iterator[Running]:
    """It, with the usual limits."""
    with running(create_app({"tiny": served}), served) as found:
        yield found


@pytest.fixture
def limited(served: Served) -> Iterator[Callable[..., Running]]:
    """Servers with other limits, tokens or hosts, ended with the test."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(token: str = "", hosts: tuple[str, ...] = (), **limits: Any) -> Running:
            app = create_app({"tiny": served}, Limits.parse(limits), token, hosts)
            return stack.enter_context(running(app, served))

        yield start
