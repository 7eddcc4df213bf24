"""`controlgen edit`: what is asked is checked first, then steered, measured and drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controlgen._version import __version__
from controlgen.cli.sheet import parse_names
from controlgen.editing import Edit, Editor, Recipe
from controlgen.editing.apply import check_amount
from controlgen.editing.expressions.parser import Call, Combined, Node, Number, Words, parse
from controlgen.editing.expressions.resolver import Query
from controlgen.editing.recipe import check_name
from controlgen.editing.rendering import draw_edit
from controlgen.errors import ConfigError
from controlgen.evaluation.projection_summary import faithful_line

ASKED: dict[str, object] = {
    "add": None,
    "expression": None,
    "seed": None,
    "image": None,
    "amount": None,
    "steps": None,
    "residual": False,
    "plain": False,
    "hold": "",
    "corrections": None,
    "refine": 0,
    "answers": 0,
}  # what a recipe says as well, and how each looks where nothing was said


@dataclass(frozen=True)
class Request:
    """What was asked on the command line; None and "" where nothing was said."""

    map: str | None
    expression: str | None
    add: str | None
    output: Path
    seed: int | None
    image: Path | None
    amount: float | None
    steps: int | None
    residual: bool
    plain: bool
    hold: str
    corrections: int | None
    refine: int
    answers: int
    recipe: Path | None
    save_recipe: Path | None
    generator: str | None


def draw(request: Request, folder_of: Callable[[str], Path]) -> list[str]:
    """Steer one image and write the strip; returns lines to be printed.

    Raises ConfigError, DataError and what opening the map raises, before anything is written.
    """
    again = _again(request)
    asked = again.expression if again else _tree(request)
    name = request.map or (again and again.model)
    if not name:
        raise ConfigError("name a map, as in artifacts/pretrained/mnist, or give --recipe")
    if request.save_recipe is not None:
        check_name(request.save_recipe)
    folder = folder_of(name)
    editor = Editor.load(folder, folder_of(request.generator) if request.generator else None)

    # Everything that can be refused is refused before anything is written.
    if again is not None:
        again.check(editor.weights)
    query = editor.query(asked, parse_names(request.hold))
    recipe = again or _recipe(request, str(folder), editor.weights, query)
    edit = draw_edit(editor, query, recipe, request.output)
    if request.save_recipe is not None:
        recipe.write(request.save_recipe)
    told = _told(edit, query, recipe, request.output)
    if query.source.ndim == 4:
        told.insert(2, faithful_line(editor, query.pixels))
    return [*told, *_version(recipe)]


def _again(request: Request) -> Recipe | None:
    if request.recipe is None:
        return None
    for name, unsaid in ASKED.items():
        if getattr(request, name) != unsaid:
            said = "the expression" if name == "expression" else f"--{name}"
            raise ConfigError(f"--recipe says all of it; leave {said} out")
    return Recipe.read(request.recipe)


def _recipe(request: Request, model: str, weights: str, query: Query) -> Recipe:
    return Recipe(
        model=model,
        weights=weights,
        expression=query.expression,
        amount=1.0 if request.amount is None else request.amount,
        steps=request.steps or 6,
        picture="result" if request.plain else "strip",
        residual=request.residual,
        corrections=request.corrections,
        refine=request.refine,
        answers=request.answers or 1,
        files=dict(query.files),
        controlgen=__version__,
    )


def _tree(request: Request) -> Node:
    # One expression, whichever way it was said.
    if request.seed is not None and request.image is not None:
        raise ConfigError("--seed and --image: give one of them, not both")
    if (request.expression is None) == (request.add is None):
        raise ConfigError("give an expression, as in 'seed(7) + text(\"...\")', or --add, not both")
    if request.amount is not None:
        check_amount(request.amount, f"--amount {request.amount}")
    said = parse(str(request.add if request.expression is None else request.expression))
    if request.add is None and request.seed is None and request.image is None:
        return said
    start = Call("seed", (Number(float(request.seed or 0)),))
    if request.image is not None:
        start = Call("image", (Words(str(request.image)),))
    return Combined("+", start, said)


def _told(edit: Edit, query: Query, recipe: Recipe, output: Path) -> list[str]:
    of = f"the best of {recipe.answers} answers: " if recipe.answers > 1 else ""
    lines = [
        f"{output}: {of}asked and obtained agree to {edit.agreement[0]:.3f} (cosine of features),",
        f"the change itself to {edit.progress[0]:.3f}",
    ]
    if query.share:
        lines.append(f"share of the change that the bank's images span: {query.share:.3f}")
    if edit.reachability is not None:
        said = f"; {edit.warnings[0]}" if edit.warnings[0] else ""
        lines.append(f"it can be believed to {edit.reachability[0]:.2f} (reachability, 0..1){said}")
    # One line an attribute, where the map was fitted with any.
    if edit.model is None or edit.attributes is None:
        return lines
    names, before, after = edit.attributes
    sigmas = edit.model.in_sigmas(after - before)[0]
    width = max(len(name) for name in names)
    lines += ["", f"{'measured':<{width}} {'before':>10} {'after':>10} {'sigmas':>8}"]
    for column, name in enumerate(names):
        values = f"{before[0, column]:>10.4g} {after[0, column]:>10.4g} {sigmas[column]:>+8.2f}"
        lines.append(f"{name:<{width}} {values}" + ("  held" if name in query.hold else ""))
    return lines


def _version(recipe: Recipe) -> list[str]:
    if recipe.controlgen in ("", __version__):
        return []
    return [f"made with controlgen {recipe.controlgen}, drawn again with {__version__}"]
