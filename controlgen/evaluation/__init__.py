"""The protocol: sample quality, inversion, the paper's figure 3 as numbers, and their report."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from controlgen.config import EvaluateConfig
from controlgen.errors import ConfigError
from controlgen.evaluation.base import (
    BankLike,
    EditorLike,
    Embedding,
    OnProgress,
    Predict,
    Subject,
)
from controlgen.evaluation.figure3 import figure3
from controlgen.evaluation.inversion import inversion_table, time_map
from controlgen.evaluation.quality import sample_quality
from controlgen.evaluation.report import markdown, write_report
from controlgen.evaluation.results import Report, Target
from controlgen.metrics.judge import LabelledDataset, train_judge

__all__ = ["BankLike", "EditorLike", "Report", "Target", "evaluate", "markdown", "write_report"]

BASELINES = ("retrieval", "ridge")


def evaluate(
    editor: EditorLike,
    bank: BankLike,
    real_train: LabelledDataset,
    real_test: LabelledDataset,
    audit: Embedding,
    config: EvaluateConfig,
    maps: Mapping[str, Predict],
    map_name: str,
    class_names: Sequence[str],
    prompts: Sequence[str],
    on_progress: OnProgress | None = None,
) -> Report:
    """Judge a generator, a feature space and a map by the protocol.

    `maps` holds every map to compare, by name: "retrieval", "ridge" and `map_name`, each fitted on
    the bank's training part only. `class_names` and `prompts` (one text a class) are in the order
    of the labels. `on_progress` is told what is being done and the share done.
    Raises ConfigError where maps, names or prompts do not fit, DataError where no edit is possible.
    """
    _check(maps, map_name, real_train, class_names, prompts)
    tell = on_progress or (lambda what, done: None)
    seconds: dict[str, float] = {}
    began = time.perf_counter()

    def finished(part: str) -> None:
        seconds[part] = round(time.perf_counter() - began - sum(seconds.values()), 2)

    # Labels enter here, and only the judge learns from them.
    tell("teaching the judge on real images", 0.0)
    judge = train_judge(real_train, config.judge_epochs, config.seed)
    subject = Subject(
        editor=editor,
        bank=bank,
        maps=maps,
        map_name=map_name,
        real_train=real_train,
        real_test=real_test,
        audit=audit,
        judge=judge,
        class_names=class_names,
        prompts=prompts,
        config=config,
    )
    accuracy = judge.accuracy(real_test)
    finished("judge")

    tell("sample quality", 0.3)
    quality = sample_quality(subject)
    finished("quality")

    tell("inversion of held-out images", 0.45)
    parts = list(inversion_table(subject))
    timing = time_map(subject)
    finished("inversion")

    tell("figure 3: all ordered pairs of classes", 0.7)
    found = figure3(subject)
    finished("figure 3")
    tell("done", 1.0)
    return Report(
        config=config.effective(),
        map_name=map_name,
        audit_name=config.audit.kind,
        judge_accuracy=accuracy,
        seconds=seconds,
        quality=quality,
        inversion=[row for rows, _ in parts for row in rows],
        timing=timing,
        figure3=found,
        strips={rows[0].targets: strips for rows, strips in parts},
    )


def _check(
    maps: Mapping[str, Predict],
    map_name: str,
    real_train: LabelledDataset,
    class_names: Sequence[str],
    prompts: Sequence[str],
) -> None:
    missing = [name for name in (*BASELINES, map_name) if name not in maps]
    if missing:
        raise ConfigError(f"evaluate: maps lack {', '.join(missing)}; fit and pass them too")
    classes = len(np.unique(real_train.labels(np.arange(len(real_train)))))
    if not classes == len(class_names) == len(prompts):
        raise ConfigError(
            f"evaluate: {classes} classes in the data, {len(class_names)} names and {len(prompts)} "
            "prompts; give one name and one prompt a class"
        )
