"""A figure to operate, made of pictures drawn beforehand.

The slider and the pictures are linked in the reader's browser (``jslink``), so the
figure answers in JupyterLab and Colab without any Python behind it. The book's pages
show the same frames with a slider of their own (``tools/pictures.py``), made from the
widgets' state in the notebook. A callback of ``interact`` would need a kernel and go
stale there.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from .figures import img_tag, style

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure

    Frame: TypeAlias = Figure | Callable[[], Figure]


def frame_texts(labels: Sequence[str], alt: str | Sequence[str]) -> list[str]:
    """One alt text per frame: its own, or the common one followed by the label."""
    if isinstance(alt, str):
        if not alt.strip():
            raise ValueError("alt is empty: say in a sentence what the figure shows")
        return [f"{alt.strip().rstrip('.')} ({label})" for label in labels]
    if len(alt) != len(labels):
        raise ValueError(f"{len(alt)} alt texts for {len(labels)} labels: give as many")
    return list(alt)


def render(frame: Frame, label: str, alt: str, dpi: int) -> str:
    """A figure, or what a function of no argument draws, over its label, as HTML."""
    with style():
        figure = frame() if callable(frame) else frame
        if not hasattr(figure, "savefig"):
            kind = type(figure).__name__
            raise TypeError(f"a frame must be or return a Figure, not {kind}")
        caption = f'<div style="text-align:center">{html.escape(label)}</div>'
        return f'<div class="v2v-frame">{img_tag(figure, alt, dpi)}{caption}</div>'


def flipbook(
    frames: Sequence[Frame], labels: Sequence[str], name: str,
    alt: str | Sequence[str], start: int = 0, dpi: int = 96,
) -> VBox:  # fmt: skip
    """A slider that turns the pages of drawings, each made once: 10 to 60 kB a page.

    Args:
        frames: figures, or functions of no argument that return one.
        labels: what stands under each frame, such as ``"k = 10"``.
        name: what the slider changes; it stands before the slider.
        alt: what the figure shows, for who cannot see it: one text for all frames
            (the label is added), or one per frame.
        start: the frame that shows first.

    Returns:
        An ``ipywidgets.VBox``; make it the last expression of the cell.

    Raises:
        ValueError: fewer than two frames, unequal lengths, an empty alt text, or a
            ``start`` that is no frame.
    """
    if len(frames) < 2 or len(frames) != len(labels):
        found = f"{len(frames)} frames and {len(labels)} labels"
        raise ValueError(f"{found}: give two frames or more, and a label for each")
    if not 0 <= start < len(frames):
        raise ValueError(f"start={start} is no frame: take 0 to {len(frames) - 1}")
    rows = zip(frames, labels, frame_texts(labels, alt), strict=True)
    pages = [render(frame, label, text, dpi) for frame, label, text in rows]
    return linked(pages, name, start)


def linked(pages: Sequence[str], name: str, start: int) -> VBox:
    """The widgets: a slider linked, in the browser, to a stack of HTML pages."""
    try:
        from ipywidgets import HTML, IntSlider, Layout, Stack, VBox, jslink
    except ImportError:
        raise ImportError("flip-books need `pip install 'ipywidgets>=8.1'`") from None
    wide = Layout(width="100%")
    stack = Stack([HTML(page, layout=wide) for page in pages], selected_index=start)
    slider = IntSlider(
        start, min=0, max=len(pages) - 1, description=name, readout=False,
        style={"description_width": "initial"},
        layout=Layout(width="95%", max_width="40em"),
    )  # fmt: skip
    jslink((slider, "value"), (stack, "selected_index"))
    return VBox([slider, stack], layout=wide)
