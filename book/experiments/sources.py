"""Which code made a number: a module and all that it imports, with a hash of each.

Imports are followed through the experiments and the library, those inside functions
too. A name taken from a package is followed to the module that defines it, and a table
of methods to every method of its package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module

from v2v_lite.teaching.results import module_hash, module_path

#: How tasks and files are kept: what is new there changes no number.
PLUMBING = {
    "experiments.recheck",
    "experiments.run",
    "experiments.sources",
    "experiments.store",
    "experiments.workers",
    "v2v_lite.teaching.results",
}


def code_of(*modules: str) -> dict[str, str]:
    """Hash by module of `modules` and of all of ours that they import."""
    return {module: module_hash(module) for module in closure(modules)}


@lru_cache(maxsize=64)
def closure(modules: tuple[str, ...]) -> tuple[str, ...]:
    """The modules, and all modules of ours that they import, in order of name."""
    todo, seen = list(modules), set()
    while todo:
        module = todo.pop()
        if module not in seen and module not in PLUMBING and module_path(module):
            seen.add(module)
            todo += imported(module)
    return tuple(sorted(seen))


@lru_cache(maxsize=256)
def imported(module: str) -> tuple[str, ...]:
    """The modules of ours that a module imports; not those for its types alone."""
    path = module_path(module)
    assert path is not None, module
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: list[str] = []
    for node in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
            continue
        base = node.module or ""
        if node.level:
            kept = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*kept, *base.split(".")] if base else kept)
        for alias in node.names:
            found += homes(base, alias.name)
    return tuple(m for m in dict.fromkeys(found) if module_path(m))


def homes(module: str, name: str) -> list[str]:
    """The modules behind `from module import name`."""
    path = module_path(module)
    if path is None:
        return []
    if module_path(f"{module}.{name}"):
        return [f"{module}.{name}"]
    if path.name != "__init__.py":
        return [module]
    value = getattr(import_module(module), name)
    if isinstance(value, Mapping):  # a table of methods, say
        many = {getattr(entry, "__module__", "") for entry in value.values()}
        own = sorted(m for m in many if m.startswith(f"{module}."))
        return [*_defined_in(module, name), *own]
    home = getattr(value, "__module__", None)
    return [home] if home and module_path(home) else _defined_in(module, name)


def _defined_in(package: str, name: str) -> list[str]:
    # A constant does not know its home: what the package's __init__ imports it from.
    path = module_path(package)
    assert path is not None, package
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            if name in [alias.asname or alias.name for alias in node.names]:
                return homes(f"{package}.{node.module}", name)
    # Defined there, or handed out by its __getattr__: then by any of its modules.
    inner = sorted(p.stem for p in path.parent.glob("*.py") if p != path)
    lazy = [m for m in inner if hasattr(import_module(f"{package}.{m}"), name)]
    return [package, *(f"{package}.{m}" for m in lazy)]


def _imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from (n for other in node.orelse for n in _imports(other))
        else:
            yield from _imports(node)
