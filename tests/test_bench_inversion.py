"""The experiment of inversion on few rows, and its stored result."""

import json

import pytest

from experiments import inversion
from experiments.store import Store
from v2v_lite.spaces import DataError
from v2v_lite.teaching import results

pytest.importorskip("wordllama")


def test_the_experiment_measures_the_true_vectors_and_goes_on(tmp_path):
    plan = inversion.Plan(attacker="wordllama", sets=("emails",), rows=30, victims=())
    table, lacks = inversion.measure(plan, tmp_path, jobs=0)
    true, baseline = table["rows"]
    assert not lacks and (true["victim"], baseline["victim"]) == ("true", "mean")
    assert true["token_f1"]["n"] == 30
    assert true["token_f1"]["gain"]["mean"] > baseline["token_f1"]["gain"]["mean"]
    assert [one["quantile"] for one in true["examples"]] == [0.1, 0.5, 0.9]
    task = inversion.Inversions("emails", "true", plan)
    assert Store(tmp_path / "inversion.json").get(task) == json.loads(json.dumps(true))


def test_the_committed_result_is_whole():
    try:
        table = results.load("inversion")["table"]["rows"]
    except DataError:
        pytest.skip("not measured yet")
    assert {row["set"] for row in table} == set(inversion.SETS)
    assert {row["victim"] for row in table} == {"granite", "arctic", "true", "mean"}
