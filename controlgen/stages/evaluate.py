"""Judge a map by the protocol."""

from typing import Any

import numpy as np

from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.bank import SampleBank
from controlgen.config import RunConfig
from controlgen.editing import Editor
from controlgen.editing.checkpoint import read_reachability
from controlgen.evaluation import check_classes, write_report
from controlgen.evaluation import evaluate as judge_editor
from controlgen.features import EfficientNetLite0, FeatureSpace
from controlgen.metrics.perceptual import open_distance
from controlgen.regressors import Retrieval, Ridge
from controlgen.stages.artifact_refs import name_of, provenance
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
    """Judge a map by the protocol. Labels, and a judge taught by them, exist only in here.

    Data without classes are reported on without a judge. Raises ConfigError where the data's
    classes are not the configured ones.
    """
    config = run.evaluate
    ref = name_of("report", run.name, config, map_ref.fingerprint)
    if store.has(ref):
        return ref
    editor = Editor.load(store.open(map_ref))
    name: str = run.fit.map.kind
    items = SampleBank.open(store.open(bank), store.open(features), run.fit.held_out)
    maps = _maps_to_compare(editor, name, items)
    real = {split: run.train.dataset.judging(split).open() for split in ("train", "test")}
    prompts = [config.prompt.format(one) for one in config.class_names]
    check_classes(real["train"], config, config.class_names, prompts)
    audit: FeatureSpace = config.audit.open()
    described = read_reachability(store.path(map_ref))
    judged = described.judged if described else None
    perceptual = None
    if config.perceptual is not None:
        perceptual = open_distance(config.perceptual)
    elif isinstance(config.audit, EfficientNetLite0):  # whose weights it takes
        perceptual = open_distance(None, config.audit.image_size)
    with store.create(ref, {"map": map_ref, "bank": bank, "features": features}) as folder:
        with (report or TqdmReporter()).meter(f"evaluate {ref.name}", 100, unit="%") as meter:
            found = judge_editor(
                editor,
                items,
                real["train"],
                real["test"],
                audit,
                config,
                maps=maps,
                map_name=name,
                class_names=config.class_names,
                prompts=prompts,
                on_progress=lambda what, share: meter.to(round(100 * share), what),
                perceptual=perceptual,
                judged=judged,
                answer=lambda asked, k: editor.answers(asked, k, config.seed).pixels,
            )
        write_report(found, folder, provenance(ref, "evaluation", config.seed))
        write_json(folder / "config.json", config.effective())
    return ref


def _maps_to_compare(editor: Editor, name: str, items: SampleBank) -> dict[str, Any]:
    # The baselines see the same training part of the bank as the map did.
    features, latents = (np.array(rows[items.train]) for rows in (items.features, items.latents))
    baselines = (Retrieval(), Ridge())
    predictors: dict[str, Any] = {
        one.kind: one.build().fit(features, latents).predict for one in baselines
    }
    return predictors | {name: editor.map.predict}
