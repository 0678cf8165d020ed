# SHIM: remove after the sweep
"""Old name of `align.mini_vec2vec`."""

from .mini_vec2vec import *  # noqa: F403
