"""The book's theme of figures, and the few kinds of figure that chapters share.

Figures are drawings (SVG), sharp at every size; clouds of many points inside them are
pictures. In a notebook each lies on a white card, and the book's pages draw it a second
time for dark screens. Colours are those of Okabe and Ito (2008), told apart by
colour-blind readers too. The helpers take plain data and give a
``matplotlib.figure.Figure``; they never touch pyplot's global state, so nothing is
drawn twice. ``picture(figure, alt)`` puts a figure on the page with the text that a
screen reader speaks.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

#: Okabe and Ito's colours by their role in the book.
PALETTE = {
    "source": "#0072B2", "target": "#D55E00", "translated": "#009E73",
    "ours": "#009E73", "published": "#E69F00", "reference": "#56B4E9",
    "accent": "#CC79A7", "baseline": "#767676", "ink": "#1A1A1A",
}  # fmt: skip
CYCLE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#767676"]
MANY = 300  # marks of one artist: more are drawn as a picture inside the drawing
LINES = r"L(?: -?[\d.]+){2}(?: L(?: -?[\d.]+){2})+"  # one L is enough for all
CARD = "background:#fff;border-radius:6px;padding:4px;max-width:100%;height:auto"


@contextmanager
def style() -> Iterator[None]:
    """The book's theme, for the figures made inside the ``with``; global state is kept.

    >>> with style():
    ...     figure = score_bars({"ours": (0.9, 0.01)}, xlabel="top-1")
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['ours']
    """
    import matplotlib
    from cycler import cycler

    theme: Any = {
        "figure.facecolor": "white", "savefig.facecolor": "white",
        "axes.facecolor": "white", "axes.prop_cycle": cycler(color=CYCLE),
        "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": True, "axes.axisbelow": True,
        "axes.titlelocation": "left", "axes.titlesize": 11, "axes.labelsize": 10,
        "grid.color": "#E3E3E3", "grid.linewidth": 0.6,
        "font.size": 10, "legend.frameon": False, "lines.linewidth": 1.8,
        "image.cmap": "cividis", "svg.hashsalt": "v2v",
    }  # fmt: skip
    with matplotlib.rc_context(theme):
        yield


def new_figure(
    width: float = 6.4, height: float = 3.6, rows: int = 1, columns: int = 1,
    **options: Any,
) -> tuple[Figure, Any]:  # fmt: skip
    """A figure (size in inches) and its axes, made without pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def score_bars(
    scores: Mapping[str, tuple[float, float]], baselines: Sequence[str] = (),
    reference: Sequence[str] = (), xlabel: str = "top-1", title: str = "",
) -> Figure:  # fmt: skip
    """One bar per method, from the top down; baselines grey, paired references blue.

    `scores` holds a mean and its spread by name, between 0 and 1. Raises ValueError for
    names among `baselines` and `reference` that have no score.
    """
    unknown = [n for n in (*baselines, *reference) if n not in scores]
    if unknown:
        raise ValueError(f"{unknown} are not among the scores: {list(scores)}")
    names, (means, spreads) = list(scores), zip(*scores.values(), strict=True)
    role = dict.fromkeys(reference, "reference") | dict.fromkeys(baselines, "baseline")
    colours = [PALETTE[role.get(name, "ours")] for name in names]
    figure, axes = new_figure(height=0.8 + 0.36 * len(names))
    bars = axes.barh(names, means, xerr=spreads, color=colours, height=0.7, capsize=3)
    axes.bar_label(bars, labels=[f"{m:.3f}" for m in means], padding=4, fontsize=9)
    for bar, name in zip(bars, names, strict=True):
        hatches = {"baseline": "..", "reference": "//"}
        bar.set(hatch=hatches.get(role.get(name, ""), ""), edgecolor="white")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=xlabel, title=title, xlim=(0, 1.12))
    return figure


def figure_to_png(figure: Figure, dpi: int = 110, colours: int = 64) -> bytes:
    """The figure as a small PNG: a palette of ``colours`` is enough for a chart."""
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=dpi, facecolor="white", metadata={})
    return palette_png(raw.getvalue(), colours)


def palette_png(png: bytes, colours: int) -> bytes:
    """The PNG with that many colours; what was transparent stays so."""
    from PIL import Image

    small, image = io.BytesIO(), Image.open(io.BytesIO(png)).convert("RGBA")
    # An octree (2) is the one method of PIL's that keeps transparency.
    few = image.quantize(colours, method=2, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True)
    return small.getvalue()


def figure_to_svg(figure: Figure, dpi: int = 110) -> str:
    """The figure as an SVG on no ground, ``dpi`` pixels an inch wide.

    Artists of more than `MANY` marks become pictures inside it, of double resolution.
    Text over images is drawn in nearly black and nearly white, which a page that draws
    the figure for a dark screen leaves as they are.
    """
    from matplotlib import rc_context
    from matplotlib.colors import to_hex

    def less(found: re.Match[str]) -> str:
        return base64.b64encode(palette_png(base64.b64decode(found[0]), 64)).decode()

    for axes in figure.axes:
        for cloud in axes.collections:
            marks = max(len(cloud.get_paths()), np.size(cloud.get_offsets()) // 2)
            cloud.set_rasterized(bool(marks > MANY))
        for line in axes.lines:
            marks = np.size(line.get_xdata()) * (line.get_marker() != "None")
            line.set_rasterized(bool(marks > MANY))
        for text in axes.texts if axes.images else []:
            ink = to_hex(text.get_color())
            text.set_color({"#000000": "#010101", "#ffffff": "#fefefe"}.get(ink, ink))
    raw, none = io.StringIO(), {"Date": None}
    with rc_context({"svg.hashsalt": "v2v", "svg.fonttype": "path"}):
        figure.savefig(raw, format="svg", dpi=2 * dpi, facecolor="none", metadata=none)
    return re.sub(r"(?<=data:image/png;base64,)[^\"]+", less, short(raw.getvalue()))


def short(svg: str) -> str:
    """The drawing without metadata and blanks, its points to a tenth of a pixel."""
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"([1-9]\d*\.\d\d)\d+", r"\1", re.sub(r"\s+", " ", svg))

    def path(found: re.Match[str]) -> str:
        points = re.sub(r"(\d\d\.\d)\d", r"\1", found[0])
        return re.sub(LINES, lambda run: "L " + run[0].replace("L ", ""), points)

    return re.sub(r' d="[^"]+', path, svg).replace("> <", "><")


def img_tag(figure: Figure, alt: str, dpi: int = 110) -> str:
    """An ``<img>`` that carries its drawing and its text, on a white card."""
    if not alt.strip():
        raise ValueError("alt is empty: say in a sentence what the figure shows")
    svg = figure_to_svg(figure, dpi).partition("<svg")[2].replace('"', "'")
    data = quote(f"<svg{svg}", " /:;=,()'")
    has = f'alt="{html.escape(" ".join(alt.split()))}" style="{CARD}"'
    has += f' width="{figure.get_size_inches()[0] * dpi:.0f}"'
    return f'<img src="data:image/svg+xml,{data}" {has}>'


def picture(figure: Figure, alt: str, dpi: int = 110) -> HTML:
    """Show the figure in a notebook; ``alt`` is its text for who cannot see it."""
    from IPython.display import HTML

    return HTML(img_tag(figure, alt, dpi))
