"""Figures in the house style, and flip-books that answer their slider anywhere."""

from .figures import (
    PALETTE,
    before_after,
    curves,
    figure_to_png,
    heatmap,
    picture,
    score_bars,
    style,
)
from .flipbook import flipbook

__all__ = [
    "PALETTE",
    "before_after",
    "curves",
    "figure_to_png",
    "flipbook",
    "heatmap",
    "picture",
    "score_bars",
    "style",
]
