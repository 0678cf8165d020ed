# SHIM: remove after the sweep
"""Old name of `align.base: METHODS`."""

from .base import METHODS, Translator


def register(cls: type[Translator]) -> type[Translator]:
    """Not needed any more: a class with a `name` registers by itself."""
    return cls


__all__ = ["METHODS", "register"]
