"""Goals of the project beside what was measured for them, and what a part of a report offers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Relation = Literal["at least", "more than", "at most"]


@dataclass(frozen=True)
class Target:
    """A goal of the project and what this run measured: None where no edit could be measured."""

    name: str
    relation: Relation
    bound: float
    measured: float | None

    @property
    def met(self) -> bool:
        """Whether the measured number reaches the bound."""
        if self.measured is None:
            return False
        reached = {
            "at least": self.measured >= self.bound,
            "more than": self.measured > self.bound,
            "at most": self.measured <= self.bound,
        }
        return reached[self.relation]

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"{self.relation} {self.bound:g}"


class Part(Protocol):
    """A section of the report that stands by itself: its goals, its words and its pictures."""

    def targets(self) -> list[Target]: ...

    def markdown(self) -> list[str]:
        """Paragraphs."""
        ...

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write its PNGs into an existing folder."""
        ...
