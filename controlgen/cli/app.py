"""controlgen: look at artifacts and use them. How they are made: `python -m flows.pipeline`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controlgen.errors import ArtifactMissing, ConfigError, ControlGenError
from controlgen.utils.files import ensure_writable_file

if TYPE_CHECKING:
    from controlgen.features import Lpips

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
StoreOption = Annotated[Path, typer.Option("--store", help="Folder that holds the artifacts.")]
LpipsOption = Annotated[
    str, typer.Option(help="alex, vgg or squeeze: LPIPS in place of PD-efficientnet-lite0.")
]
LpipsWeightsOption = Annotated[
    Path | None, typer.Option(help="Folder of its weights, if they are not in torch's cache.")
]
CorrectionsOption = Annotated[
    int | None,
    typer.Option(min=0, help="Rounds that measure and ask for what is missing; 8 with --hold."),
]
DEFAULT_STORE = Path("artifacts")
PNG = (".png",)


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit 2."""
    try:
        app(standalone_mode=True)
    except ControlGenError as error:
        print(f"controlgen: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # A disk that is full, or a place lost under way: what can be foreseen is told before.
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"controlgen: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)


@app.command("list")
def list_artifacts(store: StoreOption = DEFAULT_STORE) -> None:
    """List every artifact in the store."""
    from controlgen.artifacts import Store, read_manifest

    opened = Store(store)
    refs = opened.refs()
    if not refs:
        raise ArtifactMissing(f"{store}: holds no artifacts; make some with `make demo`")
    rows = [("artifact", "seconds", "made from")]
    for ref in refs:
        try:
            manifest = read_manifest(opened.path(ref))
        except ControlGenError:
            rows.append((str(ref), "-", "damaged: see `controlgen check`"))
            continue
        parents = ", ".join(f"{role} {parent}" for role, parent in manifest.parents.items())
        rows.append((str(ref), f"{manifest.seconds:.0f}", parents))

    # Names are copied into `show`: whole and on one line, however narrow the screen.
    width = max(len(name) for name, _, _ in rows)
    for name, seconds, parents in rows:
        print(f"{name:<{width}}  {seconds:>7}  {parents}".rstrip())


@app.command()
def show(name: str, store: StoreOption = DEFAULT_STORE) -> None:
    """Show an artifact's manifest and its card."""
    from controlgen.artifacts import open_artifact, read_manifest

    folder = open_artifact(_folder(name, store))
    manifest = read_manifest(folder)
    print(f"{folder}\nkind {manifest.kind}, made in {manifest.seconds:.0f} s")
    for role, parent in manifest.parents.items():
        print(f"from {role} {parent}")
    print("with " + ", ".join(f"{key} {value}" for key, value in manifest.versions.items()))
    for path in manifest.files:
        print(f"  {path}  {(folder / path).stat().st_size:,} bytes")
    for card in ("README.md", "report.md"):
        if (folder / card).is_file():
            print("\n" + (folder / card).read_text(encoding="utf-8"))


@app.command()
def check(
    name: Annotated[
        str | None, typer.Argument(help="An artifact; all of them if left out.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Compare artifacts byte by byte with what they promise; exit 2 where one is damaged."""
    from controlgen.artifacts import Store, verify

    opened = Store(store)
    folders = [_folder(name, store)] if name else [opened.path(ref) for ref in opened.refs()]
    if not folders:
        raise ArtifactMissing(f"{store}: holds no artifacts to check")
    damaged = 0
    for folder in folders:
        try:
            files = len(verify(folder).files)
            print(f"{folder}: {files} files, all as written")
        except ControlGenError as error:
            damaged += 1
            print(f"controlgen: {error}", file=sys.stderr)
    if damaged:
        raise typer.Exit(2)


@app.command()
def edit(
    map: Annotated[
        str | None, typer.Argument(help="A map artifact, e.g. artifacts/pretrained/mnist.")
    ] = None,
    expression: Annotated[
        str | None,
        typer.Argument(help='What to make: seed(7) + 2 * (text("...") - mean("FOLDER/*")).'),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="PNG to write.")] = None,
    add: Annotated[
        str | None,
        typer.Option(help='Direction: text("...")-text("..."), image("FILE"), attribute("NAME").'),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Start from this seed's sample.")] = None,
    image: Annotated[Path | None, typer.Option(help="Start from this image file instead.")] = None,
    amount: Annotated[float | None, typer.Option(help="How far to go; 1 is all the way.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=50, help="Images from source to result; 6.")
    ] = None,
    residual: Annotated[bool, typer.Option(help="Keep more of a generated source.")] = False,
    plain: Annotated[bool, typer.Option(help="Write the result alone, in its own pixels.")] = False,
    hold: Annotated[str, typer.Option(help="Measured attributes to hold, as in a,b.")] = "",
    corrections: CorrectionsOption = None,
    refine: Annotated[int, typer.Option(min=0, help="Steps of descent after the map.")] = 0,
    answers: Annotated[
        int, typer.Option(min=0, max=32, help="So many answers, best first, if the map gives many.")
    ] = 0,
    recipe: Annotated[
        Path | None, typer.Option(help="Make again what a recipe, or a PNG that has one, says.")
    ] = None,
    save_recipe: Annotated[
        Path | None, typer.Option(help="Write the recipe as well, .toml or .json.")
    ] = None,
    generator: Annotated[
        str | None, typer.Option(help="GAN artifact; must be the map's own.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Steer one image and write a strip: the source, the steps, the result."""
    from controlgen.cli import edit

    if output is None:
        raise ConfigError("edit: say where the picture goes, as in -o edit.png")
    ensure_writable_file(output, "-o", PNG)
    said = (
        expression,
        add,
        output,
        seed,
        image,
        amount,
        steps,
        residual,
        plain,
        hold,
        corrections,
        refine,
        answers,
    )
    request = edit.Request(map, *said, recipe, save_recipe, generator)
    print("\n".join(edit.draw(request, lambda name: _folder(name, store))))


@app.command()
def sheet(
    map: Annotated[str, typer.Argument(help="A map artifact, e.g. artifacts/pretrained/mnist.")],
    add: Annotated[str, typer.Option(help='Direction: text("...")-text("..."), image("FILE").')],
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG to write.")],
    amounts: Annotated[str, typer.Option(help="Columns, as in --amounts=-1,0,1,2.")] = "-1,0,1,2",
    n: Annotated[int | None, typer.Option("--n", min=1, max=32, help="Rows; 8 samples.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the samples, 0 if left out.")] = None,
    images: Annotated[Path | None, typer.Option(help="Start from this folder's images.")] = None,
    hold: Annotated[str, typer.Option(help="Measured attributes to hold, as in a,b.")] = "",
    corrections: CorrectionsOption = None,
    residual: Annotated[bool, typer.Option(help="Keep more of generated sources.")] = False,
    refine: Annotated[int, typer.Option(min=0, help="Steps of descent after the map.")] = 0,
    tiles: Annotated[
        Path | None,
        typer.Option(help="Training images; the nearest of them is shown beside each row."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Steer several images and write a sheet: a row an image, a column an amount."""
    from controlgen.cli import sheet

    ensure_writable_file(output, "-o", PNG)
    said = (
        add,
        amounts,
        output,
        n,
        seed,
        images,
        hold,
        corrections,
        residual,
        refine,
        tiles,
    )
    request = sheet.Request(*said)
    print("\n".join(sheet.draw(request, _folder(map, store))))


@app.command()
def batch(
    map: Annotated[str, typer.Argument(help="A map artifact, e.g. artifacts/pretrained/mnist.")],
    table: Annotated[
        Path,
        typer.Argument(help="CSV: expression; name, amount, residual, refine, hold."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder to write.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make every expression of a table: pictures, results.csv and arrays in a folder."""
    from controlgen.cli import batch

    print("\n".join(batch.batch(_folder(map, store), table, output)))


@app.command()
def nearest(
    map: Annotated[str, typer.Argument(help="A map artifact, e.g. artifacts/pretrained/mnist.")],
    expression: Annotated[str, typer.Argument(help='A picture: seed(7), image("FILE"), ...')],
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG to write.")],
    n: Annotated[int, typer.Option("--n", min=1, max=24, help="How many.")] = 12,
    among: Annotated[int, typer.Option(min=1, help="Of the bank's first so many.")] = 4_000,
    table: Annotated[Path | None, typer.Option(help="CSV file to write as well.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Find the bank's images that are most like what an expression asks for."""
    from controlgen.cli import batch

    ensure_writable_file(output, "-o", PNG)
    folder = _folder(map, store)
    print("\n".join(batch.nearest(folder, expression, output, n, among, table)))


@app.command()
def direction(
    map: Annotated[str, typer.Argument(help="A map artifact, e.g. artifacts/pretrained/mnist.")],
    expression: Annotated[str, typer.Argument(help='A change: text("...") - text("..."), ...')],
    output: Annotated[Path, typer.Option("-o", "--output", help="Name of a .safetensors file.")],
    name: Annotated[str | None, typer.Option(help="Its name; the file's if left out.")] = None,
    hold: Annotated[str, typer.Option(help="Measured attributes to hold, as in a,b.")] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Keep a direction as a small file, for direction("FILE") in any expression."""
    from controlgen.cli import direction

    print("\n".join(direction.keep(_folder(map, store), expression, output, name, hold)))


@app.command()
def axes(
    map: Annotated[str, typer.Argument(help="A map artifact, e.g. artifacts/pretrained/mnist.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder, or one family's PNG.")],
    family: Annotated[
        str | None, typer.Option(help="sefa, ganspace or pca; all of them if left out.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=64, help="Axes of each family.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples.")] = 0,
    save: Annotated[Path | None, typer.Option(help="Folder for the axes as directions.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Find axes without labels, picture each on samples, and measure what it does."""
    from controlgen.cli import axes

    request = axes.Request(output, family, n, seed, save)
    print("\n".join(axes.draw(request, _folder(map, store))))


@app.command()
def project(
    map: Annotated[str, typer.Argument(help="A map artifact, e.g. artifacts/pretrained/mnist.")],
    images: Annotated[Path, typer.Argument(help="An image file, or a folder of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG to write.")],
    lpips: LpipsOption = "",
    lpips_weights: LpipsWeightsOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Put real images through the map and back; say how faithful that is, before any edit."""
    from controlgen.cli import project

    ensure_writable_file(output, "-o", PNG)
    asked = _lpips(lpips, lpips_weights)
    print("\n".join(project.project(_folder(map, store), images, output, asked)))


@app.command()
def score(
    a: Annotated[str, typer.Argument(help="Judged: a model, a data set (mnist:test) or a folder.")],
    b: Annotated[str, typer.Argument(help="What it is judged against, likewise.")],
    extractor: Annotated[
        str,
        typer.Option(help="efficientnet-lite0[-SIZE], inception-v3[-FEATURES], or a CLIP."),
    ] = "efficientnet-lite0",
    weights: Annotated[Path | None, typer.Option(help="File of inception-v3's weights.")] = None,
    n: Annotated[int | None, typer.Option("--n", min=20, help="Images a side; 1000.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    metrics: Annotated[str, typer.Option(help="Some of them, as in frechet,recall.")] = "",
    lpips: LpipsOption = "",
    lpips_weights: LpipsWeightsOption = None,
    json: Annotated[Path | None, typer.Option(help="JSON file to write as well.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Judge images against others: distance, likeness, variety, copies, each beside its floor."""
    from controlgen.cli import score

    asked = _lpips(lpips, lpips_weights)
    request = score.Request(a, b, extractor, weights, n, seed, metrics, json, asked)
    print("\n".join(score.score(request, lambda name: _folder(name, store))))


@app.command()
def serve(
    maps: Annotated[list[str], typer.Argument(help="Map artifacts, each under its folder's name.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str, typer.Option(help="Asked of every request; CONTROLGEN_TOKEN hides it better.")
    ] = "",
    directions: Annotated[
        Path | None, typer.Option(help="Folder of saved directions to be offered.")
    ] = None,
    waiting: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 64,
    seconds: Annotated[float, typer.Option(min=0.1, help="A request may take.")] = 30.0,
    studio: Annotated[bool, typer.Option(help="Serve the page as well.")] = True,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Serve models over HTTP: an API at /v1, and the studio, a page, at /."""
    from controlgen.cli import serve

    folders = [_folder(name, store) for name in maps]
    asked = (host, port, token, directions, waiting, seconds, studio)
    serve.serve(serve.Request(folders, *asked))


def _lpips(net: str, weights: Path | None) -> "Lpips | None":
    from controlgen.features import Lpips

    if net:
        return Lpips.parse({"net": net, "weights": weights}, f"--lpips {net}")
    if weights is not None:
        raise ConfigError(f"--lpips-weights {weights}: goes with --lpips only")
    return None


def _folder(name: str, store: Path) -> Path:
    # A path to an artifact, or kind/name in the store.
    from controlgen.artifacts import Store

    if (Path(name) / "manifest.json").is_file():
        return Path(name)
    if (store / name / "manifest.json").is_file():
        return store / name
    matches = [ref for ref in Store(store).refs() if ref.name == name]
    if len(matches) == 1:
        return Store(store).path(matches[0])
    raise ArtifactMissing(f"{name}: no such artifact; `controlgen list` shows what there is")
