"""Data sets of images, one a module. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.datasets.digits import Digits
from controlgen.datasets.fashion_mnist import FashionMNIST
from controlgen.datasets.folder import ImageFolder
from controlgen.datasets.ihc import IHC
from controlgen.datasets.medmnist import MedMNIST
from controlgen.datasets.mnist import MNIST
from controlgen.datasets.patch_camelyon import PatchCamelyon
from controlgen.datasets.slides import Slides
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
    "with_content_hash",
]


def with_content_hash(dataset: AnyDataset) -> AnyDataset:
    """The same data set, identified by its content where a path would identify it."""
    return dataset.with_content_hash()
