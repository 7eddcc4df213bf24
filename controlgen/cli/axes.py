"""`controlgen axes`: the axes of a model that need no label are found, pictured and measured."""

from dataclasses import dataclass
from pathlib import Path

from controlgen._version import __version__
from controlgen.utils.files import write_text
from controlgen.editing import Editor
from controlgen.editing.directions.axes import FAMILIES
from controlgen.editing.directions.storage import SUFFIX, save_direction
from controlgen.errors import ConfigError
from controlgen.evaluation.axes import AMOUNTS, FamilyReport, Trial, ruler_of, try_family
from controlgen.figures import axis_sheet
from controlgen.utils.files import ensure_writable_dir, ensure_writable_file, reproduction_command
from controlgen.utils.progress import TqdmReporter


@dataclass(frozen=True)
class Request:
    """What was asked on the command line; `family` None means all of them."""

    output: Path
    family: str | None
    n: int
    seed: int
    save: Path | None


def draw(request: Request, folder: Path) -> list[str]:
    """Walk the axes of the map in `folder`, write what was asked for; returns lines to be printed.

    Raises ConfigError and what opening the map raises, before anything is computed or written.
    """
    families = _families(request)
    _check_place(request.output, "-o")
    if request.save is not None:
        _check_place(request.save, "--save")
    editor = Editor.load(folder)
    trial = Trial(axes=request.n, seed=request.seed)
    ruler, ruled_by = ruler_of(editor, request.seed)
    reports = []
    for family in families:
        known = min(request.n, len(editor.axes.family(family).rows))
        with TqdmReporter().meter(f"axes of {family}", known + 1, unit="axes") as meter:
            reports.append(try_family(editor, family, trial, ruler, ruled_by, meter.to))

    # One PNG a family, and beside several of them the tables.
    told = []
    single = request.output.suffix.lower() == ".png"
    if not single:
        request.output.mkdir(exist_ok=True)
        text = "\n\n".join([f"# Axes of {folder}", *(report.markdown() for report in reports)])
        write_text(request.output / "axes.md", text + "\n")
    for report in reports:
        path = request.output if single else request.output / f"{report.family}.png"
        _sheet(path, report, folder, editor.weights)
        told += [f"{path}: {len(report.effects) - 1} axes", "", report.markdown(), ""]
    if request.save is not None:
        told.append(_saved(editor, reports, request.save))
    return told


def _families(request: Request) -> list[str]:
    if request.family is not None and request.family not in FAMILIES:
        raise ConfigError(f"--family {request.family}: there is {', '.join(FAMILIES)}")
    if request.family is None and request.output.suffix.lower() == ".png":
        raise ConfigError(
            f"-o {request.output}: one PNG holds one family; name it with --family, or name a "
            "folder for all of them"
        )
    return list(FAMILIES) if request.family is None else [request.family]


def _check_place(output: Path, option: str) -> None:
    # A folder that is there or can be made; -o may be a PNG as well.
    if option == "-o" and output.suffix.lower() == ".png":
        ensure_writable_file(output, option)
        return
    if output.suffix and not output.is_dir():
        kinds = "a folder, or a file that ends in .png" if option == "-o" else "a folder"
        raise ConfigError(f"{option} {output}: name {kinds}")
    ensure_writable_dir(output, option)


def _sheet(path: Path, report: FamilyReport, folder: Path, weights: str) -> None:
    trial, count = report.trial, len(report.effects) - 1
    how = "latents moved" if report.latent else "residual edits through the map"
    provenance = {
        "model": str(folder),
        "weights": weights,
        "seed": f"{trial.seed}",
        "recipe": reproduction_command(
            "axes", folder, family=report.family, n=trial.axes, seed=trial.seed
        ),
        "version": __version__,
    }
    title = f"{report.family}: the first {count} of {report.known} axes, and a random direction"
    footer = (
        f"Every image is synthetic: samples 0 to {trial.pictured - 1} of seed {trial.seed}, {how} "
        "by the sigmas above each column. share: of the family's variance. consistent: |mean "
        f"change| of features over mean |change|, n {trial.sources}; without a common part "
        f"{trial.sources**-0.5:.2f}."
    )
    if report.effects[0].changes:
        footer += (
            f" Below it the two largest mean changes per sigma whose 95 % interval leaves 0 out; "
            f"{report.ruled_by}."
        )
    axis_sheet(path, report.rows(), AMOUNTS, provenance, title, footer)


def _saved(editor: Editor, reports: list[FamilyReport], folder: Path) -> str:
    # Every axis that was walked, as a direction in features.
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
                share_inside=editor.statistics.share_inside(axis.direction),
            )
            count += 1
    return f"{folder}: {count} directions"
