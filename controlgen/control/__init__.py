"""Control: arithmetic on features, directions, expressions, recipes, and the Editor."""

from controlgen.control.answers import Answers
from controlgen.control.editor import Edit, Editor, Samples
from controlgen.control.queries import Query
from controlgen.control.recipe import Recipe

__all__ = ["Answers", "Edit", "Editor", "Query", "Recipe", "Samples"]
