"""Compare feature spaces on a data set, as a report."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from controlgen import figures
from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.model_card import write_model_card
from controlgen.config import SpacesConfig
from controlgen.datasets import with_content_hash
from controlgen.errors import ControlGenError
from controlgen.evaluation.feature_spaces import (
    COLOUR_ONLY,
    LARGEST_CLASS,
    LabelledImages,
    SpaceEvaluator,
    SpaceScores,
)
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.stages.artifact_refs import VERSION, provenance
from controlgen.utils.files import write_json, write_text
from controlgen.utils.progress import ProgressReporter, TqdmReporter

KIND = "spaces"
ABSENT = "absent"  # replaces the fingerprint of a space that cannot be opened
PICTURE = "spaces.png"
CONTROLS = (LARGEST_CLASS, COLOUR_ONLY)
MEASURES = {
    "probe": "linear probe of the classes",
    "neighbour": "nearest of another source agrees",
    "zero_shot": "zero-shot text",
}
HOW = (
    "Probe: logistic regression on standardised features; R2: ridge on features of unit length. "
    "Both are taught on the training split, choose their strength by cross-validation that keeps "
    "sources whole, and are scored on the test split, whose sources they have not seen. Nearest "
    "neighbour: the class of the nearest image of another source; zero-shot: the class whose mean "
    "text feature is nearest. Both need no teaching and are scored on both splits. In brackets: "
    "95 % bootstrap intervals over sources. Labels judge; nothing that was fitted on them is kept."
)
LIMITS = (
    "Says how these pictures are seen, at this size and after this split; others may differ.",
    "Colour alone is a control: what it reads, a space may read by stain instead of by form.",
    "What cannot be read linearly may still be in the features.",
)


def compare_spaces(
    config: SpacesConfig, store: Store, report: ProgressReporter | None = None
) -> ArtifactRef:
    """Score every space of the config on the same images; list those that cannot be opened.

    Raises DataError for the data set, ConfigError if the prompts do not match its classes, and
    Incompatible if the attributes do not fit its images.
    """
    config = config.model_copy(update={"dataset": with_content_hash(config.dataset)})
    # The report's name covers the weights of each space: a space that becomes available later, or
    # is trained again, gives a new report. One space is open at a time to bound memory.
    fingerprints = {name: _fingerprint(space) for name, space in config.spaces.items()}
    marks = (
        ABSENT if isinstance(fingerprint, Exception) else fingerprint
        for fingerprint in fingerprints.values()
    )
    ref = ArtifactRef(KIND, f"{config.name}-{config.fingerprint(*marks, version=VERSION[KIND])}")
    if store.has(ref):
        return ref

    train, test = (config.dataset.with_split(split).open() for split in ("train", "test"))
    pictures = LabelledImages.load(train, test, config.images, config.seed)
    examiner = SpaceEvaluator(config, pictures)
    with store.create(ref, {}) as folder:
        scores = []
        with (report or TqdmReporter()).start(
            f"compare {ref.name}", 1 + len(fingerprints), unit="it"
        ) as meter:
            if pictures.labels is not None:
                scores.append(examiner.largest_class())
            scores.append(examiner.colour_only())
            for done, (name, mark) in enumerate(fingerprints.items(), 1):
                meter.update_to(done, name)
                if isinstance(mark, Exception):
                    scores.append(SpaceScores(name, notes=(f"not opened: {_one_line(mark)}",)))
                else:
                    scores.append(examiner.evaluate(name, config.spaces[name].open()))
            meter.update_to(1 + len(fingerprints))
        _write(config, pictures, scores, folder, ref)
    return ref


def markdown(
    config: SpacesConfig, pictures: LabelledImages, scores: Sequence[SpaceScores], title: str
) -> str:
    """The report as markdown: a table of classes, a table of attributes, and the missing spaces."""
    facts = ", ".join(f"{value} {name}" for name, value in pictures.counts.items())
    classes = ", ".join(pictures.class_names) or "none"
    parts = [f"# {title}", f"{config.dataset.kind}: {facts}; classes: {classes}.", HOW]
    head = ["space", "features", *MEASURES.values(), "images a second"]
    rows = [
        [
            space_scores.name,
            "-" if space_scores.size is None else str(space_scores.size),
            *(format_interval(getattr(space_scores, measure)) for measure in MEASURES),
            "-"
            if space_scores.images_per_second is None
            else f"{space_scores.images_per_second:.0f}",
        ]
        for space_scores in scores
    ]
    parts.append(markdown_table(head, rows))
    parts.append(f"Images a second: embedding alone, on {_machine()}.")
    if config.attributes is not None:
        names = config.attributes.names
        rows = [
            [
                space_scores.name,
                *(format_interval(space_scores.attributes.get(name), 2) for name in names),
            ]
            for space_scores in scores
            if space_scores.attributes
        ]
        parts += ["## Linear R2 of measured attributes", markdown_table(["space", *names], rows)]
    notes = [
        f"- {space_scores.name}: {note}" for space_scores in scores for note in space_scores.notes
    ]
    parts += ["## Not measured, or otherwise", "\n".join(notes)] if notes else []
    return "\n\n".join([*parts, f"![Spaces side by side]({PICTURE})"]) + "\n"


def plot_panels(scores: Sequence[SpaceScores]) -> dict[str, dict[str, figures.Bar]]:
    """The bars of the picture: for each measure, the value of each space that has it."""
    panels: dict[str, dict[str, figures.Bar]] = {title: {} for title in MEASURES.values()}
    for space_scores in scores:
        for measure, title in MEASURES.items():
            if (value := getattr(space_scores, measure)) is not None:
                panels[title][space_scores.name] = figures.Bar(value.mean, value.low, value.high)
        for attribute, value in space_scores.attributes.items():
            bar = figures.Bar(value.mean, value.low, value.high)
            panels.setdefault(f"R2 of {attribute}", {})[space_scores.name] = bar
    return {title: bars for title, bars in panels.items() if bars}


def _write(
    config: SpacesConfig,
    pictures: LabelledImages,
    scores: Sequence[SpaceScores],
    folder: Path,
    ref: ArtifactRef,
) -> None:
    values = {
        "data": {**pictures.counts, "classes": list(pictures.class_names)},
        "machine": _machine(),
        "spaces": [_plain(space_scores) for space_scores in scores],
    }
    write_json(folder / "report.json", values)
    write_json(folder / "config.json", config.to_dict())
    write_text(folder / "report.md", markdown(config, pictures, scores, f"Spaces {ref.name}"))
    origin = provenance(ref, "how feature spaces see real images; no image is shown", config.seed)
    opened = [space_scores.name for space_scores in scores if space_scores.size is not None]
    figures.space_bars(folder / PICTURE, opened, plot_panels(scores), CONTROLS, origin)
    best = max(scores, key=lambda entry: entry.probe.mean if entry.probe else -1.0)
    absent = [space_scores.name for space_scores in scores if space_scores.size is None]
    write_model_card(
        folder,
        f"Spaces {ref.name}",
        "How well feature spaces see a data set: numbers only, no model. The tables are in "
        "report.md.",
        {
            "data": config.dataset.kind,
            **pictures.counts,
            "best linear probe": f"{best.name} {format_interval(best.probe)}"
            if best.probe
            else "-",
            "not opened": ", ".join(absent) or "none",
        },
        LIMITS,
        f"python -m flows.compare_spaces configs/{config.name}.toml",
        [PICTURE],
    )


def _fingerprint(space: Any) -> str | Exception:
    # Hub models need optional libraries; a missing one raises ImportError.
    try:
        return str(space.open().fingerprint)
    except (ControlGenError, ImportError) as error:
        return error


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _plain(space_scores: SpaceScores) -> dict[str, Any]:
    values = asdict(space_scores)
    for name in MEASURES:
        value = getattr(space_scores, name)
        values[name] = value._asdict() if value else None
    values["attributes"] = {
        name: value._asdict() for name, value in space_scores.attributes.items()
    }
    return values


def _machine() -> str:
    return f"the CPU with {torch.get_num_threads()} threads"
