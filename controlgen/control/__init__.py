"""Control: arithmetic on features, directions, and the Editor."""

from controlgen.control.answers import Answers
from controlgen.control.editor import Edit, Editor, Samples

__all__ = ["Answers", "Edit", "Editor", "Samples"]
