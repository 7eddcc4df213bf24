"""Procedural tissue: tiles like those of a haematoxylin and eosin section, with captions."""

from controlgen.synthetic.tissue.dataset import SyntheticTissue

__all__ = ["SyntheticTissue"]
