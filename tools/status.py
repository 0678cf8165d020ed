"""A Sphinx directive that lists what was measured and when: ``{status}``.

Made from the chapters' metadata, the stamps of book/results and requirements.txt
whenever the book is built, so nothing on the page is typed by hand.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
READ = re.compile(
    r"(?i)\*\*To read:?\*\*:?\s+about ([^.*\n]+)|about (an? [^.,]*?) to read"
)
PINS = (
    "torch",
    "numpy",
    "scipy",
    "transformers",
    "sentence-transformers",
    "jupyter-book",
)


def chapters() -> list[tuple[str, str, str, str]]:
    """Title, seconds, minutes to read and stored results of every chapter."""
    rows = []
    for path in sorted(BOOK.glob("*.ipynb")):
        book = json.loads(path.read_text(encoding="utf-8"))
        texts = ["".join(c["source"]) for c in book["cells"]]
        title = texts[0].splitlines()[0].lstrip("# ")
        seconds = book["metadata"].get("v2v", {}).get("seconds")
        read = READ.search("\n".join(texts))
        used = sorted(set(re.findall(r'results\.load\("(\w+)"\)', "\n".join(texts))))
        shown = "not measured" if seconds is None else f"{seconds:g}"
        rows.append(
            (title, shown, (read[1] or read[2]) if read else "", ", ".join(used))
        )
    return rows


def measured() -> list[tuple[str, str, str, str]]:
    """Name, date, machine and torch of every stored result."""
    rows = []
    for path in sorted((BOOK / "results").glob("*.json")):
        stamp = json.loads(path.read_text(encoding="utf-8"))["stamp"]
        keys = ("date", "machine", "torch")
        rows.append((path.stem, *(str(stamp.get(key, "")) for key in keys)))
    return rows


def versions() -> list[tuple[str, str]]:
    """The pinned versions of the packages that matter most."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))
    return [(name, pins[name]) for name in PINS if name in pins]


def table(head: tuple[str, ...], rows: list[Any], caption: str) -> str:
    """An HTML table."""
    cells = "".join(f'<th scope="col">{html.escape(x)}</th>' for x in head)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(x)}</td>" for x in row) + "</tr>"
        for row in rows
    )
    name = html.escape(caption)
    return (
        f'<div style="overflow-x:auto" tabindex="0" role="region" aria-label="{name}">'
        f'<table class="table"><caption>{name}</caption><thead><tr>{cells}</tr></thead>'
        f"\n<tbody>{body}</tbody></table></div>\n"
    )


def page() -> str:
    """The HTML of the three tables."""
    found = chapters()
    took = sum(float(row[1]) for row in found if row[1] != "not measured")
    return "\n".join(
        [
            table(
                ("chapter", "seconds to run", "to read", "stored results"), found,
                f"Chapters: {took:.0f} seconds of one core in all",
            ),
            table(("result", "measured", "machine", "torch"), measured(), "Results"),
            table(("package", "version"), versions(), "Versions of the book"),
        ]
    )  # fmt: skip


def setup(app: Any) -> dict[str, bool]:
    """Sphinx: the directive."""
    from docutils import nodes
    from docutils.parsers.rst import Directive

    class Status(Directive):
        def run(self) -> list[nodes.Node]:
            environment = self.state.document.settings.env
            for path in [*BOOK.glob("*.ipynb"), *(BOOK / "results").glob("*.json")]:
                environment.note_dependency(str(path))
            return [nodes.raw("", page(), format="html")]

    app.add_directive("status", Status)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
