"""A report as a folder: report.json, report.md and the figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controlgen import figures
from controlgen.evaluation.class_edits import ClassEditResults
from controlgen.evaluation.edit_scores import MethodScore
from controlgen.evaluation.equal_identity import EqualIdentity
from controlgen.evaluation.inversion import InversionRow
from controlgen.evaluation.judge import JudgeInfo
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.evaluation.report import Report
from controlgen.evaluation.sample_quality import SampleQuality, UnfilteredQuality
from controlgen.metrics.bootstrap import Interval
from controlgen.utils.files import write_json, write_text

FIGURES = {
    "samples.png": "Samples",
    "figure3.png": "Class edits: one row per method, from the source along the amounts",
    "flip-rate.png": "Flip rate over the amount",
    "flip-matrix.png": "Flip rate of feature arithmetic by pair, in per cent",
    "inversion-generated.png": "Inversion of held-out generated images",
    "inversion-real.png": "Inversion of held-out real images",
}
REAL_ROW = {"synthetic": "in part", "real": "the first row, the target images"}


def write_report(report: Report, folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write report.json, report.md and the figures into an existing folder.

    Every PNG carries `provenance` and whether it is synthetic.
    """
    write_json(folder / "report.json", report.as_json())
    write_text(folder / "report.md", render_markdown(report))
    figures.sample_grid(folder / "samples.png", report.quality.samples, provenance)
    for kind, strips in report.strips.items():
        name = f"inversion-{kind}.png"
        chunks = {**provenance, **(REAL_ROW if name in report.shows_real else {})}
        figures.inversion_strips(folder / name, strips, chunks)
    if report.class_edits is not None:
        _draw_class_edits(report.class_edits, folder, provenance)
    for section in report.sections:
        section.draw(folder, provenance)


def _draw_class_edits(
    results: ClassEditResults, folder: Path, provenance: Mapping[str, Any]
) -> None:
    blocks = [
        figures.Block(example.title, example.source, example.steps) for example in results.examples
    ]
    figures.class_edit_grid(folder / "figure3.png", blocks, results.amounts, provenance)
    curves: dict[str, list[figures.Point]] = {}
    for point in results.sweeps:
        flip = point.flip
        curve = curves.setdefault(point.method, [])
        curve.append(figures.Point(point.amount, flip.mean, flip.low, flip.high))
    figures.flip_curves(folder / "flip-rate.png", curves, provenance)
    figures.flip_matrix(folder / "flip-matrix.png", results.pairs, results.classes, provenance)


def render_markdown(report: Report) -> str:
    """Render report.md: missed goals first, then tables with n and intervals."""
    paragraphs = [*_overview(report), *_samples(report), *_inversion(report)]
    paragraphs += ["## Class edits: adding a minus b to images of b"]
    if report.class_edits is None:
        paragraphs.append(f"Left out: {report.no_edits}.")
    else:
        paragraphs += _class_edits(report, report.class_edits)
    for section in report.sections:
        paragraphs += section.markdown()
    return "\n\n".join(paragraphs) + "\n"


def _overview(report: Report) -> list[str]:
    goals = sorted(report.goals, key=lambda goal: goal.met)
    missed = sum(not goal.met for goal in goals)
    rows = [
        [
            goal.name,
            goal.bound_text,
            format_interval(goal.measured),
            "met" if goal.met else "**missed**",
        ]
        for goal in goals
    ]
    return [
        "# Evaluation",
        f"Map `{report.map_name}`, audit space `{report.audit_name}`, "
        f"seed {report.config['seed']}; brackets hold 95 % bootstrap intervals over "
        f"sources. {_judge_sentence(report.judge)}",
        f"## Goals: {len(goals) - missed} met, {missed} missed",
        markdown_table(["goal", "bound", "measured", ""], rows),
    ]


def _judge_sentence(judge: JudgeInfo) -> str:
    description = judge.description[:1].upper() + judge.description[1:]
    if judge.accuracy is None:
        return f"{description}; measures that need a judge are absent."
    mean, low, high, n = judge.accuracy
    return (
        f"{description}; its accuracy on the real test set is {mean:.2%} ({low:.2%} to {high:.2%}, "
        f"{n} sources)."
    )


def _samples(report: Report) -> list[str]:
    quality, audit = report.quality, report.audit_name
    unfiltered = quality.unfiltered
    paragraphs = [
        "## Samples",
        f"{quality.n} generated against {quality.n} real test images. The floor of a distance is "
        "as many real training images against the same test images; the floor of the judge's "
        "measures is the test images themselves. Distances depend on n: compare only equal n. They "
        f"use unit features of {quality.feature_size} numbers, for the kernel distance times "
        "sqrt(size); their intervals assume independent images (FD's is the jackknife's).",
        _quality_table(quality, audit),
    ]
    if unfiltered:
        paragraphs.append(
            "Samples pass a realism filter in the steering space: "
            f"{format_interval(unfiltered.accepted)} of {unfiltered.accepted.n} first draws; "
            "rejected draws are replaced by further draws."
        )
    if quality.sample_size_warning:
        paragraphs.append(f"FD-{audit}: {quality.sample_size_warning}.")
    if quality.class_shares is not None and quality.real_class_shares is not None:
        paragraphs.append(f"Share of each class, by the judge, of {quality.n} images on each side:")
        paragraphs.append(
            _class_share_table(quality.class_shares, quality.real_class_shares, unfiltered)
        )
    return [*paragraphs, _figure("samples.png")]


def _quality_table(quality: SampleQuality, audit: str) -> str:
    unfiltered = quality.unfiltered
    measures = {f"FD-{audit}": ("frechet", 4), f"KD-{audit}": ("kernel", 4)}
    if quality.confident is not None:
        measures = {"judge confident (> 0.9)": ("confident", 3), **measures}
    head = ["measure", "generated", *(["every first draw"] if unfiltered else [])]
    rows = []
    for name, (field, digits) in measures.items():
        values = [getattr(quality, field), getattr(quality, f"{field}_floor")]
        if unfiltered:
            values.insert(1, getattr(unfiltered, field))
        rows.append([name, *(format_interval(value, digits) for value in values)])
    return markdown_table([*head, "real-vs-real floor"], rows)


def _class_share_table(
    shares: Mapping[str, Interval],
    real: Mapping[str, Interval],
    unfiltered: UnfilteredQuality | None,
) -> str:
    columns = {"generated": shares, "real": real}
    if unfiltered and unfiltered.class_shares:
        columns = {"generated": shares, "every first draw": unfiltered.class_shares, "real": real}
    rows = [
        [name, *(format_interval(column[name]) for column in columns.values())] for name in shares
    ]
    return markdown_table(["class, by the judge", *columns], rows)


def _inversion(report: Report) -> list[str]:
    paragraphs = ["## Inversion: does the map turn features back into their image?"]
    for kind in report.strips:
        rows = [row for row in report.inversion if row.targets == kind]
        columns = _inversion_columns(rows[0], report.perceptual_name)
        cells = [
            [
                row.map,
                str(row.n),
                *(format_interval(getattr(row, field)) for field in columns.values()),
            ]
            for row in rows
        ]
        paragraphs += [
            f"Targets: held-out {kind} images.",
            markdown_table(["map", "n", *columns], cells),
            _figure(f"inversion-{kind}.png"),
        ]
    timing = report.timing
    return [
        *paragraphs,
        "f1 is the steering space, f2 the audit space; R@1 is among the n targets of the row; "
        "pixel error is the mean square in -1..1; `random` is an unrelated generated image.",
        f"From feature to image the map takes {timing.map_p50_ms:.1f} ms (p95 "
        f"{timing.map_p95_ms:.1f}) for one item and {timing.map_batched_ms:.2f} ms per item in "
        f"batches; optimisation of {timing.optimisation_steps} steps takes "
        f"{timing.optimisation_alone_seconds:.1f} s for one item and "
        f"{timing.optimisation_batched_seconds:.2f} s per item in batches. The map is "
        f"{timing.ratio_alone:.0f} and {timing.ratio_batched:.0f} times faster.",
    ]


def _inversion_columns(row: InversionRow, perceptual_name: str | None) -> dict[str, str]:
    # Heading -> field of a row; measures that are absent have no column.
    columns = {
        "cosine f1": "cosine_f1",
        "cosine f2": "cosine_f2",
        "R@1": "recall_at_1",
        "judge agrees": "judge_agrees",
        "pixel error": "pixel_error",
        perceptual_name or "perceptual": "perceptual",
        "norm of z / sqrt(size)": "shell_norm",
        "latent R2": "latent_r2",
    }
    return {head: field for head, field in columns.items() if getattr(row, field) is not None}


def _class_edits(report: Report, results: ClassEditResults) -> list[str]:
    head = ["method", "amount", "edits", "flip rate", "identity", "identity of flipped"]
    head += ["cosine f2", "pixel error"]
    strokes = any(row.slant_kept is not None for row in results.best)
    head += ["slant kept", "thickness kept"] if strokes else []
    rows = [_method_cells(row)[: len(head)] for row in results.best]
    note = " Kept: correlation of an attribute of source and result over the edits."
    absent = f" Classes without sources: {', '.join(results.missing_classes)}."
    return [
        f"{results.edits} edits of {results.sources} held-out generated images over all ordered "
        f"pairs of classes; {report.config['exemplars']} exemplars per class, selected by "
        f"{results.exemplars_by}; the judge agrees with "
        f"{format_interval(results.exemplar_precision)} of them. Each method is at the amount of "
        "its best flip rate. Identity: audit cosine of source and result, centred (about 0 for "
        "unrelated images), in the subspace orthogonal to the class direction."
        f"{note if strokes else ''}{absent if results.missing_classes else ''}",
        markdown_table(head, rows),
        *_equal_identity(results.equal_identity),
        *_pair_rates(results),
        *(_figure(name) for name in ("figure3.png", "flip-rate.png", "flip-matrix.png")),
    ]


def _method_cells(row: MethodScore) -> list[str]:
    measures = [row.flip, row.identity, row.identity_of_flipped, row.cosine_f2, row.pixel_error]
    return [
        row.method,
        f"{row.amount:g}",
        str(row.n),
        *(format_interval(value) for value in measures),
        format_interval(row.slant_kept, 2),
        format_interval(row.thickness_kept, 2),
    ]


def _equal_identity(results: EqualIdentity) -> list[str]:
    lead = "undefined, the identity of a method is always below the level"
    if results.lead is not None:
        lead = format_interval(results.lead)
    rows = [
        [
            row.method,
            format_interval(row.amount, 2),
            format_interval(row.identity),
            format_interval(row.flip),
            format_interval(row.highest),
        ]
        for row in results.methods
    ]
    head = ["method", "amount", "identity", "flip rate", "highest flip rate up to this amount"]
    return [
        f"**At equal identity.** The level is {results.level:.3f}, the identity of feature "
        "arithmetic at its best flip rate. Each method is at the largest amount that reaches the "
        "level, by linear interpolation of its sweep; amount 0 is the map's round trip, or the "
        f"source itself. Feature minus latent arithmetic, edit by edit: {lead}.",
        markdown_table(head, rows),
    ]


def _pair_rates(results: ClassEditResults) -> list[str]:
    if not results.few_pairs:
        return []
    rows = [
        [
            f"{row.before} -> {row.after}",
            str(row.edits),
            format_interval(row.feature),
            format_interval(row.latent),
        ]
        for row in results.few_pairs
    ]
    head = ["from -> to", "edits", "feature arithmetic", "latent arithmetic"]
    return ["Flip rate by direction, each method at its best amount:", markdown_table(head, rows)]


def _figure(name: str) -> str:
    return f"![{FIGURES[name]}]({name})"
