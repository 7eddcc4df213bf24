"""A drawing as a zip: the pictures, and all that is needed to draw the result again."""

import io
import zipfile
from collections.abc import Mapping

from controlgen._version import __version__
from controlgen.editing import Recipe
from controlgen.editing.expressions.files import sha256_of_bytes
from controlgen.errors import DataError
from controlgen.serve import serialization
from controlgen.serve.registry import ServedModel
from controlgen.serve.studio.visits import Drawing

BEGUN = (1980, 1, 1, 0, 0, 0)  # of every entry: the same drawing is the same zip, byte for byte
README = """{about}

{text}

Drawn by controlgen {version} with the model {model} (weights {weights}).
{start}

pictures/result.png is what came out; each picture carries the recipe that made it.
To draw it again, byte for byte, in this folder, with the folder of the model:

    controlgen edit MODEL_FOLDER --recipe recipe.toml -o again.png

again.png is then pictures/result.png. Another version of controlgen, of its libraries or another
machine may differ in the last bit of a number, and by that in a shade.
{more}"""


def parcel(drawing: Drawing, served: ServedModel) -> bytes:
    """The zip. Raises DataError where a file that was read is no longer at hand."""
    answer = drawing.answer
    recipe = Recipe.parse(answer.pictures[-1].recipe or {}, "recipe")
    entries: dict[str, bytes] = {"recipe.toml": recipe.toml().encode()}
    for at, picture in enumerate(answer.pictures[:-1]):
        entries[f"pictures/step-{at + 1}.png"] = serialization.from_base64(picture.image, "picture")
    entries["pictures/result.png"] = serialization.from_base64(answer.pictures[-1].image, "picture")
    if not (answer.start or "").startswith("image "):
        entries["pictures/source.png"] = serialization.from_base64(answer.sources[0], "source")
    for name, expected in recipe.files.items():
        entries[name] = _read(drawing, name, expected)
    if drawing.variants is not None:
        entries |= _variants(drawing, recipe)
    entries["README.txt"] = _readme(drawing, served, recipe).encode()
    return _zipped(entries)


def _read(drawing: Drawing, name: str, expected: str) -> bytes:
    content = drawing.directions.get(name)
    if content is None and name in drawing.images:
        content = serialization.from_base64(drawing.images[name], name)
    if content is None or sha256_of_bytes(content) != expected:
        raise DataError(f"{name}: is no longer what was drawn with; draw it again")
    return content


def _variants(drawing: Drawing, recipe: Recipe) -> dict[str, bytes]:
    # Single answers carry no recipe of their own; one draws all of them on a sheet.
    pictures = drawing.variants.pictures if drawing.variants else []
    sheet = recipe.model_copy(update={"answers": len(pictures), "picture": "strip"})
    actual = {
        f"answers/answer-{at + 1}.png": serialization.from_base64(picture.image, "answer")
        for at, picture in enumerate(pictures)
    }
    return {**actual, "answers.toml": sheet.toml().encode()}


def _readme(drawing: Drawing, served: ServedModel, recipe: Recipe) -> str:
    more = "\nanswers.toml draws all answers on a sheet in the same way.\n"
    return README.format(
        about=served.notice,
        text=recipe.expression,
        version=__version__,
        model=recipe.model,
        weights=recipe.weights,
        start=f"It starts from {_start(drawing.answer.start)}.",
        more=more if drawing.variants is not None else "",
    )


def _start(start: str | None) -> str:
    if not start or start == "average":
        return "the average picture of the model"
    return start if start.startswith(("image", "bank")) else f"seed {start}"


def _zipped(entries: Mapping[str, bytes]) -> bytes:
    # Stored, for compressed bytes differ with the library that compresses.
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as full:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, BEGUN)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            full.writestr(info, entries[name])
    return stream.getvalue()
