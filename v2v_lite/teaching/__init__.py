"""What chapters share: figures, flip-books, stored results, small training problems."""

from .figures import PALETTE, figure_to_png, new_figure, picture, score_bars, style
from .flipbook import flipbook

__all__ = [
    "PALETTE", "figure_to_png", "flipbook", "new_figure", "picture", "score_bars",
    "style",
]  # fmt: skip
