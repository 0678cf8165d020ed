"""What chapters share: figures, flip-books, tables, results, small problems."""

from .figures import PALETTE, figure_to_png, new_figure, picture, score_bars, style
from .flipbook import flipbook
from .tables import DISPLAY, tabular

__all__ = [
    "DISPLAY", "PALETTE", "figure_to_png", "flipbook", "new_figure", "picture",
    "score_bars", "style", "tabular",
]  # fmt: skip
