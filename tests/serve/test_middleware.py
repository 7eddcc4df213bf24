"""Before a request is read: ids, hosts, tokens, sizes; and the queue, whose bounds hold."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from controlgen import Client
from controlgen.editing.search import BLOCK, Gallery
from controlgen.serve.client import Refused
from controlgen.serve.job_queue import Busy, Deadline, TooSlow, Work
from controlgen.serve.limits import Limits
from controlgen.serve.schemas import GenerateRequest
from controlgen.utils.cancellation import cancellable
from controlgen.utils.parallel import CHUNK_ROWS
from request_bodies import begun


def test_ids_are_kept_where_sound_and_stand_in_the_log(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "controlgen.serve"):
        kept, forged = (
            server.get("/health", **{"X-Request-ID": said}).headers["x-request-id"]
            for said in ("mine-1", "a b; forged")
        )
        assert kept == "mine-1"
        assert re.fullmatch(r"[0-9a-f]{16}", forged)
        server.get("/no%0Asuch%0Aline")
        # A line is written once the answer has gone, so that it may come after it.
        end = time.monotonic() + 10
        while len(caplog.records) < 3 and time.monotonic() < end:
            time.sleep(0.02)
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("mine-1 GET /health 200") for line in lines)
    assert all("\n" not in line for line in lines)
    assert r"GET /no\nsuch\nline 404" in lines[-1]


def test_only_its_own_host_names(limited: Callable[..., Any]) -> None:
    server = limited(hosts=("127.0.0.1", "localhost"))
    assert server.get("/health").status_code == 200
    assert server.get("/health", Host="localhost:99").status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        answer = server.get("/health", Host=host)
        assert answer.status_code in (400, 421), answer.text  # 400: no host at all
    for origin in ("http://evil.example", "null", "http://127.0.0.1.evil.example:80"):
        assert server.get("/health", Origin=origin).status_code == 403
    for origin in ("http://localhost:7", server.url):
        assert server.get("/health", Origin=origin).status_code == 200


def test_a_token_is_asked_for(limited: Callable[..., Any]) -> None:
    server = limited(token="secret")
    assert server.get("/health").status_code == 200
    assert server.get("/v1/models").status_code == 401
    assert server.get("/v1/models").headers["www-authenticate"] == "Bearer"
    for wrong in ("Bearer secre", "Bearer", "Basic secret", "Bearer secrét"):
        headers = {b"authorization": wrong.encode()}
        answer = httpx.get(f"{server.url}/v1/models", headers=headers)
        assert answer.status_code == 401
    assert server.get("/v1/models", Authorization="Bearer secret").status_code == 200
    with pytest.raises(Refused, match="send Authorization") as caught:
        Client(server.url)
    assert caught.value.status == 401
    with Client(server.url, token="secret") as client:
        assert client.sample(1).pixels.shape[0] == 1
    # A browser: the address once, then a cookie, and no token left in the address.
    first = server.get("/?token=secret")
    assert (first.status_code, first.headers["location"]) == (303, "/")
    assert "HttpOnly" in first.headers["set-cookie"]
    cookie = first.headers["set-cookie"].split(";")[0]
    assert server.get("/v1/models", Cookie=cookie).status_code == 200
    assert server.get("/?token=wrong").status_code == 401


@pytest.mark.parametrize("token", ["a;b,c=d e", "пароль", "sécret", 'q"uote\\'])
def test_a_token_may_have_any_letters(limited: Callable[..., Any], token: str) -> None:
    server = limited(token=f" {token}\n")
    with Client(server.url, token=f"{token}\n") as client:
        assert client.about["name"] == "tiny"
    first = httpx.get(f"{server.url}/", params={"token": token})
    assert first.status_code == 303
    cookie = first.headers["set-cookie"].split(";")[0]
    assert re.fullmatch(r"controlgen_token=[0-9a-f]{64}", cookie)
    assert server.get("/v1/models", Cookie=cookie).status_code == 200
    assert server.get("/v1/models", Cookie="controlgen_token=" + "0" * 64).status_code == 401
    assert httpx.get(f"{server.url}/", params={"token": token[1:]}).status_code == 401


def test_a_body_is_counted_as_it_comes(limited: Callable[..., Any]) -> None:
    server = limited(body_bytes=10_000)
    big = {"expression": "seed(1)", "images": {"a.png": "A" * 20_000}}
    answer = server.post("edit", big)
    assert (answer.status_code, answer.json()["title"]) == (413, "Too large")
    # The same without a length that could be looked at.
    parts = (b'{"expression": "' + b"x" * 4000 for _ in range(5))
    answer = httpx.post(f"{server.url}/v1/edit", content=parts)
    assert answer.status_code == 413
    assert server.post("sample", {}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"latents": [' + b"[1.5]," * 160_000 + b"[1.5]]}",
        b'{"latents": ' + b"[" * 310_000,
        b"{" + b'"a":1,' * 10_001 + b'"b":2}',
    ],
)
def test_values_of_json_are_counted_before_they_are_read(server: Any, body: bytes) -> None:
    kind = {"content-type": "application/json"}
    answer = httpx.post(f"{server.url}/v1/generate", content=body, headers=kind)
    assert answer.status_code == 413
    assert "more than 300000 values of JSON" in answer.json()["detail"]
    assert "npy" in answer.json()["detail"]
    # A file in a form may have as many commas as it likes.
    files = {"image": ("x.png", b"," * 400_000)}
    answer = httpx.post(f"{server.url}/v1/invert/upload", files=files)
    assert (answer.status_code, "not an image" in answer.json()["detail"]) == (422, True)


def test_one_mistake_is_told_and_not_each_of_thousands() -> None:
    for rows in (["x"] * 60_000, [["x"] * 500] * 500, [[1.0]] * 60_000, [1.0] * 70_000):
        with pytest.raises(ValidationError) as caught:
            GenerateRequest.model_validate({"latents": rows})
        assert caught.value.error_count() <= 3


def test_large_bodies_do_not_pile_up(limited: Callable[..., Any]) -> None:
    server = limited(bodies_bytes=250_000)
    large = {"expression": "seed(1)", "images": {"a.png": "A" * 200_000}}
    with begun(server.url, 200_000) as plug:
        plug.sendall(b" " * 190_000)
        time.sleep(0.5)
        answer = server.post("edit", large)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        assert "large requests" in answer.json()["detail"]
        assert server.post("sample", {}).status_code == 200
    time.sleep(0.5)
    assert server.post("edit", large).status_code == 200  # the expression does not name it


def test_a_body_that_never_comes_is_not_waited_for(limited: Callable[..., Any]) -> None:
    server = limited(seconds=0.3)
    with begun(server.url, 50) as plug:
        plug.sendall(b"{")
        assert b" 408 " in plug.recv(4096).split(b"\r\n")[0]


def test_a_body_that_drips_is_not_waited_for(limited: Callable[..., Any]) -> None:
    server = limited(seconds=0.2)
    with begun(server.url, 5_000) as plug:
        plug.setblocking(False)
        answer, end = b"", time.monotonic() + 20
        while not answer and time.monotonic() < end:
            with suppress(OSError):
                plug.sendall(b" ")
            time.sleep(0.05)
            with suppress(BlockingIOError):
                answer = plug.recv(4096)
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b"the body was not whole after 2 s" in answer


def test_beyond_the_queue_is_429_and_the_client_asks_again(limited: Callable[..., Any]) -> None:
    server = limited(waiting=2)
    work: Work = server.app.state.work
    free = threading.Event()
    held = [work.submit(lambda _: free.wait(20)) for _ in range(2)]
    answer = server.post("sample", {})
    assert (answer.status_code, answer.json()["title"]) == (429, "Too many requests")
    assert int(answer.headers["retry-after"]) >= 1
    with pytest.raises(Refused, match="wait already"), Client(server.url, patience=0) as client:
        client.sample(1)
    with Client(server.url) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.sample, 1)
        time.sleep(0.2)
        free.set()
        assert waiting.result(timeout=20).pixels.shape[0] == 1
    assert all(one.result() for one in held)


def test_an_answer_that_takes_too_long_is_503(limited: Callable[..., Any]) -> None:
    server = limited(seconds=0.4)
    free = threading.Event()
    held = server.app.state.work.submit(lambda _: free.wait(20))
    answer = server.post("sample", {})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "no answer within 0.4 s" in answer.json()["detail"]
    free.set()
    held.result()
    assert server.post("sample", {}).status_code == 200


def test_long_work_looks_at_its_deadline(served: Any) -> None:
    from controlgen.serve.schemas import NearestRequest, SweepRequest
    from controlgen.serve.service import Service

    service, past = Service({"tiny": served}, Limits()), Deadline(time.monotonic() - 1)
    with pytest.raises(TooSlow, match="ask for less"):
        service.sweep(SweepRequest(expression="seed(1)"), past)
    served.editor.__dict__.pop("gallery", None)  # nothing is embedded yet
    with pytest.raises(TooSlow, match="ask for less"):
        service.nearest(NearestRequest(expression="seed(1)", n=1), past)


def test_one_long_step_stops_soon_after_its_deadline(limited: Callable[..., Any]) -> None:
    # One amount only, whose refinement alone would take hours.
    server = limited(seconds=0.5, refine=1_000_000)
    long = {"expression": "seed(1) + seed(2)", "refine": 1_000_000}
    assert server.post("edit", long).status_code == 503
    with Client(server.url, patience=10) as client:
        assert client.sample(1).pixels.shape[0] == 1
    assert server.get("/health").json()["waiting"] == 0


def test_stopping_waits_for_no_job_that_notices_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlgen.serve.job_queue.GRACE", 0.2)
    work, free = Work(Limits(seconds=0.2)), threading.Event()
    deaf = work.submit(lambda _: free.wait(20))
    begun = time.monotonic()
    assert not work.close()
    assert time.monotonic() - begun < 5
    with pytest.raises(Busy, match="stopping"):
        work.submit(lambda _: None)
    free.set()
    assert deaf.result()


def test_items_embedded_in_time_are_not_embedded_again(served: Any) -> None:
    gallery, looks = Gallery(served.editor), []

    def late() -> None:
        looks.append(1)
        if len(looks) > 2 * BLOCK // CHUNK_ROWS + 2:
            raise TimeoutError

    with cancellable(late), pytest.raises(TimeoutError):
        list(gallery.grow(2 * BLOCK))
    assert list(gallery.grow(2 * BLOCK)) == [2 * BLOCK]


def test_two_hundred_edits_at_once_are_all_answered(limited: Callable[..., Any]) -> None:
    server = limited(waiting=64)
    words = [f'seed({at}) + text("a") - text("b")' for at in range(20)]
    with Client(server.url, patience=120) as client:
        wanted = {one: client.answer(one).png for one in words}
    with ThreadPoolExecutor(200) as pool, Client(server.url, patience=120) as client:
        asked = words * 10
        found = list(pool.map(lambda one: client.answer(one).png, asked))
    assert found == [wanted[one] for one in asked]
    assert server.get("/health").json()["waiting"] == 0


def test_jobs_are_done_in_order_and_what_was_admitted_is_finished() -> None:
    work, done = Work(Limits(waiting=10)), []
    free = threading.Event()
    work.submit(lambda _: free.wait(20))
    for at in range(5):
        work.submit(lambda _, at=at: done.append(at))
    assert work.admitted == 6
    free.set()
    work.close()
    assert (done, work.admitted) == ([0, 1, 2, 3, 4], 0)


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 12))
def test_never_more_than_so_many_wait(waiting: int, asked: int) -> None:
    work, free = Work(Limits(waiting=waiting)), threading.Event()
    admitted = 0
    for _ in range(asked):
        try:
            work.submit(lambda _: free.wait(20))
            admitted += 1
        except Busy as error:
            assert error.retry_after >= 1
    assert admitted == min(waiting, asked) == work.admitted
    free.set()
    work.close()
    assert work.admitted == 0


def test_what_was_not_begun_in_time_is_never_done() -> None:
    work, done, free = Work(Limits(seconds=0.2)), [], threading.Event()

    async def ask() -> None:
        work.submit(lambda _: free.wait(20))
        with pytest.raises(TooSlow, match=r"within 0\.2 s"):
            await work.run(lambda _: done.append(1))

    asyncio.run(ask())
    free.set()
    work.close()
    assert done == []


def test_an_error_leaves_the_queue_as_it_was() -> None:
    work = Work(Limits(waiting=1))

    def fail(_: Deadline) -> None:
        raise ValueError("no")

    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            asyncio.run(work.run(fail))
    assert work.admitted == 0
    work.close()
