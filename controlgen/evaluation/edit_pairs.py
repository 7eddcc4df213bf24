"""What figure 3 starts from: exemplars of each class, the edits asked for, and their directions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlgen.errors import DataError
from controlgen.evaluation.context import CONFIDENT, Subject
from controlgen.metrics.bootstrap import Interval
from controlgen.rng import stream
from controlgen.types import Features, Indices, Latents, Pixels

PICK_FROM = 5_000  # training images the judge may pick exemplars from where text does not


class TooFewClasses(DataError):
    """The judge is sure of fewer than two classes among the generated images."""


@dataclass(frozen=True)
class Edits:
    """The edits asked for, row by row: which held-out item is to move from which class to which."""

    latents: Latents
    pixels: Pixels
    features: Features
    source: Indices
    before: Indices
    after: Indices

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Directions:
    """The change from class to class of every edit, in features, latents and audit features."""

    features: NDArray[np.float32]
    latents: NDArray[np.float32]
    audit: NDArray[np.float32]


def pick_exemplars(subject: Subject) -> tuple[Indices, str, Interval]:
    """Training items of the bank that stand for each class: (classes exemplars).

    A text space answers each class's prompt with its nearest images. Without text, or where the
    configuration says so, images the judge is sure of play the user's pick. Also returns how they
    were chosen, and the share of them that the judge calls by the class they stand for.
    """
    bank, config = subject.bank, subject.config
    start, stop, _ = bank.train.indices(len(bank.latents))
    by_text = config.exemplars_by == "auto" and hasattr(subject.editor.space, "embed_text")
    if by_text:
        texts = subject.editor.space.embed_text(list(subject.prompts))
        scores, by = texts @ np.asarray(bank.features[start:stop]).T, "text"
    else:
        some = np.array(bank.pixels[start : min(stop, start + PICK_FROM)])
        draws = stream(config.seed, "exemplars").random((len(subject.class_names), len(some)))
        sure = subject.probabilities(some).T > CONFIDENT
        scores, by = sure + draws, "judge"
    exemplars = start + np.argsort(-scores, axis=1, kind="stable")[:, : config.exemplars]

    # What the judge thinks of the choice is reported and never used.
    calls = subject.probabilities(np.array(bank.pixels[exemplars.ravel()])).argmax(1)
    standing_for = np.repeat(np.arange(len(exemplars)), exemplars.shape[1])
    return exemplars, by, subject.mean(calls == standing_for, exemplars.ravel())


def pick_edits(subject: Subject) -> tuple[Edits, list[int]]:
    """For each ordered pair of classes, held-out images the judge is sure of; and classes without.

    A class's images are dealt out in turn to its pairs, so that sources repeat little.
    """
    latents, pixels, features = subject.held_out(len(subject.bank.latents))
    probabilities = subject.probabilities(pixels)
    calls, sure = probabilities.argmax(1), probabilities.max(1) > CONFIDENT
    pools = [np.flatnonzero((calls == k) & sure) for k in range(len(subject.class_names))]
    present = [k for k, pool in enumerate(pools) if len(pool)]
    if len(present) < 2:
        raise TooFewClasses(
            "the judge is sure of fewer than two classes among the generated images; train the "
            "generator longer (train.total_images)"
        )

    # Dealing continues where the last pair of the same class stopped.
    chosen: list[tuple[int, int, int]] = []
    for b in present:
        others = [a for a in present if a != b]
        each = min(subject.config.sources, len(pools[b]))
        for turn, a in enumerate(others):
            dealt = (np.arange(each) + turn * each) % len(pools[b])
            chosen += [(int(item), b, a) for item in pools[b][dealt]]
    source, before, after = np.array(chosen, np.int64).T
    edits = Edits(latents[source], pixels[source], features[source], source, before, after)
    return edits, [k for k in range(len(pools)) if k not in present]


def class_directions(subject: Subject, exemplars: Indices, edits: Edits) -> Directions:
    """Mean of the target class's exemplars minus mean of the source class's, for every edit."""
    flat, bank = exemplars.ravel(), subject.bank
    audit = subject.audit.embed(np.array(bank.pixels[flat]))
    made = []
    for rows in (np.array(bank.features[flat]), np.array(bank.latents[flat]), audit):
        means = rows.reshape(*exemplars.shape, -1).mean(1)
        made.append(means[edits.after] - means[edits.before])
    return Directions(*made)
