"""Trainings compared: the table over seeds, every run as a line of CSV, and a report."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from controlgen.evaluation.convergence import Evidence, Verdict, qualified
from controlgen.evaluation.markdown import shown, table
from controlgen.evaluation.scores import Score
from controlgen.metrics.bootstrap import Interval

ARROWS = {"lower": " ↓", "higher": " ↑", "neither": ""}


@dataclass(frozen=True)
class Outcome:
    """One training of one member: scores of what it made, or why there is nothing to score."""

    member: str
    seed: int
    scores: tuple[Score, ...] = ()
    seen: tuple[Evidence, ...] = ()
    verdict: Verdict | None = None
    failure: str | None = None
    seconds: float | None = None


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of one value a seed with Student's 95 % interval; of one seed, the value alone."""
    found = np.asarray(values, np.float64)
    mean, n = float(found.mean()), len(found)
    if n < 2:
        return Interval(mean, mean, mean, n)
    reach = float(student.ppf(0.975, n - 1) * found.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - reach, mean + reach, n)


def table_of(outcomes: Sequence[Outcome]) -> str:
    """A row a member, a column a measure, over its seeds; then real against real, and n.

    `seeds` counts the runs behind a mean, the last row what each run was measured on: images, pairs
    of them, or steps of a path.
    """
    named = _measures(outcomes)
    measures = [name + ARROWS[one.better] for name, one in named.items()]
    head = ["objective", "seeds", *measures, "verdict"]
    digits = {name: _digits(name, outcomes) for name in named}
    rows = []
    for member in _members(outcomes):
        runs = [one for one in outcomes if one.member == member]
        cells = [shown(_mean(runs, name), digits[name]) for name in named]
        scored = sum(bool(one.scores) for one in runs)
        rows.append([member, str(scored), *cells, _verdicts(runs)])
    floors = [shown(one.floor, digits[name]) for name, one in named.items()]
    counts = [_n(name, outcomes) for name in named]
    rows += [["real images", "-", *floors, "-"], ["n of a run", "-", *counts, "-"]]
    return table(head, rows)


def csv_of(outcomes: Sequence[Outcome]) -> str:
    """One line a run and measure, with the bootstrap interval of that run's images."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(
        ["member", "seed", "measure", "value", "low", "high", "n", "floor", "verdict", "seconds"]
    )
    for one in outcomes:
        told = one.verdict.name if one.verdict else "failed"
        seconds = "" if one.seconds is None else f"{one.seconds:.0f}"
        if not one.scores:
            lines.writerow([one.member, one.seed, *[""] * 6, told, seconds])
        for score in one.scores:
            floor = "" if score.floor is None else f"{score.floor.mean:.6g}"
            value = [f"{number:.6g}" for number in score.value[:3]]
            lines.writerow(
                [one.member, one.seed, score.name, *value, score.value.n, floor, told, seconds]
            )
    return text.getvalue()


def verdicts_of(outcomes: Sequence[Outcome]) -> str:
    """A row a run: the verdict and the numbers it rests on."""
    rows = []
    for one in outcomes:
        name = qualified(one.verdict, one.seen) if one.verdict else "failed"
        reasons = "; ".join(one.verdict.reasons) if one.verdict else f"{one.failure}"
        rows.append([one.member, str(one.seed), name, reasons])
    return table(["objective", "seed", "verdict", "why"], rows)


def notes_of(outcomes: Sequence[Outcome]) -> list[str]:
    """What is to be known beside the measures, a line each."""
    return [f"{name}: {one.note}" for name, one in _measures(outcomes).items() if one.note]


def _members(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(one.member for one in outcomes))


def _measures(outcomes: Sequence[Outcome]) -> dict[str, Score]:
    # One of each, for its name, direction and floor: all runs are compared with the same images.
    return {score.name: score for one in reversed(outcomes) for score in one.scores}


def _mean(runs: Sequence[Outcome], name: str) -> Interval | None:
    values = [score.value.mean for one in runs for score in one.scores if score.name == name]
    return over_seeds(values) if values else None


def _n(name: str, outcomes: Sequence[Outcome]) -> str:
    # One number, as a rule; steps of a path are left out one by one, so that theirs may differ.
    found = {score.value.n for one in outcomes for score in one.scores if score.name == name}
    low, high = min(found), max(found)
    return str(low) if low == high else f"{low} to {high}"


def _digits(name: str, outcomes: Sequence[Outcome]) -> int:
    # Three digits that count in the smallest number of the column, but thousandths are enough where
    # others are larger.
    values = [
        abs(score.value.mean)
        for one in outcomes
        for score in one.scores
        if score.name == name and score.value.mean
    ]
    most = 3 if max(values, default=1.0) >= 0.01 else 5
    return int(min(max(2 - np.floor(np.log10(min(values, default=1.0))), 1), most))


def _verdicts(runs: Sequence[Outcome]) -> str:
    names = [qualified(one.verdict, one.seen) if one.verdict else "failed" for one in runs]
    return ", ".join(
        name if names.count(name) == len(runs) == 1 else f"{name} {names.count(name)}/{len(runs)}"
        for name in dict.fromkeys(names)
    )
