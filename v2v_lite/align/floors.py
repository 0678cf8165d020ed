# SHIM: remove after the sweep
"""Old name of `align.baselines`."""

from .baselines import Identity, MeanVector, RandomRotation

__all__ = ["Identity", "MeanVector", "RandomRotation"]
