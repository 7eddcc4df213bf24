"""Diversity of several candidates for one feature, and its cost in fidelity."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from controlgen import figures
from controlgen.evaluation.context import EvaluationContext
from controlgen.evaluation.goals import Goal
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.diversity import euclidean, group_diversity
from controlgen.metrics.inversion import paired_cosine
from controlgen.rng import stream
from controlgen.types import Features, Indices, Pixels

MAX_TARGETS = 100
FIGURE_TARGETS = 4
MAX_FIDELITY_LOSS = 0.05  # share of the audit cosine that several candidates may lose
FIGURE_FILE = "answers.png"
# Features (n d) and k -> k candidates for each (n k c h w).
GenerateCandidates = Callable[[Features, int], Pixels]


@dataclass(frozen=True)
class DiversityRow:
    """`k` images per target: cosines with the target in the steering (f1) and audit (f2) space.

    `diversity` is the mean distance of two of the k in the audit space (unit features, 0..2);
    None for a single image.
    """

    images: str
    k: int
    cosine_f1: Interval
    cosine_f2: Interval
    diversity: Interval | None
    perceptual: Interval | None


@dataclass(frozen=True)
class DiversityResult:
    """A single candidate, several, and two controls; `strips` has one row of images per target."""

    n: int
    rows: list[DiversityRow]
    perceptual_name: str | None
    strips: dict[str, Pixels] = field(repr=False)

    @property
    def fidelity_loss(self) -> float:
        """Share of a single candidate's audit cosine that several candidates lose on average."""
        single, several = self.rows[:2]
        return 1 - several.cosine_f2.mean / single.cosine_f2.mean

    def goals(self) -> list[Goal]:
        """Diversity above 0 at a loss of at most 5 % of the audit cosine."""
        diversity, label = self.rows[1].diversity, f"{self.rows[1].k} answers to one feature"
        # Equal images embedded in different batches differ in the last bit.
        low = round(diversity.low, 4) if diversity else None
        loss = f"{label}: share of audit cosine lost"
        return [
            Goal(f"{label}: diversity", "more than", 0, low),
            Goal(loss, "at most", MAX_FIDELITY_LOSS, self.fidelity_loss),
        ]

    def markdown(self) -> list[str]:
        """Return the section of the report."""
        perceptual = [self.perceptual_name] if self.perceptual_name else []
        rows = []
        for row in self.rows:
            values = [row.cosine_f1, row.cosine_f2, row.diversity]
            values += [row.perceptual] if perceptual else []
            rows.append([row.images, str(row.k), *map(format_interval, values)])
        return [
            "## Several candidates for one feature",
            f"{self.n} held-out generated targets. Diversity: mean distance of two images for one "
            "target; unrelated images of the bank give its upper end. Several candidates lose "
            f"{self.fidelity_loss:.1%} of the audit cosine of the map's single candidate.",
            markdown_table(
                ["images", "k", "cosine f1", "cosine f2", "diversity f2", *perceptual], rows
            ),
            f"![One row per target: the target, then its candidates]({FIGURE_FILE})",
        ]

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write answers.png."""
        title = "the target, then candidates, best first"
        figures.inversion_strips(folder / FIGURE_FILE, self.strips, provenance, title)


def evaluate_candidate_diversity(
    context: EvaluationContext, generate_candidates: GenerateCandidates
) -> DiversityResult | None:
    """Compare `config.answers` candidates for held-out features; None for fewer than two."""
    k = context.config.answers
    if k < 2:
        return None
    count = min(MAX_TARGETS, context.config.inversions)
    _, pixels, target_features = context.held_out_items(count)
    candidates, n = generate_candidates(target_features, k), len(target_features)
    single = context.editor.generate(context.predict(context.map_name, target_features))[:, None]

    # Controls: the nearest images of the bank, and random ones.
    train = context.bank.train
    features = np.asarray(context.bank.features[train])
    nearest = np.argsort(-(target_features @ features.T), axis=1, kind="stable")[:, :k]
    unrelated = stream(context.config.seed, "variety").integers(0, len(features), (n, k))
    bank = context.bank.pixels[train]
    compared = {
        context.map_name: single,
        f"{context.map_name}, several": candidates,
        "nearest of the bank": _read_items(bank, nearest),
        "any of the bank": _read_items(bank, unrelated),
    }
    targets = _Targets(target_features, context.audit.embed(pixels))
    return DiversityResult(
        n=n,
        rows=[_evaluate_images(context, *item, targets) for item in compared.items()],
        perceptual_name=context.perceptual.name if context.perceptual else None,
        strips={
            f"{index + 1}": np.concatenate([pixels[index][None], candidates[index]])
            for index in range(min(FIGURE_TARGETS, n))
        },
    )


class _Targets(NamedTuple):
    features: Features
    audit: Features


def _read_items(bank: Any, indices: Indices) -> Pixels:
    # Read a memory map in ascending order.
    flat = indices.reshape(-1)
    order = np.argsort(flat, kind="stable")
    items = np.asarray(bank[flat[order]])[np.argsort(order, kind="stable")]
    return items.reshape(*indices.shape, *items.shape[1:])


def _evaluate_images(
    context: EvaluationContext, name: str, images: Pixels, targets: _Targets
) -> DiversityRow:
    n, k = images.shape[:2]
    flat, groups = images.reshape(n * k, *images.shape[2:]), np.repeat(np.arange(n), k)
    audit, seed = context.audit.embed(flat), context.config.seed
    f1 = paired_cosine(targets.features[groups], context.editor.embed(flat))
    f2 = paired_cosine(targets.audit[groups], audit)
    perceptual = None
    if k > 1 and context.perceptual:
        perceptual = group_diversity(flat, groups, context.perceptual.distance, seed)
    return DiversityRow(
        images=name,
        k=k,
        cosine_f1=context.mean_interval(f1, groups),
        cosine_f2=context.mean_interval(f2, groups),
        diversity=group_diversity(audit, groups, euclidean, seed) if k > 1 else None,
        perceptual=perceptual,
    )
