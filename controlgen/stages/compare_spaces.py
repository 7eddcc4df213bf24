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
from controlgen.datasets import pinned
from controlgen.errors import ControlGenError
from controlgen.evaluation.feature_spaces import COLOUR, LARGEST, Examiner, Pictures, Sight
from controlgen.evaluation.markdown import shown, table
from controlgen.stages.artifact_refs import VERSION, provenance
from controlgen.utils.files import write_json, write_text
from controlgen.utils.progress import ProgressReporter, TqdmReporter

KIND = "spaces"
ABSENT = "absent"  # stands for the fingerprint of a space that cannot be opened
PICTURE = "spaces.png"
CONTROLS = (LARGEST, COLOUR)
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
    """Judge every space of the config on the same pictures; one that cannot be opened is listed.

    Raises DataError over the data set, ConfigError where prompts do not fit its classes and
    Incompatible where the attributes do not fit its images.
    """
    config = config.model_copy(update={"dataset": pinned(config.dataset)})
    # A space is part of the report's name by its weights: one that is found only later, or has
    # been trained anew, is looked at then. One at a time is open, so that memory is bounded.
    found = {name: _fingerprint(space) for name, space in config.spaces.items()}
    marks = (ABSENT if isinstance(one, Exception) else one for one in found.values())
    ref = ArtifactRef(KIND, f"{config.name}-{config.fingerprint(*marks, version=VERSION[KIND])}")
    if store.has(ref):
        return ref

    train, test = (config.dataset.judging(split).open() for split in ("train", "test"))
    pictures = Pictures.gather(train, test, config.images, config.seed)
    examiner = Examiner(config, pictures)
    with store.create(ref, {}) as folder:
        seen = []
        with (report or TqdmReporter()).meter(
            f"compare {ref.name}", 1 + len(found), unit="it"
        ) as meter:
            if pictures.labels is not None:
                seen.append(examiner.largest_class())
            seen.append(examiner.colour_alone())
            for done, (name, mark) in enumerate(found.items(), 1):
                meter.to(done, name)
                if isinstance(mark, Exception):
                    seen.append(Sight(name, notes=(f"not opened: {_one_line(mark)}",)))
                else:
                    seen.append(examiner.look(name, config.spaces[name].open()))
            meter.to(1 + len(found))
        _write(config, pictures, seen, folder, ref)
    return ref


def markdown(config: SpacesConfig, pictures: Pictures, seen: Sequence[Sight], title: str) -> str:
    """The report to be read: one table of classes, one of attributes, and what is missing."""
    facts = ", ".join(f"{value} {name}" for name, value in pictures.facts.items())
    classes = ", ".join(pictures.class_names) or "none"
    parts = [f"# {title}", f"{config.dataset.kind}: {facts}; classes: {classes}.", HOW]
    head = ["space", "features", *MEASURES.values(), "images a second"]
    rows = [
        [
            one.name,
            "-" if one.size is None else str(one.size),
            *(shown(getattr(one, measure)) for measure in MEASURES),
            "-" if one.images_per_second is None else f"{one.images_per_second:.0f}",
        ]
        for one in seen
    ]
    parts.append(table(head, rows))
    parts.append(f"Images a second: embedding alone, on {_machine()}.")
    if config.attributes is not None:
        names = config.attributes.names
        rows = [
            [one.name, *(shown(one.attributes.get(name), 2) for name in names)]
            for one in seen
            if one.attributes
        ]
        parts += ["## Linear R2 of measured attributes", table(["space", *names], rows)]
    notes = [f"- {one.name}: {note}" for one in seen for note in one.notes]
    parts += ["## Not measured, or otherwise", "\n".join(notes)] if notes else []
    return "\n\n".join([*parts, f"![Spaces side by side]({PICTURE})"]) + "\n"


def panels(seen: Sequence[Sight]) -> dict[str, dict[str, figures.Bar]]:
    """What the picture shows: for each measure that was taken, a bar for each space it has."""
    found: dict[str, dict[str, figures.Bar]] = {title: {} for title in MEASURES.values()}
    for one in seen:
        for measure, title in MEASURES.items():
            if (value := getattr(one, measure)) is not None:
                found[title][one.name] = figures.Bar(value.mean, value.low, value.high)
        for attribute, value in one.attributes.items():
            bar = figures.Bar(value.mean, value.low, value.high)
            found.setdefault(f"R2 of {attribute}", {})[one.name] = bar
    return {title: bars for title, bars in found.items() if bars}


def _write(
    config: SpacesConfig, pictures: Pictures, seen: Sequence[Sight], folder: Path, ref: ArtifactRef
) -> None:
    values = {
        "data": {**pictures.facts, "classes": list(pictures.class_names)},
        "machine": _machine(),
        "spaces": [_plain(one) for one in seen],
    }
    write_json(folder / "report.json", values)
    write_json(folder / "config.json", config.effective())
    write_text(folder / "report.md", markdown(config, pictures, seen, f"Spaces {ref.name}"))
    origin = provenance(ref, "how feature spaces see real images; no image is shown", config.seed)
    opened = [one.name for one in seen if one.size is not None]
    figures.space_bars(folder / PICTURE, opened, panels(seen), CONTROLS, origin)
    best = max(seen, key=lambda one: one.probe.mean if one.probe else -1.0)
    absent = [one.name for one in seen if one.size is None]
    write_model_card(
        folder,
        f"Spaces {ref.name}",
        "How well feature spaces see a data set: numbers only, no model. The tables are in "
        "report.md.",
        {
            "data": config.dataset.kind,
            **pictures.facts,
            "best linear probe": f"{best.name} {shown(best.probe)}" if best.probe else "-",
            "not opened": ", ".join(absent) or "none",
        },
        LIMITS,
        f"python -m flows.compare_spaces configs/{config.name}.toml",
        [PICTURE],
    )


def _fingerprint(space: Any) -> str | Exception:
    # Libraries that a hub model asks for and that are not installed raise ImportError.
    try:
        return str(space.open().fingerprint)
    except (ControlGenError, ImportError) as error:
        return error


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _plain(one: Sight) -> dict[str, Any]:
    values = asdict(one)
    for name in MEASURES:
        value = getattr(one, name)
        values[name] = value._asdict() if value else None
    values["attributes"] = {name: value._asdict() for name, value in one.attributes.items()}
    return values


def _machine() -> str:
    return f"the CPU with {torch.get_num_threads()} threads"
