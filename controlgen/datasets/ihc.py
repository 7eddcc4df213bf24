"""Real tissue without a download: crops of scikit-image's IHC picture.

`skimage.data.immunohistochemistry()`: 512x512 pixels of colon, haematoxylin and DAB for FHL2
(courtesy of the Center for Microscopy And Molecular Imaging, Charleroi; no known copyright).
"""

from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field
from skimage import data

from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.base import DatasetConfig
from controlgen.errors import DataError
from controlgen.stains import AnyStain, NoStain
from controlgen.types import Pixels

SIDE = 512  # pixels of the picture
FIRST, SECOND = slice(0, 256), slice(256, 512)  # halves of a side
TEST_ROWS, TEST_COLUMNS = FIRST, SECOND  # the upper right quarter
TRAIN_QUARTERS = (
    (FIRST, FIRST),
    (SECOND, FIRST),
    (SECOND, SECOND),
)  # (rows, columns)
MIN_DEVIATION = 8.0  # standard deviation in 0..255 below which a crop shows bare glass


class IHC(DatasetConfig):
    """Overlapping crops of one picture; its upper right quarter is the test split.

    No pixel is in both splits. A crop at scale s covers (size * s)^2 pixels of the picture,
    averaged s x s; the next crop begins stride * s pixels further. Crops of bare glass are left
    out. The crops of a split overlap, so they are one group.
    """

    kind: Literal["ihc"] = "ihc"
    split: Literal["train", "test"] = "train"
    size: int = Field(32, ge=8, le=256, description="side of a crop")
    stride: int = Field(4, ge=1, description="pixels of a crop from one crop to the next")
    scales: tuple[Literal[1, 2, 3, 4], ...] = Field((1, 2), min_length=1)
    stain: AnyStain = NoStain()

    def identity(self) -> dict[str, Any]:
        """As of any config; a stain reference is identified by its bytes. Raises DataError."""
        return {**super().identity(), "stain": self.stain.cache_identity()}

    def open(self) -> ArrayDataset:
        """Cut the crops. Raises DataError if none fits into the split.

        The stain is measured once, on the three training quarters.
        """
        samples: Any = data  # scikit-image annotates nothing
        picture = np.asarray(samples.immunohistochemistry(), np.uint8).transpose(2, 0, 1)[None]
        quarters = [picture[:, :, rows, columns] for rows, columns in TRAIN_QUARTERS]
        picture = self.stain.apply(picture, self.stain.measure(np.concatenate(quarters)))
        scales = sorted(set(self.scales))
        crops = np.concatenate([self._crops_at_scale(picture, scale) for scale in scales])
        crops = crops[_deviation(crops) >= MIN_DEVIATION]
        if not len(crops):
            raise DataError(
                f"ihc: no crop of {self.size} pixels at scales {self.scales} fits into the "
                f"{self.split} split; lower size or scales"
            )
        return ArrayDataset(crops, groups=np.full(len(crops), int(self.split == "test")))

    def _crops_at_scale(self, picture: Pixels, scale: int) -> NDArray[np.uint8]:
        """The split's crops (n 3 size size) of the picture (1 3 512 512) at one scale."""
        side, step = self.size * scale, self.stride * scale
        if side > SIDE:
            return np.empty((0, 3, self.size, self.size), np.uint8)
        # Each s x s mean is computed once; a crop takes every s-th mean in both directions.
        blocks = sliding_window_view(picture[0], (scale, scale), axis=(1, 2))
        means = np.rint(blocks.mean((3, 4))).astype(np.uint8)
        span = (self.size - 1) * scale + 1
        crops = sliding_window_view(means, (span, span), axis=(1, 2))[..., ::scale, ::scale]
        starts = np.arange(0, SIDE - side + 1, step)
        tops, lefts = (axis.ravel() for axis in np.meshgrid(starts, starts, indexing="ij"))
        # A crop belongs to test if it lies within the quarter, to train if it does not touch it.
        above, right = tops < TEST_ROWS.stop, lefts + side > TEST_COLUMNS.start
        if self.split == "train":
            selected = ~(above & right)
        else:
            selected = (tops + side <= TEST_ROWS.stop) & (lefts >= TEST_COLUMNS.start)
        return np.ascontiguousarray(crops[:, tops[selected], lefts[selected]].swapaxes(0, 1))


def _deviation(crops: Pixels) -> NDArray[np.float64]:
    """Standard deviation of each crop (n), in 0..255; in batches, to save memory."""
    parts = [crops[first : first + 256] for first in range(0, len(crops), 256)]
    return np.concatenate([np.zeros(0), *(part.std((1, 2, 3)) for part in parts)])
