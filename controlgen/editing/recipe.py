"""A recipe: all that an edit's picture was made from, as a small file or inside the picture."""

import json
from pathlib import Path
from typing import Any, Literal, Self

from PIL import Image
from pydantic import Field

from controlgen.utils.files import write_text
from controlgen.base_config import BaseConfig
from controlgen.editing.expressions.files import Files, LocalFiles, digest
from controlgen.errors import ConfigError, DataError, Incompatible
from controlgen.image_io import UNREADABLE
from controlgen.utils.files import ensure_writable_file

CHUNK = "recipe"  # the PNG text chunk that holds it, as JSON
LARGEST = 1_000_000  # bytes of a recipe file


class Recipe(BaseConfig):
    """Model, expression and settings of one edit; the same picture byte for byte, made again.

    weights: fingerprint of the model. controlgen: the version that made it, which another one may
    not draw alike.
    """

    model: str = Field(min_length=1, description="folder of the map")
    weights: str = Field(pattern=r"^[0-9a-f]{12}$")
    expression: str = Field(min_length=1)
    amount: float = 1.0
    steps: int = Field(6, ge=1, le=50)
    picture: Literal["strip", "result"] = Field("strip", description="the way there, or its end")
    residual: bool = False
    corrections: int | None = Field(None, ge=0)
    refine: int = Field(0, ge=0)
    answers: int = Field(1, ge=1, le=32, description="to what the way's end asks, best first")
    files: dict[str, str] = Field({}, description="SHA-256 of what the expression reads")
    controlgen: str = ""

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "config") -> Self:
        """Build from plain values. Raises ConfigError with one line per mistake."""
        # Recipes inside older pictures carry a `guidance`, null unless it was set.
        if values.get("guidance") is not None:
            raise ConfigError(
                f"{source}: guidance: maps no longer take it; use the version of controlgen that "
                "wrote the recipe"
            )
        return super().parse(
            {key: value for key, value in values.items() if key != "guidance"}, source
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a TOML or JSON file, or a PNG that carries one. Raises ConfigError, DataError."""
        if path.suffix.lower() == ".png":
            return cls.parse(_json(_chunk(path), path), str(path))
        if path.is_file() and path.stat().st_size > LARGEST:
            raise ConfigError(f"{path}: too large for a recipe")
        if path.suffix.lower() == ".json":
            try:
                return cls.parse(_json(path.read_text(encoding="utf-8"), path), str(path))
            except OSError as error:
                raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
            except UnicodeDecodeError:
                raise ConfigError(f"{path}: not valid JSON") from None
        return cls.load(path)

    def write(self, path: Path) -> None:
        """To a .toml or .json file, whole or not at all. Raises ConfigError for another name."""
        check_name(path)
        write_text(path, self.toml() if path.suffix.lower() == ".toml" else self.json_text())

    def json_text(self) -> str:
        """As JSON, on one line a setting."""
        return json.dumps(self.effective(), indent=1, ensure_ascii=False) + "\n"

    def toml(self) -> str:
        """As TOML; what is left out has no value."""
        values = {key: value for key, value in self.effective().items() if value is not None}
        files = values.pop("files")
        lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
        if files:
            lines += ["", "[files]"]
            lines += [f"{_toml(name)} = {_toml(digest)}" for name, digest in files.items()]
        return "\n".join(lines) + "\n"

    def check(self, weights: str, files: Files | None = None) -> None:
        """Raise Incompatible where the model or a file is another than the recipe's."""
        if weights != self.weights:
            raise Incompatible(
                f"the recipe was made with a model of fingerprint {self.weights}, this one's is "
                f"{weights}; name the model it was made with"
            )
        files = files or LocalFiles()
        for name, wanted in self.files.items():
            if digest(files.read(name)) != wanted:
                raise Incompatible(f"{name}: is another file than the one the recipe was made with")


def check_name(path: Path) -> None:
    """Raise ConfigError where no recipe can be written to this path."""
    ensure_writable_file(path, "recipe", (".toml", ".json"))


def _chunk(path: Path) -> str:
    try:
        with Image.open(path) as opened:
            opened.load()
            text = getattr(opened, "text", {}).get(CHUNK)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (*UNREADABLE, ValueError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from None
    if text is None:
        raise ConfigError(f"{path}: carries no recipe")
    if text.startswith("controlgen "):
        raise ConfigError(f"{path}: is no edit; what made it was: {text} -o FILE")
    return str(text)


def _json(text: str, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: its recipe is not one that can be made again")
    return values


def _toml(value: Any) -> str:
    # Without escapes where that can be; else a JSON string, a TOML string but for one character.
    if isinstance(value, str) and "'" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
