"""Train the configured judge and measure its accuracy on real images."""

from dataclasses import dataclass, field

import numpy as np

from controlgen.config import EvaluateConfig
from controlgen.metrics.bootstrap import Interval, mean_interval
from controlgen.metrics.classifier import (
    Judge,
    LabelledDataset,
    is_correct,
    source_ids,
    train_judge,
)
from controlgen.metrics.linear_probe import Embedding, train_probe


@dataclass(frozen=True)
class JudgeInfo:
    """Kind of judge, a sentence about it, and its accuracy on the real test set, by source.

    `strength` is a probe's C and `cross_validated` its accuracy on held-out sources of the
    training split. All numbers are None without a judge.
    """

    kind: str
    description: str = field(metadata={"json": "said"})
    accuracy: Interval | None = None
    strength: float | None = None
    cross_validated: float | None = None


def has_classes(dataset: LabelledDataset) -> bool:
    """Whether a set of images has classes; without a `class_names` attribute it does."""
    names = getattr(dataset, "class_names", None)
    return names is None or len(names) > 0


def train_configured_judge(
    real_train: LabelledDataset,
    real_test: LabelledDataset,
    audit: Embedding,
    config: EvaluateConfig,
) -> tuple[Judge | None, JudgeInfo]:
    """Train the configured judge on real training images and test it on real test images.

    Only the judge learns from labels. Returns None for the judge if none is configured or the data
    have no classes. Raises DataError if there are too few sources for a probe.
    """
    if config.judge == "none":
        return None, JudgeInfo("none", 'no judge is configured (evaluate.judge = "none")')
    if not has_classes(real_train):
        return None, JudgeInfo("none", "the data have no classes, so there is no judge")
    judge: Judge
    if config.judge == "classifier":
        judge = train_judge(real_train, config.judge_epochs, config.seed)
        description = "labels are used by the judge alone, a classifier"
        return judge, JudgeInfo("classifier", description, _test_accuracy(judge, real_test, config))
    judge = probe = train_probe(real_train, audit, config.seed)
    description = (
        "labels are used by the judge alone, a linear probe on the audit features of "
        f"{probe.images} real training images of {probe.sources} sources (C = "
        f"{probe.strength.value:g}, chosen by cross-validation over sources with accuracy "
        f"{probe.strength.accuracy:.2%})"
    )
    accuracy = _test_accuracy(judge, real_test, config)
    strength = probe.strength
    return judge, JudgeInfo("probe", description, accuracy, strength.value, strength.accuracy)


def _test_accuracy(judge: Judge, real_test: LabelledDataset, config: EvaluateConfig) -> Interval:
    sources = source_ids(real_test, np.arange(len(real_test)))
    return mean_interval(is_correct(judge, real_test), config.seed, config.bootstraps, sources)
