"""BaseConfig: frozen settings read from TOML, with unknown keys refused, and their fingerprint."""

import copy
import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from controlgen.errors import ConfigError


def runtime_field(default: Any, **constraints: Any) -> Any:
    """A field that changes how a result is computed but not the result: not in the fingerprint."""
    return Field(default, json_schema_extra={"identity": False}, **constraints)


class BaseConfig(BaseModel):
    """Frozen settings. Unknown keys are refused by name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, values: Any) -> Any:
        # A section without a kind has the default kind: `--set train.objective.gamma=1`.
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        for name, field in cls.model_fields.items():
            kind, section = getattr(field.default, "kind", None), filled.get(name)
            if kind is not None and isinstance(section, dict):
                filled[name] = {"kind": kind, **section}
        return filled

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "config") -> Self:
        """Build from plain values. Raises ConfigError with one line per mistake."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{source}: {_explain(error)}") from None

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a TOML file and apply `dotted.key=value` overrides. Raises ConfigError."""
        return cls.parse(apply_overrides(read_toml(path), overrides), str(path))

    def to_dict(self) -> dict[str, Any]:
        """Every setting, defaults included, as JSON values."""
        return self.model_dump(mode="json")

    def effective(self) -> dict[str, Any]:
        """The same as `to_dict`."""
        return self.to_dict()

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result: `to_dict()` without the runtime fields."""
        settings = {}
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if not (isinstance(extra, dict) and extra.get("identity") is False):
                settings[name] = _identity_of(getattr(self, name))
        return settings

    def fingerprint(self, *parents: str, version: int = 1) -> str:
        """SHA-256 (12 hex digits) of the identity, the parents' fingerprints and a version."""
        canonical = json.dumps([self.identity(), parents, version], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def read_toml(path: str | Path) -> dict[str, Any]:
    """Parse a TOML file. Raises ConfigError if it is missing or not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML ({error})") from None


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `values` with each `dotted.key=value` applied; values are read as TOML.

    `dotted.key=` removes the setting, as if the file did not contain it.
    """
    result: dict[str, Any] = copy.deepcopy(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set {override}: write it as section.key=value")
        *sections, leaf = key.strip().split(".")
        target = result
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise ConfigError(f"--set {override}: {section} is a value, not a section")
        if text.strip():
            target[leaf] = _toml_value(text.strip())
        else:
            target.pop(leaf, None)
    return result


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _identity_of(value: Any) -> Any:
    if isinstance(value, BaseConfig):
        return value.identity()
    if isinstance(value, tuple | list):
        return [_identity_of(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "top level"
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key {where}")
        elif item["type"] == "missing":
            lines.append(f"{where} is missing")
        else:
            lines.append(f"{where}: {item['msg'][0].lower()}{item['msg'][1:]}")
    return "; ".join(lines)
