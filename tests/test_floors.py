"""The house: who may import whom, how long a file may be, what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "v2v_lite"
FLOORS = "spaces measure align vec2vec privacy show checks bench cli __main__".split()
HEAVY = set(
    "sentence_transformers transformers datasets ipywidgets IPython matplotlib PIL "
    "scipy sklearn pandas tyro ot wordllama accelerate huggingface_hub".split()
)
FILES = sorted(LIBRARY.rglob("*.py"))
NAMES = [path.relative_to(LIBRARY).as_posix() for path in FILES]


def floor_of(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def top_level(tree: ast.Module):
    """The imports that run when the module is imported; TYPE_CHECKING is not one."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            todo += node.orelse
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            todo += [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]
            todo += [s for h in getattr(node, "handlers", []) for s in h.body]


def imported(node, path: Path) -> list[str]:
    """The full names of the modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not node.level:
        base = node.module
    else:
        package = ["v2v_lite", *path.relative_to(LIBRARY).parts[:-1]]
        kept = package[: len(package) - node.level + 1]
        base = ".".join([*kept, *([node.module] if node.module else [])])
    if base == "v2v_lite":
        return [f"v2v_lite.{alias.name}" for alias in node.names]
    return [base]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_go_down(path):
    """Also the imports inside functions: a floor must not reach up at run time."""
    here = floor_of(path)
    if here == "__init__":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name in imported(node, path):
                parts = name.split(".")
                if parts[0] != "v2v_lite" or len(parts) == 1 or parts[1] == here:
                    continue
                if parts[1] not in FLOORS:  # such as __version__
                    continue
                assert FLOORS.index(parts[1]) < FLOORS.index(here), (
                    f"line {node.lineno}: {here} must not import {name}"
                )


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_heavy_packages_are_imported_where_they_are_used(path):
    for node in top_level(ast.parse(path.read_text(encoding="utf-8"))):
        names = {name.split(".")[0] for name in imported(node, path)}
        assert not names & HEAVY, f"line {node.lineno}: {names & HEAVY} at top level"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_every_module_has_a_docstring_and_a_known_floor():
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"{path.name} does not say what it is"
        assert floor_of(path) in (*FLOORS, "__init__"), f"{path}: no such floor"


def lines_of_code(path: Path) -> int:
    """Lines that hold code: no blank line, comment or docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False):
            node.body[0].value.value = ""
    return len(ast.unparse(tree).splitlines())


def test_the_library_is_small():
    """About 6,200 lines of code for a person to read; what explains it is free.

    Figures, measuring and the command line show what the library does; they are not it.
    """
    around = ("show", "checks", "bench", "cli", "__main__")
    lines = {path: lines_of_code(path) for path in FILES}
    assert sum(n for path, n in lines.items() if floor_of(path) not in around) <= 6200
    assert sum(n for path, n in lines.items() if floor_of(path) in around) <= 4000


def test_the_library_does_not_print():
    """Only the command line speaks; the rest of the library returns."""
    for path in FILES:
        if floor_of(path) in ("cli", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{path.name}:{node.lineno} prints"


def test_import_brings_nothing_heavy():
    code = (
        "import sys, v2v_lite; from v2v_lite import spaces, measure, align; "
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_ruff():
    call = [sys.executable, "-m", "ruff", "check", "--output-format=concise", "."]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    if "No module named ruff" in done.stderr:
        pytest.skip("ruff is not installed")
    assert done.returncode == 0, done.stdout
