# SHIM: remove after the sweep
# ruff: noqa: F401
from .scorer import EncoderScorer as Guide
from .scorer import recentre_rows as recentre
