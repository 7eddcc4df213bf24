"""Images in an array, in memory or memory-mapped, with labels, class names and groups."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from controlgen.errors import DataError
from controlgen.types import Indices, Pixels, Shape


class ArrayDataset:
    """Pixels (N c h w) by index; labels, class names and groups are optional.

    `rows` selects (and orders) the items of the array that belong to the set; labels and groups
    hold one value per selected item. A memory-mapped array stays on disk.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: ArrayLike | None = None,
        class_names: Sequence[str] = (),
        groups: ArrayLike | None = None,
        rows: ArrayLike | None = None,
    ) -> None:
        if pixels.ndim != 4 or pixels.dtype != np.uint8:
            raise DataError(f"images must be uint8 (n c h w), not {pixels.dtype} {pixels.shape}")
        self._pixels = pixels
        self._rows = np.arange(len(pixels)) if rows is None else np.asarray(rows, np.int64)
        self._labels = None if labels is None else self._per_image(labels, "labels")
        self._groups = self._rows if groups is None else self._per_image(groups, "groups")
        self._class_names = tuple(class_names)

    @property
    def image_shape(self) -> Shape:
        """(c, h, w)."""
        channels, height, width = self._pixels.shape[1:]
        return (channels, height, width)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class by its label; empty without classes."""
        return self._class_names

    def __len__(self) -> int:
        return len(self._rows)

    def pixels(self, indices: Indices) -> Pixels:
        """Pixels (n c h w), a copy. Raises IndexError beyond the last image."""
        return np.ascontiguousarray(self._pixels[self._rows[indices]])

    def labels(self, indices: Indices) -> NDArray[np.int64]:
        """Class of each image, for judges, never for training. Raises DataError without classes."""
        if self._labels is None:
            raise DataError(
                "this source has no classes, so nothing can be judged by class; name one that has"
            )
        return np.array(self._labels[indices])

    def groups(self, indices: Indices) -> NDArray[np.int64]:
        """Number of the source each image was cut from; by default each image is its own source."""
        return np.array(self._groups[indices])

    def _per_image(self, values: ArrayLike, name: str) -> NDArray[np.int64]:
        array = np.asarray(values, np.int64)
        if array.shape != self._rows.shape:
            raise DataError(f"{name} {array.shape} do not fit {len(self._rows)} images")
        return array
