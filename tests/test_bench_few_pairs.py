"""The few-pairs experiment: nested pairs that no fit saw, gains, a small table."""

import statistics
from dataclasses import replace

import pytest
import torch

from experiments import few_pairs
from v2v_lite.align import SelfLearnConfig
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.teaching.comparison import split_of

PAIR = "minilm", "wordllama"
TINY = SelfLearnConfig(AnchorConfig(2, 500, 4, n_init=4, vote_rounds=0), phases=())


def test_pairs_are_of_texts_that_neither_side_nor_the_pool_holds():
    split = split_of(*PAIR, 700, 1)
    few, more = (few_pairs.pairs_of(*PAIR, 700, n, split) for n in (5, 40))
    assert torch.equal(more[0].ids, more[1].ids) and len(more[0].ids.unique()) == 40
    assert torch.equal(few[0].ids, more[0].ids[:5])
    for side in (split.source, split.target, split.eval_source):
        assert not torch.isin(more[0].ids, side.ids).any()
    assert few_pairs.pairs_of(*PAIR, 700, 0, split) == []


def test_gains_are_differences_of_the_same_seed():
    def row(n, seed, ours, alone):
        one = {"pairs": n, "seed": seed, "selflearn": {"top1": ours, "top1_se": 0.03}}
        if n:
            one["ridge, means of all"] = {"top1": alone, "top1_se": 0.04}
        return one

    rows = [
        row(0, 0, 0.1, 0),
        row(0, 1, 0.2, 0),
        row(9, 0, 0.5, 0.3),
        row(9, 1, 0.4, 0.1),
    ]
    alone, unpaired = few_pairs.gains(rows)
    assert (alone["over"], unpaired["over"]) == ("ridge, means of all", "unpaired")
    assert alone["gain"] == pytest.approx(0.25) and alone["least"] == pytest.approx(0.2)
    assert unpaired["gain"] == pytest.approx(statistics.mean([0.4, 0.2]))
    assert alone["se"] == pytest.approx(0.05)


def test_a_small_table(tmp_path, monkeypatch):
    monkeypatch.setattr("v2v_lite.align.selflearn.SelfLearnConfig", lambda: TINY)
    monkeypatch.setattr(few_pairs, "AROUND", ("identity", "procrustes"))
    plan = replace(few_pairs.QUICK, n_train=600, pairs=(0, 20))
    table, missing = few_pairs.measure(plan, tmp_path)
    assert not missing and [r["pairs"] for r in table["curve"]] == [0, 20]
    assert len(table["gains"]) == 1 + 2 * 2  # over unpaired, and two maps, two means
    top1 = {row["method"]: row["top1"] for row in table["around"]}
    assert top1["identity"] < 0.02 < top1["procrustes"]
    assert len(few_pairs.lines(table)) == 2 + 2 + 5
    monkeypatch.setattr(few_pairs.Few, "run", None)  # whoever measures again fails
    monkeypatch.setattr(few_pairs.Around, "run", None)
    assert few_pairs.measure(plan, tmp_path)[0] == table
