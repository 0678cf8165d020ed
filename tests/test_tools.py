"""The tools that make the book: assets, stamping, executing; and the wheel."""

import hashlib
import importlib
import json
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import apipages
import assets
import browse
import difficulty
import execute
import nbformat
import pages
import pictures
import pytest
import stamp

import v2v_lite
from v2v_lite.spaces import Document, Documents, Label, load_documents

ROOT = Path(__file__).resolve().parent.parent


# ---- assets


def test_assets_names_what_is_missing_or_altered(tmp_path):
    item = {"to": "a.js", "sha256": hashlib.sha256(b"good").hexdigest()}
    packages = [{"package": "p", "files": [item]}]
    assert assets.missing(packages, tmp_path) == packages
    (tmp_path / "a.js").write_bytes(b"good")
    assert assets.missing(packages, tmp_path) == []
    (tmp_path / "a.js").write_bytes(b"bad")
    assert assets.missing(packages, tmp_path) == packages


def test_assets_refuses_an_archive_that_is_not_the_listed_one(tmp_path, monkeypatch):
    def npm(call, cwd, **_):
        (Path(cwd) / "p.tgz").write_bytes(b"something else")
        return types.SimpleNamespace(returncode=0, stderr="", stdout="")

    monkeypatch.setattr(assets, "npm_command", lambda: ["npm"])
    monkeypatch.setattr(assets.subprocess, "run", npm)
    package = {"package": "p", "version": "1", "integrity": "sha512-x", "files": []}
    with pytest.raises(assets.AssetError, match="says otherwise"):
        assets.download(package, tmp_path)


def test_assets_says_when_npm_fails(tmp_path, monkeypatch):
    failed = types.SimpleNamespace(returncode=1, stderr="no such host", stdout="")
    monkeypatch.setattr(assets, "npm_command", lambda: ["npm"])
    monkeypatch.setattr(assets.subprocess, "run", lambda *_, **__: failed)
    package = {"package": "p", "version": "1", "integrity": "", "files": []}
    with pytest.raises(assets.AssetError, match="network"):
        assets.download(package, tmp_path)


def test_assets_finds_npm_without_a_system_one(monkeypatch):
    monkeypatch.setattr(assets.shutil, "which", lambda _: None)
    call = [*assets.npm_command(), "--version"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout[0].isdigit()


def test_assets_list_is_pinned():
    for package in json.loads(assets.LIST.read_text()):
        assert package["integrity"].startswith("sha512-")
        for item in package["files"]:
            assert len(item["sha256"]) == 64
            assert not Path(item["to"]).is_absolute() and "_static" not in item["to"]


# ---- stamp


def notebook(*cells):
    return json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=list(cells))))


def test_stamp_inserts_once_and_follows_the_address():
    title = nbformat.v4.new_markdown_cell("# Title")
    code = nbformat.v4.new_code_cell("x = 1")
    one = stamp.stamped(notebook(title, code), "https://github.com/a/b", "book/x.ipynb")
    kinds = [c["metadata"].get("tags", [""])[0] for c in one["cells"]]
    assert kinds == ["", "open-in-colab", "colab", ""]
    two = stamp.stamped(one, "https://github.com/c/d", "book/x.ipynb")
    assert len(two["cells"]) == 4
    text = json.dumps(two)
    assert "github/c/d/blob/main/book/x.ipynb" in text and "github.com/a/b" not in text


def test_stamp_reads_the_address_from_the_config(tmp_path):
    config = tmp_path / "_config.yml"
    config.write_text("html:\n  a: b\nrepository:\n  url: https://github.com/me/it/\n")
    assert stamp.address(config) == "https://github.com/me/it"
    config.write_text("repository:\n  url: elsewhere\n")
    with pytest.raises(SystemExit, match="repository.url"):
        stamp.address(config)


@pytest.mark.parametrize("relative", stamp.FILES)
def test_project_files_have_the_address_of_the_config(relative):
    text = (ROOT / relative).read_text(encoding="utf-8")
    assert stamp.PLACE.search(text), "no place for the address: see tools/stamp.py"
    assert stamp.readdressed(text, stamp.address()) == text, "run `make stamp`"


def test_an_address_is_replaced_in_its_places_alone():
    text = 'Issues = "https://github.com/a/b/issues"\nsee https://github.com/x/y\n'
    assert stamp.readdressed(text, "https://github.com/c/d") == (
        'Issues = "https://github.com/c/d/issues"\nsee https://github.com/x/y\n'
    )


def test_the_address_is_set_in_its_one_place(tmp_path):
    config = tmp_path / "_config.yml"
    config.write_text((ROOT / "_config.yml").read_text(encoding="utf-8"))
    old = stamp.address(config)
    stamp.set_address("https://github.com/me/a-book", config)
    assert stamp.address(config) == "https://github.com/me/a-book"
    assert old not in config.read_text()
    with pytest.raises(SystemExit, match="give an address like"):
        stamp.set_address("github.com/me", config)


def test_colours_of_a_dark_page():
    assert pictures.dark("#ffffff") == pictures.dark("white") == "#121212"
    assert pictures.dark("#fefefe") == "#fefefe", "text over an image stays"
    light = [int(pictures.dark(c)[1:3], 16) for c in ("#000", "#767676", "#e3e3e3")]
    assert light == sorted(light, reverse=True) and light[0] > 220
    assert 'fill="#e8e8e8"' in pictures.for_dark('<svg fill="black"/>')


def test_numbers_begin_anew_in_each_chapter():
    places = {"book/06_anchors": {"displaymath": {"a": (54,), "b": (55,)}},
              "book/notation": {"displaymath": {"c": (90,)}}}  # fmt: skip
    pages.by_chapter(None, types.SimpleNamespace(toc_fignumbers=places))
    assert places["book/06_anchors"]["displaymath"] == {"a": (6, 1), "b": (6, 2)}
    assert places["book/notation"]["displaymath"] == {"c": (1,)}


class Colab:
    """A Colab in which the library may be absent, and pip may do as it likes."""

    def __init__(self, monkeypatch, absent, after=None):
        from importlib import metadata, util

        self.calls, self.absent, self.versions = [], absent, {}
        find, version = util.find_spec, metadata.version
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("colab"))
        monkeypatch.setattr(subprocess, "run", self.pip)
        monkeypatch.setattr(
            util, "find_spec", lambda name: None if self.absent else find(name)
        )
        monkeypatch.setattr(
            metadata, "version", lambda p: self.versions.get(p) or version(p)
        )
        self.after = after or {}

    def pip(self, call, check):
        assert check, "a failure of pip must stop the cell"
        self.calls.append(call)
        self.absent = False
        self.versions |= self.after

    def run(self):
        exec(stamp.colab_source("https://github.com/a/b"), {})
        return self.calls


def test_colab_cell_is_one_pip_line_that_keeps_torch_and_numpy(monkeypatch):
    import numpy
    import torch

    (call,) = Colab(monkeypatch, absent=True).run()
    assert call[1:4] == ["-m", "pip", "install"]
    assert f"torch=={torch.__version__}" in call
    assert f"numpy=={numpy.__version__}" in call
    assert call[-1].endswith("@ git+https://github.com/a/b")
    extras = set(re.findall(r"\[(.*?)\]", call[-1])[0].split(","))
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{extra} = \[", text, re.M) for extra in extras)


@pytest.mark.parametrize("moved", ["torch", "numpy"])
def test_colab_cell_stops_when_pip_moved_one(monkeypatch, moved):
    with pytest.raises(AssertionError):
        Colab(monkeypatch, absent=True, after={moved: "0.0.1"}).run()


def test_colab_cell_does_nothing_when_all_is_there(monkeypatch):
    assert Colab(monkeypatch, absent=False).run() == []


def test_colab_cell_does_nothing_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    exec(stamp.colab_source("https://github.com/a/b"), {})
    assert not list(tmp_path.iterdir())


# ---- execute


def write_notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_execute_counts_and_keeps_the_widgets(tmp_path):
    path = write_notebook(
        tmp_path / "a.ipynb",
        "import sys, ipywidgets as w\nprint(1)\nprint(2, file=sys.stderr)",
        "",
        "w.IntSlider()",
    )
    assert execute.main([str(path)]) == 0
    first = path.read_text()
    book = nbformat.read(path, as_version=4)
    assert [c.execution_count for c in book.cells] == [1, 2, 3]
    assert [o.name for o in book.cells[0].outputs] == ["stdout"]
    assert book.metadata.v2v.seconds >= 1 and "widgets" in book.metadata
    assert "execution" not in book.cells[0].metadata
    assert execute.main([str(path)]) == 0
    # but for the seconds, where the machine was busy the second time
    again, first = (re.sub(r'"seconds": \d+', "", t) for t in (path.read_text(), first))
    assert again == first, "a second run gives the same file"


def test_execute_leaves_a_failing_notebook_as_it_was(tmp_path, capsys):
    path = write_notebook(tmp_path / "a.ipynb", "1 / 0")
    before = path.read_text()
    assert execute.main([str(path)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert path.read_text() == before and len(list(tmp_path.iterdir())) == 1


def test_execute_refuses_places_of_this_machine(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "import sys; print(sys.prefix)")
    assert execute.main([str(path)]) == 1


def test_the_kernel_is_this_interpreter(tmp_path):
    path = write_notebook(
        tmp_path / "a.ipynb", f"import sys\nassert sys.prefix == {sys.prefix!r}"
    )
    book, _ = execute.run(path)
    assert book.cells[0].outputs == []


# ---- the package


def first_cells(chapter: str) -> str:
    """The Colab cell, which does nothing here, and the one that imports and loads."""
    path = ROOT / "book" / f"{chapter}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    return "\n".join(code[:2])


@pytest.mark.slow
def test_the_wheel_runs_alone(tmp_path):
    """A wheel carries data and results, and works far from any checkout."""
    pytest.importorskip("hatchling")
    call = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps"]
    call += ["--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import v2v_lite; from v2v_lite.spaces import data_folder, load\n"
        "print(v2v_lite.__file__); print(data_folder())\n"
        "print(len(load('wordllama', 'eval')))\n"
        + first_cells("04_with_pairs")
        + "\nprint(*train)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split()
    assert all(str(tmp_path / "site") in line for line in lines[:2])
    assert lines[2] == "4096"
    assert "wordllama" in lines[3:], "chapter 4 loads the encoders"
    assert (tmp_path / "site" / "v2v_lite" / "_results").is_dir()


def test_requirements_pin_everything_and_name_no_host():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins[0].startswith("torch==")
    assert all("==" in pin and "://" not in pin for pin in pins)
    assert not [p for p in pins if p.startswith(("nvidia-", "triton"))]


# ---- the API reference


def test_a_docstring_becomes_markdown():
    text = apipages.markdown(
        "Sums `x` (chapter 4), not `chapter 4`.\n\n    >>> 1 + 1\n    2\n\n$a_b$"
    )
    assert "([chapter 4](/book/04_with_pairs.ipynb)), not `chapter 4`." in text
    assert "```pycon\n>>> 1 + 1\n2\n```" in text and text.endswith("$a_b$")


def test_a_signature_shows_types_without_quotes():
    def one(x: "Tensor", k: int = 5, *, made=assets) -> "Space":  # noqa: F821
        return x

    assert apipages.signature(one) == "(x: Tensor, k: int = 5, *, made=...) -> Space"
    assert apipages.signature(assets.AssetError) == ""


def test_imports_of_a_chapter_are_found():
    code = "from v2v_lite.align import (\n  SelfLearn, polar as p)\nmeasure.score(x)"
    assert apipages.imports(code) == ["SelfLearn", "polar", "score"]
    assert apipages.imports("%pip install x") == []


PACKAGES = sorted(p.stem for p in (ROOT / "book" / "api").glob("*.md"))


@pytest.mark.parametrize("name", [n for n in PACKAGES if n != "index"])
def test_the_reference_has_every_public_name_once(name):
    package = importlib.import_module(f"v2v_lite.{name}")
    text = apipages.page(f"v2v_lite.{name}")
    heads = re.findall(r"^`{5}\{py:\w+\} (\w+)", text, re.M)
    elsewhere = {
        n for n in package.__all__
        if f"v2v_lite.{name}" not in apipages.home_of(package, n)
    }  # fmt: skip
    assert sorted(heads) == sorted(set(package.__all__) - elsewhere)
    opened = re.findall(r"^(`{4,5})\{py:", text, re.M)
    assert sorted(opened) == sorted(re.findall(r"^(`{4,5})$", text, re.M))


def test_every_subpackage_has_a_page_of_the_reference():
    public = set(v2v_lite.__all__) - {"__version__", "cli"}
    assert public == set(PACKAGES) - {"index"}, "add a page to book/api"


# ---- documents


def test_a_document_is_listed_with_its_facts_marked():
    row = Document(
        "note-1", "public", "Ana <b> takes Metformin.", ("gout",),
        facts={"patient": "Ana"}, medication=("metformin",),
    )  # fmt: skip
    marked = browse.marked(row)
    assert marked == "<mark>Ana</mark> &lt;b&gt; takes <mark>Metformin</mark>."
    label = Label("gout", "Gout", "A hot toe & more.")
    html = browse.listing(Documents("notes", (row,), (label,)))
    assert "A hot toe &amp; more." in html and "1 public, 0 private" in html
    assert html.count("<details") == html.count("</details>") == 1


def test_labels_are_neither_easy_nor_hopeless():
    assert 0.5 <= difficulty.tf_idf_f1("emails") <= 0.9
    for name in ("posts", "emails", "notes"):
        hit, majority = difficulty.zero_shot(load_documents(name))
        assert hit > 3 * majority
