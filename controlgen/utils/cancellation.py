"""Long work that can be stopped from outside: loops look whether they are still to go on.

Whoever waits for an answer only so long says so once, around the work; the loops below, which
know nothing of requests, look between their steps. Where nobody said anything, looking is nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Check = Callable[[], None]  # raises where the work is to stop


def _on() -> None:
    return None


_CHECK: ContextVar[Check] = ContextVar("check", default=_on)


@contextmanager
def cancellable(check: Check) -> Iterator[None]:
    """Work within, in this thread, calls `check` between its steps; what that raises ends it."""
    token = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(token)


def current_check() -> Check:
    """What the work at hand looks at, to be handed to threads that it begins."""
    return _CHECK.get()


def raise_if_cancelled() -> None:
    """Raise where the work at hand is to stop."""
    _CHECK.get()()
