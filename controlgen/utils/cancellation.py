"""Cooperative cancellation of long work.

Long loops call `raise_if_cancelled()` between steps. Without an active `cancellable` scope it does
nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Check = Callable[[], None]  # raises if the work must stop


def _on() -> None:
    return None


_CHECK: ContextVar[Check] = ContextVar("check", default=_on)


@contextmanager
def cancellable(check: Check) -> Iterator[None]:
    """Call `check` between the steps of the work in this scope and thread; what it raises ends
    the work.
    """
    token = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(token)


def current_check() -> Check:
    """The check of the current scope, to be passed to new threads."""
    return _CHECK.get()


def raise_if_cancelled() -> None:
    """Raise if the current work must stop."""
    _CHECK.get()()
