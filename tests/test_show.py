"""Figures and flip-books: small, described, and the same in every reader's hands."""

import base64
import io
import re
import warnings
from urllib.parse import unquote
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from v2v_lite.teaching import (
    figure_to_png,
    flipbook,
    new_figure,
    picture,
    score_bars,
    style,
    tabular,
)
from v2v_lite.teaching.figures import figure_to_svg, short
from v2v_lite.teaching.flipbook import frame_texts


def sine(k):
    x = np.linspace(0, 6, 50)
    figure, axes = new_figure()
    axes.plot(x, np.sin(k * x))
    return figure


def widgets_of(box):
    slider, stack = box.children
    return slider, stack


def test_style_leaves_the_global_state_alone():
    before = dict(matplotlib.rcParams)
    with style():
        sine(1)
        assert matplotlib.rcParams["axes.spines.top"] is False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert dict(matplotlib.rcParams) == before


def test_a_png_is_small_and_white():
    png = figure_to_png(sine(1))
    assert png.startswith(b"\x89PNG") and 1_000 < len(png) < 40_000
    assert figure_to_png(score_bars({"a": (0.5, 0.1)})) == figure_to_png(
        score_bars({"a": (0.5, 0.1)})
    ), "the same figure gives the same bytes"


def test_score_bars_take_means_and_spreads():
    figure = score_bars(
        {"chance": (0.0, 0.0), "ours": (0.9, 0.01), "paired": (0.98, 0.01)},
        baselines=["chance"],
        reference=["paired"],
    )
    labels = [t.get_text() for t in figure.axes[0].texts]
    assert labels == ["0.000", "0.900", "0.980"]
    with pytest.raises(ValueError, match="nobody"):
        score_bars({"ours": (1.0, 0.0)}, baselines=["nobody"])


def test_a_picture_carries_its_text():
    page = picture(sine(1), alt='A "sine" <curve>').data
    assert 'alt="A &quot;sine&quot; &lt;curve&gt;"' in page
    data = re.search(r'src="data:image/svg\+xml,([^"]+)"', page)[1]
    drawn = ElementTree.fromstring(unquote(data))
    assert drawn.tag.endswith("svg") and 'width="704"' in page  # 6.4 inches of 110
    assert page == picture(sine(1), alt='A "sine" <curve>').data
    with pytest.raises(ValueError, match="alt is empty"):
        picture(sine(1), alt=" ")


def test_clouds_are_pictures_inside_the_drawing_and_small():
    x = np.random.default_rng(0).normal(size=(2, 4000))
    sizes = {}
    for n in (300, 4000):
        figure, axes = new_figure()
        axes.scatter(*x[:, :n])
        axes.plot(*x[:, :n], ".")
        svg = figure_to_svg(figure)
        sizes[n] = len(svg)
        assert svg.count("data:image/png;base64") == (2 if n > 300 else 0)
    assert sizes[4000] < 160_000
    png = base64.b64decode(re.search(r"base64,([^\"]+)", svg)[1])
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    assert image.getpixel((0, 0))[3] == 0, "what is not drawn stays transparent"


def test_text_over_an_image_has_an_ink_of_its_own():
    figure, axes = new_figure(columns=2)
    axes[0].imshow(np.eye(3))
    for one in axes:
        one.text(0.5, 0.5, "x", color="white")
    svg = figure_to_svg(figure)
    assert svg.count("fill: #fefefe") == 1, "the other one turns with the page"


def test_short_numbers_move_no_point():
    figure, axes = new_figure()
    axes.plot([0, 1, 2], [0, 1.123456, 0])
    for number in re.findall(r"\d*\.\d+", figure_to_svg(figure)):
        assert float(number) < 1 or len(number.partition(".")[2]) <= 2


def test_a_short_drawing_keeps_every_point():
    figure, axes = new_figure()
    axes.contourf(*np.mgrid[:9, :9], np.random.default_rng(0).normal(size=(9, 9)))
    raw = io.StringIO()
    figure.savefig(raw, format="svg")
    drawings = raw.getvalue(), short(raw.getvalue())
    points = [
        [float(n) for d in re.findall(r' d="([^"]*)"', svg)
         for n in re.findall(r"-?\d+\.?\d*", d)]
        for svg in drawings
    ]  # fmt: skip
    np.testing.assert_allclose(*points, atol=0.1)
    assert len(drawings[1]) < 0.8 * len(drawings[0])
    assert ElementTree.fromstring(drawings[1]).tag.endswith("svg")


def test_a_table_is_html_on_the_page_and_text_elsewhere():
    columns = {"method": "", "top-1": ".3f", "rank": ">"}
    shown = tabular(columns, [("mini", 0.5, "2 ± 1"), ("a<b", 1, "")], "pool 8")
    page = ElementTree.fromstring(shown._repr_html_())
    rows = [[cell.text or "" for cell in row] for row in page.iter("tr")]
    assert rows == [["method", "top-1", "rank"], ["mini-vec2vec", "0.500", "2 ± 1"],
                    ["a<b", "1.000", ""]]  # fmt: skip
    assert page.get("tabindex") == "0", "a key scrolls it on a phone"
    assert next(page.iter("caption")).text == "pool 8"
    assert repr(shown).splitlines()[:2] == ["pool 8", "method        top-1   rank"]
    with pytest.raises(ValueError, match="has 2 cells"):
        tabular(columns, [("mini", 0.5)])


def test_flipbook_links_slider_and_pages_in_the_browser():
    frames = [sine(1), lambda: sine(2), lambda: sine(3)]
    box = flipbook(frames, ["k = 1", "k = 2", "k = 3"], "k", "A sine", start=1)
    slider, stack = widgets_of(box)
    assert (slider.max, slider.value, stack.selected_index) == (2, 1, 1)
    pages = [child.value for child in stack.children]
    assert len(set(pages)) == 3
    for number, page in enumerate(pages, start=1):
        assert f'alt="A sine (k = {number})"' in page
        assert len(page) < 60_000
    assert slider.description == "k"


def test_flipbook_takes_a_text_for_each_frame():
    assert frame_texts(["a", "b"], ["one", "two"]) == ["one", "two"]
    assert frame_texts(["a"], "All.") == ["All (a)"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["one"]}, "a label for each"),
        ({"frames": [sine], "labels": ["one"]}, "two frames or more"),
        ({"alt": ""}, "alt is empty"),
        ({"alt": ["one"]}, "1 alt texts for 2 labels"),
        ({"start": 2}, "start=2"),
    ],
)
def test_flipbook_says_what_is_wrong(change, message):
    good = {
        "frames": [lambda: sine(1), lambda: sine(2)],
        "labels": ["one", "two"],
        "name": "k",
        "alt": "text",
    }
    with pytest.raises(ValueError, match=message):
        flipbook(**{**good, **change})


def test_a_frame_must_be_a_figure():
    with pytest.raises(TypeError, match="not str"):
        flipbook([lambda: "no", lambda: "no"], ["a", "b"], "k", "text")
