"""The command line, `v2v COMMAND ...`: the result goes to stdout, remarks to stderr."""

from .app import main

__all__ = ["main"]
