"""`controlgen edit`: edit one image, or repeat the edit of a recipe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from controlgen._version import __version__
from controlgen.editing import Edit, Editor, Recipe
from controlgen.editing.apply import EditSettings
from controlgen.editing.expressions.parser import BinaryOp, Call, Expr, Number, String, parse
from controlgen.editing.expressions.resolver import ResolvedEdit
from controlgen.editing.recipe import validate_recipe_path
from controlgen.editing.rendering import render_edit
from controlgen.errors import ConfigError
from controlgen.evaluation.projection import projection_summary

# Parameters of the command that a recipe defines.
RECIPE_SETTINGS = (
    "add", "expression", "seed", "image", "amount", "steps", "residual", "plain", "hold",
    "corrections", "refine", "answers",
)  # fmt: skip
FindArtifact = Callable[[str], Path]


def reject_recipe_settings(context: typer.Context) -> None:
    """Raise ConfigError where the command line sets what its recipe defines."""
    defaults = {parameter.name: parameter.default for parameter in context.command.params}
    for name in RECIPE_SETTINGS:
        if context.params[name] != defaults[name]:
            label = "the expression" if name == "expression" else f"--{name}"
            raise ConfigError(f"--recipe defines the whole edit; leave {label} out")


def parse_edit(
    expression: str | None, add: str | None, seed: int | None, image: Path | None
) -> Expr:
    """The tree of an edit; --seed or --image and --add become a sum. Raises ConfigError."""
    if seed is not None and image is not None:
        raise ConfigError("--seed and --image: give only one of them")
    if (expression is None) == (add is None):
        raise ConfigError("give an expression, as in 'seed(7) + text(\"...\")', or --add, not both")
    tree = parse(str(add if expression is None else expression))
    if add is None and seed is None and image is None:
        return tree
    start = Call("seed", (Number(float(seed or 0)),))
    if image is not None:
        start = Call("image", (String(str(image)),))
    return BinaryOp("+", start, tree)


def run_edit(
    tree: Expr,
    settings: EditSettings,
    steps: int,
    plain: bool,
    answers: int,
    find: FindArtifact,
    map: str | None,
    generator: str | None,
    output: Path,
    save_recipe: Path | None,
) -> list[str]:
    """Edit one image and write the strip, or only the result if `plain`; return lines to print.

    Raises ConfigError, DataError and the errors of loading a map, before anything is written.
    """
    folder, editor = _load(find, map, generator, save_recipe)
    resolved = editor.resolve(tree, settings.hold)
    picture = "result" if plain else "strip"
    drawing = {"steps": steps, "picture": picture, "answers": answers}
    recipe = make_recipe(folder, editor, resolved, settings, **drawing)
    return _render(editor, resolved, recipe, output, save_recipe)


def make_recipe(
    folder: Path, editor: Editor, resolved: ResolvedEdit, settings: EditSettings, **drawing: Any
) -> Recipe:
    """The recipe of an edit with the map in `folder`; `drawing`: steps, picture and answers."""
    return Recipe(
        model=str(folder),
        weights=editor.weights,
        expression=resolved.expression,
        amount=settings.amount,
        residual=settings.residual,
        corrections=settings.corrections,
        refine=settings.refine,
        files=dict(resolved.files),
        controlgen=__version__,
        **drawing,
    )


def repeat_edit(
    path: Path,
    find: FindArtifact,
    map: str | None,
    generator: str | None,
    output: Path,
    save_recipe: Path | None,
) -> list[str]:
    """Repeat a recipe with its map, or with a copy of it in `map`. Raises as `run_edit`."""
    recipe = Recipe.read(path)
    _, editor = _load(find, map or recipe.model, generator, save_recipe)
    recipe.check(editor.weights)
    lines = _render(editor, editor.resolve(recipe.expression), recipe, output, save_recipe)
    if recipe.controlgen in ("", __version__):
        return lines
    return [*lines, f"the recipe is of controlgen {recipe.controlgen}, repeated with {__version__}"]


def _load(
    find: FindArtifact, map: str | None, generator: str | None, save_recipe: Path | None
) -> tuple[Path, Editor]:
    if not map:
        raise ConfigError("name a map, as in artifacts/pretrained/mnist, or give --recipe")
    if save_recipe is not None:
        validate_recipe_path(save_recipe)
    folder = find(map)
    return folder, Editor.load(folder, find(generator) if generator else None)


def _render(
    editor: Editor, resolved: ResolvedEdit, recipe: Recipe, output: Path, save_recipe: Path | None
) -> list[str]:
    edit = render_edit(editor, resolved, recipe, output)
    if save_recipe is not None:
        recipe.write(save_recipe)
    best = f"best of {recipe.answers} candidates: " if recipe.answers > 1 else ""
    lines = [
        f"{output}: {best}agreement {edit.target_similarity[0]:.3f} (cosine of target and result "
        "features),",
        f"progress {edit.direction_similarity[0]:.3f} (cosine of requested and achieved change)",
    ]
    if resolved.source.ndim == 4:
        lines.append(projection_summary(editor, resolved.pixels))
    if resolved.share:
        lines.append(f"share of the change within the bank's span: {resolved.share:.3f}")
    if edit.reachability is not None:
        warning = f"; {edit.warnings[0]}" if edit.warnings[0] else ""
        lines.append(f"confidence {edit.reachability[0]:.2f} (reachability, 0..1){warning}")
    return lines + _attribute_table(edit, resolved.hold)


def _attribute_table(edit: Edit, hold: tuple[str, ...]) -> list[str]:
    if edit.model is None or edit.attributes is None:
        return []
    names, before, after = edit.attributes
    sigmas = edit.model.to_sigmas(after - before)[0]
    width = max(len(name) for name in names)
    lines = ["", f"{'measured':<{width}} {'before':>10} {'after':>10} {'sigmas':>8}"]
    for column, name in enumerate(names):
        values = f"{before[0, column]:>10.4g} {after[0, column]:>10.4g} {sigmas[column]:>+8.2f}"
        lines.append(f"{name:<{width}} {values}" + ("  held" if name in hold else ""))
    return lines
