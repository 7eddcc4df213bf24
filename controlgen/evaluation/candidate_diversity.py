"""Several answers to one feature: how different are they, and what does that cost?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controlgen import figures
from controlgen.evaluation.context import Subject
from controlgen.evaluation.goals import Target
from controlgen.evaluation.markdown import shown, table
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.diversity import euclidean, group_diversity
from controlgen.metrics.inversion import paired_cosine
from controlgen.rng import stream
from controlgen.types import Features, Pixels

MOST = 100  # targets
PICTURED = 4  # of them
LOST = 0.05  # share of the audit cosine that several answers may lose
PICTURE = "answers.png"
Answer = Callable[[Features, int], Pixels]  # features (n d), k -> k images to each (n k c h w)


@dataclass(frozen=True)
class VarietyRow:
    """`k` images to each target: cosines with what was asked, and how far apart the k lie in the
    audit space (length of the difference of unit features, 0..2); None for one."""

    images: str
    k: int
    cosine_f1: Interval
    cosine_f2: Interval
    diversity: Interval | None
    perceptual: Interval | None


@dataclass(frozen=True)
class Variety:
    """One answer, several, and two controls; `strips` are pictures, a row a target."""

    n: int
    rows: list[VarietyRow]
    perceptual_name: str | None
    strips: dict[str, Pixels]

    @property
    def lost(self) -> float:
        """Share of one answer's audit cosine that several answers lose on the mean."""
        one, several = self.rows[:2]
        return 1 - several.cosine_f2.mean / one.cosine_f2.mean

    def targets(self) -> list[Target]:
        """Diversity above 0 at no more than 5 % of the audit cosine."""
        several = self.rows[1].diversity
        told = f"{self.rows[1].k} answers to one feature"
        return [
            # Equal images embedded in different batches differ in their last bit.
            Target(
                f"{told}: diversity", "more than", 0, round(several.low, 4) if several else None
            ),
            Target(f"{told}: share of audit cosine lost", "at most", LOST, self.lost),
        ]

    def markdown(self) -> list[str]:
        """The section of the report."""
        seen = self.perceptual_name
        head = ["images", "k", "cosine f1", "cosine f2", "diversity f2", *([seen] if seen else [])]
        rows = [
            [
                row.images,
                str(row.k),
                *(shown(value) for value in (row.cosine_f1, row.cosine_f2, row.diversity)),
                *([shown(row.perceptual)] if seen else []),
            ]
            for row in self.rows
        ]
        return [
            "## Several answers to one feature",
            f"{self.n} held-out generated targets. Diversity: mean distance of two images to one "
            "target; that of unrelated images of the bank is what no answer is asked for. Several "
            f"answers lose {self.lost:.1%} of the audit cosine that the map's one answer has.",
            table(head, rows),
            f"![A row a target, then the answers to its feature]({PICTURE})",
        ]

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write answers.png."""
        figures.inversion_strips(
            folder / PICTURE, self.strips, provenance, "the target, then answers, best first"
        )


def variety(subject: Subject, answer: Answer) -> Variety | None:
    """Ask for several answers to held-out features; None where no more than one is asked for."""
    k = subject.config.answers
    if k < 2:
        return None
    _, pixels, asked = subject.held_out(min(MOST, subject.config.inversions))
    several, n = answer(asked, k), len(asked)
    one = subject.editor.generate(subject.predict(subject.map_name, asked))[:, None]

    # Controls: the nearest of the bank, and any of it.
    train = subject.bank.train
    features = np.asarray(subject.bank.features[train])
    near = np.argsort(-(asked @ features.T), axis=1, kind="stable")[:, :k]
    any_of = stream(subject.config.seed, "variety").integers(0, len(features), (n, k))
    bank = subject.bank.pixels[train]
    sides = {
        subject.map_name: one,
        f"{subject.map_name}, several": several,
        "nearest of the bank": _taken(bank, near),
        "any of the bank": _taken(bank, any_of),
    }
    audit = subject.audit.embed(pixels)
    picked = range(min(PICTURED, n))
    return Variety(
        n=n,
        rows=[_row(subject, name, images, asked, audit) for name, images in sides.items()],
        perceptual_name=subject.perceptual.name if subject.perceptual else None,
        strips={f"{at + 1}": np.concatenate([pixels[at][None], several[at]]) for at in picked},
    )


def _taken(bank: Any, rows: np.ndarray) -> Pixels:
    # A memory map is read in its own order.
    flat = rows.reshape(-1)
    order = np.argsort(flat, kind="stable")
    found = np.asarray(bank[flat[order]])[np.argsort(order, kind="stable")]
    return found.reshape(*rows.shape, *found.shape[1:])


def _row(
    subject: Subject, name: str, images: Pixels, asked: Features, audit: Features
) -> VarietyRow:
    n, k = images.shape[:2]
    flat, groups = images.reshape(n * k, *images.shape[2:]), np.repeat(np.arange(n), k)
    seen, seed = subject.audit.embed(flat), subject.config.seed
    steered = subject.editor.embed(flat)
    several = k > 1
    looks = subject.perceptual
    return VarietyRow(
        images=name,
        k=k,
        cosine_f1=subject.mean(paired_cosine(asked[groups], steered), groups),
        cosine_f2=subject.mean(paired_cosine(audit[groups], seen), groups),
        diversity=group_diversity(seen, groups, euclidean, seed) if several else None,
        perceptual=(
            group_diversity(flat, groups, looks.distance, seed) if several and looks else None
        ),
    )
