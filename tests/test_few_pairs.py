"""A few pairs beside unpaired rows: what they add and decide, what is refused."""

import json

import numpy as np
import pytest
import torch

from v2v_lite.align import Phase, SelfLearn, SelfLearnConfig
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.few_pairs import PLAN_PAIRS, check_pairs, pair_moment, start_with
from v2v_lite.align.selflearn import SharedSubspace, self_learn
from v2v_lite.spaces import DataError, load, unit

TINY = SelfLearnConfig(
    anchors=AnchorConfig(3, 600, 6, n_init=10, vote_rounds=1),
    phases=(
        Phase(8, 300, 0.05, singular_value_exponent=1, ema_decay=0.3),
        Phase(4, 600, 0.05, singular_value_exponent=0.5, ema_decay=0.3),
    ),
    shrinkage_rows=60,
    n_init=1,
)


def spheres(n_pairs, seed=0):
    """Rows all over a sphere, which look alike from everywhere, and their rotation."""
    g = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=g))[0]
    x, other, both = (unit(torch.randn(n, 6, generator=g)) for n in (600, 600, n_pairs))
    return torch.cat([x, both]), torch.cat([other, both]) @ turn, turn


def test_pairs_decide_what_the_clouds_alone_cannot():
    x, y, turn = spheres(60)
    pairs = range(600, 660), range(600, 660)
    fresh = unit(torch.randn(500, 6, generator=torch.Generator().manual_seed(8)))

    def cosine(**options):
        model = SelfLearn(TINY).fit(x, y, seed=0, **options)
        return (model.translate(fresh) * (fresh @ turn)).sum(1).mean().item()

    assert cosine(pairs=pairs) > 0.9
    assert abs(cosine()) < 0.6  # any rotation fits as well
    wrong = range(600, 660), [*range(601, 660), 600]
    assert abs(cosine(pairs=wrong)) < 0.6  # it is the pairs that did it


def test_no_pair_changes_no_bit():
    x, y, _ = spheres(0)
    plain = SelfLearn(TINY).fit(x, y, seed=3).weight
    for pairs in (None, ([], []), (torch.zeros(0).long(),) * 2):
        again = SelfLearn(TINY).fit(x, y, seed=3, pairs=pairs).weight
        assert torch.equal(again, plain)


def test_pairs_may_be_one_tensor_of_two_rows():
    x, y, _ = spheres(60)
    rows = torch.arange(600, 660)
    lists = SelfLearn(TINY).fit(x, y, seed=3, pairs=(rows, rows)).weight
    both = SelfLearn(TINY).fit(x, y, seed=3, pairs=torch.stack([rows, rows])).weight
    assert torch.equal(lists, both)


def test_pairs_of_one_fit_are_forgotten_by_the_next():
    x, y, _ = spheres(60)
    model = SelfLearn(TINY).fit(x, y, seed=3, pairs=([600], [600]))
    plain = SelfLearn(TINY).fit(x, y, seed=3).weight
    assert not torch.equal(model.weight, plain)
    assert torch.equal(model.fit(x, y, seed=3).weight, plain)


def test_the_moment_is_the_sum_over_pairs():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(9, 4, generator=g), torch.randn(7, 3, generator=g)
    i, j = torch.tensor([2, 0, 8]), torch.tensor([6, 1, 3])
    moment, n = pair_moment(x, y, (i, j))
    by_hand = sum(np.outer(x[a], y[b]) for a, b in zip(i, j, strict=True))
    assert n == 3 and np.allclose(moment * PLAN_PAIRS, by_hand, atol=1e-5)
    assert pair_moment(x, y, (i[:0], j[:0])) == (None, 0)


def test_a_start_is_worth_its_number_of_pairs():
    a, b = torch.eye(2) * 5, torch.tensor([[0.0, 3.0], [0.0, 0.0]])
    half = start_with(a, b, n=20)
    assert torch.allclose(half, torch.eye(2) / 8**0.5 + b / 6)
    assert torch.allclose(start_with(a, b, n=10**9), b / 3, atol=1e-6)


def test_a_round_adds_the_moment_to_the_plans():
    # One round; the plan of rows without structure is known: all to all, alike.
    x = y = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    start, moment = SharedSubspace.of(torch.eye(2)), torch.tensor([[0, 2.0], [1.0, 0]])
    hot = Phase(1, 2, 1e6, singular_value_exponent=1, ema_decay=0)
    found, _ = self_learn(x, y, start, hot, 6, torch.Generator(), moment=moment)
    cross = found.u * found.s @ found.v.T
    assert torch.allclose(cross, moment / 5**0.5, atol=1e-5)


@pytest.mark.parametrize(
    "pairs, why",
    [
        (([0, 1], [0]), "2 rows of the source are paired with 1"),
        (([0, 5], [0, 1]), "source row 5 of 5 rows"),
        (([0, 1], [0, -1]), "target row -1 of 7 rows"),
        (([0, 0], [0, 1]), "source row 0 in two pairs"),
        (([0, 1], [3, 3]), "target row 3 in two pairs"),
        (([0.5], [0]), "type torch.float32"),
        (([0], [0], [0]), "3 parts"),
    ],
)
def test_pairs_that_are_none(pairs, why):
    with pytest.raises(DataError, match=why):
        check_pairs(pairs, 5, 7)


def test_pairs_by_the_command_line(v2v, fails, capsys, monkeypatch, tmp_path):
    a, b = load("minilm", "eval"), load("wordllama", "eval")
    parts = {"a": a.take(slice(600)), "b": b.take(slice(600, 1200)),
             "pa": a.take(slice(1200, 1250)), "pb": b.take(slice(1200, 1250)),
             "pc": b.take(slice(50))}  # fmt: skip
    for name, space in parts.items():
        space.save(tmp_path / f"{name}.safetensors")
    a, b, pa, pb, pc = (tmp_path / f"{name}.safetensors" for name in parts)
    seen = {}

    def fit(self, source, target, *, seed, progress, pairs):
        i, j = pairs
        seen["rows"] = source.vectors[i], target.vectors[j]
        fit_of(self, source, target, seed=seed)
        return self

    fit_of = SelfLearn.fit
    monkeypatch.setattr(SelfLearn, "fit", fit)
    anchors = AnchorConfig(2, 500, 4, n_init=4, vote_rounds=0)
    tiny = SelfLearnConfig(anchors, TINY.phases[:1])
    monkeypatch.setattr("v2v_lite.align.SelfLearnConfig", lambda **_: tiny)
    v2v("align", a, b, "--out", "m", "--pairs", pa, pb, "--json")
    assert json.loads(capsys.readouterr().out)["method"] == "selflearn"
    assert torch.allclose(seen["rows"][0], parts["pa"].vectors, atol=1e-6)
    assert torch.allclose(seen["rows"][1], parts["pb"].vectors, atol=1e-6)
    words = ("align", a, b, "--out", "n", "--pairs")
    assert "hold different texts" in fails(*words, pa, pc)
    assert "384-d rows of minilm" in fails(*words, pa, pa)
    assert "mini learns from none" in fails(*words, pa, pb, "--method", "mini")
