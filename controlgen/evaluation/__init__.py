"""The protocol: sample quality, inversion, the paper's figure 3 as numbers, and their report."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from controlgen.config import EvaluateConfig
from controlgen.editing.confidence.fit import Judged
from controlgen.errors import ConfigError
from controlgen.evaluation.analogies import analogies
from controlgen.evaluation.candidate_diversity import Answer, variety
from controlgen.evaluation.class_edits import figure3
from controlgen.evaluation.confidence import Believed
from controlgen.evaluation.context import (
    BankLike,
    EditorLike,
    Embedding,
    OnProgress,
    Perceptual,
    Predict,
    Subject,
)
from controlgen.evaluation.edit_pairs import TooFewClasses
from controlgen.evaluation.inversion import inversion_table, time_map
from controlgen.evaluation.judge import find_judge, has_classes
from controlgen.evaluation.memorisation import copies
from controlgen.evaluation.report import Report, Target
from controlgen.evaluation.report_markdown import markdown, write_report
from controlgen.evaluation.sample_quality import sample_quality
from controlgen.evaluation.sliders import sliders
from controlgen.metrics.classifier import LabelledDataset

__all__ = [
    "BankLike",
    "EditorLike",
    "Report",
    "Target",
    "check_classes",
    "evaluate",
    "markdown",
    "write_report",
]

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
    perceptual: Perceptual | None = None,
    judged: Judged | None = None,
    answer: Answer | None = None,
) -> Report:
    """Judge a generator, a feature space and a map by the protocol.

    `maps` holds every map to compare, by name: "retrieval", "ridge" and `map_name`, each fitted on
    the bank's training part only. `class_names` and `prompts` (one text a class) are in the order
    of the labels. Where nobody judges (`config.judge`, or data without classes), what only a judge
    can say is absent, and so is figure 3 where the judge is sure of fewer than two classes among
    the generated images. `on_progress` is told what is being done and the share done. `perceptual`
    adds a distance of real images and their answers. `judged` is what was saved beside a map that
    was fitted with reachability. `answer` gives the k best answers to features.
    Raises ConfigError where maps, names or prompts do not fit, DataError where a probe has too few
    sources.
    """
    missing = [name for name in (*BASELINES, map_name) if name not in maps]
    if missing:
        raise ConfigError(f"evaluate: maps lack {', '.join(missing)}; fit and pass them too")
    check_classes(real_train, config, class_names, prompts)
    clock = _Clock(on_progress)
    clock.begin("judge", "teaching the judge on real images", 0.0)
    judge, judging = find_judge(real_train, real_test, audit, config)
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
        perceptual=perceptual,
    )

    # The sections, each timed.
    clock.begin("quality", "sample quality", 0.3)
    quality = sample_quality(subject)
    clock.begin("inversion", "inversion of held-out images", 0.4)
    parts = list(inversion_table(subject))
    timing = time_map(subject)
    found, no_edits = None, f"{judging.said}, and edits are called by a judge alone"
    if judge is not None:
        clock.begin("figure 3", "figure 3: all ordered pairs of classes", 0.6)
        try:
            found = figure3(subject)
        except TooFewClasses as error:
            no_edits = str(error)

    # Sections that stand by themselves, where the map measures attributes and copies are sought.
    clock.begin("sliders", "sliders of measured attributes", 0.8)
    moved = sliders(subject)
    clock.begin("analogies", "analogies, c + (a - b)", 0.83)
    added = analogies(subject)
    clock.begin("variety", "several answers to one feature", 0.85)
    several = None if answer is None else variety(subject, answer)
    clock.begin("copies", "copies of training images", 0.9)
    copied = copies(subject)
    clock.end()
    return Report(
        config=config.effective(),
        map_name=map_name,
        audit_name=config.audit.name,
        judge_accuracy=judging.accuracy.mean if judging.accuracy else None,
        judging=judging,
        seconds=clock.seconds,
        quality=quality,
        inversion=[row for rows, _ in parts for row in rows],
        timing=timing,
        figure3=found,
        no_edits="" if found else no_edits,
        strips={rows[0].targets: strips for rows, strips in parts},
        perceptual_name=perceptual.name if perceptual else None,
        analogies=added,
        sliders=moved,
        copies=copied,
        believed=Believed(judged) if judged else None,
        variety=several,
    )


def check_classes(
    real_train: LabelledDataset,
    config: EvaluateConfig,
    class_names: Sequence[str],
    prompts: Sequence[str],
) -> None:
    """Raise ConfigError where the data's classes are not the ones that are named, in their order.

    Nothing is asked where nobody judges.
    """
    if config.judge == "none" or not has_classes(real_train):
        return
    carried = getattr(real_train, "class_names", None)
    if carried is not None and tuple(carried) != tuple(class_names):
        raise ConfigError(
            f"evaluate: the data's classes are {', '.join(carried)}, evaluate.class_names are "
            f"{', '.join(class_names)}; give the data's names in their order"
        )
    classes = len(np.unique(real_train.labels(np.arange(len(real_train)))))
    if not classes == len(class_names) == len(prompts):
        raise ConfigError(
            f"evaluate: {classes} classes in the data, {len(class_names)} names and {len(prompts)} "
            "prompts; give one name and one prompt a class"
        )


class _Clock:
    """Tells what begins, and keeps the seconds each part took."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._tell = on_progress or (lambda what, done: None)
        self._part, self._began = "", time.perf_counter()
        self.seconds: dict[str, float] = {}

    def begin(self, part: str, what: str, done: float) -> None:
        self._close()
        self._part, self._began = part, time.perf_counter()
        self._tell(what, done)

    def end(self) -> None:
        self._close()
        self._tell("done", 1.0)

    def _close(self) -> None:
        if self._part:
            self.seconds[self._part] = round(time.perf_counter() - self._began, 2)
