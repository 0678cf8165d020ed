"""The packages that v2v_lite asks for, by extra, as its own metadata lists them."""

from __future__ import annotations

import re
from importlib import metadata

__all__ = ["advice", "requirements", "version"]

CORE = ""  # the key of what is always needed
# Import names that differ from their package's name by more than dashes and case.
PACKAGES = {"ot": "pot", "sklearn": "scikit-learn"}


def requirements() -> dict[str, list[str]]:
    """Extra -> names of its packages; {} where v2v_lite is not installed."""
    table: dict[str, list[str]] = {}
    try:
        lines = metadata.requires("v2v_lite") or []
    except metadata.PackageNotFoundError:
        return table
    for line in lines:
        name = _normal(re.split(r"[^\w.-]", line, maxsplit=1)[0])
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", line)
        if name != "v2v-lite":
            table.setdefault(extra[1] if extra else CORE, []).append(name)
    return table


def version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def advice(module: str) -> str:
    """How to install what holds a missing module: by itself, or its smallest extra.

    >>> advice("sentence_transformers")
    "pip install 'v2v_lite[text]'"
    """
    top = module.partition(".")[0]
    package = PACKAGES.get(top, _normal(top))
    table = requirements()
    if package in table.get(CORE, ()):
        missing = [name for name in table[CORE] if version(name) is None]
        return "pip install " + " ".join(missing or [package])
    extras = [extra for extra in table if package in table[extra]]
    if not extras:
        return f"pip install {package}"
    return f"pip install 'v2v_lite[{min(extras, key=lambda e: len(table[e]))}]'"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
