"""Progress of long work: a bar on the terminal, or another reporter with the same interface."""

from types import TracebackType
from typing import Protocol, Self

from tqdm import tqdm


class ProgressBar(Protocol):
    """The progress of one task; `done` counts in the unit given at the start."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def update_to(self, done: float, note: str = "") -> None: ...


class ProgressReporter(Protocol):
    """Starts progress bars."""

    def start(
        self, title: str, total: float, start: float = 0, unit: str = "it"
    ) -> ProgressBar: ...


class TqdmBar:
    """A tqdm bar: finished share, rate and remaining time."""

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

    def update_to(self, done: float, note: str = "") -> None:
        """Move the bar to `done`."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)


class TqdmReporter:
    """Reports on the terminal."""

    def start(self, title: str, total: float, start: float = 0, unit: str = "it") -> TqdmBar:
        """Start a bar."""
        return TqdmBar(title, total, start, unit)
