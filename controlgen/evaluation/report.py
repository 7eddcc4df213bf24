"""What an evaluation found, and the targets it met and missed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from controlgen.base_config import BaseConfig
from controlgen.evaluation.analogies import Analogies
from controlgen.evaluation.candidate_diversity import Variety
from controlgen.evaluation.class_edits import Figure3
from controlgen.evaluation.confidence import Believed
from controlgen.evaluation.edit_scores import Best
from controlgen.evaluation.goals import Part, Relation, Target
from controlgen.evaluation.inversion import InversionRow, Strips, Timing
from controlgen.evaluation.judge import Judging
from controlgen.evaluation.memorisation import Copies
from controlgen.evaluation.sample_quality import Quality
from controlgen.evaluation.slider_results import Sliders
from controlgen.metrics.bootstrap import Interval

__all__ = ["Report", "Target"]


@dataclass(frozen=True)
class Report:
    """All that an evaluation found. `strips` are pictures: targets' kind -> row -> images.

    `judging` says who judged. Where nobody did, there is no judge's accuracy and no figure 3.
    `sliders` and `copies` are there where the map measures attributes and an audit was asked for,
    `believed` where the map was fitted with reachability, `variety` where several answers to one
    feature were asked for, `analogies` where a judge or measured attributes can tell of them.
    """

    config: dict[str, Any]
    map_name: str
    audit_name: str
    judge_accuracy: float | None
    judging: Judging
    seconds: dict[str, float]
    quality: Quality
    inversion: list[InversionRow]
    timing: Timing
    figure3: Figure3 | None
    strips: dict[str, Strips]
    perceptual_name: str | None = None
    sliders: Sliders | None = None
    copies: Copies | None = None
    believed: Believed | None = None
    variety: Variety | None = None
    analogies: Analogies | None = None
    no_edits: str = ""  # why there is no figure 3

    def row(self, targets: str, name: str) -> InversionRow:
        """The inversion row of a map on one kind of targets."""
        return next(r for r in self.inversion if (r.targets, r.map) == (targets, name))

    @property
    def parts(self) -> list[Part]:
        """The sections that stand by themselves."""
        realism = self.figure3.realism if self.figure3 else None
        parts = (
            realism,
            self.analogies,
            self.variety,
            self.sliders,
            self.believed,
            self.copies,
        )
        return [part for part in parts if part is not None]

    @property
    def shows_real(self) -> list[str]:
        """Names of the pictures that show real images, for folders in which none may be copied."""
        names = ["inversion-real.png"] if "real" in self.strips else []
        return [*names, *(self.copies.shows_real if self.copies else ())]

    @property
    def targets(self) -> list[Target]:
        """Every goal with what was measured for it; what only a judge can say needs a judge."""
        own = [
            *self._judge_targets(),
            *self._map_targets(),
            *self._edit_targets(),
            *self._time_targets(),
        ]
        return [*own, *(target for part in self.parts for target in part.targets())]

    def _judge_targets(self) -> list[Target]:
        if self.judging.kind == "none":
            return []
        if self.judging.kind == "probe":
            name = "probe reads the real test set, by source"
            return [Target(name, "at least", 0.95, self.judge_accuracy)]
        sure = self.quality.confident
        return [
            Target("judge reads the real test set", "at least", 0.99, self.judge_accuracy),
            Target("judge confident on samples", "at least", 0.92, sure.mean if sure else None),
            Target(
                "smallest class share of samples", "at least", 0.06, self.quality.smallest_share
            ),
        ]

    def _map_targets(self) -> list[Target]:
        own = self.row("generated", self.map_name)
        others = [self.row("generated", name) for name in ("retrieval", "ridge")]

        def lead(measure: Callable[[InversionRow], Interval], sign: int = 1) -> float:
            return min(sign * (measure(own).mean - measure(other).mean) for other in others)

        def agrees(row: InversionRow) -> Interval:
            assert row.judge_agrees is not None
            return row.judge_agrees

        beats = "map minus the better of retrieval and ridge"
        targets = [
            Target(f"{beats}: audit cosine", "more than", 0, lead(lambda r: r.cosine_f2)),
            Target(f"{beats}: R@1", "more than", 0, lead(lambda r: r.recall_at_1)),
            Target(
                f"{beats}: pixel error saved", "more than", 0, lead(lambda r: r.pixel_error, -1)
            ),
        ]
        if self.judging.kind != "none":
            targets.insert(2, Target(f"{beats}: judge agrees", "more than", 0, lead(agrees)))
        if self.judging.kind == "classifier":
            targets.append(Target("map: judge agrees", "at least", 0.95, agrees(own).mean))
        return targets

    def _edit_targets(self) -> list[Target]:
        if self.judging.kind == "none":
            return []
        classifier = self.judging.kind == "classifier"
        goal = 0.95 if classifier else 0.80
        best = "feature arithmetic: best flip rate"
        over = "flip rate, feature minus latent arithmetic"
        if self.figure3 is None:
            least = 0.20 if classifier else 0
            relation: Relation = "at least" if classifier else "more than"
            return [Target(best, "at least", goal, None), Target(over, relation, least, None)]
        feature, latent, retrieval = (
            self.figure3.at_best(name)
            for name in ("feature arithmetic", "latent arithmetic", "retrieval")
        )
        gain = feature.flip.mean - latent.flip.mean
        matched = self.figure3.equal_identity.lead
        kept = "identity of flipped, feature arithmetic minus"
        targets = [
            Target(best, "at least", goal, feature.flip.mean),
            Target(over, "at least", 0.20, gain)
            if classifier
            else Target(over, "more than", 0, gain),
            Target(
                "flip rate at equal identity, feature minus latent arithmetic",
                "more than",
                0,
                matched.mean if matched else None,
            ),
            Target(f"{kept} retrieval", "more than", 0, _more_kept(feature, retrieval)),
        ]
        if not classifier:
            more = _more_kept(feature, latent)
            targets.append(Target(f"{kept} latent arithmetic", "more than", 0, more))
        return targets

    def _time_targets(self) -> list[Target]:
        ratio, slowest = self.timing.ratio_alone, self.timing.map_p95_ms
        return [
            Target("optimisation's time over the map's, one item", "at least", 200, ratio),
            Target("one edit, feature to image, p95 ms", "at most", 50, slowest),
        ]

    def as_json(self) -> dict[str, Any]:
        """All numbers as JSON values, targets included, pictures left out."""
        values: dict[str, Any] = _plain(self)
        values["timing"] |= {
            "ratio_alone": self.timing.ratio_alone,
            "ratio_batched": self.timing.ratio_batched,
        }
        values["shows_real"] = self.shows_real
        values["targets"] = [{**_plain(t), "met": t.met, "wanted": t.wanted} for t in self.targets]
        return values


def _more_kept(one: Best, other: Best) -> float | None:
    kept = one.identity_of_flipped, other.identity_of_flipped
    return kept[0].mean - kept[1].mean if kept[0] and kept[1] else None


def _plain(value: Any) -> Any:
    # Dataclasses and named tuples become objects; arrays are pictures and are left out.
    if is_dataclass(value):
        kept = {f.name: getattr(value, f.name) for f in fields(value) if f.repr}
        return {name: _plain(item) for name, item in kept.items() if name != "strips"}
    if isinstance(value, BaseConfig):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
