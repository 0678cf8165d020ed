"""The experiment of inversion on few rows, and its stored result."""

import json

import pytest

from experiments import inversion, inverted, short_texts
from experiments.store import Store
from v2v_lite.spaces import DataError, load_documents
from v2v_lite.teaching import results

pytest.importorskip("wordllama")


def test_the_experiment_measures_the_true_vectors_and_goes_on(tmp_path):
    plan = inversion.Plan(attacker="wordllama", sets=("emails",), rows=20, victims=())
    table, lacks = inversion.measure(plan, tmp_path, ("documents",), jobs=0)
    true, baseline = table["rows"]
    assert (true["victim"], baseline["victim"]) == ("true", "mean")
    assert len(lacks) == 2 + 4  # the other parts
    assert true["token_f1"]["n"] == 20
    assert 0 < true["of_ten"]["any"]["right"] <= 1
    assert true["token_f1"]["gain"]["mean"] > baseline["token_f1"]["gain"]["mean"]
    assert [one["quantile"] for one in true["examples"]] == [0.1, 0.5, 0.9]
    task = inversion.Inversions("emails", "true", plan)
    assert Store(tmp_path / "inversion.json").get(task) == json.loads(json.dumps(true))


def test_sentences_of_the_length_are_inverted(tmp_path):
    task = short_texts.Sentences(6, 0, "wordllama", 3, 0)
    row = task.run(tmp_path)
    assert row["n"] == 3 and len(row["examples"]) == 3
    assert all(len(stolen.split()) <= 6 for stolen, _ in row["examples"])
    steps = [row[way] for way in short_texts.WAYS]
    assert steps[-1]["own"]["mean"] > steps[-1]["control"]["mean"]
    assert steps[-1]["own"]["mean"] >= steps[0]["own"]["mean"]
    assert short_texts.sentences("One. Two!\n\nThree") == ["One.", "Two!", "Three"]


def test_the_judge_picks_the_document_itself_among_ten():
    private = load_documents("emails", "private")
    some = [3, 40, 77]
    found = inverted.of_ten([private[i].text for i in some], some, private)
    assert found["any"] == {"n": 3, "right": 1.0} == found["same_label"]


def test_the_committed_result_is_whole():
    try:
        stored = results.load("inversion")["table"]
    except DataError:
        pytest.skip("not measured yet")
    table = stored["rows"]
    lengths = [row["longest"] for row in stored["sentences"]]
    assert lengths == sorted(lengths) and set(lengths) <= {6, 12, 24, 48}
    assert {row["set"] for row in table} == set(inversion.SETS)
    assert {row["victim"] for row in table} == {"granite", "arctic", "true", "mean"}
    assert all("of_ten" in row for row in stored["judged"])
