"""The client by itself: addresses, and servers that are not there or let go of connections."""

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
from controlgen.serve.client import RequestRejected
from controlgen.serve.http_pool import MAX_ATTEMPTS

ABOUT = {"name": "far", "image_shape": [1, 8, 8], "latent_size": 4}


class Answering(BaseHTTPRequestHandler):
    """Lets go of as many requests as `server.drop` says, then answers what `server.said` holds."""

    protocol_version = "HTTP/1.1"
    server: Any

    def setup(self) -> None:
        """A connection, which is counted."""
        super().setup()
        self.server.opened += 1

    def do_GET(self) -> None:
        """Any path, which is remembered."""
        self.server.paths.append(self.path)
        if self.server.drop:
            self.server.drop -= 1
            self.close_connection = True
            return
        status, content = self.server.busy.pop() if self.server.busy else self.server.retry_after
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Not printed."""


@pytest.fixture
def far() -> Iterator[Any]:
    """A server that does as it is told."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        text: Any = server
        text.opened, text.paths, text.drop = 0, [], 0
        text.retry_after = 200, json.dumps([ABOUT]).encode()
        text.busy, text.headers = [], {}
        text.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield text
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "localhost:8000", "ftp://a", "http://", "http://a b", "http://a:99999"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="give it as http://HOST:PORT") as caught:
        Client(url)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    with socket.socket() as bound:  # bound and not listening: nobody else can answer there
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(DataError) as caught:
            Client(url)
    message = str(caught.value)
    assert (
        message.startswith(f"{url}: no answer (") and "refused" in message and "\n" not in message
    )


@pytest.mark.parametrize("host", ["a..b", "a" * 70])
def test_a_host_that_cannot_be_is_told_in_one_line(host: str) -> None:
    with pytest.raises(DataError, match="no answer .*label") as caught:
        Client(f"http://{host}")
    assert "\n" not in str(caught.value)


def test_a_token_that_no_header_can_hold_is_refused(far: Any) -> None:
    with pytest.raises(ConfigError, match="^token: has signs") as caught:
        Client(far.url, token="hush\nhush")
    assert "hush" not in str(caught.value)


def test_what_is_too_large_is_told_by_the_server(limited: Any) -> None:
    url = limited(body_bytes=1_000_000).url
    latents = np.zeros((64, 16), np.float32)
    with Client(url) as client:
        assert len(client.generate(latents)) == 64
        for _ in range(5):  # the server lets go before all of it is sent
            with pytest.raises(RequestRejected, match="a body of more than 1000000 bytes$"):
                client.generate(np.zeros((64, 100_000), np.float32))
        assert len(client.generate(latents)) == 64


def test_one_that_says_nothing_is_given_up() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(DataError, match="no answer .*timed out"):
            Client(url, timeout=0.1)


def test_lost_connections_are_asked_again_so_often(far: Any) -> None:
    far.drop = MAX_ATTEMPTS - 1
    with Client(far.url) as client:
        assert client.image_shape == (1, 8, 8)
    assert len(far.paths) == MAX_ATTEMPTS
    far.drop = MAX_ATTEMPTS
    with pytest.raises(DataError, match="no answer"):
        Client(far.url)
    assert len(far.paths) == 2 * MAX_ATTEMPTS


def test_a_kept_connection_that_is_lost_is_opened_anew(far: Any) -> None:
    with Client(far.url) as client:
        far.drop, far.retry_after = MAX_ATTEMPTS - 1, (200, b"kept")
        assert client.direction_file("bold") == b"kept"
        assert client.direction_file("bold") == b"kept"
    assert far.paths[1:] == ["/v1/models/far/directions/bold.safetensors"] * (MAX_ATTEMPTS + 1)


def test_threads_share_a_client_and_its_connections(far: Any) -> None:
    with Client(far.url) as client, ThreadPoolExecutor(8) as pool:
        far.retry_after = (200, b"kept")
        asked = [f"a{at}" for at in range(200)]
        assert list(pool.map(client.direction_file, asked)) == [b"kept"] * 200
    paths = {f"/v1/models/far/directions/{item}.safetensors" for item in asked}
    assert len(far.paths) == 201 and set(far.paths[1:]) == paths
    assert far.opened <= 9, far.opened


def test_names_stand_in_a_path_as_one_part_of_it(far: Any) -> None:
    far.retry_after = (200, json.dumps(ABOUT).encode())
    Client(far.url, model="a b/é?#%41").close()
    assert far.paths == ["/v1/models/a%20b%2F%C3%A9%3F%23%2541"]


@pytest.mark.parametrize("model", [None, "tiny"])
@pytest.mark.parametrize(
    "content",
    [b"", b"<html></html>", b"\xff", b"3", b'["a"]', b'{"data": []}', b'[{"name": "a"}]'],
)
def test_what_is_another_server_is_told(far: Any, content: bytes, model: str | None) -> None:
    far.retry_after = (200, content)
    with pytest.raises(DataError, match="no `controlgen serve`; give the address it printed$"):
        Client(far.url, model=model)


def test_one_that_speaks_no_tls_is_told_in_one_line(far: Any) -> None:
    with pytest.raises(DataError, match="no answer .*SSL") as caught:
        Client(far.url.replace("http:", "https:"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("base", ["", "/", "/under/a/path", "/under/a/path/"])
def test_a_server_may_be_under_a_path(far: Any, base: str) -> None:
    with Client(far.url + base) as client:
        assert client.model == "far"
    assert far.paths == [f"{base.rstrip('/')}/v1/models"]


@pytest.mark.parametrize("status", [303, 500])
def test_what_is_no_answer_is_refused_and_not_followed(far: Any, status: int) -> None:
    far.retry_after, far.headers = (status, b"no JSON"), {"Location": "/elsewhere"}
    with pytest.raises(RequestRejected, match=f"answered {status}") as caught:
        Client(far.url)
    assert caught.value.status == status
    assert far.paths == ["/v1/models"]


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("3", 3), ("0", 1), ("Wed, 21 Oct 2015 07:28:00 GMT", 1), ("soon", 1), ("-1", 1)],
)
def test_a_busy_server_is_asked_again_when_it_says(
    far: Any, monkeypatch: pytest.MonkeyPatch, retry_after: str, seconds: int
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("controlgen.serve.client.time.sleep", slept.append)
    far.headers, far.busy = {"Retry-After": retry_after}, [(503, b""), (429, b"")]
    with Client(far.url) as client:
        assert client.model == "far"
    assert slept == [seconds, seconds]
    # As a date that is to come.
    far.headers["Retry-After"] = format_datetime(datetime.now(UTC) + timedelta(seconds=30))
    far.busy = [(503, b"")]
    Client(far.url).close()
    assert 25 < slept[-1] <= 30
    # Not beyond its patience.
    far.busy = [(429, b'{"detail": "many wait"}')]
    with pytest.raises(RequestRejected, match="many wait"):
        Client(far.url, patience=0.5)
