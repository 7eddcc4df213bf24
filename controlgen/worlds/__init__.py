"""Procedural worlds of captioned images, one a file. The union is the registry."""

from controlgen.worlds.base import Captioned, World
from controlgen.worlds.glyphs import Glyphs

AnyWorld = Glyphs  # the next world joins it as a union discriminated by kind

__all__ = ["AnyWorld", "Captioned", "Glyphs", "World"]
