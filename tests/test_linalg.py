"""Shared linear algebra against NumPy, SciPy and its own definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import generator

from v2v_lite.align import linalg
from v2v_lite.spaces import DataError


def cloud(n=400, d=6, seed=0):
    x = torch.randn(n, d, generator=generator(seed)) * torch.linspace(2, 0.5, d)
    return x - x.mean(0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 9), st.integers(2, 9))
def test_polar_is_semi_orthogonal_and_nearest(seed, d_source, d_target):
    g = generator(seed)
    m = torch.randn(d_source, d_target, generator=g)
    w = linalg.polar(m)
    small = w @ w.T if d_source <= d_target else w.T @ w
    torch.testing.assert_close(small, torch.eye(len(small)), atol=1e-5, rtol=0)
    other = linalg.polar(torch.randn(m.shape, generator=g))
    assert (w * m).sum() >= (other * m).sum() - 1e-4


def test_procrustes_undoes_a_rotation():
    x, turn = cloud(), linalg.random_orthogonal(6, generator=generator(1))
    torch.testing.assert_close(linalg.procrustes(x, x @ turn), turn, atol=1e-4, rtol=0)


@pytest.mark.parametrize("exponent", [-0.5, 0.25, 1.0])
def test_power_is_that_of_the_eigenvalues(exponent):
    c = np.cov(cloud().numpy().T, bias=True)
    values, vectors = np.linalg.eigh(c)
    want = vectors @ np.diag((values + 0.1 * values.mean()) ** exponent) @ vectors.T
    found = linalg.power(torch.from_numpy(c), exponent, 0.1)
    np.testing.assert_allclose(found, want, atol=1e-8)


def test_whitened_rows_have_the_identity_as_covariance():
    x = cloud(4000)
    white = x @ linalg.whitening(x, 1e-6)
    assert torch.allclose(white.T @ white / 4000, torch.eye(6), atol=1e-2)


def test_principal_axes_are_numpys_and_fall():
    x = cloud()
    axes = linalg.principal_axes(x.T @ x)
    _, s, vh = np.linalg.svd(x.numpy(), full_matrices=False)
    np.testing.assert_allclose(np.abs(vh @ axes.numpy()), np.eye(6), atol=1e-3)
    np.testing.assert_allclose((x @ axes).norm(dim=0), s, rtol=1e-4)


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3)])
def test_random_orthogonal_is_semi_orthogonal_and_seeded(shape):
    q = linalg.random_orthogonal(*shape, generator=generator(5))
    small = q @ q.T if shape[0] <= shape[1] else q.T @ q
    torch.testing.assert_close(small, torch.eye(min(shape)), atol=1e-5, rtol=0)
    assert q.shape == shape and q.is_contiguous()
    assert torch.equal(q, linalg.random_orthogonal(*shape, generator=generator(5)))


def test_both_determinants_are_equally_likely_and_either_can_be_asked_for():
    g = generator(2)
    signs = [torch.det(linalg.random_orthogonal(3, generator=g)) for _ in range(400)]
    assert 160 < sum(sign > 0 for sign in signs) < 240  # four standard deviations
    for sign in (1, -1):
        found = [
            torch.det(linalg.random_orthogonal(4, generator=g, determinant=sign))
            for _ in range(20)
        ]
        torch.testing.assert_close(torch.stack(found), torch.full((20,), float(sign)))
    with pytest.raises(DataError, match="3 x 4 matrix has no determinant"):
        linalg.random_orthogonal(3, 4, generator=g, determinant=1)


def test_it_is_haar_in_its_moments():
    # Entries of a Haar matrix have mean 0, variance 1/d; without the signs of R's
    # diagonal the mean of the diagonal would not be 0.
    g = generator(3)
    q = torch.stack([linalg.random_orthogonal(4, generator=g) for _ in range(3000)])
    assert q.mean(0).abs().max() < 5 * 0.5 / 3000**0.5
    assert (q.square().mean(0) - 0.25).abs().max() < 0.02


def test_correlation_is_numpys_and_zero_for_constants():
    a, b = cloud(50, 3), cloud(50, 3, seed=4)
    want = np.corrcoef(a.flatten(), b.flatten())[0, 1]
    assert linalg.correlation(a, b) == pytest.approx(want, abs=1e-6)
    assert linalg.correlation(a, torch.ones_like(a)) == 0


def test_sampled_rows_are_distinct_and_all_are_taken_in_order():
    x = torch.arange(20)
    found = linalg.sample_rows(x, 8, generator())
    assert len(found.unique()) == len(found) == 8
    assert linalg.sample_rows(x, 20, generator()) is x


def test_leading_axes_of_wide_rows_are_the_covariance_s():
    scale = 0.97 ** torch.arange(linalg.WIDE + 40.0)
    x = torch.randn(900, linalg.WIDE + 40, generator=generator(0)) * scale
    found = linalg.leading_axes(x, 30)
    values, axes = np.linalg.eigh((x.T @ x).double().numpy() / 900)
    assert torch.allclose(found.T @ found, torch.eye(30), atol=1e-5)
    spread = (x @ found).square().mean(0)
    assert np.allclose(spread, values[::-1][:30], rtol=1e-4)
    cosines = np.abs(axes[:, ::-1][:, :30].T @ found.double().numpy()).diagonal()
    assert cosines.min() > 0.99
    assert torch.equal(found, linalg.leading_axes(x, 30))
    narrow = x[:, :50]
    exact = linalg.principal_axes(narrow.T @ narrow / 900)[:, :3]
    assert torch.equal(linalg.leading_axes(narrow, 3), exact)
