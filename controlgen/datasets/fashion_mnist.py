"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60 000 + 10 000 grey garments, padded to 32x32."""

from pathlib import Path
from typing import Literal

from controlgen.base_config import runtime_field
from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.base import DatasetConfig
from controlgen.datasets.cache import default_cache
from controlgen.datasets.mnist_files import folder_fetcher, mirror_fetcher, open_split

MIRRORS = ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"]
SYSTEM = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


class FashionMNIST(DatasetConfig):
    """Read from the cache, its authors' mirror or Debian's package dataset-fashion-mnist."""

    kind: Literal["fashion-mnist"] = "fashion-mnist"
    split: Literal["train", "test"] = "train"
    cache: Path | None = runtime_field(None)

    def open(self) -> ArrayDataset:
        """Read, downloading if necessary. Raises DataError with every source that failed."""
        fetchers = {
            "its authors' mirror": mirror_fetcher(MIRRORS, SHA256),
            "Debian's package": folder_fetcher(SYSTEM, "apt-get install dataset-fashion-mnist"),
        }
        folder = (self.cache or default_cache()) / self.kind
        return open_split(self.split, folder, SHA256, fetchers, CLASSES)
