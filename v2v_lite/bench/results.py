"""Result files: a table of numbers and the circumstances it was measured under.

A result is stale when the code or the data that made it have changed since. Code is
compared without comments and docstrings, and only the modules that the measured ones
import, so that a better word in a docstring does not cost an hour of measuring.
"""

from __future__ import annotations

import ast
import datetime
import hashlib
import io
import json
import os
import platform
import tokenize
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..spaces.bundled import data_folder
from ..spaces.files import DataError, read_json, write_json

FORMAT = "v2v-result-1"
PACKAGE = Path(__file__).resolve().parents[1]
#: What each result measures: modules, and the sets of vectors that go in.
MADE_BY = {
    "align": ("align/selflearn", "align/mini_vec2vec", "align/paired",
              "align/baselines", "align/diagnosis", "measure/retrieval",
              "spaces/splits"),
    "privacy": ("privacy/attributes", "privacy/adapt", "privacy/defenses",
                "align/selflearn", "measure/retrieval", "spaces/splits"),
    "geometry": ("align/selflearn", "align/consensus", "align/ot", "align/paired",
                 "align/diagnosis", "measure/retrieval", "measure/similarity",
                 "bench/cases", "bench/trials"),
    "inversion": ("privacy/inversion", "privacy/leaks", "privacy/adapt",
                  "align/selflearn", "measure/retrieval", "spaces/splits"),
    "import": ("__init__", "spaces/__init__", "measure/__init__", "align/__init__"),
    "platonic": ("bench/platonic",),
    "similarity": ("bench/similarity",),
    "step": ("bench/step",),
    "vec2vec": ("vec2vec/trainer", "measure/retrieval", "spaces/splits"),
    "ablations": ("bench/ablations",),
    "losses": ("bench/losses", "vec2vec/step", "align/selflearn", "align/paired",
               "spaces/splits"),
}  # fmt: skip
DOCUMENTS = ("documents/posts", "documents/emails", "documents/notes")
DATASETS = {
    "align": ("wiki",),
    "privacy": ("wiki", *DOCUMENTS),
    "geometry": ("wiki", *DOCUMENTS),
    "import": (),
    "step": (),
    "vec2vec": ("wiki",),
    "ablations": ("wiki",),
    "losses": ("wiki",),
    "platonic": (),
    "similarity": ("wiki",),
    "inversion": ("wiki", *DOCUMENTS),
}
# Where methods are, how tasks and files are kept: what is new there changes no number.
PLUMBING = ("align/registry", "bench/results", "bench/pool")


def results_folder() -> Path:
    """The checkout's book/results, else the copy inside the wheel."""
    checkout = PACKAGE.parent / "book" / "results"
    return checkout if checkout.is_dir() else PACKAGE / "_results"


def load(name: str) -> dict:
    """The result `{"stamp": ..., "table": ...}`; DataError when there is none."""
    path = results_folder() / f"{name}.json"
    if not path.is_file():
        raise DataError(f"{path}: not measured yet; `v2v bench {name}` writes it")
    result = read_json(path)
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise DataError(f"{path}: not a result of the form {FORMAT}; measure it again")
    return result


def write(name: str, table: Any, folder: Path | None = None) -> Path:
    """Write a table with its stamp, atomically; return the file's path."""
    path = (folder or results_folder()) / f"{name}.json"
    write_json(path, {"format": FORMAT, "stamp": stamp(name), "table": table})
    return path


def stamp(name: str) -> dict:
    """Circumstances: hashes of code and data, kind of machine, torch, date (UTC)."""
    import torch

    return {
        "code": code_hash(MADE_BY[name]),
        "data": data_hash(DATASETS[name]),
        "machine": machine(),
        "torch": torch.__version__.split("+")[0],
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def stale(name: str) -> str:
    """Why the stored result is out of date; empty when it is fresh."""
    was, now = load(name)["stamp"], stamp(name)
    changed = [key for key in ("code", "data") if was.get(key) != now[key]]
    return f"{' and '.join(changed)} changed since {was['date']}" if changed else ""


def machine() -> str:
    """The kind of machine, such as "2 cores x86_64"; it names no host."""
    if hasattr(os, "sched_getaffinity"):  # what this process may use, not what there is
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return f"{cores} cores {platform.machine()}"


@lru_cache(maxsize=8)
def data_hash(datasets: tuple[str, ...]) -> str:
    """Of the manifest's entries of these sets, which hold the SHA-256 of each file."""
    sets = read_json(data_folder() / "manifest.json")["sets"]
    text = json.dumps([sets[name] for name in datasets], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=64)
def code_hash(modules: tuple[str, ...]) -> str:
    """Of the code of `modules` (such as "align/mini_vec2vec") and all that they import."""
    digest, todo, seen = hashlib.sha256(), list(modules), set()
    while todo:
        name = todo.pop()
        path = PACKAGE / f"{name}.py"
        if name not in seen and name not in PLUMBING and path.is_file():
            seen.add(name)
            todo += _imported(name, ast.parse(path.read_text(encoding="utf-8")))
    for name in sorted(seen):
        code = bare((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        digest.update(f"{name}\n{code}\n".encode())
    return digest.hexdigest()[:16]


def bare(source: str) -> str:
    """Code without comments, docstrings, blank lines and trailing space.

    >>> bare('x = 1  # one\\n\\ndef f():\\n    "Says."\\n    return x\\n')
    'x = 1\\ndef f():\\n    return x'
    """
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            for number in range(node.lineno - 1, node.end_lineno):
                lines[number] = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT and lines[row - 1]:
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _imported(name: str, tree: ast.Module) -> list[str]:
    # The library's own modules that are imported at the top, as paths.
    folder, found = Path(name).parent, []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder if node.level == 1 else folder.parent
            inner = (node.module or "").replace(".", "/")
            names = [inner] if inner else [alias.name for alias in node.names]
            for one in names:
                path = (base / one).as_posix()
                package = (PACKAGE / path).is_dir()
                found.append(f"{path}/__init__" if package else path)
    return found
