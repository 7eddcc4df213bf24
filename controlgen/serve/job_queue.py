"""The queue that all model work goes through: bounded, in order, each job within its deadline."""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

from controlgen.errors import ControlGenError
from controlgen.serve.limits import Limits
from controlgen.utils.cancellation import cancellable

T = TypeVar("T")
SMOOTHING = 0.2  # weight of the newest job in the mean time of a job
GRACE = 5.0  # seconds, beyond its deadline, that a job has to notice it


class QueueFull(ControlGenError):
    """No more requests may wait; retry in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(QueueFull):
    """The request exceeded its deadline."""


@dataclass(frozen=True)
class Deadline:
    """The moment (time.monotonic, seconds) after which nobody waits for a response."""

    at: float

    def check(self) -> None:
        """Raise DeadlineExceeded if it has passed."""
        if time.monotonic() > self.at:
            raise DeadlineExceeded("took longer than a request may; send a smaller request")


class JobQueue:
    """One thread that runs jobs in the order of their arrival.

    torch already divides the cores within a job, and with one thread the bytes of an image depend
    on no other request. Jobs are not batched: the last bit of a feature depends on the size of its
    batch, and a recipe must reproduce the same bytes.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="controlgen")
        self._lock = Lock()
        self._jobs: dict[Future[Any], Deadline] = {}
        self._pending = 0
        self._seconds = 0.05  # of a job, a moving mean

    @property
    def pending(self) -> int:
        """Jobs that wait or run."""
        return self._pending

    def submit(self, job: Callable[[], T]) -> "Future[T]":
        """Queue a job, whose `raise_if_cancelled` then checks its deadline. Raises QueueFull."""
        with self._lock:
            if self._pending >= self.limits.waiting:
                ahead = math.ceil(self._pending * self._seconds / 2)
                raise QueueFull(
                    f"{self._pending} requests wait already; try again later", max(ahead, 1)
                )
            self._pending += 1
        deadline = Deadline(time.monotonic() + self.limits.seconds)
        try:
            future = self._pool.submit(self._run_timed, job, deadline)
        except RuntimeError:
            self._forget(None)
            raise QueueFull("the server is stopping; try again later", 5) from None
        with self._lock:
            self._jobs[future] = deadline
        future.add_done_callback(self._forget)
        return future

    async def run(self, job: Callable[[], T]) -> T:
        """The result of a job. Raises QueueFull, DeadlineExceeded, and what the job raises."""
        future = self.submit(job)
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            # A job that has not started never will; a running one stops at its next check.
            future.cancel()
            raise DeadlineExceeded(
                f"no answer within {self.limits.seconds:g} s; try again, or send a smaller request"
            ) from None

    def close(self) -> bool:
        """Finish the queued jobs, then stop. Returns whether all of them ended.

        A job ends by its deadline, or has GRACE seconds more to notice that it passed.
        """
        self._pool.shutdown(wait=False)
        with self._lock:
            jobs = dict(self._jobs)
        last = max((deadline.at for deadline in jobs.values()), default=0.0)
        left = max(last - time.monotonic(), 0.0) + GRACE
        if wait(jobs, timeout=left).not_done:
            return False
        self._pool.shutdown(wait=True)
        return True

    def _run_timed(self, job: Callable[[], T], deadline: Deadline) -> T:
        start = time.monotonic()
        deadline.check()
        try:
            with cancellable(deadline.check):
                return job()
        finally:
            elapsed = time.monotonic() - start
            self._seconds += SMOOTHING * (elapsed - self._seconds)

    def _forget(self, future: "Future[Any] | None") -> None:
        with self._lock:
            self._pending -= 1
            if future is not None:
                self._jobs.pop(future, None)
