"""Sources of images, one a file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.datasets.digits import Digits
from controlgen.datasets.fashion_mnist import FashionMNIST
from controlgen.datasets.mnist import MNIST

AnyDataset = Annotated[MNIST | FashionMNIST | Digits, Field(discriminator="kind")]

__all__ = ["MNIST", "AnyDataset", "Digits", "FashionMNIST"]
