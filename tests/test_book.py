"""Every chapter keeps the chapter contract; what a reader sees is what was run."""

import json
import re
from functools import cache
from pathlib import Path

import claims
import pytest
import spelling
import stamp
import status
import yaml

from v2v_lite.teaching import tabular

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
CHAPTERS = sorted(BOOK.glob("*.ipynb"))
PAGES = sorted([*BOOK.glob("*.md"), *BOOK.glob("api/*.md")])
SECONDS_A_CHAPTER, SECONDS_THE_BOOK = 60, 900
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=[p.stem for p in CHAPTERS])


@cache
def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def cells(path: Path, kind: str) -> list[dict]:
    return [c for c in read(path)["cells"] if c["cell_type"] == kind]


def prose(path: Path) -> str:
    return "\n\n".join("".join(c["source"]) for c in cells(path, "markdown"))


def without_code(text: str) -> str:
    text = re.sub(r"^```(?!\{).*?^```", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]+`", "", text)


def test_contents_and_files_agree():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    entries += [below for entry in entries for below in entry.get("sections", [])]
    named = [toc["root"]] + [entry["file"] for entry in entries]
    on_disk = {
        p.relative_to(ROOT).with_suffix("").as_posix() for p in [*CHAPTERS, *PAGES]
    }
    assert len(named) == len(set(named)) and set(named) == on_disk
    assert CHAPTERS, "no chapter yet"


# ---- what was run


@each_chapter
def test_executed_from_top_to_bottom(path):
    counts = [c["execution_count"] for c in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1)), "run `make execute`"


@each_chapter
def test_no_errors_and_no_warnings_in_the_outputs(path):
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"


@each_chapter
def test_time_budget(path):
    seconds = read(path)["metadata"].get("v2v", {}).get("seconds")
    assert seconds is not None, "run `make execute`: it records the seconds"
    assert seconds <= SECONDS_A_CHAPTER


def test_time_budget_of_the_book():
    took = [read(p)["metadata"].get("v2v", {}).get("seconds", 0) for p in CHAPTERS]
    assert sum(took) <= SECONDS_THE_BOOK


@each_chapter
def test_nothing_of_the_machine_that_ran_it(path):
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"(?:/home|/root|/tmp|/work|/Users|/content)/[\w.-]+", text)
    found += re.findall(r"[A-Z]:\\\\Users", text)
    assert not found
    metadata = set(read(path)["metadata"])
    assert metadata <= {"kernelspec", "language_info", "v2v", "widgets"}
    assert read(path)["metadata"]["kernelspec"]["name"] == "python3"


# ---- Colab


@each_chapter
def test_stamped_with_the_address_of_the_config(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    relative = path.relative_to(ROOT).as_posix()
    assert stamp.stamped(notebook, stamp.address(), relative) == read(path), (
        "run `make stamp`, then `make execute`"
    )
    first = cells(path, "code")[0]["metadata"]["tags"]
    assert first == ["colab", "remove-cell"], "the first code cell is Colab's"


# ---- the chapter contract


@each_chapter
def test_one_title(path):
    text = without_code(prose(path))
    assert len(re.findall(r"^# \S", text, re.M)) == 1
    assert "".join(read(path)["cells"][0]["source"]).startswith("# ")


@each_chapter
@pytest.mark.parametrize(
    "section", ["Objectives", "What it costs", "Exercises", "What to read next"]
)
def test_sections(path, section):
    assert re.search(rf"^#+ .*{section}", prose(path), re.M | re.I)


@each_chapter
def test_a_pitfall(path):
    pattern = r"^(#+ .*|[`:]{3,}\{admonition\} .*)pitfall"
    assert re.search(pattern, prose(path), re.M | re.I)


@each_chapter
def test_a_figure_to_operate(path):
    code = "".join("".join(c["source"]) for c in cells(path, "code"))
    assert "flipbook(" in code or 'type="range"' in code


@each_chapter
def test_the_library_agrees_with_what_the_chapter_builds(path):
    code = "\n".join("".join(c["source"]) for c in cells(path, "code")[1:])
    assert re.search(r"^\s*(from|import) v2v_lite", code, re.M)
    assert re.search(r"^\s*(assert|torch\.testing\.assert_close)", code, re.M)


@each_chapter
def test_three_exercises_with_hidden_solutions_that_run(path):
    text = prose(path)
    start = r"^[`:]{3,}\{exercise(?:-start)?\}.*\n(?:^:(?!label).*\n)*^:label: *(\S+)"
    exercises = re.findall(start, text, re.M)
    assert len(set(exercises)) >= 3 and len(set(exercises)) == len(exercises)
    solutions = dict(
        re.findall(
            r"^[`:]{3,}\{solution(?:-start)?\} *(\S+)\n((?:^:.*\n)*)", text, re.M
        )
    )
    assert set(exercises) <= set(solutions), "an exercise has no solution"
    for name in exercises:
        assert re.search(r":class:.*dropdown", solutions[name]), f"{name} is not hidden"
    assert text.count("{solution-start}") == text.count("{solution-end}")
    assert "{solution-start}" in text, "no solution is a cell that runs"


def test_labels_are_unique_over_the_book():
    labels = [
        label
        for path in CHAPTERS
        for label in re.findall(r"^:label: *(\S+)", prose(path), re.M)
        + re.findall(r"^\$\$ *\(([^)]+)\)", prose(path), re.M)
    ]
    twice = {label for label in labels if labels.count(label) > 1}
    assert not twice


# ---- pictures have words


@each_chapter
def test_outputs_have_alt_text(path):
    for number, cell in enumerate(cells(path, "code"), start=1):
        for output in cell["outputs"]:
            data = output.get("data", {})
            bare = {"image/png", "image/jpeg", "image/svg+xml"} & set(data)
            assert not bare, f"cell {number}: show figures through teaching.picture"
            for tag in re.findall(r"<img\b[^>]*>", "".join(data.get("text/html", ""))):
                assert re.search(r'alt="[^"]{8,}"', tag), f"cell {number}: no alt"


@each_chapter
def test_flipbooks_have_alt_text(path):
    state = read(path)["metadata"].get("widgets", {})
    for model in (m for kind in state.values() for m in kind["state"].values()):
        value = model["state"].get("value")
        for tag in re.findall(r"<img\b[^>]*>", value if isinstance(value, str) else ""):
            assert re.search(r'alt="[^"]{8,}"', tag)


@pytest.mark.parametrize("path", [*CHAPTERS, *PAGES], ids=lambda p: p.stem)
def test_images_in_the_text_have_alt_text(path):
    text = prose(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    for alt, file in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text):
        assert len(alt) >= 8, f"{file} has no alt text"
    for block in re.findall(r"\{(?:figure|image)\}.*?```", text, re.S):
        assert re.search(r":alt: *\S.{7}", block)


# ---- words and sources


@pytest.mark.parametrize("path", [*CHAPTERS, *PAGES], ids=lambda p: p.stem)
def test_citations_and_terms_exist(path):
    text = prose(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    bibliography = (BOOK / "references.bib").read_text(encoding="utf-8")
    known = set(re.findall(r"^@\w+\{(\S+),", bibliography, re.M))
    for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text):
        assert {key.strip() for key in group.split(",")} <= known
    glossary = (BOOK / "glossary.md").read_text(encoding="utf-8").lower().splitlines()
    terms = {word.strip() for line in glossary for word in [line, *line.split(",")]}
    for term in re.findall(r"\{term\}`([^`<]+?)(?: *<([^>]+)>)?`", text):
        assert (term[1] or term[0]).lower() in terms


# ---- claims and spelling


@pytest.mark.parametrize("path", claims.pages(), ids=lambda p: p.stem)
def test_marked_numbers_are_those_that_were_computed(path):
    assert not claims.wrong(path)


def test_headline_numbers_are_marked():
    marked = {path.stem: len(claims.claims(path)) for path in claims.pages()}
    for name in ("README", "01_embeddings", "06_anchors", "17_limits"):
        assert marked[name] >= 5, f"{name}: no claim left that a test reads"


def test_a_claim_that_is_off_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "{claim}`.953 <align:main.selflearn.top1.median>`"
        "{claim}`.963 <align:main.selflearn.top1.median>`"
        "95 %<!--claim align:main.selflearn.top1.median-->"
        "{claim}`7 <align:main.selflearn.seed_of_nobody>`"
        "{claim}`7 <06#no-such-cell>`"
    )
    assert len(claims.claims(page)) == 5
    found = claims.wrong(page)
    assert [".963" in found[0], "KeyError" in found[1], "no cell" in found[2]] == [
        True, True, True,
    ]  # fmt: skip
    assert len(found) == 3


def test_a_claim_reads_a_table_as_text(tmp_path):
    shown = tabular({"method": "", "top-1": ".2f"}, [("ours", 0.5), ("chance", 0)])
    data = {"text/plain": repr(shown), "text/html": shown._repr_html_()}
    outputs = [{"text": ["the rank "]}, {"text": ["is 7"]}, {"data": data}]
    page = tmp_path / "99_x.ipynb"
    page.write_text(json.dumps({"cells": [{"id": "a", "outputs": outputs}]}))
    assert claims.printed(page, "a", "ours") == [0.5]
    assert claims.printed(page, "a", "rank  is") == [7.0]


def test_no_word_is_misspelt():
    assert not spelling.misspelt()


def test_a_misspelt_word_is_found(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("We recieve `teh` e-mails and the colour is fine.")
    monkeypatch.setattr(spelling, "files", lambda: [page])
    assert spelling.misspelt() == [
        "page.md: e-mails (email)",
        "page.md: recieve ==> receive",
    ]


def test_the_status_page_knows_every_chapter():
    rows = status.chapters()
    assert len(rows) == len(CHAPTERS)
    assert all(row[1] != "not measured" for row in rows)
    assert {row[0] for row in status.measured()} == {
        path.stem for path in (BOOK / "results").glob("*.json")
    }
    assert dict(status.versions())["torch"] in (ROOT / "requirements.txt").read_text()
