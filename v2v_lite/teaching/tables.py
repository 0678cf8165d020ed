"""Tables: HTML on the page, aligned columns wherever text is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["DISPLAY", "Table", "tabular"]

#: What the methods are called on a page.
DISPLAY = {"mini": "mini-vec2vec", "selflearn": "self-learning"}
SIDES = {"<": ' style="text-align:left"', ">": ""}


@dataclass(frozen=True)
class Table:
    """Rows of text, the titles first; `sides` has "<" for left and ">" for right."""

    rows: Sequence[Sequence[str]]
    sides: str
    caption: str

    def __repr__(self) -> str:
        wide = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        forms = [f"{side}{width}" for side, width in zip(self.sides, wide, strict=True)]
        lines = ["  ".join(map(format, row, forms)).rstrip() for row in self.rows]
        return "\n".join([self.caption] * bool(self.caption) + lines)

    def _repr_html_(self) -> str:
        def line(row: Sequence[str], tag: str) -> str:
            both = zip(row, self.sides, strict=True)
            cells = [f"<{tag}{SIDES[s]}>{escape(cell)}</{tag}>" for cell, s in both]
            return f"<tr>{''.join(cells)}</tr>"

        body = "".join(line(row, "td") for row in self.rows[1:])
        inside = f"<thead>{line(self.rows[0], 'th')}</thead><tbody>{body}</tbody>"
        named = f"<caption>{escape(self.caption)}</caption>" * bool(self.caption)
        about = 'style="overflow-x:auto" tabindex="0" role="group" aria-label="table"'
        shown = f"<table>{named}{inside}</table>"
        return f'<div class="v2v-table" {about}>{shown}</div>'


def tabular(
    columns: Mapping[str, str], rows: Iterable[Sequence[Any]], caption: str = ""
) -> Table:
    """A table that a notebook shows as HTML and prints as aligned text.

    `columns` gives the format of the numbers under each title, such as ``".3f"``; a
    column of words has ``""`` and stands to the left. Cells that are text already stay
    as they are, but for the names in `DISPLAY`. Raises ValueError for a row that has
    more or fewer cells than there are titles.

    >>> tabular({"method": "", "top-1": ".2f"}, [("mini", 0.5), ("random", 0)])
    method        top-1
    mini-vec2vec   0.50
    random         0.00
    """
    cells = [list(columns)]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"{row!r} has {len(row)} cells; {cells[0]} are the titles")
        found = zip(row, columns.values(), strict=True)
        cells.append([DISPLAY.get(v, v) if isinstance(v, str) else format(v, form)
                      for v, form in found])  # fmt: skip
    return Table(cells, "".join("<>"[bool(form)] for form in columns.values()), caption)
