"""Whole slides, cut into tiles at a stated number of microns per pixel where there is tissue."""
