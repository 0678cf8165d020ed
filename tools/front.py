"""Sphinx directives of the front page: ``{hero}`` and ``{chapters}``.

``{hero}`` draws sixty texts of chapter 6's run (``book/web/hero.json``, written by
``tools/hero.py``) with the sentence in its body, the stored result and the buttons.
``{chapters}`` lists chapters, one a line of its body (``06_anchors: what it does``),
with title, minutes and first picture read from the notebooks, so that it never goes
stale.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from pages import placeholder
from pictures import IMG, Images
from stamp import COLAB

BOOK = Path(__file__).resolve().parent.parent / "book"
WIDE, HIGH = 1000, 520


class Hero(nodes.General, nodes.Element):
    """The moving figure; drawn when the page is written."""


class ChapterMap(nodes.General, nodes.Element):
    """Cards of chapters; drawn when the page is written."""


class HeroDirective(Directive):
    has_content = True

    def run(self) -> list[nodes.Node]:
        environment = self.state.document.settings.env
        for file in ("web/hero.json", "results/align.json"):
            environment.note_dependency(str(BOOK / file))
        return [Hero(text="\n".join(self.content))]


class ChaptersDirective(Directive):
    has_content = True

    def run(self) -> list[nodes.Node]:
        entries = [line.partition(":")[::2] for line in self.content if line.strip()]
        for name, _ in entries:
            file = BOOK / f"{name.strip()}.ipynb"
            if not file.is_file():
                raise self.error(f"{file.name} is no chapter")
            self.state.document.settings.env.note_dependency(str(file))
        return [ChapterMap(entries=[(n.strip(), line.strip()) for n, line in entries])]


# ---- the moving figure


def result() -> str:
    """The book's main number, from the stored result."""
    table = json.loads((BOOK / "results" / "align.json").read_text(encoding="utf-8"))
    found = table["table"]["main"]["selflearn"]
    top1 = found["top1"]
    return (
        f'<p class="v2v-number"><b>{100 * top1["median"]:.0f} %</b> of 4,096 '
        "held-out texts are found by their translation, in first place among all of "
        "them, after training without one pair (MiniLM to Granite; median of "
        f"{found['seeds']} seeds, {100 * top1['min']:.0f} to "
        f"{100 * top1['max']:.0f} %; by chance 0.02 %).</p>"
    )


def drawing(data: dict) -> str:
    """Circles for translations, squares for their true targets, lines between."""
    x, y = WIDE / data["side"], HIGH / data["side"]
    first = data["frames"][0]["at"]
    marks = []
    for (a, b), (c, d) in zip(first, data["target"], strict=True):
        a, b, c, d = a * x, HIGH - b * y, c * x, HIGH - d * y
        marks.append(
            f'<line x1="{a:.0f}" y1="{b:.0f}" x2="{c:.0f}" y2="{d:.0f}"/>'
            f'<rect x="{c - 6:.0f}" y="{d - 6:.0f}" width="12" height="12"/>'
            f'<g style="transform:translate({a:.0f}px,{b:.0f}px)"><circle r="7"/></g>'
        )
    return "".join(marks)


def hero(app, words: str) -> str:
    """The first screen: the claim, the number, two buttons, the figure."""
    data = json.loads((BOOK / "web" / "hero.json").read_text(encoding="utf-8"))
    x, y = WIDE / data["side"], HIGH / data["side"]
    steps = [
        {
            "label": frame["label"],
            "at": [[round(a * x), round(HIGH - b * y)] for a, b in frame["at"]],
        }
        for frame in data["frames"]
    ]
    buttons = '<a class="v2v-button" href="01_embeddings.html">Start reading</a>'
    second = '<a class="v2v-button v2v-second" href="06_anchors.html">See it work</a>'
    if not placeholder(app):
        address = app.config.html_theme_options["repository_url"].rstrip("/")
        name = address.removeprefix("https://github.com/")
        second = (
            f'<a class="v2v-button v2v-second" href="{COLAB}{name}/blob/main/'
            'book/01_embeddings.ipynb">Open in Colab</a>'
        )
    label = (
        "Sixty texts in two axes of the target's space: green circles are translated "
        "vectors, orange squares the true ones. Round by round the circles move onto "
        "their squares."
    )
    return (
        f'<div class="v2v-hero"><p class="v2v-claim">{html.escape(words)}</p>'
        f'{result()}<p class="v2v-buttons">{buttons}{second}</p>'
        f'<figure><svg viewBox="-12 -12 {WIDE + 24} {HIGH + 24}" role="img" '
        f'aria-label="{label}">{drawing(data)}</svg>'
        '<div class="v2v-turn" hidden><button type="button" class="v2v-play" '
        'aria-label="play">▶</button><input type="range" min="0" '
        f'max="{len(steps) - 1}" value="0" aria-label="round" autocomplete="off">'
        f'</div><div class="v2v-label">{html.escape(steps[0]["label"])}</div>'
        "<figcaption>Sixty held-out texts while <a href='06_anchors.html'>chapter 6"
        "</a> aligns two encoders that share no text: each green circle is a "
        "translated vector, joined to the orange square where it belongs. The squares "
        "are used for drawing and scoring only. "
        "</figcaption>"
        f'<script type="application/json">{json.dumps(steps)}</script></figure></div>'
    )


# ---- the map


def minutes(text: str) -> int:
    """Minutes to read: what the chapter says, else 150 words a minute."""
    said = re.search(r"[Rr]ead:?\*{0,2} (?:about )?(\d+) min", text)
    said = said or re.search(r"(\d+) minutes to read", text)
    return int(said[1]) if said else 5 * round(len(text.split()) / 150 / 5)


def first_picture(notebook: dict) -> str | None:
    """The chapter's schematic, or the first picture that a cell drew, as a tag."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        found = re.search(r"!\[[^\]]*\]\((images/[\w-]+\.svg)\)", source)
        if cell["cell_type"] == "markdown" and found:
            return found[1]
        for output in cell.get("outputs", []):
            shown = "".join(output.get("data", {}).get("text/html", ""))
            if 'src="data:image' in shown:
                return IMG.search(shown)[0]
    return None


def card(images: Images, name: str, line: str) -> str:
    """A chapter: picture, number and title, a line, what it takes."""
    text = (BOOK / f"{name}.ipynb").read_text(encoding="utf-8")
    notebook = json.loads(text)
    prose = "\n".join(
        "".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"
    )
    title = re.search(r"^# (.+)$", prose, re.M)[1]
    seconds = notebook["metadata"].get("v2v", {}).get("seconds", 60)
    found, picture = first_picture(notebook), ""
    if found and found.endswith(".svg"):
        svg = (BOOK / found).read_text(encoding="utf-8")
        picture, _ = images.svg(svg, "", None)
    elif found:
        picture, _ = images.tag(found)

    picture = re.sub(r'alt="[^"]*"', 'alt=""', picture)
    return (
        f'<a class="v2v-chapter" href="{name}.html">{picture}'
        f"<b>{html.escape(title)}</b><span>{html.escape(line)}</span>"
        f"<small>{minutes(prose)} min to read · {seconds} s to run</small></a>"
    )


def resolve(app, doctree, docname: str) -> None:
    """Put the drawn figure and cards in their places."""
    for node in list(doctree.findall(Hero)):
        node.replace_self(nodes.raw("", hero(app, node["text"]), format="html"))
    for node in list(doctree.findall(ChapterMap)):
        images = Images(app, docname)
        cards = "".join(card(images, name, line) for name, line in node["entries"])
        markup = f'<div class="v2v-map">{cards}</div>'
        node.replace_self(nodes.raw("", markup, format="html"))


def setup(app) -> dict:
    """Register the directives with Sphinx."""
    app.add_node(Hero)
    app.add_node(ChapterMap)
    app.add_directive("hero", HeroDirective)
    app.add_directive("chapters", ChaptersDirective)
    app.connect("doctree-resolved", resolve)
    return {"parallel_read_safe": True}
