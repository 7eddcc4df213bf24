"""Directions in feature space: contrasts, regressions, unsupervised axes, storage."""
