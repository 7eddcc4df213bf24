"""Control: arithmetic on features, directions, and the Editor."""

from controlgen.control.editor import Edit, Editor, Samples

__all__ = ["Edit", "Editor", "Samples"]
