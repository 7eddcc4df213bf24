"""Control: arithmetic on features, directions, expressions, recipes, and the Editor."""

from controlgen.editing.candidates import Answers
from controlgen.editing.edit import Edit, Samples
from controlgen.editing.editor import Editor
from controlgen.editing.expressions.resolver import Query
from controlgen.editing.recipe import Recipe

__all__ = ["Answers", "Edit", "Editor", "Query", "Recipe", "Samples"]
