"""Transport against POT and SciPy, and against clouds whose answer is known."""

from functools import partial

import numpy as np
import ot
import problems
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from v2v_lite.align import (
    METHODS,
    EarthMover,
    EntropicGromov,
    GromovWasserstein,
    Hungarian,
    Procrustes,
    Sinkhorn,
    Translator,
    TransportConfig,
)
from v2v_lite.align.ot import sinkhorn
from v2v_lite.measure import score
from v2v_lite.spaces import DataError, Space, unit

NAMES = ("hungarian", "emd", "sinkhorn", "gw", "gw-entropic")

# No symmetry takes such a cloud to itself.
cloud = partial(problems.cloud, skewed=True)


def copy(space, width, seed=1):
    """The same rows around their mean, turned, in another order, and that order."""
    g = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(width, space.d, generator=g))
    order = torch.randperm(space.n, generator=g)
    return Space.of((space.vectors @ q.T)[order], encoder="b"), order


def same_coordinates(n=40):
    """Two encoders of one backbone: the same rows, a little noise, other order."""
    a, g = cloud(n), torch.Generator().manual_seed(2)
    order = torch.randperm(n, generator=g)
    rows = a.vectors[order] + 0.001 * torch.randn(n, a.d, generator=g)
    return a, Space.of(rows, encoder="b"), order


def cosines(a, b):
    width = max(a.d, b.d)
    x, y = (np.zeros((s.n, width)) for s in (a, b))
    x[:, : a.d], y[:, : b.d] = a.vectors.numpy(), b.vectors.numpy()
    return x @ y.T


@pytest.mark.parametrize("name", ["hungarian", "emd", "sinkhorn"])
def test_in_shared_coordinates_every_row_is_found(name):
    a, b, order = same_coordinates()
    model = METHODS[name](TransportConfig(epsilon=0.01)).fit(a, b)
    found = model.translate(a)
    assert (found[order] * b.vectors).sum(1).min() > 0.999
    assert model.history[0].objective > 0.999


@pytest.mark.parametrize("widths", [(6, 6), (5, 8)])
def test_the_assignment_is_scipys_for_padded_cosines(widths):
    a, b = cloud(30, widths[0]), cloud(30, widths[1], seed=9)
    found = Hungarian(TransportConfig(n_neighbors=1)).fit(a, b).translate(a)
    rows, columns = linear_sum_assignment(-cosines(a, b))
    torch.testing.assert_close(found[rows], b.vectors[columns], atol=1e-5, rtol=0)


def test_earth_movers_answer_with_barycentres_of_the_best_plan():
    a, b = cloud(20), cloud(50, seed=9)
    model = EarthMover(TransportConfig(n_neighbors=1)).fit(a, b)
    cost = 1 - cosines(a, b)
    plan = ot.emd(np.full(20, 1 / 20), np.full(50, 1 / 50), cost)
    want = unit(torch.from_numpy(plan @ b.vectors.double().numpy()))
    torch.testing.assert_close(model.translate(a), want, atol=1e-5, rtol=0)
    assert model.history[0].objective == pytest.approx(1 - (plan * cost).sum())


def test_sinkhorn_goes_from_the_assignment_to_the_mean():
    a, b = cloud(30), cloud(30, seed=9)
    cold, hot = (
        Sinkhorn(TransportConfig(epsilon=e, n_neighbors=1)).fit(a, b).translate(a)
        for e in (0.002, 1e4)
    )
    exact = Hungarian(TransportConfig(n_neighbors=1)).fit(a, b).translate(a)
    assert (cold * exact).sum(1).mean() > 0.99
    mean = unit(b.vectors.mean(dim=0)).expand_as(hot)
    torch.testing.assert_close(hot, mean, atol=1e-3, rtol=0)


def test_high_cosine_finds_nothing():
    # The oracle's own texts on both sides, but the coordinates are two encoders'.
    a = cloud(200, 8)
    g = torch.Generator().manual_seed(3)
    mixed = (a.vectors - a.mean) @ torch.linalg.qr(torch.randn(8, 8, generator=g))[0]
    b = Space.of(mixed + 1.5 * torch.ones(8) / 8**0.5)
    found = score(Sinkhorn().fit(a, b).translate(a), b)
    assert found.cosine.mean > 0.9 and found.foscttm.mean > 0.3


def test_after_a_good_translator_the_cost_has_a_meaning():
    a = cloud(60)
    b, order = copy(a, 8)
    back = order.argsort()
    premap = Procrustes().fit(a, b.take(back))
    found = Hungarian(TransportConfig(n_neighbors=1), premap=premap).fit(a, b)
    assert (found.translate(a) * b.vectors[back]).sum(1).min() > 0.999


@pytest.mark.parametrize("kind", [GromovWasserstein, EntropicGromov])
@pytest.mark.parametrize("width", [6, 9])
def test_a_turned_copy_is_recovered_without_a_pair(kind, width):
    a = cloud(60)
    b, order = copy(a, width)
    found = kind().fit(a, b).translate(a)
    assert (found[order] * b.vectors).sum(1).min() > 0.99
    assert score(found[order], b).top1.mean == 1


def test_the_plan_is_no_worse_than_pots_own_start():
    a, b = cloud(25), cloud(25, seed=9)
    model = GromovWasserstein().fit(a, b)
    d = []
    for space in (a, b):
        x = unit(space.vectors - space.vectors.mean(0)).double().numpy()
        distances = np.abs(1 - x @ x.T)
        np.fill_diagonal(distances, 0)
        d.append(distances / np.sqrt((distances**2).mean()))
    p = np.full(25, 1 / 25)
    value = ot.gromov.gromov_wasserstein2(*d, p, p, "square_loss")
    assert model.history[0].objective <= value + 1e-6


def test_more_starts_end_no_higher_and_the_seed_decides():
    a, b = cloud(25), cloud(25, seed=9)
    few, many, again = (
        EntropicGromov(TransportConfig(epsilon=0.005, n_init=k)).fit(a, b, seed=1)
        for k in (1, 5, 5)
    )
    ends = [model.history[0].objective for model in (few, many, again)]
    assert ends[1] <= ends[0] and ends[1] == ends[2]
    assert torch.equal(many.projected, again.projected)


@pytest.mark.parametrize("moved", [0.0, 1e4])
def test_a_cold_plan_leaves_no_row_out_wherever_its_costs_lie(moved):
    cost = np.random.default_rng(0).random((6, 6))
    shifted = cost + moved * np.arange(6)[:, None] - moved * np.arange(6)
    plan = sinkhorn(shifted, 0.05, 5000)
    np.testing.assert_allclose(plan.sum(1), 1 / 6, atol=1e-6)
    np.testing.assert_allclose(plan, ot.sinkhorn(*[np.full(6, 1 / 6)] * 2, cost, 0.05,
        method="sinkhorn_log", numItermax=5000), atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_new_row_lies_between_its_neighbours_translations(name):
    a, b = cloud(40), cloud(40, 4, seed=9)
    model = METHODS[name](TransportConfig(n_neighbors=2, epsilon=0.1)).fit(a, b)
    x = unit(a.vectors - a.mean)
    i, j = 0, int((x @ x[0]).topk(2).indices[1])
    new = unit(x[i] + x[j]) * 0.3 + a.mean
    near = (x @ unit(new / new.norm() - a.mean)).topk(2).indices.tolist()
    found = model.translate(new[None])[0]
    cosine = x[near] @ unit(new / new.norm() - a.mean)
    weight = 1 / (2 - 2 * cosine + 1e-5)
    want = unit(weight @ model.projected[near])
    torch.testing.assert_close(found, want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_one_row_as_the_batch_and_saved_as_loaded(name, tmp_path):
    a, b = cloud(30), cloud(30, 4, seed=9)
    model = METHODS[name](TransportConfig(sample_size=20, epsilon=0.1)).fit(
        a, b, seed=3
    )
    batch = model.translate(a)
    alone = torch.cat([model.translate(row[None]) for row in a.vectors])
    torch.testing.assert_close(alone, batch, atol=1e-5, rtol=0)
    assert torch.isfinite(model.translate(a.mean[None])).all()
    model.save(tmp_path)
    again = Translator.load(tmp_path)
    assert type(again) is METHODS[name] and torch.equal(again.translate(a), batch)
    other = METHODS[name](TransportConfig(sample_size=20, epsilon=0.1)).fit(
        a, b, seed=3
    )
    assert torch.equal(other.translate(a), batch)


def test_rows_that_no_one_was_left_for_take_their_neighbours():
    a, b = cloud(50), cloud(20, seed=9)
    model = Hungarian().fit(a, b)
    assert model.rows.shape == (20, 6) and model.translate(a).shape == (50, 6)


def test_bad_input():
    with pytest.raises(DataError, match="sample_size = 1"):
        TransportConfig(sample_size=1)
    with pytest.raises(DataError, match="n_init = 0"):
        TransportConfig(n_init=0)
    with pytest.raises(DataError, match="epsilon = 0"):
        TransportConfig(epsilon=0)
    with pytest.raises(DataError, match="needs 2"):
        Hungarian().fit(cloud(1), cloud(5))
    with pytest.raises(DataError, match="all 5 rows are the same"):
        GromovWasserstein().fit(torch.ones(5, 4), cloud(5))
    for width in (4, 9):
        wrong = Procrustes().fit(cloud(20), cloud(20, width))
        with pytest.raises(DataError, match=f"premap's rows are {width}-d"):
            Hungarian(premap=wrong).fit(cloud(20), cloud(20, 5))
