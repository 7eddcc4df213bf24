"""Report section on the confidence (reachability) score of the map."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlgen import figures
from controlgen.editing.confidence.fit import NEAR_SHARE, ConfidenceReport
from controlgen.evaluation.goals import Goal
from controlgen.evaluation.markdown import format_interval, markdown_table

MIN_AUROC = 0.85  # on targets that the score was not fitted on
FIGURE_FILE = "reliability.png"


@dataclass(frozen=True)
class ConfidenceSection:
    """The quality of the confidence score saved with the map, as a section of the report."""

    report: ConfidenceReport = field(metadata={"json": "judged"})

    def goals(self) -> list[Goal]:
        """AUROC of at least 0.85; not measured if all targets are near or none is."""
        auroc = self.report.auroc
        name = "reachability: AUROC on targets not fitted on"
        return [Goal(name, "at least", MIN_AUROC, auroc.mean if auroc else None)]

    def markdown(self) -> list[str]:
        """Return the section of the report."""
        report = self.report
        kinds = []
        for row in report.kinds:
            shares = [format_interval(value, 2) for value in (row.near, row.score, row.warned)]
            kinds.append([row.kind, str(row.n), *shares, format_interval(row.auroc)])
        inputs = [
            [row.input, format_interval(row.without), format_interval(row.alone)]
            for row in report.inputs
        ]
        return [
            "## Reachability",
            "The score is the probability that a result is near its target: its audit cosine is at "
            f"least {report.near_means:.3f}, like {NEAR_SHARE:.0%} of the results for held-out "
            f"samples. It was fitted on {report.fitted} targets with known images and evaluated on "
            f"{report.judged} from other sources, {report.share:.1%} of them near.",
            f"AUROC {format_interval(report.auroc)}; {format_interval(report.auroc_near)} among "
            f"samples, real images and mixtures; {format_interval(report.auroc_bank)} among "
            f"held-out samples. Brier score {report.brier:.3f} (constant score: "
            f"{report.brier_constant:.3f}), expected calibration error "
            f"{report.calibration_error:.3f}. Of the results that are not near, "
            f"{format_interval(report.failures_warned, 2)} get a warning; of the warnings, "
            f"{format_interval(report.warnings_right, 2)} are right. Probabilities hold for "
            "targets of these kinds in these shares, and for the map's own results.",
            markdown_table(["kind", "n", "near", "mean score", "warned", "AUROC within"], kinds),
            markdown_table(["input", "AUROC without it", "AUROC of it alone"], inputs),
            f"![Observed share over predicted probability]({FIGURE_FILE})",
        ]

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write reliability.png."""
        bins = self.report.bins
        points = [
            figures.Point(b.predicted, b.observed.mean, b.observed.low, b.observed.high)
            for b in bins
        ]
        figures.reliability_plot(folder / FIGURE_FILE, points, [b.n for b in bins], provenance)
