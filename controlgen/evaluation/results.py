"""What an evaluation found, and the targets it met and missed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import numpy as np

from controlgen.evaluation.figure3 import Figure3
from controlgen.evaluation.inversion import InversionRow, Strips, Timing
from controlgen.evaluation.quality import Quality
from controlgen.metrics.bootstrap import Interval


@dataclass(frozen=True)
class Target:
    """A goal of the project and what this run measured: None where no edit could be measured."""

    name: str
    relation: Literal["at least", "more than", "at most"]
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


@dataclass(frozen=True)
class Report:
    """All that an evaluation found. `strips` are pictures: targets' kind -> row -> images."""

    config: dict[str, Any]
    map_name: str
    audit_name: str
    judge_accuracy: float
    seconds: dict[str, float]
    quality: Quality
    inversion: list[InversionRow]
    timing: Timing
    figure3: Figure3
    strips: dict[str, Strips]

    def row(self, targets: str, name: str) -> InversionRow:
        """The inversion row of a map on one kind of targets."""
        return next(r for r in self.inversion if (r.targets, r.map) == (targets, name))

    @property
    def targets(self) -> list[Target]:
        """Every goal with what was measured for it."""
        return [*self._quality_targets(), *self._map_targets(), *self._edit_targets()]

    def _quality_targets(self) -> list[Target]:
        return [
            Target("judge reads the real test set", "at least", 0.99, self.judge_accuracy),
            Target("judge confident on samples", "at least", 0.92, self.quality.confident.mean),
            Target(
                "smallest class share of samples", "at least", 0.06, self.quality.smallest_share
            ),
        ]

    def _map_targets(self) -> list[Target]:
        own = self.row("generated", self.map_name)
        others = [self.row("generated", name) for name in ("retrieval", "ridge")]

        def lead(measure: Callable[[InversionRow], Interval], sign: int = 1) -> float:
            return min(sign * (measure(own).mean - measure(other).mean) for other in others)

        beats = "map minus the better of retrieval and ridge"
        return [
            Target(f"{beats}: audit cosine", "more than", 0, lead(lambda r: r.cosine_f2)),
            Target(f"{beats}: R@1", "more than", 0, lead(lambda r: r.recall_at_1)),
            Target(f"{beats}: judge agrees", "more than", 0, lead(lambda r: r.judge_agrees)),
            Target(
                f"{beats}: pixel error saved", "more than", 0, lead(lambda r: r.pixel_error, -1)
            ),
            Target("map: judge agrees", "at least", 0.95, own.judge_agrees.mean),
        ]

    def _edit_targets(self) -> list[Target]:
        feature, latent, retrieval = (
            self.figure3.at_best(name)
            for name in ("feature arithmetic", "latent arithmetic", "retrieval")
        )
        gain = feature.flip.mean - latent.flip.mean
        flipped = feature.identity_of_flipped, retrieval.identity_of_flipped
        kept = flipped[0].mean - flipped[1].mean if flipped[0] and flipped[1] else None
        return [
            Target("feature arithmetic: best flip rate", "at least", 0.95, feature.flip.mean),
            Target("flip rate, feature minus latent arithmetic", "at least", 0.20, gain),
            Target("identity of flipped, feature arithmetic minus retrieval", "more than", 0, kept),
            Target(
                "optimisation's time over the map's, one item",
                "at least",
                200,
                self.timing.ratio_alone,
            ),
            Target("one edit, feature to image, p95 ms", "at most", 50, self.timing.map_p95_ms),
        ]

    def as_json(self) -> dict[str, Any]:
        """All numbers as JSON values, targets included, pictures left out."""
        values: dict[str, Any] = _plain(self)
        values["timing"] |= {
            "ratio_alone": self.timing.ratio_alone,
            "ratio_batched": self.timing.ratio_batched,
        }
        values["targets"] = [{**_plain(t), "met": t.met, "wanted": t.wanted} for t in self.targets]
        return values


def _plain(value: Any) -> Any:
    # Dataclasses and named tuples become objects; arrays are pictures and are left out.
    if is_dataclass(value):
        kept = {f.name: getattr(value, f.name) for f in fields(value) if f.repr}
        return {name: _plain(item) for name, item in kept.items() if name != "strips"}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
