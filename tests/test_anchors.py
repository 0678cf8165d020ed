"""Anchors against brute force, SciPy, and a rotation whose answer is known."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, quadratic_assignment

from v2v_lite.align.anchors import (
    AnchorConfig,
    find_anchors,
    match_kernels,
    qap_objective,
    random_permutations,
)
from v2v_lite.spaces import DataError, unit


def kernels(b: int, c: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    a, z = (torch.randn(b, c, c, generator=g) for _ in range(2))
    return a + a.transpose(1, 2), z + z.transpose(1, 2)


def value(a, b, p, linear=None) -> float:
    a, b, p = np.asarray(a, float), np.asarray(b, float), np.asarray(p)
    found = float((a * b[np.ix_(p, p)]).sum())
    if linear is not None:
        found += float(np.asarray(linear, float)[np.arange(len(p)), p].sum())
    return found


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), c=st.integers(3, 6), pull=st.booleans())
def test_the_end_is_a_local_optimum_and_the_best_restart_the_global_one(seed, c, pull):
    a, b = kernels(1, c, seed)
    linear = torch.randn(1, c, c, generator=torch.Generator().manual_seed(seed))
    given_linear = linear if pull else None
    every = torch.tensor(list(permutations(range(c))))
    many = every.shape[0]
    orders, found = match_kernels(
        a.expand(many, -1, -1), b.expand(many, -1, -1), every,
        None if given_linear is None else linear.expand(many, -1, -1),
    )  # fmt: skip
    lin = linear[0] if pull else None
    truth = [value(a[0], b[0], p, lin) for p in every]
    assert found.max().item() == pytest.approx(max(truth), rel=1e-4, abs=1e-4)
    for p, v in zip(orders[:10], found[:10], strict=True):
        assert v.item() == pytest.approx(value(a[0], b[0], p, lin), rel=1e-4, abs=1e-4)
        for i in range(c):
            for j in range(i):
                q = p.clone()
                q[i], q[j] = p[j], p[i]
                assert value(a[0], b[0], q, lin) <= v.item() + 1e-3


def test_many_restarts_reach_what_scipy_reaches():
    a, b = kernels(1, 12, 3)
    starts = random_permutations(1, 200, 12, torch.Generator().manual_seed(0))[0]
    found = match_kernels(a.expand(200, -1, -1), b.expand(200, -1, -1), starts)[1]
    scipy = max(
        quadratic_assignment(
            a[0].numpy(), b[0].numpy(), method="2opt",
            options={"maximize": True, "rng": seed},
        ).fun
        for seed in range(30)
    )  # fmt: skip
    assert found.max().item() >= scipy - 1e-3


def test_without_kernels_the_swaps_solve_most_of_the_linear_assignment():
    linear = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1))
    zero = torch.zeros(1, 8, 8)
    starts = random_permutations(1, 300, 8, torch.Generator().manual_seed(2))[0]
    wide = [z.expand(300, -1, -1) for z in (zero, zero, linear)]
    found = match_kernels(*wide[:2], starts, wide[2])[1].max().item()
    rows, columns = linear_sum_assignment(linear[0].numpy(), maximize=True)
    assert found == pytest.approx(linear[0].numpy()[rows, columns].sum(), rel=1e-5)


def test_the_objective_is_the_formula():
    a, b = kernels(2, 5, 9)
    order = torch.stack([torch.randperm(5) for _ in range(2)])
    for k in range(2):
        p = torch.eye(5)[order[k]]
        by_hand = torch.trace(a[k] @ p @ b[k] @ p.T)
        assert qap_objective(a, b, order)[k].item() == pytest.approx(
            by_hand.item(), rel=1e-4
        )


SMALL = AnchorConfig(
    n_runs=8, sample_size=1500, n_clusters=8, n_init=40, vote_rounds=2, n_restarts=4
)


def clumps(n: int, d: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(8, d, generator=torch.Generator().manual_seed(99))
    which = torch.randint(8, (n,), generator=g)
    rows = centres[which] + 0.15 * torch.randn(n, d, generator=g)
    return unit(rows - rows.mean(0))


def test_a_rotation_is_found_from_disjoint_samples():
    x, y = clumps(1500, 16, 1), clumps(1400, 16, 2)
    turn, _ = torch.linalg.qr(torch.randn(16, 16))
    eye = torch.eye(16)
    g = torch.Generator().manual_seed(0)
    found = find_anchors(x, y @ turn, SMALL, g, eye, eye)
    u, _, vh = torch.linalg.svd(found.cross())
    cosine = ((x @ u @ vh) * (x @ turn)).sum(1).mean().item()
    assert cosine > 0.8
    assert 0 < found.objective <= 1 + 1e-5
    assert 0 <= found.agreement <= 1
    assert found.source.shape == found.target.shape == (8, 8, 16)


def test_too_few_rows_and_bad_sizes_are_refused():
    eye, g = torch.eye(16), torch.Generator()
    with pytest.raises(DataError, match="5 rows cannot make 8 clusters"):
        find_anchors(clumps(5, 16, 0), clumps(90, 16, 0), SMALL, g, eye, eye)
    with pytest.raises(DataError, match="n_clusters = 2"):
        AnchorConfig(n_clusters=2)
