"""Procedural tissue: tiles as of a haematoxylin and eosin (H&E) section, with captions."""
