"""What chapters share: figures, flip-books, stored results, small training problems."""

from .figures import (
    PALETTE,
    curves,
    figure_to_png,
    new_figure,
    picture,
    score_bars,
    style,
)
from .flipbook import flipbook

__all__ = [
    "PALETTE",
    "curves",
    "figure_to_png",
    "flipbook",
    "new_figure",
    "picture",
    "score_bars",
    "style",
]
