"""Write the repository's address from ``_config.yml`` into notebooks and project files.

A chapter opens with its title, then the link that opens it in Colab, then the cell
that installs the library there. The last two are the same everywhere, so they are
written here from one template, and inserted where a notebook lacks them. Some project
files (`FILES`) name the address in their text: there it is replaced.

    python tools/stamp.py             # stamp all of them
    python tools/stamp.py --check     # say which are out of date, change nothing
    python tools/stamp.py --address https://github.com/me/book    # set it first
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLAB = "https://colab.research.google.com/github/"
# Project files with the address, and the words that it follows there.
FILES = (
    "CITATION.cff",
    "CONTRIBUTING.md",
    "pyproject.toml",
    ".github/ISSUE_TEMPLATE/config.yml",
)
PLACE = re.compile(
    r"((?:repository-code: |url: |Repository = |Issues = |git clone )\"?)"
    r"https://github\.com/[\w.-]+/[\w.-]+"
)

# Runs in Colab alone. pip leaves an installed package that meets the bounds; torch and
# numpy are asked for in Colab's own version, so that it has to leave them or to fail.
INSTALL = """\
# In Colab only: one pip line installs what is missing; torch and numpy stay.
import sys
from importlib import invalidate_caches, metadata, util

if "google.colab" in sys.modules and not util.find_spec("v2v_lite"):
    import subprocess

    def installed():
        return [f"{p}=={metadata.version(p)}" for p in ("torch", "numpy")]

    own = installed()
    book = "v2v_lite[text,train,course] @ git+ADDRESS"
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, *own, book], check=True)
    invalidate_caches()
    assert util.find_spec("v2v_lite") and installed() == own
"""


def address(config: Path = ROOT / "_config.yml") -> str:
    """The repository's address, from the one place where it stands."""
    text = config.read_text(encoding="utf-8")
    found = re.search(r"^repository:\n(?:\s+.*\n)*?\s+url:\s*(\S+)", text, re.M)
    if not found or not found[1].startswith("https://github.com/"):
        raise SystemExit(f"{config.name}: repository.url must be a github.com address")
    return found[1].rstrip("/")


def set_address(url: str, config: Path = ROOT / "_config.yml") -> None:
    """Write the repository's address into its one place."""
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", url):
        raise SystemExit(f"{url}: give an address like https://github.com/me/book")
    text = config.read_text(encoding="utf-8")
    write_text(config, text.replace(address(config), url))


def colab_source(url: str) -> str:
    return INSTALL.replace("ADDRESS", url).rstrip("\n")


def link_source(url: str, path: str) -> str:
    name = url.removeprefix("https://github.com/")
    return f"[Open this chapter in Colab]({COLAB}{name}/blob/main/{path})"


def readdressed(text: str, url: str) -> str:
    """A project file's text with the repository's address in its places."""
    return PLACE.sub(lambda found: found[1] + url, text)


def _cell(kind: str, ident: str, source: str, tags: list[str]) -> dict:
    cell = {"cell_type": kind, "id": ident, "metadata": {"tags": tags}}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell | {"source": source.splitlines(keepends=True)}


def _find(cells: list[dict], tag: str) -> dict | None:
    tagged = [c for c in cells if tag in c["metadata"].get("tags", [])]
    return tagged[0] if tagged else None


def stamped(notebook: dict, url: str, path: str) -> dict:
    """The notebook with its link and its install cell as the template has them."""
    cells = notebook["cells"]
    new = [
        _cell("markdown", "open-in-colab", link_source(url, path), ["open-in-colab"]),
        _cell("code", "colab-install", colab_source(url), ["colab", "remove-cell"]),
    ]
    for place, cell in enumerate(new, start=1):
        old = _find(cells, cell["metadata"]["tags"][0])
        if old is None:
            cells.insert(min(place, len(cells)), cell)
        else:
            old["source"] = cell["source"]
            old["metadata"]["tags"] = cell["metadata"]["tags"]
    return notebook


def write(path: Path, notebook: dict) -> None:
    """Write as Jupyter does: one blank of indent, readable letters, a last newline."""
    write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".tmp")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def chapters(root: Path = ROOT) -> list[Path]:
    return sorted((root / "book").glob("*.ipynb"))


def main(arguments: list[str]) -> int:
    if "--address" in arguments:
        given = arguments[arguments.index("--address") + 1 :]
        set_address(given[0].rstrip("/") if given else "nothing")
    url, stale = address(), []
    for path in chapters():
        text = path.read_text(encoding="utf-8")
        relative = path.relative_to(ROOT).as_posix()
        notebook = stamped(json.loads(text), url, relative)
        if notebook != json.loads(text):
            stale.append(relative)
            if "--check" not in arguments:
                write(path, notebook)
    for relative in FILES:
        path = ROOT / relative
        text = path.read_text(encoding="utf-8")
        if readdressed(text, url) != text:
            stale.append(relative)
            if "--check" not in arguments:
                write_text(path, readdressed(text, url))
    for name in stale:
        print(("out of date: " if "--check" in arguments else "stamped ") + name)
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
