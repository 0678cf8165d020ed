"""A Sphinx directive that lists the bundled documents by label: ``{documents} posts``.

The page is made from data/documents whenever the book is built, so it cannot go stale.
It folds with <details>, which needs no script and works from a file.
"""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive

from v2v_lite.spaces import load_documents
from v2v_lite.spaces.documents import SETS, Document, Documents, Label

DATA = Path(__file__).resolve().parent.parent / "data" / "documents"
STYLE = """<style>
.v2v-label {border-bottom: 1px solid var(--pst-color-border); padding: .4em 0}
.v2v-label summary {cursor: pointer}
.v2v-label .v2v-meta {color: var(--pst-color-text-muted); font-size: .8em}
.v2v-label p {margin: .1em 0 .9em 0; white-space: pre-line; max-width: 44em}
.v2v-label mark {background: none; padding: 0; color: inherit;
  border-bottom: 2px solid #b8860b}
</style>"""


class DocumentsDirective(Directive):
    """All documents of one set, under each of their labels."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in (*SETS, "routine"):
            raise self.error(f"no set {name!r} of documents; there is {SETS}, routine")
        environment = self.state.document.settings.env
        for file in (DATA / f"{name}.jsonl", DATA / "labels.json"):
            environment.note_dependency(str(file))
        return [nodes.raw("", listing(load_documents(name)), format="html")]


def listing(documents: Documents) -> str:
    """The HTML of a set: one fold a label."""
    names = {label.key: label.name for label in documents.labels}
    folds = []
    for label in documents.labels:
        rows = tuple(row for row in documents if label.key in row.labels)
        folds.append(fold(label, replace(documents, rows=rows), names))
    return STYLE + "\n".join(folds)


def fold(label: Label, rows: Documents, names: dict[str, str]) -> str:
    """One label: its name, description, and the documents that carry it."""
    n_public = sum(row.split == "public" for row in rows)
    counts = f"{n_public} public, {len(rows) - n_public} private"
    tone = " · sensitive" if label.sensitive and rows.name == "emails" else ""
    entries = "\n".join(entry(row, label, names) for row in rows)
    return (
        f'<details class="v2v-label" id="{label.key}"><summary>'
        f"<b>{html.escape(label.name)}</b> {html.escape(label.description)} "
        f'<span class="v2v-meta">({counts}{tone})</span></summary>\n{entries}\n'
        "</details>"
    )


def entry(row: Document, label: Label, names: dict[str, str]) -> str:
    """One document, its facts underlined."""
    others = [names[key] for key in row.labels if key != label.key]
    meta = [row.id, *others, row.age_group]
    line = " · ".join(html.escape(one) for one in meta if one)
    return f'<div class="v2v-meta">{line}</div><p>{marked(row)}</p>'


def marked(row: Document) -> str:
    """The text with its facts and medication marked."""
    secrets = [*row.facts.values(), *row.medication]
    if not secrets:
        return html.escape(row.text)
    longest_first = sorted(set(secrets), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)), re.I)
    out, at = [], 0
    for found in pattern.finditer(row.text):
        out.append(html.escape(row.text[at : found.start()]))
        out.append(f"<mark>{html.escape(found.group())}</mark>")
        at = found.end()
    return "".join(out) + html.escape(row.text[at:])


def setup(app) -> dict:
    """Register the directive with Sphinx."""
    app.add_directive("documents", DocumentsDirective)
    return {"parallel_read_safe": True}
