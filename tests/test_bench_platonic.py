"""Chapter 3's models and the cost of similarities, measured small."""

import json
from dataclasses import replace

import pytest
import torch

from experiments import platonic, run, similarity
from v2v_lite.measure import MEASURES
from v2v_lite.teaching import results
from v2v_lite.teaching.digits import Recipe, held_out_codes

TINY = replace(platonic.QUICK, n_train=1700, k=5)  # 97 digits to compare


def test_permutations_within_classes_keep_every_label():
    y = torch.randint(0, 3, (50,), generator=torch.Generator().manual_seed(0))
    free, within = platonic.permutations(y, 4)
    for order in (*free, *within):
        assert torch.equal(order.sort().values, torch.arange(50))
    assert all(torch.equal(y[order], y) for order in within)
    assert not all(torch.equal(y[order], y) for order in free)
    assert not any(torch.equal(order, torch.arange(50)) for order in within)


def test_partners_have_as_many_epochs_or_the_most():
    recipes = platonic.Plan(widths=(8, 16), epochs=(0, 2)).recipes()
    assert len(recipes) == 8
    for i, recipe in enumerate(recipes):
        for among, epochs in (("same_epochs", recipe.epochs), ("longest", 2)):
            found = platonic.partners(recipes, i, among)
            assert i not in found and len(found) in (3, 4)
            assert all(recipes[j].epochs == epochs for j in found)


@pytest.mark.parametrize("name", platonic.COMPARED)
def test_agreement_is_1_for_equals_and_0_for_chance(name):
    measure, g = MEASURES[name], torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 60, 4, generator=g)
    y = torch.arange(60) % 3
    free, within = platonic.permutations(y, 12)
    one, other = measure.features(a, 5), measure.features(b, 5)
    assert platonic.calibrated(measure, one, one, free, within) == pytest.approx(
        (measure.best, 1, 1), abs=1e-6
    )
    assert abs(platonic.calibrated(measure, one, other, free, within)[1]) < 0.15


def test_the_table_is_measured_once(tmp_path):
    table = platonic.measure(TINY, tmp_path, jobs=0)[0]
    assert (table["n"], table["k"], table["seeds"]) == (97, 5, 2)
    assert len(table["models"]) == len(table["accuracy"][0]) == 4
    row = table["agreement"]["cka_unbiased"][1]["same_epochs"]
    assert len(row) == 4 and set(row[0]) == set(platonic.NULLS)
    store = json.loads((tmp_path / "platonic.json").read_text())
    again = platonic.measure(TINY, tmp_path, jobs=0)[0]
    kept = json.loads((tmp_path / "platonic.json").read_text())
    assert again == table and kept == store


def test_one_stored_accuracy_comes_back():
    table = results.load("platonic")["table"]
    model = {"kind": "mlp", "width": 8, "epochs": 3}
    at, plan = table["models"].index(model), platonic.FULL
    _, right = held_out_codes(Recipe(*model.values(), batch=50), plan.n_train, (0, 1))
    assert right[0].item() == pytest.approx(table["accuracy"][0][at], abs=0.02)


def test_cost_of_similarities(tmp_path, capsys):
    found, _ = similarity.measure(similarity.Plan("minilm", "wordllama", 300), tmp_path)
    assert found["n"] == 300
    for name in ("mutual_knn", "cka_unbiased"):
        row = found[name]
        assert 0 < row["value"] < 1 and row["peak_mb"] >= 0
    assert run.main(["similarity", "--set", "n=5"]) == 2
    assert "n = 5" in capsys.readouterr().err
