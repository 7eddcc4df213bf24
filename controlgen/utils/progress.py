"""How long work says where it is: a bar on the terminal, or whatever a skin puts in its place."""

from types import TracebackType
from typing import Protocol, Self

from tqdm import tqdm


class ProgressBar(Protocol):
    """One piece of long work; `done` counts in the unit it was opened with."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def to(self, done: float, note: str = "") -> None: ...


class ProgressReporter(Protocol):
    """Opens meters."""

    def meter(
        self, title: str, total: float, start: float = 0, unit: str = "it"
    ) -> ProgressBar: ...


class TqdmBar:
    """A tqdm bar: share done, rate and time left."""

    def __init__(self, title: str, total: float, start: float, unit: str) -> None:
        self._bar = tqdm(
            total=total, initial=start, desc=title, unit=unit, unit_scale=True, dynamic_ncols=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def to(self, done: float, note: str = "") -> None:
        """Move the bar to `done`."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)


class TqdmReporter:
    """Reports on the terminal."""

    def meter(self, title: str, total: float, start: float = 0, unit: str = "it") -> TqdmBar:
        """A new bar."""
        return TqdmBar(title, total, start, unit)
