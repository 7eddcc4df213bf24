"""Goals with their measurements, and what a section of a report provides."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Relation = Literal["at least", "more than", "at most"]


@dataclass(frozen=True)
class Goal:
    """A goal of the project and its measurement in this run; None if it could not be measured."""

    name: str
    relation: Relation
    bound: float
    measured: float | None

    @property
    def met(self) -> bool:
        """Whether the measurement satisfies the bound."""
        if self.measured is None:
            return False
        return {
            "at least": self.measured >= self.bound,
            "more than": self.measured > self.bound,
            "at most": self.measured <= self.bound,
        }[self.relation]

    @property
    def bound_text(self) -> str:
        """The bound in words."""
        return f"{self.relation} {self.bound:g}"


class ReportSection(Protocol):
    """A self-contained section of the report: its goals, text and figures."""

    def goals(self) -> list[Goal]: ...

    def markdown(self) -> list[str]:
        """Return its paragraphs."""
        ...

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write its figures into an existing folder."""
        ...
