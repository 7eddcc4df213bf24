"""Features, latents and edits as pandas data frames; pandas is an extra (`tables`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from controlgen.errors import ConfigError
from controlgen.types import Features, Latents

if TYPE_CHECKING:
    import pandas as pd

    from controlgen.editing.edit import Edit


def features_to_dataframe(
    rows: Features | Latents, ids: Sequence[Any] | None = None, prefix: str = "f"
) -> "pd.DataFrame":
    """A row for each item (n), a column for each coordinate: f0, f1, ... Raises ConfigError."""
    names = [f"{prefix}{index}" for index in range(rows.shape[1])]
    return _pandas().DataFrame(rows, index=_index(ids, len(rows)), columns=names)


def edit_to_dataframe(edit: "Edit", ids: Sequence[Any] | None = None) -> "pd.DataFrame":
    """A row for each edited image (n), with the columns of `edit_columns`. Raises ConfigError."""
    return _pandas().DataFrame(edit_columns(edit), index=_index(ids, len(edit.pixels)))


def edit_columns(edit: "Edit") -> dict[str, Any]:
    """Columns (n): agreement, progress; reachability and warning if the map scores confidence;
    each attribute before and after if it measures attributes."""
    columns: dict[str, Any] = {
        "agreement": edit.target_similarity,
        "progress": edit.direction_similarity,
    }
    if edit.reachability is not None:
        columns["reachability"] = edit.reachability
        columns["warning"] = list(edit.warnings)
    if edit.attributes is not None:
        for index, name in enumerate(edit.attributes.names):
            columns[f"{name} before"] = edit.attributes.before[:, index]
            columns[f"{name} after"] = edit.attributes.after[:, index]
    return columns


def _index(ids: Sequence[Any] | None, n: int) -> Any:
    if ids is not None and len(ids) != n:
        raise ConfigError(f"{len(ids)} ids for {n} items; give one for each item")
    return _pandas().Index(np.arange(n) if ids is None else list(ids), name="id")


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise ConfigError("tables need pandas: pip install 'controlgen[tables]'") from None
    return pandas
