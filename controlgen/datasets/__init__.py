"""Sources of images, one a file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.datasets.digits import Digits
from controlgen.datasets.fashion_mnist import FashionMNIST
from controlgen.datasets.folder.dataset import ImageFolder
from controlgen.datasets.ihc import IHC
from controlgen.datasets.medmnist import MedMNIST
from controlgen.datasets.mnist import MNIST
from controlgen.datasets.patch_camelyon import PatchCamelyon
from controlgen.datasets.slides.dataset import Slides
from controlgen.datasets.stacked_mnist import StackedMNIST

AnyDataset = Annotated[
    MNIST
    | FashionMNIST
    | StackedMNIST
    | Digits
    | ImageFolder
    | IHC
    | PatchCamelyon
    | MedMNIST
    | Slides,
    Field(discriminator="kind"),
]

__all__ = [
    "IHC",
    "MNIST",
    "AnyDataset",
    "Digits",
    "FashionMNIST",
    "ImageFolder",
    "MedMNIST",
    "PatchCamelyon",
    "Slides",
    "StackedMNIST",
    "pinned",
]


def pinned(dataset: AnyDataset) -> AnyDataset:
    """The same source, named by what it holds where a path alone would name it."""
    named = ImageFolder | Slides | PatchCamelyon | MedMNIST
    return dataset.pinned() if isinstance(dataset, named) else dataset
