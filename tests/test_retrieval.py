"""The score against brute-force ranks, and what it must refuse."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from v2v_lite.measure import score
from v2v_lite.spaces.files import DataError
from v2v_lite.spaces.space import Space

MEMORY = """
import resource, torch
from v2v_lite.measure import score
torch.set_num_threads(1)
x = torch.randn(16_000, 16)
score(x[:64], x[:64])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
score(x, x + 0.1 * torch.randn(16_000, 16))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def brute_ranks(x, y, centre):
    x, y = unit(unit(x) - centre), unit(unit(y) - centre)
    s = x @ y.T
    own = np.diag(s)[:, None]
    near = (abs(s - own) < 1e-6).sum()
    assume(near == len(x))  # a tie but for rounding may count either way
    return (s >= own).sum(axis=1)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 60), block=st.integers(1, 70), seed=st.integers(0, 99))
def test_ranks_are_brute_force_ranks(noisy, n, block, seed):
    x, y = noisy(n, 8, seed)
    for rank_by, centre in (("cosine", 0), ("centred", unit(y).mean(axis=0))):
        ranks = brute_ranks(x, y, centre)
        found = score(x, y, rank_by=rank_by, block=block)
        assert found.pool == n
        assert found.rank.mean == pytest.approx(ranks.mean())
        assert found.rank.se == pytest.approx(ranks.std(ddof=1) / np.sqrt(n))
        assert found.foscttm.mean == pytest.approx(((ranks - 1) / (n - 1)).mean())
        for k, estimate in ((1, found.top1), (5, found.top5), (16, found.top16)):
            share = (ranks <= k).mean()
            assert estimate.mean == pytest.approx(share)
            assert estimate.se == pytest.approx(np.sqrt(share * (1 - share) / (n - 1)))


def test_cosines_are_those_of_the_definition(noisy):
    x, y = noisy(50, 8, 0)
    found = score(x, y)
    assert found.cosine.mean == pytest.approx((unit(x) * unit(y)).sum(1).mean(), 1e-5)
    m = unit(y).mean(axis=0)
    want = (unit(unit(x) - m) * unit(unit(y) - m)).sum(1).mean()
    assert found.centred_cosine.mean == pytest.approx(want, 1e-5)
    given_centre = score(x, y, centre=torch.from_numpy(m))
    assert given_centre.rank == found.rank


def test_perfect_and_hopeless():
    y = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    assert score(y, y).rank.mean == 1 and score(y, y).foscttm.mean == 0
    assert score(-y, y).foscttm.mean > 0.9


def test_ties_count_against_the_method():
    y = torch.eye(4)
    constant = torch.ones(4, 4)  # as near to every target as to the true one
    assert score(constant, y, rank_by="cosine").rank.mean == 4
    assert score(constant, y).rank.mean == 4  # nothing is left of it after centring
    twins = torch.randn(3, 8)[[0, 0, 1, 2]]
    assert score(twins, twins).rank.mean == pytest.approx((2 + 2 + 1 + 1) / 4)


def test_scale_of_rows_does_not_matter(noisy):
    x, y = noisy(40, 8, 1)
    stretch = np.linspace(0.01, 100, 40)[:, None]
    near, far = score(x * stretch, y), score(x, y)
    assert near.rank == far.rank
    assert near.cosine.mean == pytest.approx(far.cosine.mean)


def test_dict_and_line(noisy):
    x, y = noisy(40, 8, 1)
    found = score(Space.of(x), Space.of(y), progress=True)
    written = json.loads(json.dumps(dataclasses.asdict(found)))
    assert written["pool"] == 40 and set(written["top1"]) == {"mean", "se", "n"}
    assert "pool 40" in found.line() and "\n" not in found.line()


def test_bad_input_is_named(noisy):
    x, y = noisy(10, 8, 0)
    with pytest.raises(DataError, match=r"\(9, 8\).*\(10, 8\)"):
        score(x[:9], y)
    with pytest.raises(DataError, match=r"\(10, 7\)"):
        score(x[:, :7], y)
    with pytest.raises(DataError, match="pool of 1"):
        score(x[:1], y[:1])
    with pytest.raises(DataError, match="rank_by = 'cos'"):
        score(x, y, rank_by="cos")
    with pytest.raises(DataError, match="centre"):
        score(x, y, centre=torch.zeros(3))
    x[3, 0] = np.nan
    with pytest.raises(DataError, match="translated: row 3"):
        score(x, y)


def test_memory_is_bounded_whatever_the_pool():
    # All similarities of 16,000 rows would be 1,024 MB.
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 400
