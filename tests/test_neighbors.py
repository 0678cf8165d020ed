"""Neighbours by blocks against whole matrices in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2v_lite.measure import csls_topk, mean_topk, mutual_pairs, topk
from v2v_lite.spaces.files import DataError
from v2v_lite.spaces.space import Space


def rows(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def cosines(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return x @ y.T


def csls(x, y, k):
    s = cosines(x, y)
    r_x = np.sort(s, axis=1)[:, -k:].mean(axis=1, keepdims=True)
    r_y = np.sort(s, axis=0)[-k:].mean(axis=0, keepdims=True)
    return 2 * s - r_x - r_y


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 30),
    m=st.integers(1, 30),
    k=st.integers(1, 30),
    block=st.integers(1, 40),
)
def test_topk_is_the_sorted_matrix_whatever_the_block(n, m, k, block):
    k = min(k, m)
    x, y = rows(n, 5, n), rows(m, 5, m + 100)
    values, index = topk(x, y, k, block=block)
    want = -np.sort(-cosines(x, y), axis=1)[:, :k]
    np.testing.assert_allclose(values, want, atol=1e-6)
    at = np.take_along_axis(cosines(x, y), index.numpy(), axis=1)
    np.testing.assert_allclose(at, want, atol=1e-6)


@pytest.mark.parametrize("block", [7, 4096])
def test_mean_topk(block):
    x, y = rows(40, 6, 0), rows(33, 6, 1)
    want = np.sort(cosines(x, y), axis=1)[:, -10:].mean(axis=1)
    np.testing.assert_allclose(mean_topk(x, y, 10, block), want, atol=1e-6)


@pytest.mark.parametrize("block", [7, 4096])
def test_csls_is_its_formula(block):
    x, y = rows(40, 6, 0), rows(33, 6, 1)
    values, index = csls_topk(x, y, 3, k=5, block=block)
    want = csls(x, y, 5)
    np.testing.assert_array_equal(index, np.argsort(-want, axis=1)[:, :3])
    np.testing.assert_allclose(values, -np.sort(-want, axis=1)[:, :3], atol=1e-6)


@pytest.mark.parametrize("block", [7, 4096])
def test_mutual_pairs_are_mutual(block):
    x, y = rows(60, 4, 0), rows(50, 4, 1)
    s = csls(x, y, 5)
    forth, back = s.argmax(axis=1), s.argmax(axis=0)
    want = [(i, j) for i, j in enumerate(forth) if back[j] == i]
    ix, iy = mutual_pairs(x, y, k=5, block=block)
    assert list(zip(ix.tolist(), iy.tolist(), strict=True)) == want


def test_a_shuffled_copy_is_found_again():
    x = torch.from_numpy(rows(300, 16, 3))
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    ix, iy = mutual_pairs(x, x[order])
    assert torch.equal(ix, torch.arange(300)) and torch.equal(order[iy], ix)


def test_spaces_are_taken_as_they_are():
    x = Space.of(rows(9, 4, 0), encoder="toy")
    assert torch.equal(topk(x, x, 1)[1][:, 0], torch.arange(9))


@pytest.mark.parametrize("k", [0, 6, -1])
def test_k_outside_the_keys_is_named(k):
    with pytest.raises(DataError, match=f"k = {k}.*1 to 5"):
        topk(rows(3, 4, 0), rows(5, 4, 1), k)


def test_bad_input_is_named():
    good, bad = rows(5, 4, 0), rows(5, 4, 0)
    bad[2, 1] = np.nan
    with pytest.raises(DataError, match="keys: row 2.*NaN"):
        topk(good, bad, 1)
    with pytest.raises(DataError, match="4-d and keys 3-d"):
        topk(good, rows(5, 3, 0), 1)
    with pytest.raises(DataError, match="block = 0"):
        topk(good, good, 1, block=0)
    with pytest.raises(DataError, match="k = 10"):
        csls_topk(good, good, 1)  # five rows have no ten neighbours
