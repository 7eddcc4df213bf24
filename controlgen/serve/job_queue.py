"""The one queue that all model work goes through: bounded, in order, each within its time."""

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


class Busy(ControlGenError):
    """As many requests wait as may; `retry_after` seconds from now one may have gone."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooSlow(Busy):
    """A request's time is over before its answer was there."""


@dataclass(frozen=True)
class Deadline:
    """The moment (time.monotonic, seconds) after which nobody waits for an answer."""

    at: float

    def check(self) -> None:
        """Raise TooSlow where it has passed; work of several steps asks between them.

        The loops of the library ask as well; see `stopping`.
        """
        if time.monotonic() > self.at:
            raise TooSlow("took longer than a request may; ask for less at once", 1)


class Work:
    """One thread that does jobs in the order in which they came.

    One thread, for torch shares out the cores within a job, and a picture's bytes then depend on
    no other request. Jobs are not joined into batches: a feature's last bit differs with the size
    of its batch, and a recipe must draw the same bytes again.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="controlgen")
        self._lock = Lock()
        self._jobs: dict[Future[Any], Deadline] = {}
        self._admitted = 0
        self._seconds = 0.05  # a job takes, so far

    @property
    def admitted(self) -> int:
        """Jobs waiting or at work."""
        return self._admitted

    def submit(self, job: Callable[[Deadline], T]) -> "Future[T]":
        """Queue a job. Raises Busy where as many wait as may."""
        with self._lock:
            if self._admitted >= self.limits.waiting:
                ahead = math.ceil(self._admitted * self._seconds / 2)
                raise Busy(
                    f"{self._admitted} requests wait already; ask again in a while", max(ahead, 1)
                )
            self._admitted += 1
        deadline = Deadline(time.monotonic() + self.limits.seconds)
        try:
            future = self._pool.submit(self._timed, job, deadline)
        except RuntimeError:
            self._left(None)
            raise Busy("the server is stopping; ask another time", 5) from None
        with self._lock:
            self._jobs[future] = deadline
        future.add_done_callback(self._left)
        return future

    async def run(self, job: Callable[[Deadline], T]) -> T:
        """What a job answers. Raises Busy, TooSlow, and what the job raises."""
        future = self.submit(job)
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            # One that has not begun never will; one that has stops at its next look.
            future.cancel()
            raise TooSlow(
                f"no answer within {self.limits.seconds:g} s; ask again, or for less at once", 1
            ) from None

    def close(self) -> bool:
        """Finish what was admitted, then stop; whether all of it is done.

        What somebody awaits is done by its deadline. What goes on beyond is awaited by nobody, and
        has GRACE seconds to notice.
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

    def _timed(self, job: Callable[[Deadline], T], deadline: Deadline) -> T:
        begun = time.monotonic()
        deadline.check()
        try:
            with cancellable(deadline.check):
                return job(deadline)
        finally:
            spent = time.monotonic() - begun
            self._seconds += SMOOTHING * (spent - self._seconds)

    def _left(self, future: "Future[Any] | None") -> None:
        with self._lock:
            self._admitted -= 1
            if future is not None:
                self._jobs.pop(future, None)
