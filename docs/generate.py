"""The generated parts of the documentation: an mkdocs hook, and a script.

As a hook it replaces `<!-- generated: NAME -->` in a page by the output of PARTS[NAME], and adds
the reports and model cards of artifacts/pretrained to docs/results. As a script,
`python docs/generate.py`, it writes the JSON schemas of the settings to configs/.
"""

import copy
import inspect
import json
import pkgutil
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "artifacts" / "pretrained"
MARKER = re.compile(r"^<!-- generated: (.+) -->$", re.MULTILINE)
BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
}
Schema = dict[str, Any]


def on_files(files: Any, config: Any) -> Any:
    """mkdocs: add the shipped reports, model cards and pictures."""
    from mkdocs.structure.files import File

    for path in sorted(SHIPPED.glob("*/*")):
        if path.suffix == ".png" or path.name in ("README.md", "report.md"):
            uri = f"results/{path.parent.name}/{path.name}"
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs: put the generated parts into a page."""
    return MARKER.sub(lambda match: part(match[1]), markdown)


def part(name: str) -> str:
    """One generated part, or a section of benchmarks/results.py."""
    if name in PARTS:
        return PARTS[name]()
    sections = runpy.run_path(str(ROOT / "benchmarks" / "results.py"))["SECTIONS"]
    text: str = sections[name]()
    return text


# Settings


def config_schemas() -> dict[str, Schema]:
    """The JSON schema of each kind of TOML file, by the name of its file in configs/."""
    from controlgen.config import (
        ClipConfig,
        CompareConfig,
        EncoderConfig,
        RunConfig,
        SpacesConfig,
    )

    schemas = {
        "schema.json": RunConfig.model_json_schema(),
        "schema-clip.json": ClipConfig.model_json_schema(),
        "schema-compare.json": CompareConfig.model_json_schema(),
        "schema-encoder.json": EncoderConfig.model_json_schema(),
        "schema-spaces.json": SpacesConfig.model_json_schema(),
    }
    return {name: editor_schema(schema) for name, schema in schemas.items()}


def editor_schema(schema: Schema) -> Schema:
    """A schema as an editor of TOML needs it: with what `RunConfig.parse` accepts beside it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **copy.deepcopy(schema)}
    # A section without `kind` is of the default kind, so that several members may match.
    for node in walk(schema):
        if "discriminator" in node and "oneOf" in node:
            del node["discriminator"]
            node["anyOf"] = node.pop("oneOf")
    # A schedule may be written as one number.
    properties, definitions = schema["properties"], schema.get("$defs", {})
    for name, definition in definitions.items():
        if set(definition.get("properties", {})) == {"start", "end"}:
            definitions[name] = {"anyOf": [{"type": "number"}, definition]}
    # Other settings of a training: any part of TrainConfig.
    overrides = {"$ref": "#/$defs/TrainOverrides"}
    if "warm_up" in properties or "members" in properties:
        train = definitions["TrainConfig"]
        definitions["TrainOverrides"] = {k: v for k, v in train.items() if k != "required"}
    if "warm_up" in properties:
        lists = {"type": "array", "items": overrides}
        properties["warm_up"] = {**properties["warm_up"], "anyOf": [overrides, lists]}
        del properties["warm_up"]["type"], properties["warm_up"]["items"]
    if "members" in properties:
        properties["members"]["additionalProperties"] = overrides
        for pattern in properties["members"].get("patternProperties", {}):
            properties["members"]["patternProperties"][pattern] = overrides
    return schema


def walk(value: Any) -> Iterator[Schema]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            yield from walk(item)


def settings_reference() -> str:
    """Every kind of settings file, then every section by its name, as tables of keys."""
    from controlgen import config

    files = [
        config.RunConfig,
        config.CompareConfig,
        config.SpacesConfig,
        config.EncoderConfig,
        config.ClipConfig,
    ]
    schemas = [model.model_json_schema() for model in files]
    definitions: dict[str, Schema] = {}
    for schema in schemas:
        definitions |= schema.pop("$defs", {})
    parts = [section(schema["title"], schema, 2) for schema in schemas]
    parts += ["## Sections"]
    parts += [section(name, definitions[name], 3) for name in sorted(definitions)]
    return "\n\n".join(parts)


def limits_reference() -> str:
    """The limits of one request."""
    from controlgen.serve.limits import Limits

    return field_table(Limits.model_json_schema())


def section(name: str, schema: Schema, level: int) -> str:
    """A heading, the description and a table of keys."""
    about = inspect.cleandoc(schema.get("description", ""))
    return "\n\n".join(
        text for text in (f"{'#' * level} {name}", about, field_table(schema)) if text
    )


def field_table(schema: Schema) -> str:
    """The keys of an object: type, default, description."""
    rows = []
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in schema.get("required", ()) else format_default(field)
        rows.append([f"`{name}`", format_type(field), default, field.get("description", "")])
    return markdown_table(["key", "type", "default", "meaning"], rows) if rows else ""


def format_default(field: Schema) -> str:
    """A default in TOML's spelling; nothing where it is a whole section."""
    if "default" not in field:
        return ""
    value = field["default"]
    if value is None:
        return "none"
    if isinstance(value, dict) or (isinstance(value, list) and len(value) > 7):
        return f'`kind = "{value["kind"]}"`' if "kind" in value else ""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def format_type(field: Schema) -> str:
    """The type of a JSON schema, in words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in field:
            return " or ".join(dict.fromkeys(format_type(member) for member in field[key]))
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    kind = field.get("type", "any")
    if kind == "array":
        items = field.get("items") or (field.get("prefixItems") or [{}])[0]
        return f"list of {format_type(items)}"
    if kind == "object":
        return "table"
    bounds = [f"{sign} {field[key]:g}" for key, sign in BOUNDS.items() if key in field]
    return ", ".join([{"null": "none"}.get(kind, kind), *bounds])


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[" ".join(cell.split()).replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


# Commands


def command_reference() -> str:
    """Every command of `controlgen` with its arguments and options."""
    import typer

    from controlgen.cli.app import app

    group: Any = typer.main.get_command(app)
    return "\n\n".join(
        command_section(f"controlgen {name}", command)
        for name, command in sorted(group.commands.items())
    )


def command_section(name: str, command: Any) -> str:
    """One command: help, usage and a table of parameters."""
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option"]
    words = [item.name.upper() if item.required else f"[{item.name.upper()}]" for item in arguments]
    rows = []
    for item in (*arguments, *options):
        names = [item.name.upper()] if item in arguments else [*item.opts, *item.secondary_opts]
        default = "required" if item.required else format_parameter(item.default)
        rows.append([", ".join(f"`{text}`" for text in names), default, item.help or ""])
    usage = " ".join([name, *words, "[OPTIONS]"])
    about = inspect.cleandoc(command.help or "")
    table = markdown_table(["parameter", "default", "meaning"], rows)
    return f"## {name}\n\n{about}\n\n```text\n{usage}\n```\n\n{table}"


def format_parameter(default: Any) -> str:
    """The default of a parameter; nothing where there is none."""
    return "" if default is None or default is False or default == "" else f"`{default}`"


# HTTP


def http_reference() -> str:
    """Every path, then every schema."""
    document = openapi()
    parts = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"## {method.upper()} {path}\n\n{operation['description']}")
            body = operation.get("requestBody", {}).get("content", {})
            replies = operation["responses"]
            success = next(replies[code] for code in ("200", "201") if code in replies)
            sent = [format_type(content["schema"]) for content in body.values()]
            received = [
                format_type(content["schema"]) if content.get("schema") else f"`{kind}`"
                for kind, content in success.get("content", {}).items()
            ]
            if sent:
                parts.append(f"Request: {', '.join(sent)}")
            parts.append(f"Response: {', '.join(received)}")
    schemas = document["components"]["schemas"]
    parts.append("## Schemas")
    parts += [section(name, schema, 3) for name, schema in sorted(schemas.items())]
    return "\n\n".join(parts)


def openapi() -> Schema:
    """The OpenAPI document of a server of the shipped digits."""
    from controlgen.serve.app import create_app
    from controlgen.serve.registry import open_models

    document: Schema = create_app(open_models([SHIPPED / "mnist"], None, 1)).openapi()
    return document


# Python


def metric_reference() -> str:
    """Every module of metrics."""
    from controlgen import metrics

    names = sorted(module.name for module in pkgutil.iter_modules(metrics.__path__))
    return "\n\n".join(f"::: controlgen.metrics.{name}" for name in names if name[0] != "_")


def map_reference() -> str:
    """Every estimator of regressors."""
    from controlgen import regressors

    names = [name for name in regressors.__all__ if name.endswith("Regressor")]
    return "\n\n".join(f"::: controlgen.regressors.{name}" for name in names)


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_reference,
    "limits": limits_reference,
    "commands": command_reference,
    "http": http_reference,
    "metrics": metric_reference,
    "maps": map_reference,
    "contributing": lambda: (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    "changelog": lambda: (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
}


def main() -> None:
    """Write the JSON schemas of the settings."""
    for name, schema in config_schemas().items():
        text = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
        (ROOT / "configs" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
