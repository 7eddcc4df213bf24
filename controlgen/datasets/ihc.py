"""Real tissue that is there without any download: crops of scikit-image's IHC picture.

`skimage.data.immunohistochemistry()`: 512x512 pixels of colon, haematoxylin and DAB for FHL2
(courtesy of the Center for Microscopy And Molecular Imaging, Charleroi; no known copyright).
"""

from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field
from skimage import data

from controlgen.base_config import BaseConfig
from controlgen.datasets.arrays import ArrayImages
from controlgen.errors import DataError
from controlgen.stains import AnyStain, NoStain
from controlgen.types import Pixels

SIDE = 512  # pixels of the picture
FIRST, SECOND = slice(0, 256), slice(256, 512)  # the halves of a side
TEST_ROWS, TEST_COLUMNS = FIRST, SECOND  # the upper right quarter
TRAINING = ((FIRST, FIRST), (SECOND, FIRST), (SECOND, SECOND))  # rows and columns of the others
LEAST_SPREAD = 8.0  # standard deviation in 0..255 below which a crop shows bare glass


class IHC(BaseConfig):
    """Overlapping crops of one picture; its upper right quarter is the test split.

    No pixel is in both splits. A crop at scale s covers (size * s)^2 pixels of the picture, each
    s x s of them averaged, and the next one begins stride * s pixels on. Crops of bare glass are
    left out. The crops of a split overlap, so they are one group.
    """

    kind: Literal["ihc"] = "ihc"
    split: Literal["train", "test"] = "train"
    size: int = Field(32, ge=8, le=256, description="side of a crop")
    stride: int = Field(4, ge=1, description="pixels of a crop from one crop to the next")
    scales: tuple[Literal[1, 2, 3, 4], ...] = Field((1, 2), min_length=1)
    stain: AnyStain = NoStain()

    def identity(self) -> dict[str, Any]:
        """As of any Spec; a stain reference is named by its bytes. Raises DataError."""
        return {**super().identity(), "stain": self.stain.content()}

    def open(self) -> ArrayImages:
        """Cut the crops. Raises DataError where none fits into the split.

        The stain is measured once, on the three quarters that train.
        """
        samples: Any = data  # scikit-image annotates nothing
        picture = np.asarray(samples.immunohistochemistry(), np.uint8).transpose(2, 0, 1)[None]
        measured = np.concatenate([picture[:, :, rows, columns] for rows, columns in TRAINING])
        picture = self.stain.apply(picture, self.stain.measure(measured))
        crops = np.concatenate([self._at(picture, scale) for scale in sorted(set(self.scales))])
        crops = crops[_spread(crops) >= LEAST_SPREAD]
        if not len(crops):
            raise DataError(
                f"ihc: no crop of {self.size} pixels at scales {self.scales} fits into the "
                f"{self.split} split; lower size or scales"
            )
        return ArrayImages(crops, groups=np.full(len(crops), int(self.split == "test")))

    def judging(self, split: Literal["train", "test"]) -> "IHC":
        """The same source at the named split, for judges."""
        return self.model_copy(update={"split": split})

    def _at(self, picture: Pixels, scale: int) -> NDArray[np.uint8]:
        """The split's crops (n 3 size size) of the picture (1 3 512 512) at one scale."""
        side, step = self.size * scale, self.stride * scale
        if side > SIDE:
            return np.empty((0, 3, self.size, self.size), np.uint8)
        # Every s x s mean is taken once; a crop is then every s-th of them, in both directions.
        blocks = sliding_window_view(picture[0], (scale, scale), axis=(1, 2))
        means = np.rint(blocks.mean((3, 4))).astype(np.uint8)
        span = (self.size - 1) * scale + 1
        places = sliding_window_view(means, (span, span), axis=(1, 2))[..., ::scale, ::scale]
        starts = np.arange(0, SIDE - side + 1, step)
        tops, lefts = (axis.ravel() for axis in np.meshgrid(starts, starts, indexing="ij"))
        # A crop belongs to test where it lies within the quarter, to train where it only misses it.
        above, right = tops < TEST_ROWS.stop, lefts + side > TEST_COLUMNS.start
        if self.split == "train":
            chosen = ~(above & right)
        else:
            chosen = (tops + side <= TEST_ROWS.stop) & (lefts >= TEST_COLUMNS.start)
        return np.ascontiguousarray(places[:, tops[chosen], lefts[chosen]].swapaxes(0, 1))


def _spread(crops: Pixels) -> NDArray[np.float64]:
    """Standard deviation of each crop (n), in 0..255; few at a time, to save memory."""
    parts = [crops[first : first + 256] for first in range(0, len(crops), 256)]
    return np.concatenate([np.zeros(0), *(part.std((1, 2, 3)) for part in parts)])
