"""Whole slides, cut into tiles at a given number of microns per pixel where there is tissue."""

from controlgen.datasets.slides.dataset import Slides

__all__ = ["Slides"]
