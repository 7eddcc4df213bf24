"""Class edits: exemplars of each class, pairs of source image and target class, directions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlgen.errors import DataError
from controlgen.evaluation.context import MIN_CONFIDENCE, EvaluationContext
from controlgen.metrics.bootstrap import Interval
from controlgen.rng import stream
from controlgen.types import Features, Indices, Latents, Pixels

EXEMPLAR_POOL = 5_000  # training images from which the judge selects exemplars


class TooFewClasses(DataError):
    """The judge is confident of fewer than two classes among the generated images."""


@dataclass(frozen=True)
class EditPairs:
    """Edits, row by row: which held-out item is moved from which class to which."""

    latents: Latents
    pixels: Pixels
    features: Features
    source: Indices
    before: Indices
    after: Indices

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class ClassDirections:
    """The change from class to class of every edit, in features, latents and audit features."""

    features: NDArray[np.float32]
    latents: NDArray[np.float32]
    audit: NDArray[np.float32]


def select_exemplars(context: EvaluationContext) -> tuple[Indices, str, Interval]:
    """Select training items of the bank that represent each class: (classes exemplars).

    In a text space these are the images nearest to each class's prompt. Otherwise, or with
    `exemplars_by = "judge"`, they are images of which the judge is confident, drawn at random.
    Also returns "text" or "judge", and the share of exemplars that the judge assigns to their
    class.
    """
    bank, config = context.bank, context.config
    start, stop, _ = bank.train.indices(len(bank.latents))
    if config.exemplars_by == "auto" and hasattr(context.editor.space, "embed_text"):
        texts = context.editor.space.embed_text(list(context.prompts))
        scores, selected_by = texts @ np.asarray(bank.features[start:stop]).T, "text"
    else:
        pool = np.array(bank.pixels[start : min(stop, start + EXEMPLAR_POOL)])
        draws = stream(config.seed, "exemplars").random((len(context.class_names), len(pool)))
        confident = context.judge_probabilities(pool).T > MIN_CONFIDENCE
        scores, selected_by = confident + draws, "judge"
    exemplars = start + np.argsort(-scores, axis=1, kind="stable")[:, : config.exemplars]

    # The judge's opinion of the selection is reported and never used.
    labels = context.judge_probabilities(np.array(bank.pixels[exemplars.ravel()])).argmax(1)
    expected = np.repeat(np.arange(len(exemplars)), exemplars.shape[1])
    precision = context.mean_interval(labels == expected, exemplars.ravel())
    return exemplars, selected_by, precision


def select_edit_pairs(context: EvaluationContext) -> tuple[EditPairs, list[int]]:
    """Select held-out images of confident class for each ordered pair of classes.

    Each class's images are dealt in turn to its pairs, so that sources repeat little. Also returns
    the classes without any image. Raises TooFewClasses if fewer than two classes have images.
    """
    latents, pixels, features = context.held_out_items(len(context.bank.latents))
    probabilities = context.judge_probabilities(pixels)
    labels, confident = probabilities.argmax(1), probabilities.max(1) > MIN_CONFIDENCE
    pools = [
        np.flatnonzero((labels == label) & confident) for label in range(len(context.class_names))
    ]
    present = [label for label, pool in enumerate(pools) if len(pool)]
    if len(present) < 2:
        raise TooFewClasses(
            "the judge is confident of fewer than two classes among the generated images; train "
            "the generator longer (train.total_images)"
        )

    # Each pair starts dealing where the previous pair of the same class stopped.
    pairs: list[tuple[int, int, int]] = []
    for b in present:
        targets = [a for a in present if a != b]
        n = min(context.config.sources, len(pools[b]))
        for turn, a in enumerate(targets):
            dealt = (np.arange(n) + turn * n) % len(pools[b])
            pairs += [(int(item), b, a) for item in pools[b][dealt]]
    source, before, after = np.array(pairs, np.int64).T
    edits = EditPairs(latents[source], pixels[source], features[source], source, before, after)
    return edits, [label for label in range(len(pools)) if label not in present]


def class_directions(
    context: EvaluationContext, exemplars: Indices, edits: EditPairs
) -> ClassDirections:
    """Mean of the target class's exemplars minus mean of the source class's, for every edit."""
    indices, bank = exemplars.ravel(), context.bank
    audit = context.audit.embed(np.array(bank.pixels[indices]))
    directions = []
    for rows in (np.array(bank.features[indices]), np.array(bank.latents[indices]), audit):
        means = rows.reshape(*exemplars.shape, -1).mean(1)
        directions.append(means[edits.after] - means[edits.before])
    return ClassDirections(*directions)
