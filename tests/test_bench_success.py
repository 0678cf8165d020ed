"""Deep nets from random starts: turns, copies and choices, and a small table."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import beta

pytest.importorskip("accelerate")
from experiments import success
from experiments.players import DEEP, SIDES, Players, lifted, rank, spread, world

TINY = replace(success.QUICK, pool=48)


@pytest.fixture(scope="module")
def players():
    return Players("real", 3, nets=6, pool=64, seed=4)


def test_starts_are_drawn_with_both_determinants():
    signs = torch.det(Players("real", 3, nets=64, pool=8).turns[0]).sign()
    assert 16 < (signs > 0).sum() < 48


def test_lifted_rows_keep_their_length():
    x = torch.tensor([[0.3, -1.2], [0.0, 0.0]])
    unit = lifted(x)
    assert unit.norm(dim=-1).numpy() == pytest.approx([1.0, 1.0])
    assert torch.allclose(unit[:, :2] / unit[:, 2:], x)


def test_a_rank_counts_the_nearer_rows():
    true = lifted(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    assert rank(true[None], true).tolist() == [1.0]
    assert rank(true[[1, 0, 2]][None], true).item() == 2.0  # 3, as ties count; 2; 1


def test_axes_that_are_not_seen_change_nothing(players):
    players.seen = 2
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    moved = x + torch.tensor([0.0, 0.0, 7.0])
    assert torch.equal(players.rows(x, 0), players.rows(moved, 0))
    players.seen = 3
    assert not torch.equal(players.rows(x, 0), players.rows(moved, 0))


def test_a_turn_of_the_sides_does_not_show_in_a_rotation(players):
    """Where translating is the relative turn, all is undone by `translations`."""
    x, nets = players.held[0], players.networks.nets

    class Rigid(torch.nn.Module):
        def translate(self, source, target, rows):
            turn = players.turns[0].mT @ players.turns[1]
            return torch.cat([rows[..., :-1] @ turn, rows[..., -1:]], dim=-1)

    players.networks.nets = Rigid()
    try:
        assert torch.allclose(
            players.translations(x), lifted(x).expand(6, -1, -1), atol=1e-5
        )
        assert players.nonlinearity().max() < 1e-9
        assert players.same_part(torch.eye(3)).all()
        assert not players.same_part(torch.diag(torch.tensor([1.0, 1, -1]))).any()
    finally:
        players.networks.nets = nets


def test_copies_go_on_as_their_originals(players):
    players.step()
    before = players.translations(players.held[0])
    weights = [w.detach().clone() for w in players.networks.parameters()]
    players.take(torch.tensor([5, 5, 1, 0, 2, 3]))
    after = players.translations(players.held[0])
    assert torch.allclose(after, before[[5, 5, 1, 0, 2, 3]], atol=1e-5)
    for old, new in zip(weights, players.networks.parameters(), strict=True):
        assert torch.equal(new, old[[5, 5, 1, 0, 2, 3]])
    found = players.step()
    assert found["generator"].shape == (6,) and found["generator"].isfinite().all()


def test_all_six_losses_and_the_judges_are_on(players):
    six = {"reconstruction", "vsp_reconstruction", "cycle", "vsp", "adv", "latent_adv"}
    found = players.step()
    assert six <= set(found) and {"adv_d", "latent_adv_d"} <= set(found)
    assert all(getattr(DEEP.loss, f"{name}_weight") > 0 for name in six)
    assert len(players.networks.discriminators()) == 3
    assert not DEEP.net.linear_adapters and DEEP.init == "random"
    rates = {
        group["lr"] for o in players.optimisers.values() for group in o.param_groups
    }
    assert len(rates) == 1


def test_new_axes_are_turned_both_ways_and_old_ones_stay():
    players = Players("real", 4, nets=2, pool=32)
    players.seen = 2
    players.step()
    base = players.turns[0].clone()
    spread(players, torch.tensor([[1], [0]]), 4, copies=2)
    assert players.seen == 4 and players.size == 4
    change = players.turns[0] @ base[[1, 1, 0, 0]].mT
    assert torch.allclose(change[:, :2, :2], torch.eye(2).expand(4, 2, 2), atol=1e-5)
    assert torch.det(change[:, 2:, 2:]).sign().tolist() == [1, -1, 1, -1]
    # In the same axes: the first copy goes on as it is, the second is turned.
    base = players.turns[0].clone()
    spread(players, torch.tensor([[2], [3]]), 4, copies=2)
    change = players.turns[0] @ base[[2, 2, 3, 3]].mT
    same = (change - torch.eye(4)).abs().amax(dim=(1, 2)) < 1e-5
    assert same.tolist() == [True, False, True, False]
    assert torch.allclose(change[:, :2, :2], torch.eye(2).expand(4, 2, 2), atol=1e-5)


def test_the_interval_is_the_exact_one():
    low, high = success.rate(12, 16)["interval"]
    want = beta.ppf(0.025, 12, 5), beta.ppf(0.975, 13, 4)
    assert (low, high) == pytest.approx(want, abs=1e-4)


def test_the_score_alone_chooses_among_restarts():
    plan = replace(TINY, restarts=2, pool=1000)
    row = {"paired": 10.0, "ranks": [15.0, 500.0, 9.0, 400.0], "score": [2, 1, 0, 5]}
    found = success.rates(row, plan)
    assert found["single"]["right"] == 2 and found["single"]["runs"] == 4
    assert (found["chosen"]["right"], found["chosen"]["runs"]) == (1, 2)


def test_the_best_of_several_populations_is_counted_over_all_choices():
    right, score = [False, True, True, False, True], [0.3, 0.1, 0.7, 0.5, 0.2]
    for m in (1, 2, 4):
        choices = [min(c, key=score.__getitem__) for c in combinations(range(5), m)]
        want = sum(right[i] for i in choices) / len(choices)
        assert success.best_of(right, score, m) == pytest.approx(want, abs=1e-4)


def test_both_worlds_have_their_own_axes():
    (x, _), (y, _) = world("real", 4)
    assert x.square().sum(1).mean().item() == pytest.approx(1.0, abs=1e-4)
    second = np.asarray((y.T @ y) / len(y))
    assert np.abs(second - np.diag(np.diag(second))).max() < 1e-3


def test_a_table_is_measured_once(tmp_path, monkeypatch):
    table = success.measure(TINY, tmp_path)[0]
    assert [len(row["ranks"]) for row in table["singles"]] == [4, 1, 4]
    assert [row["world"] for row in table["staged"]] == ["real", "copy"]
    assert table["selected"]["chosen"]["runs"] == 2
    assert [s["axes"] for s in table["staged"][0]["stages"]] == [2, 3, 3]
    assert len(success.lines(table)) == 5
    assert list(SIDES) == list(Players("copy", 2, 1, 8).networks.nets.names)
    for kind in (success.Single, success.Staged):
        monkeypatch.setattr(kind, "run", None)  # whoever measures again fails
    assert success.measure(TINY, tmp_path)[0] == table
