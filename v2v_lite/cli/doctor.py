"""`v2v doctor`: what is installed, what works, what is missing and how to mend it.

The packages that v2v_lite asks for are those that its own metadata lists, by extra.
"""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import v2v_lite as v2v

from . import base

CORE = ""  # the key of what is always needed
# The name, and the extra if there is one: "tensorboard>=2.15; extra == 'train'".
REQUIREMENT = r"^([\w.-]+)(?:.*extra\s*==\s*['\"]([\w-]+))?"
# Import names that differ from their package's name by more than dashes and case.
PACKAGES = {"ot": "pot", "sklearn": "scikit-learn"}


@dataclass(frozen=True)
class Doctor(base.Command):
    """Report versions, device, data, encoders and results; name what is missing."""

    def run(self) -> base.Result:
        import torch

        gpu = torch.cuda.is_available()
        broken: list[str] = []
        missing: list[str] = []
        report: dict[str, Any] = {
            "v2v_lite": v2v.__version__,
            "python": f"{platform.python_version()} on {platform.system()}",
            "packages": _packages(broken, missing),
            "device": f"cuda: {torch.cuda.get_device_name()}" if gpu else "cpu",
            "threads": torch.get_num_threads(), "cores": os.cpu_count(),
            "data": _data(broken), "encoders": _encoders(),
            "results": _results(), "broken": broken, "missing": missing,
        }  # fmt: skip
        lines = [line for name in report for line in _lines(name, report[name])]
        lines += [] if broken else ["all that the library needs is here"]
        return base.Result(report, lines, 1 if broken else 0)


def _packages(broken: list[str], missing: list[str]) -> dict[str, str | None]:
    table = requirements()
    for extra, packages in table.items():
        gone = [name for name in packages if version(name) is None]
        if gone:
            optional, kind = (" (optional)", missing) if extra else ("", broken)
            kind.append(f"{', '.join(gone)}{optional}; `{_install(extra, gone)}`")
    return {name: version(name) for names in table.values() for name in names}


def _data(broken: list[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(v2v.spaces.NAMES)
    for name in found:
        try:
            space = v2v.spaces.load(name)
            found[name] = f"{space.n:,} rows, {space.d}-d, verified"
        except v2v.spaces.DataError as error:
            broken += [why for why in [str(error)] if why not in broken]
    return found


def _encoders() -> dict[str, str]:
    from ..spaces.encoders import is_cached

    found = {}
    for name, about in v2v.spaces.ENCODERS.items():
        here = bool(about.package and version(about.package)) or is_cached(about.hub)
        found[name] = "needs no network" if here else "comes from the hub"
    return found


def _results() -> dict[str, str]:
    from ..teaching import results

    bench = "`make bench NAME="
    found = {name: f"not measured; {bench}{name}`" for name in results.NAMES}
    for name in found:
        with suppress(ValueError, KeyError, OSError):
            why = results.stale(name)
            found[name] = f"{why}; {bench}{name} RECHECK=1`" if why else "fresh"
    return found


def _lines(title: str, found: Any) -> list[str]:
    rows = found if isinstance(found, list) else [found]
    if isinstance(found, dict):
        rows = [f"{name:<12} {value or 'absent'}" for name, value in found.items()]
    if title == "packages":
        rows = [", ".join(" ".join(row.split()) for row in rows)]
    return [f"{title + ':':<10} {row}" for row in rows]


# ---- packages


def requirements() -> dict[str, list[str]]:
    """Extra -> names of its packages; {} where v2v_lite is not installed."""
    table: dict[str, list[str]] = {}
    lines: list[str] = []
    with suppress(metadata.PackageNotFoundError):
        lines += metadata.requires("v2v_lite") or []
    for name, extra in re.findall(REQUIREMENT, "\n".join(lines), re.MULTILINE):
        if _normal(name) != "v2v-lite":
            table.setdefault(extra, []).append(_normal(name))
    return table


def version(package: str) -> str | None:
    """The installed version, or None."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def advice(module: str) -> str:
    """How to install what holds a missing module: by itself, or its smallest extra.

    >>> advice("sentence_transformers")
    "pip install 'v2v_lite[text]'"
    """
    top = module.partition(".")[0]
    package = PACKAGES.get(top, _normal(top))
    table = requirements()
    extras = [extra for extra in table if package in table[extra]]
    extra = min(extras, key=lambda x: (x != CORE, len(table[x])), default=CORE)
    names = table[extra] if extras else []
    gone = [name for name in names if version(name) is None]
    return _install(extra, gone or [package])


def _install(extra: str, missing: list[str]) -> str:
    what = f"'v2v_lite[{extra}]'" if extra else " ".join(missing)
    return f"pip install {what}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
