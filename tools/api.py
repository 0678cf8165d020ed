"""The public names of v2v_lite: what changed since the last release, and is it told?

    python tools/api.py            # the differences; CHANGELOG.md's gaps marked
    python tools/api.py --write    # at a release: store today's names

Public is what a subpackage lists in ``__all__``, and of its classes the methods without
a leading underscore. A signature here is what a caller can break on: names, order and
defaults of parameters, not their types.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / "tests" / "public_api.json"
CHANGELOG = ROOT / "CHANGELOG.md"
PLAIN = (bool, int, float, str, type(None))


def public() -> dict[str, dict[str, str]]:
    """`{subpackage: {name or Class.method: signature}}` of the installed library."""
    import v2v_lite

    return {
        module.name: names_of(importlib.import_module(f"v2v_lite.{module.name}"))
        for module in pkgutil.iter_modules(v2v_lite.__path__)
        if module.ispkg
    }


def names_of(package) -> dict[str, str]:
    """The names that a subpackage lists, with signatures."""
    found = {}
    for name in sorted(package.__all__):
        thing = getattr(package, name)
        found[name] = signature(thing)
        if isinstance(thing, type) and thing.__module__.startswith("v2v_lite"):
            for method, value in sorted(vars(thing).items()):
                if is_method(method, value):
                    found[f"{name}.{method}"] = signature(getattr(thing, method))
    return found


def is_method(name: str, value: object) -> bool:
    # Defined here and public; a dataclass field's default is in the signature already.
    kinds = (classmethod, staticmethod, property)
    return not name.startswith("_") and (
        inspect.isfunction(value) or isinstance(value, kinds)
    )


def signature(thing: object) -> str:
    """`(a, b=1, *, c=...)` of a callable, else the name of the value's type."""
    if isinstance(thing, property):
        return "property"
    if not callable(thing):
        return type(thing).__name__
    if isinstance(thing, type) and issubclass(thing, BaseException):
        return "exception"  # inspect sees these differently in each Python
    try:
        found = inspect.signature(thing)
    except ValueError:  # a class of C, an alias of types
        return type(thing).__name__
    bare = [parameter(p) for p in found.parameters.values()]
    return str(found.replace(parameters=bare, return_annotation=found.empty))


def parameter(one: inspect.Parameter) -> inspect.Parameter:
    """Without its type; a default that is no plain value as `...`."""
    plain = isinstance(one.default, PLAIN) or one.default is one.empty
    default = one.default if plain else _Dots()
    return one.replace(annotation=one.empty, default=default)


class _Dots:
    def __repr__(self) -> str:
        return "..."


def differences(old: dict, new: dict) -> list[str]:
    """Lines such as ``align.polar: removed``; of a new or gone class, only the class.

    A whole subpackage that came or went is one line, whatever is in it.
    """
    lines = [f"{floor}: removed" for floor in sorted(old.keys() - new.keys())]
    lines += [f"{floor}: added" for floor in sorted(new.keys() - old.keys())]
    for floor in sorted(old.keys() & new.keys()):
        before, after = old[floor], new[floor]
        for name in sorted(before.keys() | after.keys()):
            owner = name.partition(".")[0]
            if owner != name and (owner in before) != (owner in after):
                continue
            if name not in after:
                lines.append(f"{floor}.{name}: removed")
            elif name not in before:
                lines.append(f"{floor}.{name}: added")
            elif before[name] != after[name]:
                lines.append(f"{floor}.{name}: {before[name]} -> {after[name]}")
    return lines


def since(changelog: str, version: str) -> str:
    """The sections of the changelog that are newer than a version's."""
    head, found, _ = changelog.partition(f"\n## [{version}]")
    if not found:
        raise SystemExit(f"{CHANGELOG.name} has no section '## [{version}]'")
    return head


def untold(lines: list[str], text: str) -> list[str]:
    """The differences whose name stands nowhere in backticks in the text.

    `Class.method`, or for a function or class its own name, alone or after dots.
    """
    spans = "\n".join(re.findall(r"`([^`\n]+)`", text))
    told = set(re.findall(r"\w+(?:\.\w+)*", spans))
    told |= {".".join(name.split(".")[-k:]) for name in told for k in (1, 2)}
    return [line for line in lines if short(line) not in told]


def short(line: str) -> str:
    """`Class.method`, or the plain name: what the changelog has to contain."""
    floor, _, name = line.partition(":")[0].partition(".")
    return name or floor


def report() -> tuple[list[str], list[str]]:
    """All differences since the stored release, and those the changelog leaves out."""
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    lines = differences(stored["names"], public())
    text = since(CHANGELOG.read_text(encoding="utf-8"), stored["version"])
    return lines, untold(lines, text)


def main(arguments: list[str]) -> int:
    if "--write" in arguments:
        import v2v_lite

        stored = {"version": v2v_lite.__version__, "names": public()}
        STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        print(f"{STORED.name}: the names of {v2v_lite.__version__}")
        return 0
    lines, missing = report()
    for line in lines:
        print("not in CHANGELOG  " if line in missing else "                  ", line)
    print(f"{len(lines)} changes since the last release, {len(missing)} untold")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
