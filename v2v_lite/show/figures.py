"""The house style of figures, and the few kinds of figure that chapters share.

Every figure is a white card: legible on a light page and on a dark one alike. Colours
are those of Okabe and Ito (2008), told apart by colour-blind readers too. The helpers
take plain data and give a ``matplotlib.figure.Figure``; they never touch pyplot's
global state, so nothing is drawn twice. ``picture(figure, alt)`` puts a figure on the
page with the text that a screen reader speaks.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's colours by their role in the book.
PALETTE = {
    "source": "#0072B2",
    "target": "#D55E00",
    "translated": "#009E73",
    "ours": "#009E73",
    "peer": "#E69F00",
    "reference": "#56B4E9",
    "accent": "#CC79A7",
    "floor": "#767676",
    "ink": "#1A1A1A",
}
CYCLE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#767676"]
CARD = "background:#fff;border-radius:6px;padding:4px;max-width:100%;height:auto"


@contextmanager
def style():
    """The house style, for the figures made inside the ``with``; global state is kept.

    >>> with style():
    ...     figure = score_bars({"ours": 0.9}, xlabel="top-1")
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['ours']
    """
    import matplotlib
    from cycler import cycler

    house = {
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "axes.facecolor": "white",
        "axes.prop_cycle": cycler(color=CYCLE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.labelsize": 10,
        "grid.color": "#E3E3E3",
        "grid.linewidth": 0.6,
        "font.size": 10,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "image.cmap": "cividis",
        "svg.hashsalt": "v2v",
    }
    with matplotlib.rc_context(house):
        yield


def new_figure(
    width: float = 6.4, height: float = 3.6, rows: int = 1, columns: int = 1, **options
) -> tuple[Figure, Any]:
    """A figure (size in inches) and its axes, made without pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def _centre_and_spread(value) -> tuple[float, float]:
    """A number stands for itself; a ``(mean, spread)`` or a list of seeds for two."""
    if isinstance(value, tuple):
        mean, spread = value
        return float(mean), float(spread)
    values = np.atleast_1d(np.asarray(value, dtype=float))
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return float(values.mean()), spread


def score_bars(
    scores: Mapping[str, Any],
    floors: Sequence[str] = (),
    reference: Sequence[str] = (),
    xlabel: str = "top-1",
    title: str = "",
    limit: tuple[float, float] | None = (0.0, 1.0),
) -> Figure:
    """One bar a method with its spread, floors in grey and paired references in blue.

    Args:
        scores: name to a number, a ``(mean, spread)``, or a list with one number a
            seed (drawn as mean and standard deviation). Drawn from the top down.
        floors: names of ``scores`` that are floors.
        reference: names of ``scores`` that were given pairs.
        limit: the range of the x axis; None lets the data choose.
    """
    unknown = [n for n in (*floors, *reference) if n not in scores]
    if unknown:
        raise ValueError(f"{unknown} are not among the scores: {list(scores)}")
    names = list(scores)
    means, spreads = zip(*(_centre_and_spread(scores[n]) for n in names), strict=True)
    kind = {**dict.fromkeys(reference, "reference"), **dict.fromkeys(floors, "floor")}
    colours = [PALETTE[kind.get(n, "ours")] for n in names]
    figure, axes = new_figure(height=0.8 + 0.36 * len(names))
    bars = axes.barh(names, means, xerr=spreads, color=colours, height=0.7, capsize=3)
    axes.bar_label(bars, labels=[f"{m:.3f}" for m in means], padding=4, fontsize=9)
    for bar, name in zip(bars, names, strict=True):
        bar.set_hatch({"floor": "..", "reference": "//"}.get(kind.get(name, ""), ""))
        bar.set_edgecolor("white")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    if limit:
        axes.set_xlim(limit[0], limit[0] + 1.12 * (limit[1] - limit[0]))
    axes.set(xlabel=xlabel, title=title)
    return figure


def before_after(
    before: tuple[Any, Any],
    after: tuple[Any, Any],
    titles: tuple[str, str] = ("before", "after"),
    names: tuple[str, str] = ("source", "target"),
    lines: int = 0,
) -> Figure:
    """Two scatter plots of two clouds ``(n, 2)``: as they were, and once translated.

    ``lines`` joins that many first rows of the two clouds, which must be pairs then.
    """
    figure, axes = new_figure(7.2, 3.5, 1, 2)
    for ax, clouds, title in zip(axes, (before, after), titles, strict=True):
        one, two = (np.asarray(c, dtype=float) for c in clouds)
        for a, b in zip(one[:lines], two[:lines], strict=True):
            ax.plot([a[0], b[0]], [a[1], b[1]], color=PALETTE["floor"], lw=0.5)
        ax.scatter(*one.T, s=10, color=PALETTE["source"], label=names[0])
        ax.scatter(*two.T, s=12, color=PALETTE["target"], label=names[1], marker="x")
        ax.set(title=title, aspect="equal", xticklabels=[], yticklabels=[])
    axes[0].legend(loc="best", fontsize=8)
    return figure


def heatmap(
    matrix, labels: Sequence[str] = (), title: str = "", limit=(None, None)
) -> Figure:
    """A matrix of similarities ``(n, m)`` as colours, with its scale beside it."""
    values = np.asarray(matrix, dtype=float)
    side = 1.6 + 0.25 * min(len(values), 14)
    figure, axes = new_figure(side + 1.4, side)
    low, high = limit
    drawn = axes.imshow(values, vmin=low, vmax=high, aspect="auto")
    axes.grid(False)
    if labels:
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
    if labels and values.shape[1] == len(labels):
        axes.set_xticks(range(len(labels)), labels, fontsize=8, rotation=60, ha="right")
    figure.colorbar(drawn, ax=axes, shrink=0.85)
    axes.set_title(title)
    return figure


def curves(
    x,
    lines: Mapping[str, Any],
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    log_x: bool = False,
) -> Figure:
    """Lines over ``x``; an array ``(seeds, len(x))`` gives mean and a band of sd."""
    figure, axes = new_figure()
    styles = ("-", "--", "-.", ":")
    for number, (name, values) in enumerate(lines.items()):
        y = np.atleast_2d(np.asarray(values, dtype=float))  # (seeds, len(x))
        dash = styles[number % len(styles)]
        (line,) = axes.plot(x, y.mean(0), dash, label=name, color=CYCLE[number % 7])
        if len(y) > 1:
            low, high = y.mean(0) - y.std(0, ddof=1), y.mean(0) + y.std(0, ddof=1)
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, lw=0)
    if log_x:
        axes.set_xscale("log")
    axes.legend(fontsize=8)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    return figure


def figure_to_png(figure: Figure, dpi: int = 110, colours: int = 64) -> bytes:
    """The figure as a small PNG: a palette of ``colours`` is enough for a chart."""
    from PIL import Image

    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=dpi, facecolor="white", metadata={})
    picture = Image.open(raw).convert("RGB")
    small = io.BytesIO()
    picture.quantize(colours, dither=Image.Dither.NONE).save(
        small, format="PNG", optimize=True
    )
    return small.getvalue()


def img_tag(png: bytes, alt: str) -> str:
    """An ``<img>`` that carries its data and its text, on a white card."""
    if not alt.strip():
        raise ValueError("alt is empty: say in a sentence what the figure shows")
    data = base64.b64encode(png).decode()
    text = html.escape(" ".join(alt.split()), quote=True)
    return f'<img src="data:image/png;base64,{data}" alt="{text}" style="{CARD}">'


def picture(figure: Figure, alt: str, dpi: int = 110):
    """Show the figure in a notebook with the text ``alt`` for who cannot see it."""
    from IPython.display import HTML

    return HTML(img_tag(figure_to_png(figure, dpi), alt))
