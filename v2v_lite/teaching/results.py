"""Result files: a table of numbers and the circumstances it was measured under.

The experiments in `book/experiments` write them and chapters read them. A result is
stale when the code or the data that made it have changed since. Code is compared module
by module, without comments and docstrings, so that a better word in a docstring does
not cost an hour of measuring.
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

from ..spaces.bundled import data_folder, read_manifest
from ..spaces.files import DataError, read_json

FORMAT = "v2v-result-2"
#: The results that the experiments write.
NAMES = (
    "ablations", "align", "asked", "defences", "few_pairs", "fingerprint", "fit",
    "geometry", "gpu", "growth", "import", "inversion", "judges", "losses", "nonlinear",
    "ours_ablation", "platonic", "privacy", "questionnaire", "similarity", "step",
    "success", "vec2vec",
)  # fmt: skip
LIBRARY = Path(__file__).resolve().parents[1]
BOOK = LIBRARY.parent / "book"  # absent beside an installed wheel


def results_folder() -> Path:
    """The checkout's `book/results`, else the copy inside the wheel."""
    checkout = BOOK / "results"
    return checkout if checkout.is_dir() else LIBRARY / "_results"


def load(name: str) -> dict[str, Any]:
    """The result `{"stamp": ..., "table": ...}`; DataError when there is none."""
    path = results_folder() / f"{name}.json"
    if not path.is_file():
        raise DataError(f"{path}: not measured yet; `make bench NAME={name}` writes it")
    result = read_json(path)
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise DataError(f"{path}: not a result of the form {FORMAT}; measure it again")
    return result


def circumstances() -> dict[str, str]:
    """The kind of machine, such as "2 cores x86_64", torch's version, the UTC date."""
    import torch

    usable = getattr(os, "sched_getaffinity", None)  # by this process; not everywhere
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    return {
        "machine": f"{cores} cores {platform.machine()}",  # it names no host
        "torch": torch.__version__.split("+")[0],
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def stale(name: str) -> str:
    """Why the stored result is out of date; empty when nothing is known against it.

    The stamp lists the modules that made the result with a hash of each. Those of the
    experiments are compared only where they are at hand, in a checkout.
    """
    stamp = load(name)["stamp"]
    if not isinstance(stamp.get("code"), dict):  # of before modules were listed
        return f"the code of {stamp.get('date')} is not recorded by module"
    code = stamp["code"]
    if not (BOOK / "experiments").is_dir():
        code = {m: h for m, h in code.items() if not m.startswith("experiments.")}
    changed = [module for module, was in code.items() if module_hash(module) != was]
    if data_hash(tuple(stamp["datasets"])) != stamp["data"]:
        changed.append("the data")
    return f"{', '.join(changed)} changed since {stamp['date']}" if changed else ""


@lru_cache(maxsize=16)
def data_hash(datasets: tuple[str, ...]) -> str:
    """Of the manifest's entries of these sets, which hold the SHA-256 of each file."""
    sets = read_manifest(data_folder())
    text = json.dumps([sets[name] for name in datasets], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def module_path(module: str) -> Path | None:
    """The source of "v2v_lite.align.base" or "experiments.align"; None if not here."""
    root, *inner = module.split(".")
    folder = {LIBRARY.name: LIBRARY, "experiments": BOOK / "experiments"}.get(root)
    if folder is None:
        return None
    path = folder.joinpath(*inner)
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return found if found.is_file() else None


@lru_cache(maxsize=512)
def module_hash(module: str) -> str:
    """Of a module's code without comments and docstrings; empty if it is not here."""
    path = module_path(module)
    if path is None:
        return ""
    code = bare(path.read_text(encoding="utf-8"))
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def bare(source: str) -> str:
    """Code without comments, docstrings, blank lines and trailing space.

    >>> bare('x = 1  # one\\n\\ndef f():\\n    "Says."\\n    return x\\n')
    'x = 1\\ndef f():\\n    return x'
    """
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT and lines[row - 1]:
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())
