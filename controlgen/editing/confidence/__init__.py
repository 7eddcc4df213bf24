"""Confidence in an edit: probe targets, the fit, the calibrated score."""
