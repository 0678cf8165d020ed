"""A Sphinx extension that writes the API reference: ``{api}`` with a package's name.

In a page under ``book/api``, a fence such as the next one becomes the public names of
that package (its ``__all__``), by module: signatures, docstrings (read as Markdown,
with their formulas) and links to the chapters that use each name.

    ```{api} v2v_lite.measure
    ```

Nothing is listed by hand, so the pages follow the code.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

from api import PLAIN, is_method

import v2v_lite

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```\{api\} (\S+)\n```$", re.M)


# ---- a page's Markdown


def page(package: str) -> str:
    """The entries of a package's public names, a section for each module."""
    module = importlib.import_module(package)
    groups: dict[str, list[str]] = {}
    for name in sorted(module.__all__, key=str.lower):
        home = home_of(module, name)
        if home.startswith(f"{package}.") or home == package:
            groups.setdefault(home, []).append(name)
    return "\n\n".join(section(module, home, groups[home]) for home in sorted(groups))


def submodules(package: ModuleType) -> list[str]:
    """The package's own name, then its modules, sorted."""
    files = sorted(Path(package.__file__).parent.glob("[!_]*.py"))
    return [package.__name__, *(f"{package.__name__}.{f.stem}" for f in files)]


def home_of(package: ModuleType, name: str) -> str:
    """The module that defines a public name: constants are looked for by assignment."""
    thing = getattr(package, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        return thing.__module__
    homes = [m for m in submodules(package) if name in assigned(m)]
    return homes[0] if homes else package.__name__


@cache
def assigned(module: str) -> set[str]:
    """The names that a module assigns at its top level."""
    found = importlib.util.find_spec(module)
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def section(package: ModuleType, home: str, names: list[str]) -> str:
    """A module's heading, its docstring, and the entries of its public names."""
    where = home.removeprefix("v2v_lite.")
    text = markdown(inspect.getdoc(importlib.import_module(home)) or "")
    entries = [entry(package, name) for name in names]
    return "\n\n".join([f"## `{where}`", text, *entries])


def entry(package: ModuleType, name: str) -> str:
    """The description of one name, with the chapters that import it."""
    thing = getattr(package, name)
    body = described(thing)
    used = [f"[{number_of(c)}](/book/{c}.ipynb)" for c in sorted(users(name))]
    if used:
        body.append(f"*Used in chapter{'s' * (len(used) > 1)}* {', '.join(used)}.")
    kind = kind_of(thing)
    if kind == "data":
        value = repr(thing)
        short = isinstance(thing, (*PLAIN, tuple)) and len(value) <= 120
        return fence(kind, name, package, body, [f":value: {value}"] * short)
    if inspect.isclass(thing):
        bases = [b.__name__ for b in thing.__bases__ if b.__module__[:4] == "v2v_"]
        if bases:
            body.insert(0, "Bases: " + ", ".join(f"`{base}`" for base in bases))
        for method, value in sorted(vars(thing).items()):
            if is_method(method, value):
                body.append(method_entry(thing, method, value))
    return fence(kind, name + signature(thing), package, body, [])


def method_entry(owner: type, name: str, value: object) -> str:
    found = getattr(owner, name)
    options = [":classmethod:"] if isinstance(value, classmethod) else []
    options += [":staticmethod:"] if isinstance(value, staticmethod) else []
    if isinstance(value, property):
        return fence("property", name, None, described(found), [])
    return fence("method", name + signature(found), None, described(found), options)


def fence(kind: str, head: str, package, body: list[str], options: list[str]) -> str:
    """A directive of the Python domain; fences outside are longer than those inside."""
    ticks = "`" * (4 if package is None else 5)
    if package is not None:
        options = [f":module: {package.__name__}", *options]
    inside = "\n\n".join(body)
    return "\n".join([f"{ticks}{{py:{kind}}} {head}", *options, "", inside, ticks])


def kind_of(thing: object) -> str:
    if inspect.isclass(thing):
        return "exception" if issubclass(thing, BaseException) else "class"
    return "function" if inspect.isroutine(thing) else "data"


# ---- signatures and docstrings


class _Bare(str):
    """A text that shows without quotes: an annotation, a default."""

    __repr__ = str.__str__


def signature(thing: object) -> str:
    """`(x: Tensor, k: int = 5) -> Tensor`, defaults that are objects as `...`."""
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return ""
    try:
        found = inspect.signature(thing)
    except ValueError:
        return ""
    bare = [_parameter(p) for p in found.parameters.values() if p.name != "self"]
    made = inspect.isclass(thing)
    back = found.empty if made else _annotation(found.return_annotation)
    return str(found.replace(parameters=bare, return_annotation=back))


def _parameter(one: inspect.Parameter) -> inspect.Parameter:
    plain = isinstance(one.default, PLAIN) or one.default is one.empty
    default = one.default if plain else _Bare("...")
    return one.replace(annotation=_annotation(one.annotation), default=default)


def _annotation(found: object) -> object:
    return _Bare(found) if isinstance(found, str) else found


def described(thing: object) -> list[str]:
    """The docstring as Markdown, or nothing where it is a dataclass's automatic one."""
    if isinstance(thing, Mapping):
        return ["A table of " + ", ".join(f"`{key}`" for key in thing) + "."]
    if kind_of(thing) == "data" and not isinstance(thing, property):
        plain = isinstance(thing, (*PLAIN, tuple))
        return [] if plain else [f"A `{type(thing).__name__}`."]
    own = thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__
    text = inspect.cleandoc(own or "")
    if inspect.isclass(thing) and text.startswith(f"{thing.__name__}("):
        return []
    return [markdown(text)] if text else []


def markdown(text: str) -> str:
    """A docstring as the book's Markdown: doctests fenced, chapters linked."""
    parts = re.split(r"\n{2,}", text)
    return "\n\n".join(
        f"```pycon\n{inspect.cleandoc(part)}\n```"
        if part.lstrip().startswith(">>>")
        else re.sub(r"`[^`]*`|\bchapters? (\d+)\b", _chapter_link, part)
        for part in parts
    )


def _chapter_link(found: re.Match) -> str:
    number = found[1]
    names = [c for c in chapters() if number and number_of(c) == int(number)]
    return f"[{found[0]}](/book/{names[0]}.ipynb)" if names else found[0]


# ---- the chapters


@cache
def chapters() -> dict[str, frozenset[str]]:
    """`{chapter: the library's names that its code imports}`."""
    found = {}
    for path in sorted((ROOT / "book").glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        found[path.stem] = frozenset(name for one in code for name in imports(one))
    return found


def imports(code: str) -> list[str]:
    """The names that a cell imports from the library, or uses as `align.SelfLearn`."""
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a cell with a line that only Jupyter reads
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "")[:8] == "v2v_lite":
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [node.attr] if node.value.id in v2v_lite.__all__ else []
    return found


def users(name: str) -> list[str]:
    return [chapter for chapter, names in chapters().items() if name in names]


def number_of(chapter: str) -> int:
    return int(chapter.split("_")[0])


# ---- Sphinx


def expand(app, docname: str, source: list[str]) -> None:
    """Write the names in the place of the fence; the page follows their files."""
    packages = FENCE.findall(source[0])
    source[0] = FENCE.sub(lambda found: page(found[1]), source[0])
    for package in packages:
        folder = Path(sys.modules[package].__file__).parent
        for path in [*folder.glob("*.py"), *(ROOT / "book").glob("[0-9]*.ipynb")]:
            app.env.note_dependency(str(path))


def resolve(app, env, node, content):
    """A type in a signature: a link where the reference has it, else plain text.

    Roles in the text, as in {py:func}`score`, are left to Sphinx, which reports a name
    that does not exist.
    """
    from sphinx.util.nodes import make_refnode

    if node.get("refdomain") != "py" or "refexplicit" in node:
        return None
    name = node["reftarget"].split(".")[-1]
    objects = env.get_domain("py").objects
    found = [full for full in objects if full.split(".")[-1] == name]
    if len(found) != 1:
        return content
    entry = objects[found[0]]
    here = node.get("refdoc", env.docname)
    return make_refnode(app.builder, here, entry.docname, entry.node_id, content, name)


def setup(app) -> dict:
    """Register with Sphinx."""
    app.connect("source-read", expand)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
