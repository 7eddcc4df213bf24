"""How far the map's answers can be believed: what its reachability score is worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlgen import figures
from controlgen.editing.confidence.fit import AS_NEAR, Judged
from controlgen.evaluation.goals import Target
from controlgen.evaluation.markdown import shown, table

GOAL = 0.85  # AUROC on targets not fitted on
RELIABILITY = "reliability.png"


@dataclass(frozen=True)
class Believed:
    """The judgement that was saved beside the map, as a section of the report."""

    judged: Judged

    def targets(self) -> list[Target]:
        """An AUROC of at least 0.85; not measured where all targets came out alike."""
        found = self.judged.auroc
        name = "reachability: AUROC on targets not fitted on"
        return [Target(name, "at least", GOAL, found.mean if found else None)]

    def markdown(self) -> list[str]:
        """The section of the report."""
        found = self.judged
        kinds = []
        for row in found.kinds:
            shares = [shown(value, 2) for value in (row.near, row.score, row.warned)]
            kinds.append([row.kind, str(row.n), *shares, shown(row.auroc)])
        inputs = [[row.input, shown(row.without), shown(row.alone)] for row in found.inputs]
        return [
            "## Reachability",
            "The score is the probability that an answer is as near to what was asked, by audit "
            f"cosine, as {AS_NEAR:.0%} of the answers to held-out samples are: here at least "
            f"{found.near_means:.3f}. It was fitted on {found.fitted} targets whose image is known "
            f"and judged on {found.judged} of other sources, {found.share:.1%} of them near.",
            f"AUROC {shown(found.auroc)}; {shown(found.auroc_near)} among samples, real images and "
            f"mixtures alone; {shown(found.auroc_bank)} among held-out samples alone. Brier score "
            f"{found.brier:.3f} (their share said of all: {found.brier_constant:.3f}), expected "
            f"calibration error {found.calibration_error:.3f}. Of the answers that are not near, "
            f"{shown(found.failures_warned, 2)} are warned of; of the warnings, "
            f"{shown(found.warnings_right, 2)} are right. Probabilities hold for "
            "targets of these kinds in these shares, and for the map's own answers.",
            table(["kind", "n", "near", "mean score", "warned", "AUROC within"], kinds),
            table(["input", "AUROC without it", "AUROC of it alone"], inputs),
            f"![Observed share over predicted probability]({RELIABILITY})",
        ]

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write reliability.png."""
        bins = self.judged.bins
        points = [
            figures.Point(b.predicted, b.observed.mean, b.observed.low, b.observed.high)
            for b in bins
        ]
        figures.reliability_plot(folder / RELIABILITY, points, [b.n for b in bins], provenance)
