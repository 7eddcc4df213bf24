"""Edit images with trained models, and inspect the models. To train: `python -m flows.pipeline`."""

import os
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from controlgen._version import __version__
from controlgen.cli._options import (
    DEFAULT_STORE,
    PNG_SUFFIXES,
    CorrectionsOption,
    HoldOption,
    LpipsOption,
    LpipsWeightsOption,
    MapArgument,
    PngOption,
    RefineOption,
    ResidualOption,
    StoreOption,
    parse_csv_list,
    parse_lpips,
    resolve_artifact,
)
from controlgen.errors import ConfigError, ControlGenError
from controlgen.utils.files import ensure_writable_file

# Each command imports its module when it runs, so that `controlgen --help` does not import torch.
app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


def main() -> None:
    """Entry point; a user's mistake is one line on stderr and exit code 2."""
    try:
        app(standalone_mode=True)
    except ControlGenError as error:
        print(f"controlgen: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # Foreseeable mistakes are ControlGenError; what remains is a full disk or a lost mount.
        path = "" if error.filename is None else f"{error.filename}: "
        print(f"controlgen: {path}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"controlgen {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool,
        Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None: ...


@app.command("list")
def list_artifacts(store: StoreOption = DEFAULT_STORE) -> None:
    """List every artifact in the store."""
    from controlgen.cli import artifacts

    _print_lines(artifacts.list_artifacts(store))


@app.command()
def show(name: str, store: StoreOption = DEFAULT_STORE) -> None:
    """Show an artifact's manifest and model card."""
    from controlgen.cli import artifacts

    _print_lines(artifacts.describe_artifact(name, store))


@app.command()
def check(
    name: Annotated[str | None, Argument(help="An artifact (default: all).")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Verify artifacts against their checksums; exit code 2 if one is damaged."""
    from controlgen.cli import artifacts

    _print_lines(artifacts.check_artifacts(name, store))


@app.command()
def edit(
    context: typer.Context,
    map: Annotated[str | None, Argument(help="A map, e.g. artifacts/pretrained/mnist.")] = None,
    expression: Annotated[
        str | None, Argument(help='The image: seed(7) + 2 * (text("...") - mean("FOLDER/*")).')
    ] = None,
    output: Annotated[Path | None, Option("-o", "--output", help="PNG file to write.")] = None,
    add: Annotated[
        str | None,
        Option(help='Direction: text("...")-text("..."), image("FILE"), attribute("NAME").'),
    ] = None,
    seed: Annotated[int | None, Option(min=0, help="Start from a seed's sample.")] = None,
    image: Annotated[Path | None, Option(help="Start from an image file.")] = None,
    amount: Annotated[float | None, Option(help="Edit strength (default 1).")] = None,
    steps: Annotated[
        int | None, Option(min=1, max=50, help="Images in the strip (default 6).")
    ] = None,
    residual: ResidualOption = False,
    plain: Annotated[bool, Option(help="Write only the result, at its own size.")] = False,
    hold: HoldOption = "",
    corrections: CorrectionsOption = None,
    refine: RefineOption = 0,
    answers: Annotated[int, Option(min=0, max=32, help="Number of candidates, best first.")] = 0,
    recipe: Annotated[Path | None, Option(help="Repeat a recipe, or a PNG that has one.")] = None,
    save_recipe: Annotated[Path | None, Option(help="Recipe file to write as well.")] = None,
    generator: Annotated[str | None, Option(help="GAN artifact; must be the map's own.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Edit one image and write a strip from source to result."""
    from controlgen.cli import edit as command
    from controlgen.editing.apply import EditSettings

    if output is None:
        raise ConfigError("edit: name the picture to write, as in -o edit.png")
    ensure_writable_file(output, "-o", PNG_SUFFIXES)
    find = partial(resolve_artifact, store=store)
    if recipe is not None:
        command.reject_recipe_settings(context)
        _print_lines(command.repeat_edit(recipe, find, map, generator, output, save_recipe))
        return
    tree = command.parse_edit(expression, add, seed, image)
    settings = EditSettings(
        amount=1.0 if amount is None else amount,
        residual=residual,
        hold=parse_csv_list(hold),
        corrections=corrections,
        refine=refine,
    )
    pictures = (steps or 6, plain, answers or 1)
    _print_lines(
        command.run_edit(tree, settings, *pictures, find, map, generator, output, save_recipe)
    )


@app.command()
def sheet(
    map: MapArgument,
    add: Annotated[str, Option(help='Direction: text("...")-text("..."), image("FILE").')],
    output: PngOption,
    amounts: Annotated[str, Option(help="Edit strengths, as in --amounts=-1,0,2.")] = "-1,0,1,2",
    n: Annotated[
        int | None, Option("--n", min=1, max=32, help="Number of rows (default 8).")
    ] = None,
    seed: Annotated[int | None, Option(min=0, help="Random seed (default 0).")] = None,
    images: Annotated[Path | None, Option(help="Start from a folder of images.")] = None,
    hold: HoldOption = "",
    corrections: CorrectionsOption = None,
    residual: ResidualOption = False,
    refine: RefineOption = 0,
    tiles: Annotated[
        Path | None, Option(help="Training images; adds the nearest one to each row.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Edit several images and write a sheet: rows are images, columns amounts."""
    from controlgen.cli import sheet as command
    from controlgen.editing.apply import EditSettings

    ensure_writable_file(output, "-o", PNG_SUFFIXES)
    settings = EditSettings(
        residual=residual, hold=parse_csv_list(hold), corrections=corrections, refine=refine
    )
    folder = resolve_artifact(map, store)
    _print_lines(command.run_sheet(folder, add, amounts, settings, n, seed, images, tiles, output))


@app.command()
def batch(
    map: MapArgument,
    table: Annotated[
        Path, Argument(help="CSV columns: expression, name, amount, residual, refine, hold.")
    ],
    output: Annotated[Path, Option("-o", "--output", help="New folder to write.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Run every expression of a table; write pictures, results.csv and arrays to a folder."""
    from controlgen.cli import batch as command

    _print_lines(command.run_batch(resolve_artifact(map, store), table, output))


@app.command()
def nearest(
    map: MapArgument,
    expression: Annotated[str, Argument(help='An image: seed(7), image("FILE"), ...')],
    output: PngOption,
    n: Annotated[int, Option("--n", min=1, max=24, help="Number of images.")] = 12,
    among: Annotated[int, Option(min=1, help="Search only the first N bank items.")] = 4_000,
    table: Annotated[Path | None, Option(help="CSV file to write as well.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Find the bank images that are nearest to an expression."""
    from controlgen.cli import nearest as command

    ensure_writable_file(output, "-o", PNG_SUFFIXES)
    folder = resolve_artifact(map, store)
    _print_lines(command.find_nearest(folder, expression, output, n, among, table))


@app.command()
def direction(
    map: MapArgument,
    expression: Annotated[str, Argument(help='A direction: text("...") - text("..."), ...')],
    output: Annotated[Path, Option("-o", "--output", help="File to write, .safetensors.")],
    name: Annotated[str | None, Option(help="Its name (default: the file's).")] = None,
    hold: HoldOption = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Save a direction as a small file, for direction("FILE") in any expression."""
    from controlgen.cli import direction as command

    folder = resolve_artifact(map, store)
    _print_lines(command.save_expression_direction(folder, expression, output, name, hold))


@app.command()
def axes(
    map: MapArgument,
    output: Annotated[Path, Option("-o", "--output", help="Folder, or PNG file with --family.")],
    family: Annotated[str | None, Option(help="sefa, ganspace or pca (default: all).")] = None,
    n: Annotated[int, Option("--n", min=1, max=64, help="Axes of each family.")] = 10,
    seed: Annotated[int, Option(min=0, help="Random seed of the samples.")] = 0,
    save: Annotated[Path | None, Option(help="Folder for the axes as directions.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Compute unsupervised axes, draw each on samples, and measure its effect."""
    from controlgen.cli import axes as command

    folder = resolve_artifact(map, store)
    _print_lines(command.run_axes(folder, output, family, n, seed, save))


@app.command()
def project(
    map: MapArgument,
    images: Annotated[Path, Argument(help="An image file, or a folder of images.")],
    output: PngOption,
    lpips: LpipsOption = "",
    lpips_weights: LpipsWeightsOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Reconstruct real images with the map, and report how faithful they are without any edit."""
    from controlgen.cli import project as command

    ensure_writable_file(output, "-o", PNG_SUFFIXES)
    perceptual = parse_lpips(lpips, lpips_weights)
    folder = resolve_artifact(map, store)
    _print_lines(command.project_images(folder, images, output, perceptual))


@app.command()
def score(
    a: Annotated[str, Argument(help="A model, a data set (mnist:test) or a folder.")],
    b: Annotated[str, Argument(help="Reference: a model, a data set or a folder.")],
    extractor: Annotated[
        str, Option(help="efficientnet-lite0[-SIZE], inception-v3[-FEATURES], a CLIP.")
    ] = "efficientnet-lite0",
    weights: Annotated[Path | None, Option(help="File of inception-v3 weights.")] = None,
    n: Annotated[
        int | None, Option("--n", min=20, help="Images of each side (default 1000).")
    ] = None,
    seed: Annotated[int, Option(min=0, help="Random seed for sampling.")] = 0,
    metrics: Annotated[str, Option(help="Only these metrics, as in frechet,recall.")] = "",
    lpips: LpipsOption = "",
    lpips_weights: LpipsWeightsOption = None,
    json: Annotated[Path | None, Option(help="JSON file to write as well.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Compare images with a reference: distances, precision, recall, diversity and copies."""
    from controlgen.cli import score as command

    perceptual = parse_lpips(lpips, lpips_weights)
    find = partial(resolve_artifact, store=store)
    _print_lines(
        command.run_score(a, b, find, extractor, weights, n, seed, metrics, perceptual, json)
    )


@app.command()
def serve(
    maps: Annotated[list[str], Argument(help="Map artifacts; the folder names the model.")],
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token: Annotated[
        str, Option(help="Token for requests; CONTROLGEN_TOKEN keeps it off `ps`.")
    ] = "",
    directions: Annotated[Path | None, Option(help="Folder of saved directions to offer.")] = None,
    waiting: Annotated[int, Option(min=1, help="Queue length.")] = 64,
    seconds: Annotated[float, Option(min=0.1, help="Deadline of a request.")] = 30.0,
    studio: Annotated[bool, Option(help="Also serve the page.")] = True,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Serve models over HTTP: an API at /v1, and a page, the studio, at /."""
    from controlgen.cli import serve as command

    folders = [resolve_artifact(name, store) for name in maps]
    limits = {"waiting": waiting, "seconds": seconds}
    command.run_server(folders, host, port, token, directions, limits, studio)
