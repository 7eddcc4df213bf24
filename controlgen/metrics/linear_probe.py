"""A judge for small data sets with many copies: a linear probe on frozen features, split by
source.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from controlgen.errors import DataError
from controlgen.metrics.classifier import LabelledDataset, source_ids
from controlgen.rng import stream
from controlgen.types import Features, Indices, Pixels

STRENGTHS = tuple(10.0**power for power in range(-5, 1))  # values of C: larger is less regularised
FOLDS = 5
LEARNED_FROM = 10_000  # training images at most, drawn by seed
ITERATIONS = 2_000
CHUNK = 1_000  # images embedded at once
Split = tuple[Indices, Indices]  # training part and held-out part


class Embedding(Protocol):
    """Pixels (n c h w) -> features (n d)."""

    def embed(self, pixels: Pixels) -> Features: ...


@dataclass(frozen=True)
class Regularization:
    """C, its mean log-likelihood on held-out sources (at most 0), and its accuracy."""

    value: float
    likelihood: float
    accuracy: float


class Probe:
    """Class probabilities of pixels, as trained by `train_probe` on features.

    `strength` is the selected C with its cross-validated scores; `images` and `sources` count the
    training data.
    """

    def __init__(
        self, space: Embedding, model: Pipeline, strength: Regularization, images: int, sources: int
    ) -> None:
        self._space = space
        self._model = model
        self.classes = len(model.classes_)
        self.strength = strength
        self.images = images
        self.sources = sources

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Pixels (n c h w) -> (n classes), rows sum to 1."""
        rows = [np.empty((0, self.classes), np.float32)]
        for start in range(0, len(pixels), CHUNK):
            features = self._space.embed(pixels[start : start + CHUNK])
            rows.append(self._model.predict_proba(features).astype(np.float32))
        return np.concatenate(rows)


def train_probe(dataset: LabelledDataset, space: Embedding, seed: int) -> Probe:
    """Train multinomial logistic regression on standardised features of labelled real images.

    C has the highest mean log-likelihood in cross-validation whose folds never split the images of
    one source (`dataset.groups`); ties go to the smallest. At most 10 000 images, drawn by seed,
    are used. Raises DataError if the labels are not 0..k-1 with k at least 2, or if a class has a
    single source, which cannot be both trained on and held out.
    """
    some = np.sort(stream(seed, "probe").permutation(len(dataset))[:LEARNED_FROM])
    labels, sources = dataset.labels(some), source_ids(dataset, some)
    folds = _folds(labels, sources)
    parts = [some[start : start + CHUNK] for start in range(0, len(some), CHUNK)]
    features = np.concatenate([space.embed(dataset.pixels(part)) for part in parts])

    # Ties go to the smaller C, which relies less on single images.
    candidates = [_evaluate_strength(features, labels, folds, value) for value in STRENGTHS]
    best = max(candidates, key=lambda candidate: (candidate.likelihood, -candidate.value))
    model = _model(best.value).fit(features, labels)
    return Probe(space, model, best, len(some), len(np.unique(sources)))


def _folds(labels: NDArray[np.int64], sources: NDArray[np.int64]) -> list[Split]:
    # Folds are balanced by class, so that each class can be learned in every split.
    classes = np.unique(labels)
    if len(classes) < 2 or not np.array_equal(classes, np.arange(len(classes))):
        raise DataError(
            f"probe: needs labels 0..k-1 of at least two classes, found {classes.tolist()}; "
            'set evaluate.judge = "none" to do without a judge'
        )
    counts = [len(np.unique(sources[labels == label])) for label in classes]
    refused = DataError(
        f"probe: sources of the classes are {counts}, too few to learn from some and hold out "
        'others; add images of other sources or set evaluate.judge = "none"'
    )
    if min(counts) < 2:
        raise refused
    # If every image is its own source, the plain split is equivalent and faster.
    count = min(FOLDS, *counts)
    folds: list[Split]
    if len(np.unique(sources)) == len(sources):
        folds = list(StratifiedKFold(count).split(labels, labels))
    else:
        folds = list(StratifiedGroupKFold(count).split(labels, labels, sources))
    if any(len(np.unique(labels[learned])) < len(classes) for learned, _ in folds):
        raise refused
    return folds


def _evaluate_strength(
    features: Features, labels: NDArray[np.int64], folds: list[Split], value: float
) -> Regularization:
    # Every image is held out once; probabilities of zero are clipped to avoid infinity.
    table = np.empty((len(labels), int(labels.max()) + 1))
    for learned, held_out in folds:
        model = _model(value).fit(features[learned], labels[learned])
        table[held_out] = model.predict_proba(features[held_out])
    true = np.maximum(table[np.arange(len(labels)), labels], np.finfo(np.float64).tiny)
    right = table.argmax(1) == labels
    return Regularization(value, float(np.log(true).mean()), float(right.mean()))


def _model(value: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=value, max_iter=ITERATIONS))
