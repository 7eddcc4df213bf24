"""The results of an evaluation and the goals of the project, as data and as JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from controlgen.base_config import BaseConfig
from controlgen.evaluation.analogies import AnalogyResults
from controlgen.evaluation.candidate_diversity import DiversityResult
from controlgen.evaluation.class_edits import ClassEditResults
from controlgen.evaluation.confidence import ConfidenceSection
from controlgen.evaluation.edit_scores import MethodScore
from controlgen.evaluation.goals import Goal, Relation, ReportSection
from controlgen.evaluation.inversion import InversionRow, Strips, Timing
from controlgen.evaluation.judge import JudgeInfo
from controlgen.evaluation.memorisation import MemorisationAudit
from controlgen.evaluation.sample_quality import SampleQuality
from controlgen.evaluation.slider_results import SliderResults
from controlgen.metrics.bootstrap import Interval


@dataclass(frozen=True)
class Report:
    """All results of an evaluation; `strips` are figures: kind of targets -> row -> images.

    Optional sections are None if the map, the data or the settings do not provide their input:
    `class_edits` needs a judge, `sliders` measured attributes, `memorisation` an audit in the
    settings, `confidence` a fitted confidence model, `analogies` a judge or measured attributes.
    """

    config: dict[str, Any]
    map_name: str
    audit_name: str
    judge_accuracy: float | None
    judge: JudgeInfo = field(metadata={"json": "judging"})
    seconds: dict[str, float]
    quality: SampleQuality
    inversion: list[InversionRow]
    timing: Timing
    class_edits: ClassEditResults | None = field(metadata={"json": "figure3"})
    strips: dict[str, Strips]
    perceptual_name: str | None = None
    sliders: SliderResults | None = None
    memorisation: MemorisationAudit | None = field(default=None, metadata={"json": "copies"})
    confidence: ConfidenceSection | None = field(default=None, metadata={"json": "believed"})
    candidate_diversity: DiversityResult | None = field(default=None, metadata={"json": "variety"})
    analogies: AnalogyResults | None = None
    no_edits: str = ""  # why there are no class edits

    def row(self, targets: str, name: str) -> InversionRow:
        """The inversion row of a map on one kind of targets, "generated" or "real"."""
        return next(r for r in self.inversion if (r.targets, r.map) == (targets, name))

    @property
    def sections(self) -> list[ReportSection]:
        """The self-contained sections."""
        sections = (
            self.class_edits.realism if self.class_edits else None,
            self.analogies,
            self.candidate_diversity,
            self.sliders,
            self.confidence,
            self.memorisation,
        )
        return [section for section in sections if section is not None]

    @property
    def shows_real(self) -> list[str]:
        """File names of figures that show real images and must not be redistributed."""
        names = ["inversion-real.png"] if "real" in self.strips else []
        return [*names, *(self.memorisation.shows_real if self.memorisation else ())]

    @property
    def goals(self) -> list[Goal]:
        """Every goal with its measurement; goals that need a judge are absent without one."""
        return [
            *self._judge_goals(),
            *self._map_goals(),
            *self._edit_goals(),
            *self._time_goals(),
            *(goal for section in self.sections for goal in section.goals()),
        ]

    def _judge_goals(self) -> list[Goal]:
        if self.judge.kind == "none":
            return []
        if self.judge.kind == "probe":
            name = "probe reads the real test set, by source"
            return [Goal(name, "at least", 0.95, self.judge_accuracy)]
        confident = self.quality.confident
        measured = confident.mean if confident else None
        return [
            Goal("judge reads the real test set", "at least", 0.99, self.judge_accuracy),
            Goal("judge confident on samples", "at least", 0.92, measured),
            Goal("smallest class share of samples", "at least", 0.06, self.quality.smallest_share),
        ]

    def _map_goals(self) -> list[Goal]:
        own = self.row("generated", self.map_name)
        others = [self.row("generated", name) for name in ("retrieval", "ridge")]

        def lead(measure: Callable[[InversionRow], Interval], sign: int = 1) -> float:
            return min(sign * (measure(own).mean - measure(other).mean) for other in others)

        def agrees(row: InversionRow) -> Interval:
            assert row.judge_agrees is not None
            return row.judge_agrees

        beats = "map minus the better of retrieval and ridge"
        goals = [
            Goal(f"{beats}: audit cosine", "more than", 0, lead(lambda r: r.cosine_f2)),
            Goal(f"{beats}: R@1", "more than", 0, lead(lambda r: r.recall_at_1)),
            Goal(f"{beats}: pixel error saved", "more than", 0, lead(lambda r: r.pixel_error, -1)),
        ]
        if self.judge.kind != "none":
            goals.insert(2, Goal(f"{beats}: judge agrees", "more than", 0, lead(agrees)))
        if self.judge.kind == "classifier":
            goals.append(Goal("map: judge agrees", "at least", 0.95, agrees(own).mean))
        return goals

    def _edit_goals(self) -> list[Goal]:
        if self.judge.kind == "none":
            return []
        classifier = self.judge.kind == "classifier"

        def best_rate(measured: float | None) -> Goal:
            bound = 0.95 if classifier else 0.80
            return Goal("feature arithmetic: best flip rate", "at least", bound, measured)

        def gain(measured: float | None) -> Goal:
            name = "flip rate, feature minus latent arithmetic"
            relation: Relation = "at least" if classifier else "more than"
            return Goal(name, relation, 0.20 if classifier else 0, measured)

        if self.class_edits is None:
            return [best_rate(None), gain(None)]
        feature, latent, retrieval = (
            self.class_edits.best_of(name)
            for name in ("feature arithmetic", "latent arithmetic", "retrieval")
        )
        lead = self.class_edits.equal_identity.lead
        at_equal_identity = "flip rate at equal identity, feature minus latent arithmetic"
        identity = "identity of flipped, feature arithmetic minus"
        goals = [
            best_rate(feature.flip.mean),
            gain(feature.flip.mean - latent.flip.mean),
            Goal(at_equal_identity, "more than", 0, lead.mean if lead else None),
            Goal(f"{identity} retrieval", "more than", 0, _identity_gain(feature, retrieval)),
        ]
        if not classifier:
            measured = _identity_gain(feature, latent)
            goals.append(Goal(f"{identity} latent arithmetic", "more than", 0, measured))
        return goals

    def _time_goals(self) -> list[Goal]:
        ratio, slowest = self.timing.ratio_alone, self.timing.map_p95_ms
        return [
            Goal("optimisation's time over the map's, one item", "at least", 200, ratio),
            Goal("one edit, feature to image, p95 ms", "at most", 50, slowest),
        ]

    def as_json(self) -> dict[str, Any]:
        """All numbers and goals as JSON values, without images."""
        values: dict[str, Any] = to_json_values(self)
        values["timing"] |= {
            "ratio_alone": self.timing.ratio_alone,
            "ratio_batched": self.timing.ratio_batched,
        }
        values["shows_real"] = self.shows_real
        values["targets"] = [
            {**to_json_values(goal), "met": goal.met, "wanted": goal.bound_text}
            for goal in self.goals
        ]
        return values


def _identity_gain(score: MethodScore, other: MethodScore) -> float | None:
    identity, baseline = score.identity_of_flipped, other.identity_of_flipped
    return identity.mean - baseline.mean if identity and baseline else None


def to_json_values(value: Any) -> Any:
    """Convert dataclasses, settings and tuples to JSON values; fields without a repr are left out.

    A field whose key in report.json differs from its name gives it in `metadata["json"]`.
    """
    if is_dataclass(value):
        return {
            f.metadata.get("json", f.name): to_json_values(getattr(value, f.name))
            for f in fields(value)
            if f.repr and f.name != "strips"
        }
    if isinstance(value, BaseConfig):
        return {name: to_json_values(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return to_json_values(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): to_json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_values(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
