# SHIM: remove after the sweep
"""Old name of `align.ot`."""

from .ot import *  # noqa: F403
