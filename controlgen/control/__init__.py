"""Control: arithmetic on features, directions, expressions, recipes, and the Editor."""

from controlgen.control.answers import Answers
from controlgen.control.editor import Editor
from controlgen.control.edits import Edit, Samples
from controlgen.control.queries import Query
from controlgen.control.recipe import Recipe

__all__ = ["Answers", "Edit", "Editor", "Query", "Recipe", "Samples"]
