"""The job queue: its bound, its order, deadlines, and how it stops."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlgen import Client
from controlgen.editing.search import BATCH, BankIndex
from controlgen.serve.http_pool import RequestRejected
from controlgen.serve.job_queue import Deadline, DeadlineExceeded, JobQueue, QueueFull
from controlgen.serve.limits import Limits
from controlgen.serve.schemas import NearestRequest, SweepRequest
from controlgen.serve.service import Service
from controlgen.utils.cancellation import cancellable
from controlgen.utils.parallel import CHUNK_ROWS


def test_a_full_queue_responds_429_and_the_client_retries(limited: Callable[..., Any]) -> None:
    server = limited(waiting=2)
    jobs: JobQueue = server.app.state.jobs
    release = threading.Event()
    blockers = [jobs.submit(lambda: release.wait(20)) for _ in range(2)]
    response = server.post("sample", {})
    assert (response.status_code, response.json()["title"]) == (429, "Too many requests")
    assert int(response.headers["retry-after"]) >= 1
    impatient = Client(server.url, patience=0)
    with pytest.raises(RequestRejected, match="wait already"), impatient:
        impatient.sample(1)
    with Client(server.url) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.sample, 1)
        time.sleep(0.2)
        release.set()
        assert waiting.result(timeout=20).pixels.shape[0] == 1
    assert all(blocker.result() for blocker in blockers)


def test_a_slow_response_is_503(limited: Callable[..., Any]) -> None:
    server = limited(seconds=0.4)
    release = threading.Event()
    blocker = server.app.state.jobs.submit(lambda: release.wait(20))
    response = server.post("sample", {})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "no answer within 0.4 s" in response.json()["detail"]
    release.set()
    blocker.result()
    assert server.post("sample", {}).status_code == 200


def test_long_requests_check_their_deadline(served: Any) -> None:
    service, past = Service({"tiny": served}, Limits()), Deadline(time.monotonic() - 1)
    sweep = SweepRequest(expression="seed(1)")
    with cancellable(past.check), pytest.raises(DeadlineExceeded, match="smaller request"):
        service.sweep(sweep)
    served.editor.__dict__.pop("bank_index", None)  # no item is embedded yet
    nearest = NearestRequest(expression="seed(1)", n=1)
    with cancellable(past.check), pytest.raises(DeadlineExceeded, match="smaller request"):
        service.nearest(nearest)


def test_a_long_step_stops_soon_after_its_deadline(limited: Callable[..., Any]) -> None:
    # The refinement of this single amount would take hours.
    server = limited(seconds=0.5, refine=1_000_000)
    body = {"expression": "seed(1) + seed(2)", "refine": 1_000_000}
    assert server.post("edit", body).status_code == 503
    with Client(server.url, patience=10) as client:
        assert client.sample(1).pixels.shape[0] == 1
    assert server.get("/health").json()["waiting"] == 0


def test_close_does_not_wait_for_a_job_that_ignores_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("controlgen.serve.job_queue.GRACE", 0.2)
    jobs, release = JobQueue(Limits(seconds=0.2)), threading.Event()
    blocker = jobs.submit(lambda: release.wait(20))
    start = time.monotonic()
    assert not jobs.close()
    assert time.monotonic() - start < 5
    with pytest.raises(QueueFull, match="stopping"):
        jobs.submit(lambda: None)
    release.set()
    assert blocker.result()


def test_cancelled_indexing_of_the_bank_keeps_complete_batches(served: Any) -> None:
    index, checks = BankIndex(served.editor), []

    def check() -> None:
        checks.append(1)
        if len(checks) > 2 * BATCH // CHUNK_ROWS + 2:
            raise TimeoutError

    with cancellable(check), pytest.raises(TimeoutError):
        list(index.index_upto(2 * BATCH))
    assert list(index.index_upto(2 * BATCH)) == [2 * BATCH]


def test_two_hundred_concurrent_edits_all_succeed(limited: Callable[..., Any]) -> None:
    server = limited(waiting=64)
    expressions = [f'seed({seed}) + text("a") - text("b")' for seed in range(20)]
    with ThreadPoolExecutor(200) as pool, Client(server.url, patience=120) as client:
        expected = {expression: client.apply(expression).png for expression in expressions}
        requests = expressions * 10
        actual = list(pool.map(lambda expression: client.apply(expression).png, requests))
    assert actual == [expected[expression] for expression in requests]
    assert server.get("/health").json()["waiting"] == 0


def test_jobs_run_in_order_and_close_finishes_them() -> None:
    jobs, done = JobQueue(Limits(waiting=10)), []
    release = threading.Event()
    jobs.submit(lambda: release.wait(20))
    for index in range(5):
        jobs.submit(lambda index=index: done.append(index))
    assert jobs.pending == 6
    release.set()
    jobs.close()
    assert (done, jobs.pending) == ([0, 1, 2, 3, 4], 0)


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 12))
def test_the_number_of_waiting_jobs_is_bounded(waiting: int, submitted: int) -> None:
    jobs, release = JobQueue(Limits(waiting=waiting)), threading.Event()
    accepted = 0
    for _ in range(submitted):
        try:
            jobs.submit(lambda: release.wait(20))
            accepted += 1
        except QueueFull as error:
            assert error.retry_after >= 1
    assert accepted == min(waiting, submitted) == jobs.pending
    release.set()
    jobs.close()
    assert jobs.pending == 0


def test_a_job_that_has_not_started_in_time_never_runs() -> None:
    jobs, done, release = JobQueue(Limits(seconds=0.2)), [], threading.Event()

    async def run() -> None:
        jobs.submit(lambda: release.wait(20))
        with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
            await jobs.run(lambda: done.append(1))

    asyncio.run(run())
    release.set()
    jobs.close()
    assert done == []


def test_a_failed_job_frees_its_place() -> None:
    jobs = JobQueue(Limits(waiting=1))

    def fail() -> None:
        raise ValueError("no")

    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            asyncio.run(jobs.run(fail))
    assert jobs.pending == 0
    jobs.close()
