"""Tables that compare trainings: scores over seeds, all runs as CSV, and verdicts."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from controlgen.evaluation.convergence import Observation, Verdict, verdict_label
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.evaluation.scores import Score
from controlgen.metrics.bootstrap import Interval

ARROWS = {"lower": " ↓", "higher": " ↑", "neither": ""}


@dataclass(frozen=True)
class RunOutcome:
    """One training of one member: its scores, or the reason for having none."""

    member: str
    seed: int
    scores: tuple[Score, ...] = ()
    observations: tuple[Observation, ...] = ()
    verdict: Verdict | None = None
    failure: str | None = None
    seconds: float | None = None


def mean_over_seeds(values: Sequence[float]) -> Interval:
    """Return the mean over seeds with Student's 95 % interval; a single seed has no interval."""
    numbers = np.asarray(values, np.float64)
    mean, n = float(numbers.mean()), len(numbers)
    if n < 2:
        return Interval(mean, mean, mean, n)
    margin = float(student.ppf(0.975, n - 1) * numbers.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - margin, mean + margin, n)


def scores_table(outcomes: Sequence[RunOutcome]) -> str:
    """Return one row per member and one column per measure, then floors of real images and n.

    `seeds` is the number of averaged runs; n counts the images, pairs or path steps of a run.
    """
    measures = _measures(outcomes)
    titles = [name + ARROWS[score.better] for name, score in measures.items()]
    head = ["objective", "seeds", *titles, "verdict"]
    digits = {name: _digits(name, outcomes) for name in measures}
    rows = []
    for member in dict.fromkeys(outcome.member for outcome in outcomes):
        runs = [outcome for outcome in outcomes if outcome.member == member]
        cells = [format_interval(_mean(runs, name), digits[name]) for name in measures]
        scored = sum(bool(outcome.scores) for outcome in runs)
        rows.append([member, str(scored), *cells, _verdicts(runs)])
    floors = [format_interval(score.floor, digits[name]) for name, score in measures.items()]
    counts = [_n(name, outcomes) for name in measures]
    rows += [["real images", "-", *floors, "-"], ["n of a run", "-", *counts, "-"]]
    return markdown_table(head, rows)


def scores_csv(outcomes: Sequence[RunOutcome]) -> str:
    """Return CSV with one line per run and measure, with the bootstrap interval over images."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["member", "seed", "measure", "value", "low", "high", "n", "floor", "verdict", "seconds"]
    )
    for outcome in outcomes:
        verdict = outcome.verdict.name if outcome.verdict else "failed"
        seconds = "" if outcome.seconds is None else f"{outcome.seconds:.0f}"
        if not outcome.scores:
            writer.writerow([outcome.member, outcome.seed, *[""] * 6, verdict, seconds])
        for score in outcome.scores:
            floor = "" if score.floor is None else f"{score.floor.mean:.6g}"
            value = [f"{number:.6g}" for number in score.value[:3]]
            columns = [outcome.member, outcome.seed, score.name, *value, score.value.n, floor]
            writer.writerow([*columns, verdict, seconds])
    return text.getvalue()


def verdicts_table(outcomes: Sequence[RunOutcome]) -> str:
    """Return one row per run: the verdict and its reasons."""
    rows = []
    for outcome in outcomes:
        reasons = "; ".join(outcome.verdict.reasons) if outcome.verdict else f"{outcome.failure}"
        rows.append([outcome.member, str(outcome.seed), _label(outcome), reasons])
    return markdown_table(["objective", "seed", "verdict", "why"], rows)


def score_notes(outcomes: Sequence[RunOutcome]) -> list[str]:
    """Return one line per note of a measure."""
    return [f"{name}: {score.note}" for name, score in _measures(outcomes).items() if score.note]


def _label(outcome: RunOutcome) -> str:
    return verdict_label(outcome.verdict, outcome.observations) if outcome.verdict else "failed"


def _measures(outcomes: Sequence[RunOutcome]) -> dict[str, Score]:
    # One score per name, for direction and floor: all runs are compared with the same images.
    return {score.name: score for outcome in reversed(outcomes) for score in outcome.scores}


def _mean(runs: Sequence[RunOutcome], name: str) -> Interval | None:
    values = [score.value.mean for score in _scores_of(name, runs)]
    return mean_over_seeds(values) if values else None


def _n(name: str, outcomes: Sequence[RunOutcome]) -> str:
    # Usually one number; path lengths may leave out different numbers of steps.
    sizes = {score.value.n for score in _scores_of(name, outcomes)}
    low, high = min(sizes), max(sizes)
    return str(low) if low == high else f"{low} to {high}"


def _digits(name: str, outcomes: Sequence[RunOutcome]) -> int:
    # Three significant digits of the smallest value, but at most thousandths if others are larger.
    values = [abs(score.value.mean) for score in _scores_of(name, outcomes) if score.value.mean]
    limit = 3 if max(values, default=1.0) >= 0.01 else 5
    return int(min(max(2 - np.floor(np.log10(min(values, default=1.0))), 1), limit))


def _scores_of(name: str, outcomes: Sequence[RunOutcome]) -> list[Score]:
    return [score for outcome in outcomes for score in outcome.scores if score.name == name]


def _verdicts(runs: Sequence[RunOutcome]) -> str:
    names = [_label(outcome) for outcome in runs]
    return ", ".join(
        name if names.count(name) == len(runs) == 1 else f"{name} {names.count(name)}/{len(runs)}"
        for name in dict.fromkeys(names)
    )
