r"""Numbers in the text that are compared with what was computed: the role ``{claim}``.

In a chapter or a page: ``{claim}`.953 <align:main.selflearn.top1.median>` ``. In the
README, which GitHub shows as it is, ``.953<!--claim SOURCE-->``.

A source is one of

- ``NAME:path.to.number``: the entry of the table in book/results/NAME.json; a number in
  the path is the place in a list, ``*`` all of its entries, and ``min``, ``max`` or
  ``median`` after a space takes that one, as in ``growth:topics_best.*.rank max``,
- ``#cell``: a number printed by the cell of that id in the same chapter, also in a
  table; ``06#cell`` is one of chapter 6; ``#cell:words`` takes only the lines of the
  output that hold the words, however many spaces are between them.

The claim holds if the value rounds to what is shown, with as many decimals as shown;
"95 %" is a hundredth of 95. `tests/test_book.py` checks every one.

python tools/claims.py      lists the claims that do not hold
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
ROLE = re.compile(r"\{claim\}`([^`<]+?)\s*<([^`>]+)>`")
COMMENT = re.compile(r"(-?[\d.,]*\d(?:\s?%)?)<!--claim ([^>]+?)-->")
AMONG: dict[str, Any] = {"min": min, "max": max, "median": median}
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?|-?\.\d+")


def pages() -> list[Path]:
    """Chapters, pages and the README."""
    return [
        *sorted(BOOK.glob("*.ipynb")),
        *sorted(BOOK.glob("*.md")),
        ROOT / "README.md",
    ]


@cache
def notebook(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def text_of(path: Path) -> str:
    """What the reader sees of a page, and only the prose of a notebook."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    found = (c for c in notebook(path)["cells"] if c["cell_type"] == "markdown")
    return "\n\n".join("".join(cell["source"]) for cell in found)


def claims(path: Path) -> list[tuple[str, str]]:
    """(what is shown, source) of every marked number."""
    text = text_of(path)
    return [*ROLE.findall(text), *COMMENT.findall(text)]


def values(source: str, path: Path) -> list[float]:
    """The numbers that a source holds; LookupError where there is none such."""
    if "#" in source:
        chapter, _, rest = source.partition("#")
        if chapter:
            path = next(iter(BOOK.glob(f"{chapter}_*.ipynb")), path / "missing")
        cell, _, words = rest.partition(":")
        return printed(path, cell, words)
    name, _, rest = source.partition(":")
    steps, which = re.fullmatch(r"(.*?)(?: (min|max|median))?", rest).groups()  # type: ignore[union-attr]
    table = json.loads((BOOK / "results" / f"{name}.json").read_text())["table"]
    found = [float(x) for x in entries(table, steps.split("."))]
    return [AMONG[which](found)] if which else found


def entries(found: Any, steps: list[str]) -> list[float]:
    """The numbers at the end of a path, in a table of dicts and lists."""
    if not steps:
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise LookupError(f"{found!r} is not a number")
        return [found]
    step, rest = steps[0], steps[1:]
    if step == "*":
        return [x for one in found for x in entries(one, rest)]
    return entries(found[int(step) if isinstance(found, list) else step], rest)


def printed(path: Path, cell: str, words: str = "") -> list[float]:
    """The numbers in a cell's printed lines, or in those that hold the words."""
    every = notebook(path)["cells"] if path.is_file() else []
    outputs = [o for c in every if c["id"] == cell for o in c.get("outputs", ())]
    if not outputs:
        raise LookupError(f"{path.name} has no cell {cell!r} with an output")
    text = "".join(map(text_in, outputs))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    lines = [line for line in lines if " ".join(words.split()) in line]
    numbers = [x for line in lines for x in NUMBER.findall(line)]
    return [float(x.replace(",", "")) for x in numbers]


def text_in(output: dict) -> str:
    """What an output prints; of a table, the text beside its HTML."""
    shown = output.get("data", {}).get("text/plain", ())
    return "".join(output["text"] if "text" in output else ["\n", *shown, "\n"])


def holds(shown: str, value: float) -> bool:
    """Whether a value rounds to what is shown.

    >>> holds(".953", 0.95312), holds("95 %", 0.95312), holds(".96", 0.95312)
    (True, True, False)
    """
    number = shown.replace(",", "").replace("−", "-").strip()
    scale = 100 if number.endswith("%") else 1
    number = number.rstrip("% \u202f\u00a0")
    decimals = len(number.partition(".")[2])
    return abs(scale * value - float(number)) <= 0.5 * 10**-decimals + 1e-9


def wrong(path: Path) -> list[str]:
    """What is claimed on a page and does not hold, in words."""
    found = []
    for shown, source in claims(path):
        try:
            here = values(source, path)
        except (LookupError, OSError, ValueError) as error:
            found.append(f"{path.name}: {shown} <{source}>: {error!r}")
            continue
        if not any(holds(shown, value) for value in here):
            near = ", ".join(f"{v:g}" for v in here[:8])
            found.append(f"{path.name}: {shown} <{source}> is {near}")
    return found


def setup(app: Any) -> dict[str, bool]:
    """Sphinx: show the number, with its source as a title."""
    from docutils import nodes

    def role(name, rawtext, text, line, inliner, options=None, content=()):
        shown, _, source = text.partition("<")
        node = nodes.inline(rawtext, shown.strip(), classes=["v2v-claim"])
        if not source.endswith(">"):
            message = f"{rawtext}: a claim is {{claim}}`NUMBER <SOURCE>`"
            return [], [inliner.reporter.error(message, line=line)]
        return [node], []

    app.add_role("claim", role)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    bad = [line for page in pages() for line in wrong(page)]
    n = sum(len(claims(page)) for page in pages())
    print(*bad, f"{n} claims, {len(bad)} do not hold", sep="\n")
    sys.exit(bool(bad))
