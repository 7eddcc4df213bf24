"""Connections of the client: invalid addresses, missing servers, lost connections, retries."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest

from controlgen import Client
from controlgen.errors import ConfigError, DataError
from controlgen.serve.http_pool import MAX_ATTEMPTS, RequestRejected

MODEL = {"name": "far", "image_shape": [1, 8, 8], "latent_size": 4}


class ScriptedHandler(BaseHTTPRequestHandler):
    """Drops the next `server.drop` requests, then sends the busy responses, then the usual one."""

    protocol_version = "HTTP/1.1"
    server: Any

    def setup(self) -> None:
        """Count the connection."""
        super().setup()
        self.server.opened += 1

    def do_GET(self) -> None:
        """Record the path and respond."""
        self.server.paths.append(self.path)
        if self.server.drop:
            self.server.drop -= 1
            self.close_connection = True
            return
        status, content = self.server.busy.pop() if self.server.busy else self.server.response
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Not printed."""


@pytest.fixture
def scripted() -> Iterator[Any]:
    """A server whose responses a test sets."""
    with ThreadingHTTPServer(("127.0.0.1", 0), ScriptedHandler) as http_server:
        server: Any = http_server
        server.opened, server.paths, server.drop = 0, [], 0
        server.response = 200, json.dumps([MODEL]).encode()
        server.busy, server.headers = [], {}
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "localhost:8000", "ftp://a", "http://", "http://a b", "http://a:99999"]
)
def test_an_invalid_address_is_rejected(url: str) -> None:
    with pytest.raises(ConfigError, match="give it as http://HOST:PORT") as caught:
        Client(url)
    assert "\n" not in str(caught.value)


def test_a_missing_server_is_one_line() -> None:
    with socket.socket() as bound:  # bound but not listening: no other process can respond there
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(DataError) as caught:
            Client(url)
    message = str(caught.value)
    assert message.startswith(f"{url}: no response (")
    assert "refused" in message and "\n" not in message


@pytest.mark.parametrize("host", ["a..b", "a" * 70])
def test_an_impossible_host_name_is_one_line(host: str) -> None:
    with pytest.raises(DataError, match="no response .*label") as caught:
        Client(f"http://{host}")
    assert "\n" not in str(caught.value)


def test_the_reason_for_a_rejected_body_is_read(limited: Any) -> None:
    url = limited(body_bytes=1_000_000).url
    latents = np.zeros((64, 16), np.float32)
    with Client(url) as client:
        assert len(client.generate(latents)) == 64
        for _ in range(5):  # the server stops reading before all of the body is sent
            with pytest.raises(RequestRejected, match="a body of more than 1000000 bytes$"):
                client.generate(np.zeros((64, 100_000), np.float32))
        assert len(client.generate(latents)) == 64


def test_a_silent_server_times_out() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(DataError, match="no response .*timed out"):
            Client(url, timeout=0.1)


def test_a_lost_connection_is_retried_a_limited_number_of_times(scripted: Any) -> None:
    scripted.drop = MAX_ATTEMPTS - 1
    with Client(scripted.url) as client:
        assert client.image_shape == (1, 8, 8)
    assert len(scripted.paths) == MAX_ATTEMPTS
    scripted.drop = MAX_ATTEMPTS
    with pytest.raises(DataError, match="no response"):
        Client(scripted.url)
    assert len(scripted.paths) == 2 * MAX_ATTEMPTS


def test_a_lost_persistent_connection_is_reopened(scripted: Any) -> None:
    with Client(scripted.url) as client:
        scripted.drop, scripted.response = MAX_ATTEMPTS - 1, (200, b"content")
        assert client.direction_file("bold") == b"content"
        assert client.direction_file("bold") == b"content"
    path = "/v1/models/far/directions/bold.safetensors"
    assert scripted.paths[1:] == [path] * (MAX_ATTEMPTS + 1)


def test_threads_share_a_client_and_its_connections(scripted: Any) -> None:
    names = [f"a{index}" for index in range(200)]
    with Client(scripted.url) as client, ThreadPoolExecutor(8) as pool:
        scripted.response = (200, b"content")
        assert list(pool.map(client.direction_file, names)) == [b"content"] * 200
    paths = {f"/v1/models/far/directions/{name}.safetensors" for name in names}
    assert len(scripted.paths) == 201 and set(scripted.paths[1:]) == paths
    assert scripted.opened <= 9, scripted.opened


def test_a_model_name_is_one_part_of_the_path(scripted: Any) -> None:
    scripted.response = (200, json.dumps(MODEL).encode())
    Client(scripted.url, model="a b/é?#%41").close()
    assert scripted.paths == ["/v1/models/a%20b%2F%C3%A9%3F%23%2541"]


@pytest.mark.parametrize("model", [None, "tiny"])
@pytest.mark.parametrize(
    "content",
    [b"", b"<html></html>", b"\xff", b"3", b'["a"]', b'{"data": []}', b'[{"name": "a"}]'],
)
def test_another_server_is_recognised(scripted: Any, content: bytes, model: str | None) -> None:
    scripted.response = (200, content)
    with pytest.raises(DataError, match="no `controlgen serve`; give the address that it printed$"):
        Client(scripted.url, model=model)


def test_a_server_without_tls_is_one_line(scripted: Any) -> None:
    with pytest.raises(DataError, match="no response .*SSL") as caught:
        Client(scripted.url.replace("http:", "https:"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("base", ["", "/", "/under/a/path", "/under/a/path/"])
def test_a_server_may_be_below_a_path(scripted: Any, base: str) -> None:
    with Client(scripted.url + base) as client:
        assert client.model == "far"
    assert scripted.paths == [f"{base.rstrip('/')}/v1/models"]


@pytest.mark.parametrize("status", [303, 500])
def test_other_statuses_are_rejected_and_redirects_not_followed(scripted: Any, status: int) -> None:
    scripted.response, scripted.headers = (status, b"no JSON"), {"Location": "/elsewhere"}
    with pytest.raises(RequestRejected, match=f"status {status}") as caught:
        Client(scripted.url)
    assert caught.value.status == status
    assert scripted.paths == ["/v1/models"]


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("3", 3), ("0", 1), ("Wed, 21 Oct 2015 07:28:00 GMT", 1), ("soon", 1), ("-1", 1)],
)
def test_a_busy_server_is_retried_when_it_says(
    scripted: Any, monkeypatch: pytest.MonkeyPatch, retry_after: str, seconds: int
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("controlgen.serve.http_pool.time.sleep", waits.append)
    scripted.headers, scripted.busy = {"Retry-After": retry_after}, [(503, b""), (429, b"")]
    with Client(scripted.url) as client:
        assert client.model == "far"
    assert waits == [seconds, seconds]
    # As a date in the future.
    scripted.headers["Retry-After"] = format_datetime(datetime.now(UTC) + timedelta(seconds=30))
    scripted.busy = [(503, b"")]
    Client(scripted.url).close()
    assert 25 < waits[-1] <= 30
    # Not beyond its patience.
    scripted.busy = [(429, b'{"detail": "many wait"}')]
    with pytest.raises(RequestRejected, match="many wait"):
        Client(scripted.url, patience=0.5)
