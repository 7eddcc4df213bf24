"""A server in a thread, on loopback."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from controlgen.serve.registry import ServedModel


@dataclass(frozen=True)
class RunningServer:
    """Address and application of a server in a thread."""

    url: str
    app: FastAPI
    served: ServedModel

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/{path}", json=body, headers=headers, timeout=60)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=60)


@contextmanager
def run_server(app: FastAPI, served: ServedModel, port: int = 0) -> Iterator[RunningServer]:
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        while not server.started:
            assert thread.is_alive(), "the server stopped during its start"
            threading.Event().wait(0.01)
        yield RunningServer(url, app, served)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
