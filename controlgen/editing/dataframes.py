"""Features, latents and edits as pandas tables with ids; pandas is an extra (`tables`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from controlgen.errors import ConfigError
from controlgen.types import Features, Latents

if TYPE_CHECKING:
    import pandas as pd

    from controlgen.editing.edit import Edit


def rows_frame(
    rows: Features | Latents, ids: Sequence[Any] | None = None, prefix: str = "f"
) -> "pd.DataFrame":
    """One row an item (n), one column a coordinate: f0, f1, ... Raises ConfigError."""
    names = [f"{prefix}{at}" for at in range(rows.shape[1])]
    return _pandas().DataFrame(rows, index=_index(ids, len(rows)), columns=names)


def edit_frame(edit: "Edit", ids: Sequence[Any] | None = None) -> "pd.DataFrame":
    """One row an edited image (n): agreement, progress, reachability and warning where the map
    knows them, and each attribute before and after."""
    return _pandas().DataFrame(columns_of(edit), index=_index(ids, len(edit.pixels)))


def columns_of(edit: "Edit") -> dict[str, Any]:
    """What `edit_frame` shows, as columns (n) by name."""
    columns: dict[str, Any] = {"agreement": edit.agreement, "progress": edit.progress}
    if edit.reachability is not None:
        columns["reachability"] = edit.reachability
        columns["warning"] = list(edit.warnings)
    if edit.attributes is not None:
        for at, name in enumerate(edit.attributes.names):
            columns[f"{name} before"] = edit.attributes.before[:, at]
            columns[f"{name} after"] = edit.attributes.after[:, at]
    return columns


def _index(ids: Sequence[Any] | None, n: int) -> Any:
    if ids is not None and len(ids) != n:
        raise ConfigError(f"{len(ids)} ids for {n} items; give one an item")
    return _pandas().Index(np.arange(n) if ids is None else list(ids), name="id")


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise ConfigError("tables need pandas: pip install 'controlgen[tables]'") from None
    return pandas
