"""Benches: the book's costly numbers, measured once, with their circumstances."""

from .results import load, stale, stamp, write

__all__ = ["load", "stale", "stamp", "write"]
