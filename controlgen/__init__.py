"""controlgen: controlled image generation without labels."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from controlgen.errors import ControlGenError

if TYPE_CHECKING:
    from controlgen.artifacts import Ref, Store
    from controlgen.client import Client
    from controlgen.config import RunConfig
    from controlgen.control import Edit, Editor, Samples

try:
    __version__ = version("controlgen")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.1.0"

__all__ = [
    "Client",
    "ControlGenError",
    "Edit",
    "Editor",
    "Ref",
    "RunConfig",
    "Samples",
    "Store",
    "__version__",
]

_HOMES = {
    "Client": "controlgen.client",
    "Edit": "controlgen.control",
    "Editor": "controlgen.control",
    "Samples": "controlgen.control",
    "Ref": "controlgen.artifacts",
    "Store": "controlgen.artifacts",
    "RunConfig": "controlgen.config",
}


def __getattr__(name: str) -> Any:
    # Public names load torch only when they are used, so that `controlgen --help` is quick.
    if name not in _HOMES:
        raise AttributeError(f"module 'controlgen' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
