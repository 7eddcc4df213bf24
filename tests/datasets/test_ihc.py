"""Crops of scikit-image's immunohistochemistry picture."""

from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from controlgen.datasets import IHC
from controlgen.errors import DataError
from controlgen.stains import Macenko
from real_tissue import PICTURE


class TestIHC:
    def crops(self, split: Literal["train", "test"], **settings: Any) -> NDArray[np.uint8]:
        actual = IHC(split=split, **settings).open()
        return actual.pixels(np.arange(len(actual)))

    def test_no_pixel_is_in_both_splits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Channels encode the position: row / 2, column / 2, quarter.
        rows, columns = np.indices((512, 512))
        marked = np.stack([rows // 2, columns // 2, 255 * ((rows < 256) & (columns >= 256))], 2)
        monkeypatch.setattr(data, "immunohistochemistry", lambda: marked.astype(np.uint8))
        for size, stride, scales in ((32, 8, (1, 2, 3)), (24, 5, (1, 4)), (64, 16, (2,))):
            settings = {"size": size, "stride": stride, "scales": scales}
            # Red and green vary within each crop, so that no crop counts as glass.
            monkeypatch.setattr("controlgen.datasets.ihc.MIN_DEVIATION", 0)
            assert not self.crops("train", **settings)[:, 2].any()
            assert (self.crops("test", **settings)[:, 2] == 255).all()

    def test_a_scale_averages_squares(self) -> None:
        for scale in (1, 2, 4):
            crops = self.crops("test", size=32, stride=8, scales=(scale,))
            quarter = PICTURE[: 32 * scale, 256 : 256 + 32 * scale].transpose(2, 0, 1)
            expected = quarter.reshape(3, 32, scale, 32, scale).mean((2, 4))
            assert np.abs(crops[0] - expected).max() <= 0.5

    def test_thousands_of_crops_at_two_scales(self) -> None:
        train, test = IHC().open(), IHC(split="test").open()
        assert len(train) > 10_000 and len(test) > 3_000
        assert train.image_shape == test.image_shape == (3, 32, 32)
        groups = {*train.groups(np.arange(len(train)))}, {*test.groups(np.arange(len(test)))}
        assert groups == ({0}, {1})
        with pytest.raises(DataError, match="no classes"):
            train.labels(np.array([0]))

    def test_glass_is_left_out(self) -> None:
        # The lumen at the left edge, rows 300 to 400, is bare glass.
        assert PICTURE[320:352, :32].std() < 8
        crops = self.crops("train", scales=(1,))
        glass = PICTURE[320:352, :32].transpose(2, 0, 1)
        assert not (crops == glass).all((1, 2, 3)).any()
        assert (crops.reshape(len(crops), -1).std(1) >= 8).all()

    def test_stain_is_measured_on_training_quarters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = {"stain": Macenko(), "stride": 32, "scales": (1,)}
        before, plain = self.crops("train", **settings), self.crops("train", stride=32, scales=(1,))
        assert not np.array_equal(before[:9], plain[:9])
        # Another test quarter does not change the training crops.
        other = PICTURE.copy()
        other[:256, 256:] = 255 - other[:256, 256:]
        monkeypatch.setattr(data, "immunohistochemistry", lambda: other)
        np.testing.assert_array_equal(self.crops("train", **settings), before)

    def test_a_too_large_size_is_refused(self) -> None:
        with pytest.raises(DataError, match="no crop of 256 pixels"):
            IHC(size=256, split="test", scales=(2,)).open()
