"""A folder of image files at any depth, brought to one size; problem files are reported."""

from controlgen.datasets.folder.dataset import ImageFolder

__all__ = ["ImageFolder"]
