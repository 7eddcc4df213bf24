"""Measures, one a file: pure functions of arrays that know nothing of models, files or stages."""
