"""Metrics, one per file: pure functions of arrays, independent of models, files and stages."""
