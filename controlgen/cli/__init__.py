"""The command line `controlgen`: one module a command."""

from controlgen.cli.app import main

__all__ = ["main"]
