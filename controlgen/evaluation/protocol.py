"""The evaluation protocol: sample quality, inversion, edits, and their report."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from controlgen.config import EvaluateConfig
from controlgen.editing.confidence.fit import ConfidenceReport
from controlgen.errors import ConfigError
from controlgen.evaluation.analogies import evaluate_analogies
from controlgen.evaluation.candidate_diversity import (
    GenerateCandidates,
    evaluate_candidate_diversity,
)
from controlgen.evaluation.class_edits import evaluate_class_edits
from controlgen.evaluation.confidence import ConfidenceSection
from controlgen.evaluation.context import EvaluationContext, OnProgress
from controlgen.evaluation.edit_pairs import TooFewClasses
from controlgen.evaluation.inversion import benchmark_map, evaluate_inversion
from controlgen.evaluation.judge import has_classes, train_configured_judge
from controlgen.evaluation.memorisation import audit_memorisation
from controlgen.evaluation.report import Report
from controlgen.evaluation.sample_quality import evaluate_sample_quality
from controlgen.evaluation.sliders import evaluate_sliders
from controlgen.metrics.classifier import LabelledDataset

BASELINES = ("retrieval", "ridge")


def evaluate(
    context: EvaluationContext,
    on_progress: OnProgress | None = None,
    confidence: ConfidenceReport | None = None,
    generate_candidates: GenerateCandidates | None = None,
) -> Report:
    """Evaluate a generator, a feature space and a map.

    Without a judge (`evaluate.judge = "none"`, or data without classes) all that needs one is
    absent; so are class edits if the judge is confident of fewer than two classes among the
    generated images.

    Args:
        context: What is evaluated, without `judge`, which is trained here. `maps` must hold
            "retrieval", "ridge" and `map_name`, each fitted on the bank's training part only.
        on_progress: Called with a description of each section and the share done, 0..1.
        confidence: What was stored beside a map that was fitted with a confidence model.
        generate_candidates: The k best images for features; None leaves the section out.

    Raises:
        ConfigError: A map is missing, or class names or prompts do not fit the data.
        DataError: The training images are of too few sources for a probe.
    """
    missing = [name for name in (*BASELINES, context.map_name) if name not in context.maps]
    if missing:
        raise ConfigError(f"evaluate: maps lack {', '.join(missing)}; fit and pass them too")
    config = context.config
    check_classes(context.real_train, config, context.class_names, context.prompts)
    timer = _SectionTimer(on_progress)
    timer.begin("judge", "training the judge on real images", 0.0)
    judge, judge_info = train_configured_judge(
        context.real_train, context.real_test, context.audit, config
    )
    context = replace(context, judge=judge)

    timer.begin("quality", "sample quality", 0.3)
    quality = evaluate_sample_quality(context)
    timer.begin("inversion", "inversion of held-out images", 0.4)
    inversion = list(evaluate_inversion(context))
    timing = benchmark_map(context)
    class_edits, no_edits = None, f"{judge_info.description}, and edits are called by a judge alone"
    if judge is not None:
        timer.begin("figure 3", "edits between all ordered pairs of classes", 0.6)
        try:
            class_edits = evaluate_class_edits(context)
        except TooFewClasses as error:
            no_edits = str(error)

    # Optional sections: they return None if the map, the bank or the settings lack their input.
    timer.begin("sliders", "sliders of measured attributes", 0.8)
    sliders = evaluate_sliders(context)
    timer.begin("analogies", "analogies, c + (a - b)", 0.83)
    analogies = evaluate_analogies(context)
    timer.begin("variety", "several candidates for one feature", 0.85)
    candidate_diversity = (
        evaluate_candidate_diversity(context, generate_candidates) if generate_candidates else None
    )
    timer.begin("copies", "copies of training images", 0.9)
    memorisation = audit_memorisation(context)
    timer.end()
    return Report(
        config=config.to_dict(),
        map_name=context.map_name,
        audit_name=config.audit.name,
        judge_accuracy=judge_info.accuracy.mean if judge_info.accuracy else None,
        judge=judge_info,
        seconds=timer.seconds,
        quality=quality,
        inversion=[row for rows, _ in inversion for row in rows],
        timing=timing,
        class_edits=class_edits,
        no_edits="" if class_edits else no_edits,
        strips={rows[0].targets: strips for rows, strips in inversion},
        perceptual_name=context.perceptual.name if context.perceptual else None,
        analogies=analogies,
        sliders=sliders,
        memorisation=memorisation,
        confidence=ConfidenceSection(confidence) if confidence else None,
        candidate_diversity=candidate_diversity,
    )


def check_classes(
    real_train: LabelledDataset,
    config: EvaluateConfig,
    class_names: Sequence[str],
    prompts: Sequence[str],
) -> None:
    """Raise ConfigError if the data's classes differ from `class_names` in name, number or order.

    Without a judge nothing is checked.
    """
    if config.judge == "none" or not has_classes(real_train):
        return
    data_names = getattr(real_train, "class_names", None)
    if data_names is not None and tuple(data_names) != tuple(class_names):
        raise ConfigError(
            f"evaluate: the data's classes are {', '.join(data_names)}, evaluate.class_names are "
            f"{', '.join(class_names)}; give the data's names in their order"
        )
    classes = len(np.unique(real_train.labels(np.arange(len(real_train)))))
    if not classes == len(class_names) == len(prompts):
        raise ConfigError(
            f"evaluate: {classes} classes in the data, {len(class_names)} names and {len(prompts)} "
            "prompts; give one name and one prompt a class"
        )


class _SectionTimer:
    """Reports progress and records the seconds that each section took."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._report = on_progress or (lambda description, share: None)
        self._section, self._start = "", time.perf_counter()
        self.seconds: dict[str, float] = {}

    def begin(self, section: str, description: str, share: float) -> None:
        self._record()
        self._section, self._start = section, time.perf_counter()
        self._report(description, share)

    def end(self) -> None:
        self._record()
        self._report("done", 1.0)

    def _record(self) -> None:
        if self._section:
            self.seconds[self._section] = round(time.perf_counter() - self._start, 2)
