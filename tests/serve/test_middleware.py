"""Checks before a request is parsed: ids, hosts and origins, tokens, sizes of bodies."""

import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

from controlgen import Client
from controlgen.serve.http_pool import RequestRejected
from request_bodies import open_partial_request


def test_valid_request_ids_are_returned_and_logged(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "controlgen.serve"):
        valid, replaced = (
            server.get("/health", **{"X-Request-ID": request_id}).headers["x-request-id"]
            for request_id in ("mine-1", "a b; forged")
        )
        assert valid == "mine-1"
        assert re.fullmatch(r"[0-9a-f]{16}", replaced)
        server.get("/no%0Asuch%0Aline")
        # A line is logged after its response is sent.
        end = time.monotonic() + 10
        while len(caplog.records) < 3 and time.monotonic() < end:
            time.sleep(0.02)
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("mine-1 GET /health 200") for line in lines)
    assert all("\n" not in line for line in lines)
    assert r"GET /no\nsuch\nline 404" in lines[-1]


def test_foreign_hosts_and_origins_are_rejected(limited: Callable[..., Any]) -> None:
    server = limited(hosts=("127.0.0.1", "localhost", "[::1]"))
    assert server.get("/health").status_code == 200
    for host in ("localhost:99", "[::1]:99", "LOCALHOST"):
        assert server.get("/health", Host=host).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        response = server.get("/health", Host=host)
        assert response.status_code in (400, 421), response.text  # 400: no host at all
    assert response.headers["content-type"] == "application/problem+json"
    for origin in ("http://evil.example", "null", "http://127.0.0.1.evil.example:80"):
        response = server.get("/health", Origin=origin)
        assert (response.status_code, response.json()["status"]) == (403, 403)
    for origin in ("http://localhost:7", server.url):
        assert server.get("/health", Origin=origin).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/openapi.json", "/no/such/path"])
def test_every_path_but_health_requires_the_token(limited: Callable[..., Any], path: str) -> None:
    server = limited(token="secret")
    assert server.get("/health").status_code == 200
    assert server.get(path).status_code == 401
    assert server.get(path).headers["www-authenticate"] == "Bearer"
    assert server.get(path).headers["content-type"] == "application/problem+json"
    assert server.get(path, Authorization="Bearer secret").status_code in (200, 404)


def test_only_the_exact_bearer_token_is_accepted(limited: Callable[..., Any]) -> None:
    server = limited(token="secret")
    for wrong in ("Bearer secre", "Bearer", "Basic secret", "Bearer secrét"):
        headers = {b"authorization": wrong.encode()}
        response = httpx.get(f"{server.url}/v1/models", headers=headers)
        assert response.status_code == 401
    with pytest.raises(RequestRejected, match="send Authorization") as caught:
        Client(server.url)
    assert caught.value.status == 401
    with Client(server.url, token="secret") as client:
        assert client.sample(1).pixels.shape[0] == 1


def test_a_browser_gets_a_cookie_and_an_address_without_the_token(
    limited: Callable[..., Any],
) -> None:
    server = limited(token="secret")
    redirect = server.get("/?token=secret")
    assert (redirect.status_code, redirect.headers["location"]) == (303, "/")
    assert "HttpOnly" in redirect.headers["set-cookie"]
    assert "samesite=strict" in redirect.headers["set-cookie"].lower()
    cookie = redirect.headers["set-cookie"].split(";")[0]
    assert server.get("/v1/models", Cookie=cookie).status_code == 200
    assert server.get("/?token=wrong").status_code == 401


@pytest.mark.parametrize("token", ["a;b,c=d e", "пароль", "sécret", 'q"uote\\'])
def test_a_token_may_have_any_characters(limited: Callable[..., Any], token: str) -> None:
    server = limited(token=f" {token}\n")
    with Client(server.url, token=f"{token}\n") as client:
        assert client.about["name"] == "tiny"
    redirect = httpx.get(f"{server.url}/", params={"token": token})
    assert redirect.status_code == 303
    cookie = redirect.headers["set-cookie"].split(";")[0]
    assert re.fullmatch(r"controlgen_token=[0-9a-f]{64}", cookie)
    assert server.get("/v1/models", Cookie=cookie).status_code == 200
    assert server.get("/v1/models", Cookie="controlgen_token=" + "0" * 64).status_code == 401
    assert httpx.get(f"{server.url}/", params={"token": token[1:]}).status_code == 401


def test_a_body_is_limited_as_it_arrives(limited: Callable[..., Any]) -> None:
    server = limited(body_bytes=10_000)
    body = {"expression": "seed(1)", "images": {"a.png": "A" * 20_000}}
    response = server.post("edit", body)
    assert (response.status_code, response.json()["title"]) == (413, "Too large")
    # The same without a Content-Length.
    parts = (b'{"expression": "' + b"x" * 4000 for _ in range(5))
    response = httpx.post(f"{server.url}/v1/edit", content=parts)
    assert response.status_code == 413
    assert server.post("sample", {}).status_code == 200


def test_large_bodies_together_are_limited(limited: Callable[..., Any]) -> None:
    server = limited(bodies_bytes=250_000)
    large = {"expression": "seed(1)", "images": {"a.png": "A" * 200_000}}
    with open_partial_request(server.url, 200_000) as connection:
        connection.sendall(b" " * 190_000)
        time.sleep(0.5)
        response = server.post("edit", large)
        assert (response.status_code, response.headers["retry-after"]) == (429, "2")
        assert "large requests" in response.json()["detail"]
        assert server.post("sample", {}).status_code == 200
    time.sleep(0.5)
    assert server.post("edit", large).status_code == 200  # the expression does not name the image


def test_a_body_that_never_arrives_times_out(limited: Callable[..., Any]) -> None:
    server = limited(seconds=0.3)
    with open_partial_request(server.url, 50) as connection:
        connection.sendall(b"{")
        assert b" 408 " in connection.recv(4096).split(b"\r\n")[0]


def test_a_body_that_arrives_too_slowly_times_out(limited: Callable[..., Any]) -> None:
    server = limited(seconds=0.2)
    with open_partial_request(server.url, 5_000) as connection:
        connection.setblocking(False)
        response, end = b"", time.monotonic() + 20
        while not response and time.monotonic() < end:
            with suppress(OSError):
                connection.sendall(b" ")
            time.sleep(0.05)
            with suppress(BlockingIOError):
                response = connection.recv(4096)
    assert b" 408 " in response.split(b"\r\n")[0]
    assert b"the body was not complete after 2 s" in response
