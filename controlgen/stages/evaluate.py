"""Evaluate a map by the protocol."""

from typing import Any

import numpy as np

from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.bank import SampleBank
from controlgen.config import RunConfig
from controlgen.editing import Editor
from controlgen.editing.checkpoint import load_confidence_metadata
from controlgen.evaluation import EvaluationContext, check_classes, write_report
from controlgen.evaluation import evaluate as run_protocol
from controlgen.features import EfficientNetLite0Config, FeatureSpace
from controlgen.metrics.perceptual import open_distance
from controlgen.regressors import RetrievalConfig, RidgeConfig
from controlgen.stages.artifact_refs import artifact_ref, provenance
from controlgen.utils.files import write_json
from controlgen.utils.progress import ProgressReporter, TqdmReporter


def evaluate(
    run: RunConfig,
    map_ref: ArtifactRef,
    bank: ArtifactRef,
    features: ArtifactRef,
    store: Store,
    report: ProgressReporter | None = None,
) -> ArtifactRef:
    """Evaluate a map by the protocol. Labels, and the judge trained on them, are used here only.

    Data without classes are evaluated without a judge. Raises ConfigError if the data's classes
    differ from the configured ones.
    """
    config = run.evaluate
    ref = artifact_ref("report", run.name, config, map_ref.fingerprint)
    if store.has(ref):
        return ref
    editor = Editor.load(store.open(map_ref))
    name: str = run.fit.map.kind
    items = SampleBank.open(store.open(bank), store.open(features), run.fit.held_out)
    maps = _maps_to_compare(editor, name, items)
    real = {split: run.train.dataset.with_split(split).open() for split in ("train", "test")}
    prompts = [config.prompt.format(class_name) for class_name in config.class_names]
    check_classes(real["train"], config, config.class_names, prompts)
    audit: FeatureSpace = config.audit.open()
    described = load_confidence_metadata(store.path(map_ref))
    judged = described.judged if described else None
    perceptual = None
    if config.perceptual is not None:
        perceptual = open_distance(config.perceptual)
    # the artifact whose weights the map uses
    elif isinstance(config.audit, EfficientNetLite0Config):
        perceptual = open_distance(None, config.audit.image_size)
    context = EvaluationContext(
        editor=editor,
        bank=items,
        maps=maps,
        map_name=name,
        real_train=real["train"],
        real_test=real["test"],
        audit=audit,
        class_names=config.class_names,
        prompts=prompts,
        config=config,
        perceptual=perceptual,
    )
    with store.create(ref, {"map": map_ref, "bank": bank, "features": features}) as folder:
        with (report or TqdmReporter()).start(f"evaluate {ref.name}", 100, unit="%") as meter:
            results = run_protocol(
                context,
                on_progress=lambda what, share: meter.update_to(round(100 * share), what),
                confidence=judged,
                generate_candidates=lambda features, k: (
                    editor.candidates(features, k, config.seed).pixels
                ),
            )
        write_report(results, folder, provenance(ref, "evaluation", config.seed))
        write_json(folder / "config.json", config.to_dict())
    return ref


def _maps_to_compare(editor: Editor, name: str, items: SampleBank) -> dict[str, Any]:
    # The baselines are fitted on the same part of the bank as the map.
    features, latents = (np.array(rows[items.train]) for rows in (items.features, items.latents))
    baselines = (RetrievalConfig(), RidgeConfig())
    predictors: dict[str, Any] = {
        baseline.kind: baseline.build().fit(features, latents).predict for baseline in baselines
    }
    return predictors | {name: editor.map.predict}
