"""The questionnaire: its regression by drawing, calibration, verification, commands."""

import json
from dataclasses import replace

import pytest
import torch
from problems import rows
from sklearn.metrics import roc_auc_score

from v2v_lite.align import LinearTranslator
from v2v_lite.cli import main
from v2v_lite.privacy import (
    SLOTS,
    EncoderScorer,
    Questionnaire,
    auc,
    calibration_error,
    confirmed,
    text_leakage,
    values_found,
    verify,
    votes,
)
from v2v_lite.spaces import DataError, Document, Space, load_documents, unit


def document(text, **more):
    return Document("d", "public", text, ("a",), **more)


def problem(n=200, d=12, seed=0):
    """Rows whose first coordinate decides the answer."""
    x = unit(rows(n, d, seed=seed))
    return x, [("high",) if row[0] > 0 else ("low", "slow") for row in x]


# ---- the regression


def test_it_is_the_mean_of_least_squares_over_drawn_errors():
    x, answers = problem(60, 5)
    found = Questionnaire.fit(x, answers, cosine=0.6)
    g = torch.Generator().manual_seed(0)
    centred = unit(x - x.mean(0)).double()
    hot = torch.tensor([[float(v in a) for v in found.values] for a in answers])
    hot = (hot - hot.mean(0)).double()
    gram, right = torch.zeros(5, 5).double(), torch.zeros(5, len(found.values)).double()
    for _ in range(2000):
        e = torch.randn(60, 5, generator=g).double()
        e = unit(e - (e * centred).sum(1, keepdim=True) * centred)
        z = 0.6 * centred + 0.8 * e
        gram, right = gram + z.T @ z, right + z.T @ hot
    drawn = torch.linalg.solve(gram, right).float()
    assert torch.allclose(found.weight, drawn, atol=0.03)
    assert found.weight.abs().max() > 0.3


def test_without_error_it_is_least_squares():
    x, answers = problem(80, 4)
    found = Questionnaire.fit(x, answers, cosine=1.0)
    centred = unit(x - x.mean(0))
    hot = torch.tensor([[float(v in a) for v in found.values] for a in answers])
    expected = torch.linalg.lstsq(centred, hot - hot.mean(0)).solution
    assert torch.allclose(found.weight, expected, atol=1e-3)


def test_answers_are_right_where_the_vector_tells():
    x, answers = problem()
    new, true = problem(100, seed=1)
    found = Questionnaire.fit(x, answers, cosine=0.9, k=1)
    said = found.answers(new, 1)
    hits = [a[0] in t for a, t in zip(said, true, strict=True)]
    assert sum(hits) > 85
    p = found.probabilities(new)
    assert (p > 0).all() and (p < 1).all()
    order = found.scores(new).argsort(1, descending=True)
    assert [found.values[j] for j in order[3, :2]] == list(found.answers(new, 2)[3])


def test_a_name_counts_as_ten_texts():
    x, answers = problem(80, 4)
    alone = unit(rows(9, 4, seed=7))
    names = {}

    def encode(texts):
        names["asked"] = texts
        return alone[: len(texts)]

    found = Questionnaire.fit(x, answers, cosine=1.0, encode=encode)
    n = len(found.values)
    assert names["asked"] == list(found.values)
    hot = torch.tensor([[float(v in a) for v in found.values] for a in answers])
    named = unit(alone[:n] - alone[:n].mean(0))
    left = torch.cat([unit(x - x.mean(0)), *[named] * 10])
    right = torch.cat([hot - hot.mean(0), *[torch.eye(n) - 1 / n] * 10])
    expected = torch.linalg.lstsq(left, right).solution
    assert torch.allclose(found.weight, expected, atol=1e-3)


def bag(texts):
    words = "red house aspirin insulin statins".split()
    return unit(torch.tensor([[t.count(w) + 1e-3 for w in words] for t in texts]))


def test_the_answer_that_the_encoder_confirms_comes_first():
    values = ("aspirin", "insulin", "statins")
    asker = Questionnaire(values, torch.zeros(5), torch.zeros(3), torch.zeros(5, 3),
                          1.0, 0.0)  # fmt: skip
    scorer = EncoderScorer(bag, torch.zeros(5))
    z = bag(["red house insulin", "red statins"])
    given = confirmed(asker, z, ["red house", "red"], scorer, k=1)
    assert given == [("insulin",), ("statins",)]
    sure = replace(asker, base=torch.tensor([9.0, 0.0, 0.0]))
    assert confirmed(sure, z, ["red", "red"], scorer, k=2)[0] == ("aspirin", "insulin")
    with pytest.raises(DataError, match="1 texts for 2 rows"):
        confirmed(asker, z, ["red"], scorer)


@pytest.mark.parametrize(
    "answers, cosine, why",
    [
        ([("a",)] * 9, 0.5, "9 answers for 10"),
        ([()] * 10, 0.5, "without examples"),
        ([("a",)] * 10, 0.0, "cosine = 0"),
    ],
)
def test_bad_questionnaires(answers, cosine, why):
    with pytest.raises(DataError, match=why):
        Questionnaire.fit(rows(10, 3), answers, cosine)


def test_an_empty_store_and_other_widths():
    with pytest.raises(DataError):
        Questionnaire.fit(torch.zeros(0, 3), [])
    found = Questionnaire.fit(*problem(20, 3))
    with pytest.raises(DataError):
        found.scores(rows(4, 5))
    with pytest.raises(DataError):
        found.answers(torch.zeros(0, 3))


# ---- votes, slots, scores


def test_one_vote_is_the_lookup_and_all_without_heat_the_frequencies():
    own, z = rows(30, 6), rows(7, 6, seed=3)
    hot = (rows(30, 4, seed=5) > 0).float()
    nearest = (unit(z - own.mean(0)) @ unit(own - own.mean(0)).T).argmax(1)
    assert torch.equal(votes(z, own, hot, 1), hot[nearest])
    every = votes(z, own, hot, 30, temperature=1e6)
    assert torch.allclose(every, hot.mean(0).expand(7, -1), atol=1e-4)
    with pytest.raises(DataError, match="k = 31"):
        votes(z, own, hot, 31)


def test_slots_are_read_off_the_text():
    d = document(
        "Paid £3,200 and €40 million at the old cafés by the harbour.",
        medication=("Aspirin", "aspirin"), age_group="child",
    )  # fmt: skip
    assert SLOTS["drugs"](d) == ("aspirin",) and SLOTS["age"](d) == ("child",)
    assert SLOTS["sums"](d) == ("millions", "thousands")
    assert SLOTS["places"](d) == ("café", "harbour")
    assert SLOTS["conditions"](d) == ("a",)
    assert SLOTS["sums"](document("No sum.")) == ()


def test_values_found_is_a_fraction_of_whole_values():
    measure = values_found(SLOTS["drugs"])
    d = document("x", medication=("Aspirin", "Warfarin"))
    assert measure("aspirin\nibuprofen", d) == 0.5
    assert measure("aspirins", d) == 0.0
    assert measure("aspirin", document("y")) is None


def test_calibration_error_by_hand():
    p = torch.tensor([0.1, 0.1, 0.9, 0.9])
    assert calibration_error(p, torch.tensor([0, 0, 1, 1.0]), 2) == pytest.approx(0.1)
    assert calibration_error(p, torch.tensor([1, 1, 0, 0.0]), 2) == pytest.approx(0.9)


# ---- verification


def test_a_text_of_the_store_is_found_and_its_row_named():
    z, null = rows(40, 16), rows(60, 16, seed=2)
    inside, outside = verify(z[:20], z, null), verify(rows(20, 16, seed=9), z, null)
    assert torch.equal(inside.row, torch.arange(20))
    assert auc(inside.score, outside.score).mean == 1.0


def test_the_area_is_scikit_learns():
    a, b = torch.randn(30) + 0.5, torch.randn(40)
    found = auc(a, b)
    truth = torch.cat([torch.ones(30), torch.zeros(40)])
    assert found.mean == pytest.approx(roc_auc_score(truth, torch.cat([a, b])))
    assert 0.02 < found.se < 0.12
    assert auc(torch.ones(3), torch.ones(4)).mean == 0.5
    with pytest.raises(DataError, match="1 members"):
        auc(a[:1], b)


def test_no_other_texts_no_verdict():
    with pytest.raises(DataError, match="at least 2"):
        verify(rows(2, 4), rows(3, 4), rows(1, 4))


# ---- the command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    pytest.importorskip("wordllama")
    monkeypatch.chdir(tmp_path)
    from v2v_lite.spaces import load

    space = load("wordllama", "eval")
    source = space.take(slice(0, 2000)).with_mean()
    LinearTranslator.from_map(torch.eye(256), source, space).save(tmp_path / "same")
    return tmp_path


def test_the_command_answers_and_scores_a_bundled_set(folder, capsys):
    call = ["attack", "questionnaire", "notes", "same", "--top", "3", "--json"]
    assert main([*call, "--out", "a.json"]) == 0
    found = json.loads(capsys.readouterr().out)
    private = load_documents("notes", "private")
    assert found["rows"] == len(private) == len(json.loads(open("a.json").read()))
    texts = ["\n".join(one["value"] for one in row) for row in found["answers"]]
    slot = values_found(SLOTS["drugs"])
    again = text_leakage(texts, range(len(texts)), private.rows, slot)
    assert found["scored"]["gain"]["mean"] == pytest.approx(again.gain.mean, rel=1e-4)
    assert again.gain.mean > 3 * again.gain.se


@pytest.mark.parametrize(
    "more, why",
    [
        (("--slot", "shoes"), "no slot 'shoes'"),
        (("--top", "0"), "top = 0"),
        (("--own", "bare.jsonl"), "without examples"),
        (("--own", "missing.jsonl"), "no such file"),
    ],
)
def test_bad_input_is_one_line(folder, more, why, capsys):
    line = '{"text": "a text", "values": []}\n'
    (folder / "bare.jsonl").write_text(line * 5)
    assert main(["attack", "questionnaire", "notes", "same", *more]) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("v2v: ") and why in err


def test_own_texts_of_a_file(folder, capsys):
    lines = [
        json.dumps({"text": f"{v} number {i}", "values": [v]})
        for i in range(6)
        for v in ("apples", "boats")
    ]
    (folder / "own.jsonl").write_text("\n".join(lines))
    from v2v_lite.spaces import encode

    encode(["apples again", "more boats"], "wordllama").save("two.safetensors")
    call = ["attack", "questionnaire", "two.safetensors", "same", "--top", "1"]
    assert main([*call, "--own", "own.jsonl", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row[0]["value"] for row in found["answers"]] == ["apples", "boats"]
    assert isinstance(Space.load("two.safetensors"), Space)
