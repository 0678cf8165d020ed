"""Layers: who may import whom, how much code there is, what an import costs."""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "v2v_lite"
FLOORS = "spaces measure align vec2vec privacy teaching cli __main__".split()
CODE_LINES = 9_630  # of the whole importable package; the design wants 9,000
HEAVY = set(
    "sentence_transformers transformers datasets ipywidgets IPython matplotlib PIL "
    "scipy sklearn pandas tyro ot wordllama accelerate huggingface_hub "
    "pyarrow faiss".split()
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
    heavy = HEAVY - {"tyro"} if path.parent.name == "cli" else HEAVY  # its annotations
    for node in top_level(ast.parse(path.read_text(encoding="utf-8"))):
        names = {name.split(".")[0] for name in imported(node, path)}
        assert not names & heavy, f"line {node.lineno}: {names & heavy} at top level"


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
    source = path.read_text(encoding="utf-8")
    tree, docstrings, code = ast.parse(source), set(), set()
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            docstrings |= set(range(first.lineno, first.end_lineno + 1))
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT,
              tokenize.DEDENT, tokenize.ENDMARKER}  # fmt: skip
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in layout:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


def test_lines_of_code_are_counted_without_what_explains_them(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('"""Doc.\n\nMore."""\n\n# why\nx = (1,\n     2)\n\n\ndef f():\n'
                    '    "Says."\n    return """two\nlines"""\n')  # fmt: skip
    assert lines_of_code(path) == 2 + 1 + 2


def test_the_library_is_small():
    lines = {name: lines_of_code(path) for name, path in zip(NAMES, FILES, strict=True)}
    folders = {}
    for name, count in lines.items():
        folder = name.rpartition("/")[0] or "."
        folders[folder] = folders.get(folder, 0) + count
    assert sum(lines.values()) <= CODE_LINES, folders


# ---- circles


def module_of(path: Path) -> str:
    parts = ["v2v_lite", *path.relative_to(LIBRARY).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def targets(node, path: Path) -> set[str]:
    """The files that an import statement reads first; packages by their __init__."""
    found = set()
    for base in imported(node, path):
        names = [] if isinstance(node, ast.Import) else [a.name for a in node.names]
        inner = {f"{base}.{name}" for name in names} & MODULES.keys()
        found |= inner or ({base} & MODULES.keys())
    return found - {module_of(path)}


def graph(deep: bool) -> dict[str, set[str]]:
    """Who imports whom, `deep`: inside functions, too, but never for types alone."""
    arrows = {}
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = set(top_level(tree))
        if deep:
            nodes |= {
                node
                for function in ast.walk(tree)
                if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
                for node in ast.walk(function)
                if isinstance(node, (ast.Import, ast.ImportFrom))
            }
        arrows[name] = set().union(*(targets(node, path) for node in nodes))
    return arrows


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Groups of files that reach one another."""
    reach = {name: set(to) for name, to in arrows.items()}
    for middle in reach:
        for name in reach:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    groups = []
    for name in reach:
        group = {other for other in reach[name] if name in reach.get(other, ())}
        if group and group not in groups:
            groups.append(group)
    return groups


def test_a_circle_is_found():
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert circles(arrows) == [{"a", "b", "c"}]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_no_circle_between_files():
    assert circles(graph(deep=False)) == []


def test_no_circle_between_files_inside_functions():
    assert circles(graph(deep=True)) == []


# ---- the book


def test_no_chapter_and_no_module_imports_an_experiment():
    pattern = re.compile(r"^\s*(from|import) experiments\b", re.M)
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                assert not pattern.search("".join(cell["source"])), path.name
    for path in FILES:
        assert not pattern.search(path.read_text(encoding="utf-8")), path


EXPERIMENTS = sorted((ROOT / "book" / "experiments").glob("*.py"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=[p.name for p in EXPERIMENTS])
def test_experiments_are_documented_and_short(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)) and len(text.splitlines()) <= 340


# ---- what an import costs


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
