"""The report as a folder: report.json, report.md with every n and interval, and the pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controlgen import figures
from controlgen.evaluation.class_edits import Figure3
from controlgen.evaluation.edit_scores import Best
from controlgen.evaluation.equal_identity import EqualIdentity
from controlgen.evaluation.inversion import InversionRow
from controlgen.evaluation.judge import Judging
from controlgen.evaluation.markdown import shown, table
from controlgen.evaluation.report import Report
from controlgen.metrics.bootstrap import Interval

PICTURES = {
    "samples.png": "Plain samples",
    "figure3.png": "Figure 3: one row a method, from the source along the amounts",
    "flip-rate.png": "Flip rate over the amount",
    "flip-matrix.png": "Flip rate of feature arithmetic by pair, in per cent",
    "inversion-generated.png": "Inversion of held-out generated images",
    "inversion-real.png": "Inversion of held-out real images",
}
REAL_ROW = {"synthetic": "in part", "real": "the first row, images that were asked for"}


def write_report(report: Report, folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write report.json, report.md and the figures into an existing folder.

    `provenance` goes into every PNG, beside `synthetic`.
    """
    values = json.dumps(report.as_json(), indent=1, allow_nan=False)
    (folder / "report.json").write_text(values + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")

    # The pictures that the markdown shows.
    figures.sample_grid(folder / "samples.png", report.quality.samples, provenance)
    for kind, strips in report.strips.items():
        name = f"inversion-{kind}.png"
        said = {**provenance, **(REAL_ROW if name in report.shows_real else {})}
        figures.inversion_strips(folder / name, strips, said)
    if report.figure3 is not None:
        _draw_edits(report.figure3, folder, provenance)
    for part in report.parts:
        part.draw(folder, provenance)


def _draw_edits(found: Figure3, folder: Path, provenance: Mapping[str, Any]) -> None:
    blocks = [figures.Block(item.title, item.source, item.steps) for item in found.examples]
    figures.figure3(folder / "figure3.png", blocks, found.amounts, provenance)
    curves: dict[str, list[figures.Point]] = {}
    for sweep in found.sweeps:
        flip = sweep.flip
        point = figures.Point(sweep.amount, flip.mean, flip.low, flip.high)
        curves.setdefault(sweep.method, []).append(point)
    figures.flip_curves(folder / "flip-rate.png", curves, provenance)
    figures.flip_matrix(folder / "flip-matrix.png", found.pairs, found.classes, provenance)


def markdown(report: Report) -> str:
    """The report to be read: tables with n and intervals, missed targets first."""
    parts = [*_opening(report), *_quality(report), *_inversion(report)]
    parts += ["## Figure 3: adding a minus b to images of b"]
    if report.figure3 is None:
        parts.append(f"Left out: {report.no_edits}.")
    else:
        parts += _edits(report, report.figure3)
    for part in report.parts:
        parts += part.markdown()
    return "\n\n".join(parts) + "\n"


def _opening(report: Report) -> list[str]:
    missed = [target for target in report.targets if not target.met]
    rows = [
        [t.name, t.wanted, shown(t.measured), "met" if t.met else "**missed**"]
        for t in sorted(report.targets, key=lambda t: t.met)
    ]
    return [
        "# Evaluation",
        f"Map `{report.map_name}`, audit space `{report.audit_name}`, "
        f"seed {report.config['seed']}; in brackets 95 % bootstrap intervals over "
        f"sources. {_judge(report.judging)}",
        f"## Targets: {len(report.targets) - len(missed)} met, {len(missed)} missed",
        table(["target", "wanted", "measured", ""], rows),
    ]


def _judge(judging: Judging) -> str:
    said = judging.said[:1].upper() + judging.said[1:]
    if judging.accuracy is None:
        return f"{said}: everything that only a judge can say is left out of this report."
    mean, low, high, n = judging.accuracy
    return (
        f"{said}; it reads {mean:.2%} ({low:.2%} to {high:.2%}, {n} sources) of the real test set."
    )


def _quality(report: Report) -> list[str]:
    quality, audit = report.quality, report.audit_name
    every = quality.every_draw
    rows = [
        [
            f"FD-{audit}",
            *_column(quality.frechet, every.frechet if every else None, quality.frechet_floor),
        ],
        [
            f"KD-{audit}",
            *_column(quality.kernel, every.kernel if every else None, quality.kernel_floor),
        ],
    ]
    if quality.confident is not None:
        sure = _column(
            quality.confident, every.confident if every else None, quality.confident_floor, digits=3
        )
        rows.insert(0, ["judge confident (> 0.9)", *sure])
    head = ["measure", "generated", *(["every first draw"] if every else []), "real-vs-real floor"]
    parts = [
        "## Samples",
        f"{quality.n} generated against {quality.n} real test images; the floor is as many real "
        "training images against the same test images, and for what the judge says those test "
        "images themselves. Distances depend on n: compare only equal n. They see unit features "
        f"of {quality.feature_size} numbers, the kernel distance these times sqrt(size); their "
        "intervals take every image for a source of its own (FD's is the jackknife's).",
        table(head, rows),
    ]
    if every:
        parts.append(
            "Samples are kept by their likeness to real images in the steering space: "
            f"{shown(every.kept)} of {every.kept.n} first draws; where one is refused, others are "
            "drawn in its place."
        )
    if quality.few_images:
        parts.append(f"FD-{audit}: {quality.few_images}.")
    if quality.class_shares is not None and quality.real_class_shares is not None:
        real, drawn = quality.real_class_shares, every.class_shares if every else None
        shares = [
            [
                name,
                shown(share),
                *([shown(drawn[name])] if drawn else []),
                shown(real[name]),
            ]
            for name, share in quality.class_shares.items()
        ]
        head = [
            "class, by the judge",
            "generated",
            *(["every first draw"] if drawn else []),
            "real",
        ]
        parts.append(f"Share of each class, by the judge, of {quality.n} images a side:")
        parts.append(table(head, shares))
    return [*parts, _picture("samples.png")]


def _column(
    generated: Interval, every: Interval | None, floor: Interval | None, digits: int = 4
) -> list[str]:
    # Cells of a row; what the first draws have stands between, where some are refused.
    said = [generated, *([every] if every else []), floor]
    return [shown(one, digits) for one in said]


def _inversion(report: Report) -> list[str]:
    parts = ["## Inversion: is the image made from a feature the one that was asked for?"]
    for kind in report.strips:
        rows = [row for row in report.inversion if row.targets == kind]
        columns = _measures(rows[0], report.perceptual_name)
        cells = [
            [row.map, str(row.n), *(shown(getattr(row, name)) for name in columns.values())]
            for row in rows
        ]
        parts.append(f"Targets: held-out {kind} images.")
        parts += [table(["map", "n", *columns], cells), _picture(f"inversion-{kind}.png")]
    timing = report.timing
    parts.append(
        "f1 is the steering space, f2 the audit space; R@1 is among the n targets of the row; "
        "pixel error is the mean square in -1..1; `random` is an unrelated generated image."
    )
    parts.append(
        f"Feature to image takes the map {timing.map_p50_ms:.1f} ms (p95 {timing.map_p95_ms:.1f}) "
        f"alone and {timing.map_batched_ms:.2f} ms an image in batches; optimisation of "
        f"{timing.optimisation_steps} steps takes {timing.optimisation_alone_seconds:.1f} s alone "
        f"and {timing.optimisation_batched_seconds:.2f} s an image in batches. The map is "
        f"{timing.ratio_alone:.0f} and {timing.ratio_batched:.0f} times faster."
    )
    return parts


def _measures(row: InversionRow, perceptual_name: str | None) -> dict[str, str]:
    # Heading -> field of a row; what was not measured has no column.
    columns = {"cosine f1": "cosine_f1", "cosine f2": "cosine_f2", "R@1": "recall_at_1"}
    if row.judge_agrees is not None:
        columns["judge agrees"] = "judge_agrees"
    columns["pixel error"] = "pixel_error"
    if row.perceptual is not None:
        columns[perceptual_name or "perceptual"] = "perceptual"
    columns["norm of z / sqrt(size)"] = "shell_norm"
    return columns | ({} if row.latent_r2 is None else {"latent R2": "latent_r2"})


def _edits(report: Report, found: Figure3) -> list[str]:
    head = ["method", "amount", "edits", "flip rate", "identity", "identity of flipped"]
    head += ["cosine f2", "pixel error"]
    strokes = any(row.slant_kept is not None for row in found.best)
    head += ["slant kept", "thickness kept"] if strokes else []
    rows = [_best_row(row)[: len(head)] for row in found.best]
    absent = f" Classes without sources: {', '.join(found.missing_classes)}."
    kept = " Kept: correlation of an attribute of source and result over the edits."
    return [
        f"{found.edits} edits of {found.sources} held-out generated images over all ordered pairs "
        f"of classes; {report.config['exemplars']} exemplars a class, picked by "
        f"{found.exemplars_by}; the judge agrees with {shown(found.exemplar_precision)} of them. "
        "Each method is shown at the amount of its best flip rate. Identity: audit cosine of "
        "source and result, centred (unrelated is about 0), in the subspace orthogonal to the "
        f"class direction.{kept if strokes else ''}{absent if found.missing_classes else ''}",
        table(head, rows),
        *_equal_identity(found.equal_identity),
        *_few_pairs(found),
        *(_picture(name) for name in ("figure3.png", "flip-rate.png", "flip-matrix.png")),
    ]


def _best_row(row: Best) -> list[str]:
    measures = [row.flip, row.identity, row.identity_of_flipped, row.cosine_f2, row.pixel_error]
    return [
        row.method,
        f"{row.amount:g}",
        str(row.n),
        *(shown(value) for value in measures),
        shown(row.slant_kept, 2),
        shown(row.thickness_kept, 2),
    ]


def _equal_identity(found: EqualIdentity) -> list[str]:
    lead = "not to be had, a method never keeps that much"
    if found.lead is not None:
        lead = shown(found.lead)
    rows = [
        [
            row.method,
            shown(row.amount, 2),
            shown(row.identity),
            shown(row.flip),
            shown(row.highest),
        ]
        for row in found.methods
    ]
    head = ["method", "amount", "identity", "flip rate", "highest flip rate up to there"]
    return [
        f"**At equal identity.** The level is {found.level:.3f}, what feature arithmetic keeps at "
        "its best flip rate. Each method is read at the largest amount that still keeps so much, "
        "between the amounts of its sweep along straight lines; amount 0 is the map's round trip, "
        f"or the source itself. Feature minus latent arithmetic, edit by edit: {lead}.",
        table(head, rows),
    ]


def _few_pairs(found: Figure3) -> list[str]:
    if not found.few_pairs:
        return []
    rows = [
        [f"{row.before} -> {row.after}", str(row.edits), shown(row.feature), shown(row.latent)]
        for row in found.few_pairs
    ]
    head = ["from -> to", "edits", "feature arithmetic", "latent arithmetic"]
    return ["Flip rate by direction, each method at its best amount:", table(head, rows)]


def _picture(name: str) -> str:
    return f"![{PICTURES[name]}]({name})"
