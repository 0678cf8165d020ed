"""Tables: HTML on the page, aligned columns wherever text is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

#: What the methods are called on a page.
DISPLAY = {"mini": "mini-vec2vec", "selflearn": "self-learning"}
BOX = 'class="v2v-table" style="overflow-x:auto" tabindex="0" role="group"'
LEFT = ' style="text-align:left"'


class Table(NamedTuple):
    """A table as text and as HTML, of which a notebook shows the second."""

    text: str
    page: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.page


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
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = [("<", LEFT) if not form else (">", "") for form in columns.values()]
    ends = [f"{side[0]}{width}" for side, width in zip(sides, wide, strict=True)]
    text = ["  ".join(map(format, row, ends)).rstrip() for row in cells]
    page = f"<caption>{escape(caption)}</caption>" if caption else ""
    for row, tag in zip(cells, ["th", *["td"] * len(cells)], strict=False):
        both = zip(row, sides, strict=True)
        line = (f"<{tag}{at}>{escape(cell)}</{tag}>" for cell, (_, at) in both)
        page += f"<tr>{''.join(line)}</tr>"
    page = f'<div {BOX} aria-label="table"><table>{page}</table></div>'
    return Table("\n".join([caption, *text] if caption else text), page)
