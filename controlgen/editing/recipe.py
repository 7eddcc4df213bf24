"""A recipe: everything that reproduces the image of an edit, as a file or inside the PNG."""

import json
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from PIL import Image
from pydantic import Field

from controlgen.base_config import BaseConfig
from controlgen.editing.apply import EditSettings
from controlgen.editing.expressions.files import FileSource, LocalFiles, sha256_of_bytes
from controlgen.errors import ConfigError, DataError, Incompatible
from controlgen.image_io import DECODE_ERRORS
from controlgen.utils.files import ensure_writable_file, write_text

CHUNK = "recipe"  # name of the PNG text chunk, which holds JSON
MAX_BYTES = 1_000_000  # bytes of a recipe file


class Recipe(BaseConfig):
    """Model, expression and settings of one edit, which reproduce its image byte for byte.

    weights: fingerprint of the model. controlgen: the version; others may draw differently.
    """

    model: str = Field(min_length=1, description="folder of the map")
    weights: str = Field(pattern=r"^[0-9a-f]{12}$")
    expression: str = Field(min_length=1)
    amount: float = 1.0
    steps: int = Field(6, ge=1, le=50)
    picture: Literal["strip", "result"] = Field(
        "strip", description="all steps, or only the result"
    )
    residual: bool = False
    corrections: int | None = Field(None, ge=0)
    refine: int = Field(0, ge=0)
    answers: int = Field(1, ge=1, le=32, description="candidates, best first")
    files: dict[str, str] = Field({}, description="SHA-256 of the files the expression reads")
    controlgen: str = ""

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "config") -> Self:
        """Build from plain values. Raises ConfigError with one line per mistake."""
        # Recipes in older PNGs have a `guidance`, null unless it was set.
        if values.get("guidance") is not None:
            raise ConfigError(
                f"{source}: guidance: maps no longer support it; use the version of controlgen "
                "that wrote the recipe"
            )
        return super().parse(
            {key: value for key, value in values.items() if key != "guidance"}, source
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a TOML, JSON or PNG file. Raises ConfigError, DataError."""
        if path.suffix.lower() == ".png":
            return cls.parse(_json(_chunk(path), path), str(path))
        if path.is_file() and path.stat().st_size > MAX_BYTES:
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
        """Write a .toml or .json file atomically. Raises ConfigError for another suffix."""
        validate_recipe_path(path)
        write_text(path, self.toml() if path.suffix.lower() == ".toml" else self.json_text())

    def json_text(self) -> str:
        """JSON with one setting on each line."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def toml(self) -> str:
        """TOML without the settings that have no value."""
        values = {key: value for key, value in self.to_dict().items() if value is not None}
        if not self.files:
            del values["files"]
        return tomli_w.dumps(values)

    @property
    def settings(self) -> EditSettings:
        """Settings of the edit; attributes to hold are part of the expression."""
        return EditSettings(
            self.amount, self.residual, corrections=self.corrections, refine=self.refine
        )

    def check(self, weights: str, files: FileSource | None = None) -> None:
        """Raise Incompatible where the model or a file differs from the recipe's."""
        if weights != self.weights:
            raise Incompatible(
                f"the recipe is for a model of fingerprint {self.weights}, but this one has "
                f"{weights}; name the model it was made with"
            )
        files = files or LocalFiles()
        for name, digest in self.files.items():
            if sha256_of_bytes(files.read(name)) != digest:
                raise Incompatible(f"{name}: differs from the file that the recipe was made with")


def validate_recipe_path(path: Path) -> None:
    """Raise ConfigError for a path that a recipe cannot be written to."""
    ensure_writable_file(path, "recipe", (".toml", ".json"))


def _chunk(path: Path) -> str:
    try:
        with Image.open(path) as image:
            image.load()
            text = getattr(image, "text", {}).get(CHUNK)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (*DECODE_ERRORS, ValueError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from None
    if text is None:
        raise ConfigError(f"{path}: holds no recipe")
    if text.startswith("controlgen "):
        raise ConfigError(f"{path}: is not an edit; make it again with: {text} -o FILE")
    return str(text)


def _json(text: str, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: its recipe is not a JSON object")
    return values
