"""controlgen: controlled image generation without labels."""

from typing import TYPE_CHECKING, Any

from controlgen._version import __version__
from controlgen.errors import ControlGenError

if TYPE_CHECKING:
    from controlgen.artifacts import ArtifactRef, Store
    from controlgen.config import RunConfig
    from controlgen.editing import Edit, Editor, Samples
    from controlgen.serve.client import Client

__all__ = [
    "ArtifactRef",
    "Client",
    "ControlGenError",
    "Edit",
    "Editor",
    "RunConfig",
    "Samples",
    "Store",
    "__version__",
]

_HOMES = {
    "Client": "controlgen.serve.client",
    "Edit": "controlgen.editing",
    "Editor": "controlgen.editing",
    "Samples": "controlgen.editing",
    "ArtifactRef": "controlgen.artifacts",
    "Store": "controlgen.artifacts",
    "RunConfig": "controlgen.config",
}


def __getattr__(name: str) -> Any:
    # Public names load torch only when they are used, so that `controlgen --help` is quick.
    if name not in _HOMES:
        raise AttributeError(f"module 'controlgen' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
