"""The command line: `v2v COMMAND ...`. Results go to stdout, progress to stderr."""

from .app import main

__all__ = ["main"]
