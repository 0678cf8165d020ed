"""`v2v gate` and `v2v rehearse`: verdicts, exit codes, and what stays unknown."""

import json

import numpy as np
import pytest
import torch

from v2v_lite.align import Procrustes, RandomRotation, Ridge, Translator, Whitened
from v2v_lite.spaces import Space, Table, load, unit

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A good translator from MiniLM to WordLlama, and a random one."""
    folder = tmp_path_factory.mktemp("models")
    sides = load("minilm", "train"), load("wordllama", "train")
    sides = [side.take(slice(6000)).with_mean() for side in sides]
    for name, kind in ("good", Whitened), ("random", RandomRotation):
        kind().fit(*sides).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Queries, documents of both encoders, and native rows of other documents."""
    folder = tmp_path_factory.mktemp("store")
    a, b = load("minilm", "eval"), load("wordllama", "eval")
    b.take(slice(300)).save(folder / "q.safetensors")
    a.take(slice(300, 1500)).save(folder / "d.safetensors")
    b.take(slice(300, 1500)).save(folder / "p.safetensors")
    b.take(slice(1500, 2700)).save(folder / "n.safetensors")
    return folder


def asked(files, folder, **rows):
    words = {"queries": "q", "documents": "d", **rows}
    pairs = [(f"--{key}", files / f"{name}.safetensors") for key, name in words.items()]
    return ["gate", folder, *(word for pair in pairs for word in pair)]


def result(v2v, capsys, *words, expect=0):
    capsys.readouterr()
    v2v(*words, "--json", expect=expect)
    return json.loads(capsys.readouterr().out)


def test_a_good_translator_serves_and_a_random_one_does_not(v2v, models, files, capsys):
    words = asked(files, models / "good", pairs="p")
    found = result(v2v, capsys, *words, "--min-recall", "0.2", "--min-ndcg", "0.2")
    assert found["verdict"] == "serves" and found["failed"] == []
    assert (found["queries"], found["documents"], found["k"]) == (300, 1200, 10)
    # The recall is that of sets of answers, counted by hand.
    q, d, p = (Space.load(files / f"{name}.safetensors").vectors for name in "qdp")
    moved = Translator.load(models / "good").translate(d)
    best = [(q @ x.T).topk(10).indices.tolist() for x in (moved, p)]
    hits = [len({*a} & {*b}) / 10 for a, b in zip(*best, strict=True)]
    mean = sum(hits) / len(hits)
    assert found["translated"]["recall"]["mean"] == pytest.approx(mean, abs=1e-4)
    assert found["untranslated"]["recall"]["mean"] < 0.05 < 0.2 < mean
    paired = found["with_pairs"]  # of fewer pairs than the translator's, all the same
    assert 0.1 < paired["recall"]["mean"] < mean

    words = asked(files, models / "random", pairs="p")
    found = result(v2v, capsys, *words, expect=1)
    assert found["verdict"] == "does not serve"
    assert any("recall" in why and "0.3" in why for why in found["failed"])
    assert found["translated"]["recall"]["mean"] < 0.05
    assert found["with_pairs"] == paired  # which asks no translator


def test_a_threshold_decides(v2v, models, files, capsys):
    words = asked(files, models / "good", pairs="p")
    strict = result(v2v, capsys, *words, "--min-recall", "0.999", expect=1)
    assert any("the threshold is 0.999" in why for why in strict["failed"])
    capsys.readouterr()
    v2v(*words, "--min-recall", "0.999", expect=1)
    out = capsys.readouterr().out
    assert out.startswith("does not serve (300 queries, 1,200 documents, top 10)")
    assert "mixed index: translated rows are 0.500 of the store" in out


def test_without_pairs_recall_is_unknown(v2v, models, files, capsys):
    found = result(v2v, capsys, *asked(files, models / "good"), expect=1)
    assert found["verdict"] == "unknown"
    assert "translated" not in found and "diagnosis" not in found
    found = result(
        v2v, capsys, *asked(files, models / "good", native="n"), expect=1
    )  # other documents tell more, but not that
    assert found["verdict"] == "unknown"
    assert found["diagnosis"]["verdict"] == "aligned"
    assert found["mixed"]["fair"] is None and found["mixed"]["after"]["mean"] > 0
    found = result(v2v, capsys, *asked(files, models / "random", native="n"), expect=1)
    assert found["verdict"] == "does not serve" and "failed" in found["failed"][0]
    capsys.readouterr()
    v2v(*asked(files, models / "good"), expect=1)
    assert "unknown without pairs" in capsys.readouterr().out


def test_queries_of_bundled_names_are_not_among_the_documents(v2v, models, capsys):
    words = [
        "gate",
        models / "good",
        "--queries",
        "wordllama",
        "--documents",
        "minilm",
        "--n-queries",
        "96",
        "--min-recall",
        "0.1",
        "--min-ndcg",
        "0.1",
    ]
    found = result(v2v, capsys, *words, "--pairs", "wordllama")
    assert (found["queries"], found["documents"]) == (96, 4000)
    found = result(v2v, capsys, *words, "--native", "wordllama", expect=1)
    assert found["documents"] == 2000  # of the other half's texts are the native rows


def test_rows_that_cannot_be_used(fails, models, files, tmp_path):
    good = models / "good"
    assert "translates into wordllama, but rows of minilm" in fails(
        *asked(files, good, queries="d")
    )
    assert "rows are not of the same texts" in fails(*asked(files, good, pairs="n"))
    words = asked(files, good, pairs="p")
    assert "min_recall = 1.5" in fails(*words, "--min-recall", "1.5")
    assert "k = 0" in fails(*words, "--k", "0")
    assert "1200 documents are left, but the top 400" in fails(*words, "--k", "400")
    assert "no.safetensors" in fails(*asked(files, good, documents="no"))
    assert "nowhere" in fails(*asked(files, tmp_path / "nowhere"))


@pytest.mark.parametrize("kind", [Whitened, Ridge])
def test_in_a_mixed_index_half_the_rows_take_half_the_places(
    kind, v2v, capsys, tmp_path
):
    """And not a third, or two thirds, as before the calibration."""
    a, b = load("minilm", "train"), load("granite", "train")
    kind().fit(*(one.take(slice(6000)).with_mean() for one in (a, b))).save("m")
    words = ("gate", "m", "--queries", "granite", "--documents", "minilm",
             "--pairs", "granite", "--min-recall", 0, "--min-ndcg", 0,
             "--n-queries", 400)  # fmt: skip
    mixed = result(v2v, capsys, *words)["mixed"]
    assert abs(mixed["store"] - 0.5) < 0.001 and 0.45 < mixed["fair"]["mean"] < 0.55
    assert (
        not 0.4 < mixed["before"]["mean"] < 0.6 and 0.4 < mixed["after"]["mean"] < 0.6
    )
    assert mixed["recall_after"]["mean"] > mixed["recall_before"]["mean"]


def test_a_large_store_is_gated_by_blocks(v2v, tmp_path, capsys, monkeypatch):
    """What is found is what a search of all rows at once finds, and memory holds only
    what a sample takes."""
    g = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=g))[0]
    x, q = unit(torch.randn(9000, 8, generator=g)), torch.randn(40, 8, generator=g)
    y = unit(x @ turn + 0.1 * torch.randn(9000, 8, generator=g))
    for name, rows in (("d", x), ("p", y), ("q", q)):
        np.save(tmp_path / f"{name}.npy", rows.numpy())
    Procrustes().fit(x[:500], y[:500]).save(tmp_path / "m")
    monkeypatch.setattr("v2v_lite.cli.unseen.SEEN", 300)
    monkeypatch.setattr("v2v_lite.cli.gate._sample.__defaults__", (300,))
    seen, fill = [], Table.fill

    def counted(self, index):
        seen.append(len(index))
        return fill(self, index)

    monkeypatch.setattr(Table, "fill", counted)
    names = [
        (f"--{k}", tmp_path / f"{k[0]}.npy") for k in ("queries", "documents", "pairs")
    ]
    words = [word for pair in names for word in pair]
    found = result(v2v, capsys, "gate", tmp_path / "m", *words)
    assert max(seen) <= 2048 and found["documents"] == 9000
    moved = Translator.load(tmp_path / "m").translate(x)
    best = [(unit(q) @ z.T).topk(10).indices.tolist() for z in (moved, y)]
    recall = np.mean([len({*a} & {*b}) / 10 for a, b in zip(*best, strict=True)])
    assert found["translated"]["recall"]["mean"] == pytest.approx(recall, abs=1e-4)
    assert found["with_pairs"]["recall"]["mean"] > 0.3
    assert found["untranslated"]["recall"]["mean"] < 0.05
    assert found["mixed"]["store"] == 0.5


def test_bad_rows_of_a_store_are_named_before_anything_is_searched(
    fails, models, files, tmp_path
):
    rows = load("wordllama", "eval").take(slice(300, 1500)).vectors.numpy().copy()
    rows[7] = np.nan
    np.save(tmp_path / "p.npy", rows)
    words = asked(files, models / "good")
    assert "row 7" in fails(*words, "--pairs", tmp_path / "p.npy")


# ---- the positive control


def test_a_rehearsal_of_the_target_itself_is_perfect(v2v, capsys):
    words = ("rehearse", "wordllama", "--known", "wordllama", "--rows", "800")
    found = result(v2v, capsys, *words, "--method", "identity")["rehearsals"]
    assert [row["known"] for row in found] == ["wordllama"]
    assert found[0]["top1"]["mean"] == 1 and found[0]["pool"] == 4096
    assert found[0]["diagnosis"]["verdict"] == "aligned"
    assert (found[0]["rows"], found[0]["target_rows"]) == (800, 800)


def test_a_rehearsal_of_chance_is_called_failed(v2v, capsys):
    words = ("rehearse", "wordllama", "--rows", "500", "--target-rows", "900")
    words = (*words, "--method", "random")
    found = result(v2v, capsys, *words)["rehearsals"]
    assert [row["known"] for row in found] == ["minilm", "granite", "arctic"]
    for row in found:
        assert (row["rows"], row["target_rows"]) == (500, 900)
        assert row["diagnosis"]["verdict"] == "failed" and row["top1"]["mean"] < 0.01
    v2v(*words)
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("minilm to wordllama: failed (score")
    assert "in truth top-1 0.0" in out[0]
    assert out[-1] == "0 of 3 were called aligned"


def test_files_of_the_same_texts_can_be_rehearsed(v2v, fails, files, capsys):
    d, p = (files / f"{name}.safetensors" for name in "dp")
    words = ("rehearse", p, "--known", d, "--method", "random")
    row = result(v2v, capsys, *words)["rehearsals"][0]
    assert (row["rows"], row["pool"]) == (450, 300)
    assert "give that file as --known" in fails("rehearse", p)
    assert "hold different texts" in fails(
        "rehearse", p, "--known", files / "n.safetensors"
    )
    assert "leave 1 to 450 a side" in fails(*words, "--rows", "451")
    assert "no method 'magic'" in fails("rehearse", "granite", "--method", "magic")
