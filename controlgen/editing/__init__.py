"""Editing: arithmetic on features, directions, expressions, recipes, and the Editor."""

from controlgen.editing.apply import EditSettings
from controlgen.editing.candidates import Candidates
from controlgen.editing.edit import Edit, Samples
from controlgen.editing.editor import Editor
from controlgen.editing.expressions.resolver import ResolvedEdit
from controlgen.editing.recipe import Recipe

__all__ = ["Candidates", "Edit", "EditSettings", "Editor", "Recipe", "ResolvedEdit", "Samples"]
