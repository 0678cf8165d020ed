"""The page about readers' own stores: its snippets run, against the real packages."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from v2v_lite.align import Phase, SelfLearnConfig, Translator, Whitened
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.cli import main
from v2v_lite.spaces import Space

PAGE = Path(__file__).resolve().parent.parent / "book" / "stores.md"
PHASE = Phase(1, 300, 0.05, singular_value_exponent=1, ema_decay=0.3)
TINY = SelfLearnConfig(AnchorConfig(2, 500, 4, n_init=4, vote_rounds=0), (PHASE,))
RUN = re.compile(r"^```(python|bash)\n(.*?)^```", re.M | re.S)


def sections() -> dict[str, list[tuple[str, str]]]:
    """Heading -> the snippets below it, in their order, by language."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]
    found = {
        name: RUN.findall(text) for name, text in zip(*[iter(parts)] * 2, strict=True)
    }
    return {name: snippets for name, snippets in found.items() if snippets}


def run(snippets, names) -> None:
    """Python in the namespace `names`, and each command in this process."""
    for language, text in snippets:
        if language == "python":
            exec(compile(text, str(PAGE), "exec"), names)
            continue
        for line in text.splitlines():
            words = shlex.split(line)
            assert words.pop(0) == "v2v"
            assert main(words) == 0, line
            if words[0] == "align":  # what costs little is worth little
                sides = (names[k].take(slice(9000, None)) for k in ("old", "new"))
                Whitened().fit(*(side.with_mean() for side in sides)).save("moved")


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A folder in which the eight steps were made, and the names that they left."""
    folder, names = tmp_path_factory.mktemp("store"), {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("v2v_lite.align.SelfLearnConfig", lambda **_: TINY)
        run(sections()["The move in eight steps"], names)
    return folder, names


@pytest.fixture
def page(moved, monkeypatch):
    """The names of the eight steps, in their folder."""
    monkeypatch.chdir(moved[0])
    return dict(moved[1])


def test_the_translated_rows_are_those_of_the_export(page):
    want = Translator.load("moved").translate(page["old"].vectors[:3000])
    assert page["translated"].vectors.numpy() == pytest.approx(want.numpy(), abs=1e-6)
    assert page["ids"][:2] == ["doc-0", "doc-1"] and len(page["ids"]) == 3000


def test_a_mixed_index_of_inner_products_is_the_gates(page, monkeypatch):
    import subprocess
    import sys

    told = {}

    def in_process(words, capture_output):
        import io
        from contextlib import redirect_stdout

        assert words[:3] == [sys.executable, "-m", "v2v_lite"]
        with redirect_stdout(io.StringIO()) as out:
            main(words[3:])
        told["stdout"] = out.getvalue()
        return type("Done", (), told)

    monkeypatch.setattr(subprocess, "run", in_process)
    run(sections()["While old and new stand side by side"], page)
    assert 0.4 < page["share"] < 0.6
    plain = np.vstack([page["native"], page["translated"].vectors.numpy()])
    top = np.argsort(-(page["queries"] @ plain.T), axis=1)[:, :10]
    before = (top >= 3000).mean()
    assert abs(page["share"] - 0.5) < abs(before - 0.5)


def test_files_of_all_kinds(page):
    pytest.importorskip("datasets")
    run(sections()["Files"], page)
    want = page["translated"].vectors.numpy()
    for name, most in (
        ("a", 1e-2),
        ("b", 1e-5),
        ("c", 1e-5),
    ):  # a was in half precision
        assert np.load(f"{name}.npy") == pytest.approx(want, abs=most)


def nearest(page, k=5):
    """The nearest translated documents of a query, and the query."""
    query = page["new"].vectors[6000].numpy()
    scores = page["translated"].vectors.numpy() @ query
    return query, np.argsort(-scores)[:k].tolist()


def test_faiss(page):
    pytest.importorskip("faiss")
    run(sections()["faiss"], page)
    query, best = nearest(page)
    found = page["index"].search(query[None], 5)[1][0]
    assert (found - 100).tolist() == best and page["index"].ntotal == 3000
    assert Space.load("from_faiss.safetensors").ids[:2].tolist() == [100, 101]


def test_qdrant(page):
    pytest.importorskip("qdrant_client")
    run(sections()["Qdrant"], page)
    query, best = nearest(page)
    client = page["client"]
    found = client.query_points("docs_new", query=query.tolist(), limit=5).points
    assert [point.id for point in found] == best
    assert [point.payload["name"] for point in found] == [f"doc-{i}" for i in best]
    assert client.count("docs_new").count == 3000
    client.close()


def test_lancedb(page):
    pytest.importorskip("lancedb")
    run(sections()["LanceDB"], page)
    query, best = nearest(page)
    table = page["store"].open_table("docs_new")
    found = table.search(query).distance_type("cosine").limit(5).to_list()
    assert [row["id"] for row in found] == [f"doc-{i}" for i in best]


def test_chroma(page):
    pytest.importorskip("chromadb")
    run(sections()["Chroma"], page)
    query, best = nearest(page)
    found = page["docs_new"].query(query_embeddings=query[None], n_results=5)
    # Its index is approximate.
    assert len({*found["ids"][0]} & {f"doc-{i}" for i in best}) >= 4
    assert found["documents"][0] == found["ids"][0] and page["docs_new"].count() == 3000


def test_every_section_with_code_is_run():
    text = Path(__file__).read_text(encoding="utf-8")
    assert all(f'sections()["{name}"]' in text for name in sections())
    assert {"faiss", "Qdrant", "LanceDB", "Chroma", "Files"} <= sections().keys()
