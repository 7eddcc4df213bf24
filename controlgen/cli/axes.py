"""`controlgen axes`: compute, draw and measure the unsupervised axes of a model."""

from pathlib import Path

from controlgen._version import __version__
from controlgen.editing import Editor
from controlgen.editing.directions.axes import FAMILIES
from controlgen.editing.directions.storage import SUFFIX, save_direction
from controlgen.errors import ConfigError
from controlgen.evaluation.axes import (
    AMOUNTS,
    AxisProtocol,
    FamilyReport,
    attribute_scale,
    evaluate_axis_family,
)
from controlgen.figures import axis_sheet
from controlgen.utils.files import (
    ensure_writable_dir,
    ensure_writable_file,
    reproduction_command,
    write_text,
)
from controlgen.utils.progress import TqdmReporter


def run_axes(
    folder: Path, output: Path, family: str | None, n: int, seed: int, save: Path | None
) -> list[str]:
    """Draw and measure the first n axes of one family or of all; return lines to print.

    `output`: a PNG for one family, or a folder with a PNG per family and axes.md. `save`: a folder
    for the axes as directions. Raises ConfigError and the errors of loading a map, before anything
    is computed or written.
    """
    families = _select_families(family, output)
    _check_output(output, "-o")
    if save is not None:
        _check_output(save, "--save")
    editor = Editor.load(folder)
    protocol = AxisProtocol(axes=n, seed=seed)
    scale, scale_text = attribute_scale(editor, seed)
    reports = []
    for name in families:
        count = min(n, len(editor.axes.family(name).vectors))
        with TqdmReporter().start(f"axes of {name}", count + 1, unit="axes") as progress:
            reports.append(
                evaluate_axis_family(editor, name, protocol, scale, scale_text, progress.update_to)
            )

    lines = []
    single = output.suffix.lower() == ".png"
    if not single:
        output.mkdir(exist_ok=True)
        text = "\n\n".join([f"# Axes of {folder}", *(report.markdown() for report in reports)])
        write_text(output / "axes.md", text + "\n")
    for report in reports:
        path = output if single else output / f"{report.family}.png"
        _draw_sheet(path, report, folder, editor.weights)
        lines += [f"{path}: {len(report.effects) - 1} axes", "", report.markdown(), ""]
    if save is not None:
        lines.append(_save_directions(editor, reports, save))
    return lines


def _select_families(family: str | None, output: Path) -> list[str]:
    if family is not None and family not in FAMILIES:
        raise ConfigError(f"--family {family}: unknown; choose from {', '.join(FAMILIES)}")
    if family is None and output.suffix.lower() == ".png":
        raise ConfigError(
            f"-o {output}: a PNG holds one family; choose it with --family, or name a folder for "
            "all families"
        )
    return list(FAMILIES) if family is None else [family]


def _check_output(output: Path, option: str) -> None:
    if option == "-o" and output.suffix.lower() == ".png":
        ensure_writable_file(output, option)
        return
    if output.suffix and not output.is_dir():
        kinds = "a folder, or a file that ends in .png" if option == "-o" else "a folder"
        raise ConfigError(f"{option} {output}: name {kinds}")
    ensure_writable_dir(output, option)


def _draw_sheet(path: Path, report: FamilyReport, folder: Path, weights: str) -> None:
    protocol, count = report.protocol, len(report.effects) - 1
    how = "by latent offsets" if report.latent else "by residual edits through the map"
    provenance = {
        "model": str(folder),
        "weights": weights,
        "seed": f"{protocol.seed}",
        "recipe": reproduction_command(
            "axes", folder, family=report.family, n=protocol.axes, seed=protocol.seed
        ),
        "version": __version__,
    }
    title = f"{report.family}: the first {count} of {report.available} axes, and a random direction"
    footer = (
        f"Every image is synthetic: samples 0 to {protocol.strips - 1} of seed {protocol.seed}, "
        f"{how}, in the sigmas above each column. share: of the family's variance. consistent: "
        f"|mean change| of features over mean |change|, n {protocol.sources}; about "
        f"{protocol.sources**-0.5:.2f} for unrelated changes."
    )
    if report.effects[0].changes:
        footer += (
            f" Below: the two largest mean changes per sigma whose 95 % interval excludes 0; "
            f"{report.scale_text}."
        )
    axis_sheet(path, report.rows(), AMOUNTS, provenance, title, footer)


def _save_directions(editor: Editor, reports: list[FamilyReport], folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    count = 0
    for report in reports:
        for index in range(1, len(report.effects)):
            axis = editor.axis(report.family, index)
            name = f"{report.family}-{index}"
            save_direction(
                folder / f"{name}{SUFFIX}",
                axis.direction,
                name=name,
                made_by=f'axis("{report.family}", {index})',
                space=editor.space.fingerprint,
                share_inside=editor.statistics.explained_share(axis.direction),
            )
            count += 1
    return f"{folder}: {count} directions"
