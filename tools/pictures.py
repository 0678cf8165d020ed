"""A Sphinx extension that makes the pages' figures: numbered, light and dark.

A notebook carries its pictures in itself: drawings as ``data:`` addresses, flip-books
as the widgets' state. On the built page each becomes a ``<figure>``: the drawing is a
file beside the pages, loaded when it comes into sight, once as it is and once in
other colours for dark screens; a flip-book is a plain slider with the frames under it
(``book/web/figures.js``), so that no page needs the widgets' manager. A paragraph that
begins with **Figure 6.2** right after a picture becomes its caption, and every
"Figure 6.2" in the text a link to it. A picture without such a paragraph has the first
sentence of its text for a caption.
"""

from __future__ import annotations

import base64
import colorsys
import hashlib
import html
import json
import re
from pathlib import Path
from urllib.parse import unquote

from docutils import nodes

STATE = "ipywidgets_state"
VIEW = re.compile(r'widget-view\+json">\s*(\{.*?\})\s*</script>', re.S)
IMG = re.compile(r"<img\b[^>]*>")
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
NUMBER = re.compile(r"Figure (\d+\.\d+)")
BOX = re.compile(r"viewBox=[\"']\s*[\d.-]+ [\d.-]+ ([\d.]+) ([\d.]+)")
COLOUR = re.compile(
    r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b|(?<=[\"':])(?:white|black)\b"
)
PAGE = 18  # the dark page's own grey, and what white becomes


# ---- colours


def dark(colour: str) -> str:
    """The colour that plays the same part on a dark page.

    Greys turn around between the page's black and a soft white, the nearly black and
    nearly white of text over images stays, tints become shades, deep tones lighter.
    """
    digits = {"white": "ffffff", "black": "000000"}.get(colour, colour.lstrip("#"))
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    red, green, blue = (int(digits[i : i + 2], 16) for i in (0, 2, 4))
    if digits.lower() in ("010101", "fefefe"):
        return colour
    if max(red, green, blue) - min(red, green, blue) < 12:
        grey = round(PAGE + (255 - (red + green + blue) / 3) * (232 - PAGE) / 255)
        return f"#{grey:02x}{grey:02x}{grey:02x}"
    hue, light, strong = colorsys.rgb_to_hls(red / 255, green / 255, blue / 255)
    if light > 0.75:
        light, strong = 0.1 + 0.6 * (1 - light), 0.6 * strong
    elif 0.3 * red + 0.59 * green + 0.11 * blue < 97:
        light += 0.13
    rgb = colorsys.hls_to_rgb(hue, light, strong)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def for_dark(svg: str) -> str:
    """The drawing for a dark page; pictures inside it (base64) name no colour."""
    turned = COLOUR.sub(lambda found: dark(found[0]), svg)
    return turned.replace("<svg", '<svg fill="#e8e8e8"', 1)


# ---- files


class Images:
    """Writes the pictures of one page; gives the tags that show them."""

    def __init__(self, app, docname: str):
        self.folder = Path(app.outdir) / "_images"
        self.up = "../" * docname.count("/") + "_images/"

    def file(self, data: bytes, kind: str) -> str:
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.{kind}"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(data)
        return self.up + name

    def svg(self, text: str, alt: str, width: str | None) -> tuple[str, float]:
        """Two tags, of which the theme shows one, and height over width."""
        wide, high = (float(n) for n in BOX.search(text).groups())
        width = round(float(width or wide))
        size = f'width="{width}" height="{round(width * high / wide)}"'
        tags = [
            f'<img class="only-{theme}" src="{self.file(one.encode(), "svg")}" '
            f'alt="{alt}" {size} loading="lazy" decoding="async">'
            for theme, one in (("light", text), ("dark", for_dark(text)))
        ]
        return f'<div class="v2v-drawn">{"".join(tags)}</div>', high / wide

    def png(self, data: bytes, alt: str, width: str | None) -> tuple[str, float]:
        wide, high = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
        source, width = self.file(data, "png"), round(float(width or wide))
        return (
            f'<img class="v2v-card dark-light" src="{source}" alt="{alt}" '
            f'width="{width}" height="{round(width * high / wide)}" '
            'loading="lazy" decoding="async">',
            high / wide,
        )

    def tag(self, tag: str) -> tuple[str, float]:
        """The tags instead of a notebook's ``<img>`` that carries its data."""
        has = dict(ATTRIBUTE.findall(tag))
        kind, _, data = has["src"].partition(",")
        if kind.startswith("data:image/png"):
            return self.png(base64.b64decode(data), has["alt"], has.get("width"))
        text = base64.b64decode(data).decode() if "base64" in kind else unquote(data)
        return self.svg(text, has["alt"], has.get("width"))


# ---- flip-books


def pages_of(state: dict, model: str) -> tuple[str, int, list[str]]:
    """Name, first frame and frames of the flip-book whose VBox is that model."""

    def get(reference: str) -> dict:
        return state[reference.removeprefix("IPY_MODEL_")]["state"]

    slider, stack = (get(child) for child in get(model)["children"])
    frames = [get(child)["value"] for child in stack["children"]]
    return slider["description"], slider["value"], frames


def flipbook(images: Images, name: str, start: int, frames: list[str], key: str) -> str:
    """A slider with its buttons, and the frames, of which the first one shows."""
    labels = [re.search(r"center\">(.*?)</div>", frame, re.S)[1] for frame in frames]
    drawn = [images.tag(IMG.search(frame)[0]) for frame in frames]
    high = max(ratio for _, ratio in drawn)
    shown = "".join(
        f'<div class="v2v-frame" data-label="{html.escape(html.unescape(label))}"'
        f"{'' if place == start else ' hidden'}>{tags}</div>"
        for place, (label, (tags, _)) in enumerate(zip(labels, drawn, strict=True))
    )
    named = html.escape(name)
    return (
        f'<div class="v2v-turn" hidden><label for="turn-{key}">{named}</label>'
        f'<button type="button" data-by="-1" aria-label="{named}: back">‹</button>'
        f'<input id="turn-{key}" type="range" min="0" max="{len(frames) - 1}" '
        f'step="1" value="{start}" aria-valuetext="{labels[start]}" autocomplete="off">'
        f'<button type="button" data-by="1" aria-label="{named}: on">›</button>'
        f'<button type="button" class="v2v-play" aria-label="{named}: play">▶</button>'
        f'</div><div class="v2v-label" aria-hidden="true">{labels[start]}</div>'
        f'<div class="v2v-frames" style="--high:{high:.4f}">{shown}</div>'
    )


# ---- figures


def caption_after(node: nodes.Node) -> nodes.paragraph | None:
    """The paragraph "**Figure …" that follows the picture, its cell or paragraph."""
    while isinstance(node.parent, nodes.container | nodes.paragraph):
        node = node.parent
    place = node.parent.index(node) + 1
    following = node.parent[place] if place < len(node.parent) else None
    if isinstance(following, nodes.paragraph):
        first = next((n for n in following if n.astext().strip()), None)
        if isinstance(first, nodes.strong) and first.astext().startswith("Figure"):
            return following
    return None


def first_sentence(markup: str) -> str:
    alt = html.unescape(re.search(r'alt="([^"]*)"', markup)[1])
    sentence = re.split(r"(?<=[a-z\d)])[.;] ", alt.strip(), maxsplit=1)[0]
    return sentence.rstrip(".") + "."


def framed(node: nodes.Node, markup: str, kind: str, number: str | None) -> None:
    """Put the figure in the node's place, with the caption that follows it."""
    caption = caption_after(node)
    if caption is not None:
        caption.parent.remove(caption)
        own = NUMBER.match(caption.astext().strip())
        number = own[1] if own else None
    else:
        caption = nodes.paragraph()
        if number:
            caption += [nodes.strong("", f"Figure {number}."), nodes.Text(" ")]
        caption += nodes.Text(first_sentence(markup))
    place = f' id="fig-{number.replace(".", "-")}"' if number else ""
    opened = f'<figure class="v2v-figure {kind}"{place}>{markup}<figcaption>'
    parts = [
        nodes.raw("", opened, format="html"),
        caption,
        nodes.raw("", "</figcaption></figure>", format="html"),
    ]
    whole = isinstance(node.parent, nodes.paragraph) and len(node.parent) == 1
    old = node.parent if whole else node
    place = old.parent.index(old)  # not replace_self: it would pass on the classes
    old.parent[place : place + 1] = parts


def widgets_of(app, docname: str) -> dict:
    """The state of the page's widgets, which then need no script of their own."""
    files = getattr(app.env, "nb_metadata", {}).get(docname, {}).get("js_files", {})
    body = files.get(STATE, (None, {"body": "{}"}))[1]["body"]
    for key in [key for key in files if key.startswith("ipywidgets")]:
        del files[key]
    return json.loads(body).get("state", {})


def numbers_of(docname: str, env) -> object:
    """Numbers for the figures of a chapter that numbers none by hand."""
    chapter = re.search(r"/(\d\d)_", docname)
    by_hand = any(place == docname for place in figures_of(env).values())
    count = 0
    while True:
        count += 1
        yield f"{int(chapter[1])}.{count}" if chapter and not by_hand else None


def resolve(app, doctree, docname: str) -> None:
    """Each picture of the page, in its order, becomes a figure."""
    if app.builder.format != "html":
        return
    images, state = Images(app, docname), widgets_of(app, docname)
    numbers = numbers_of(docname, app.env)
    candidates = doctree.findall(lambda n: isinstance(n, nodes.raw | nodes.image))
    for place, node in enumerate(list(candidates)):
        if isinstance(node, nodes.image):
            path = Path(app.srcdir) / node["uri"]
            if path.suffix == ".svg" and path.is_file():
                alt = html.escape(node.get("alt", ""))
                markup, _ = images.svg(path.read_text(encoding="utf-8"), alt, None)
                framed(node, markup, "v2v-schematic", next(numbers))
            continue
        text = node.astext()
        view, img = VIEW.search(text), IMG.fullmatch(text.strip())
        if view:
            book = pages_of(state, json.loads(view[1])["model_id"])
            markup = flipbook(images, *book, key=str(place))
            framed(node, markup, "v2v-book", next(numbers))
        elif img and 'src="data:' in img[0]:
            framed(node, images.tag(img[0])[0], "v2v-plot", next(numbers))
    link(app, doctree, docname)


# ---- links to figures


def figures_of(env) -> dict[str, str]:
    """Page by number of figure, over the whole book."""
    if not hasattr(env, "v2v_figures"):
        env.v2v_figures = {}
    return env.v2v_figures


def note(app, doctree) -> None:
    for strong in doctree.findall(nodes.strong):
        found = NUMBER.match(strong.astext())
        if found:
            figures_of(app.env)[found[1]] = app.env.docname


def forget(app, env, docname: str) -> None:
    for number in [n for n, place in figures_of(env).items() if place == docname]:
        del figures_of(env)[number]


def link(app, doctree, docname: str) -> None:
    """Every "Figure 6.2" of the running text leads to it."""
    closed = (nodes.strong, nodes.literal, nodes.reference, nodes.title, nodes.raw)
    for text in list(doctree.findall(nodes.Text)):
        inside = isinstance(text.parent, closed) or not NUMBER.search(text)
        if inside or isinstance(text.parent, nodes.literal_block):
            continue
        parts, at = [], 0
        for found in NUMBER.finditer(text):
            page = figures_of(app.env).get(found[1])
            if page is None:
                continue
            uri = app.builder.get_relative_uri(docname, page) if page != docname else ""
            target = f"{uri}#fig-{found[1].replace('.', '-')}"
            parts += [nodes.Text(text[at : found.start()])]
            parts += [nodes.reference("", found[0], refuri=target, internal=True)]
            at = found.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[at:])])


def setup(app) -> dict:
    """Register the extension with Sphinx."""
    app.connect("doctree-read", note)
    app.connect("env-purge-doc", forget)
    app.connect("doctree-resolved", resolve, priority=900)
    return {"parallel_read_safe": False}
