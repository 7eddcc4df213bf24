"""Golden files: what was frozen, and how a test compares with it.

`CONTROLGEN_UPDATE_GOLDEN=1 make test` writes the files anew. Do that only for a change that is
meant to alter formats, keys or bits, and say so in the commit.
"""

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / "golden"
UPDATE = bool(os.environ.get("CONTROLGEN_UPDATE_GOLDEN"))
TIMED = ("seconds", "_ms", "ratio_alone", "ratio_batched")  # endings of keys that hold a time
TIMED_TARGETS = (" ms", "time over")  # in names of targets whose measured value is a time
WORDS = ("title", "description", "summary", "examples", "example")


def check_golden(name: str, actual: Any) -> None:
    """Compare JSON values with a golden file, or write it where that is asked for."""
    path = FOLDER / name
    if UPDATE:
        path.write_text(json.dumps(actual, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert json.loads(json.dumps(actual)) == json.loads(path.read_text(encoding="utf-8"))


def processor() -> str:
    """What the last bit of a float may depend on: the processor and the libraries that use it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    parts = dict(line.split(":", 1) for line in lines if ":" in line)
    chip = [parts.get(f"{key}\t{tab}", "?").strip() for key, tab in CPU_FIELDS]
    blas = [os.environ.get(key, "") for key in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")]
    level = torch.backends.cpu.get_cpu_capability()
    versions = [torch.__version__.partition("+")[0], np.__version__]
    return " ".join([platform.machine(), *chip, level, *versions, *filter(None, blas)])


CPU_FIELDS = (("vendor_id", ""), ("cpu family", ""), ("model", "\t"))


def hash_file(path: Path) -> str:
    """SHA-256 of a file; of JSON without times and versions, which differ from run to run."""
    content = path.read_bytes()
    if path.suffix == ".json":
        values = without_times(json.loads(content))
        content = json.dumps(values, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def without_times(value: Any) -> Any:
    """JSON values without what measures time or names a version of a library."""
    if isinstance(value, dict):
        if "measured" in value and any(word in value["name"] for word in TIMED_TARGETS):
            return {"name": value["name"]}
        return {
            key: without_times(item)
            for key, item in value.items()
            if not (key.endswith(TIMED) or key in ("timings", "versions", "sha256"))
        }
    return [without_times(item) for item in value] if isinstance(value, list) else value


def keys_of(value: Any) -> Any:
    """The shape of JSON values: keys, and types of leaves; a list by its first item."""
    if isinstance(value, dict):
        return {key: keys_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [keys_of(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__


def without_words(schema: Any) -> Any:
    """A JSON schema or OpenAPI document without prose, and with its references written out."""
    definitions = schema.get("$defs") or schema.get("components", {}).get("schemas", {})
    return _expanded({k: v for k, v in schema.items() if k != "$defs"}, definitions, ())


def _expanded(value: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_expanded(item, definitions, inside) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        if name in inside:
            return "recursive"
        return _expanded(definitions[name], definitions, (*inside, name))
    result = {}
    for key, item in value.items():
        if key in ("components", "mapping") or (key in WORDS and not isinstance(item, dict)):
            continue
        if key in ("properties", "paths", "responses"):  # here every key is a name, not a keyword
            result[key] = {name: _expanded(sub, definitions, inside) for name, sub in item.items()}
        elif key not in WORDS:
            result[key] = _expanded(item, definitions, inside)
    return result
