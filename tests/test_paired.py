"""Paired references against SciPy, scikit-learn and what they must be invariant to."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2v_lite.align import METHODS, MLP, Procrustes, Ridge, Whitened, centred
from v2v_lite.measure import score
from v2v_lite.spaces.space import Space

PAIRED = ("procrustes", "whitened", "ridge")


def pair(n=600, d_source=24, d_target=20, noise=0.3, seed=0):
    """Two noisy linear views of one latent with a falling spectrum."""
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(n, 16, generator=generator) * torch.linspace(1, 0.2, 16)
    sides = []
    for d in (d_source, d_target):
        view = latent @ torch.randn(16, d, generator=generator) / 4
        view += noise * torch.randn(n, d, generator=generator) / 4 + 0.2
        sides.append(Space.of(view))
    return sides


def test_procrustes_is_scipys():
    from scipy.linalg import orthogonal_procrustes

    source, target = pair(d_source=20)
    (x, _), (y, _) = centred(source), centred(target)
    want, _ = orthogonal_procrustes(x.double().numpy(), y.double().numpy())
    np.testing.assert_allclose(Procrustes().fit(source, target).weight, want, atol=1e-4)


def test_ridge_is_scikit_learns():
    from sklearn.linear_model import Ridge as Theirs

    source, target = pair()
    (x, _), (y, _) = centred(source), centred(target)
    theirs = Theirs(alpha=Ridge.RIDGE * len(x), fit_intercept=False, solver="cholesky")
    want = theirs.fit(x.double().numpy(), y.double().numpy()).coef_.T
    got = Ridge().fit(source, target).weight
    np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max())


def test_whitened_is_its_formula():
    from scipy.linalg import fractional_matrix_power, svd

    source, target = pair()
    x, y = (centred(s)[0].double().numpy() for s in (source, target))
    n = len(x)

    def ridged(c):
        return c + Whitened.RIDGE * np.trace(c) / len(c) * np.eye(len(c))

    c_x, c_y = ridged(x.T @ x / n), ridged(y.T @ y / n)
    white_x = fractional_matrix_power(c_x, -0.5)
    white_y = fractional_matrix_power(c_y, -0.5)
    u, s, vh = svd(white_x @ (x.T @ y / n) @ white_y, full_matrices=False)
    want = white_x @ (u * np.sqrt(s)) @ vh @ fractional_matrix_power(c_y, 0.25)
    got = Whitened().fit(source, target).weight
    np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max())


@pytest.mark.parametrize("method", PAIRED)
def test_a_rotated_copy_is_found_exactly(rotation, method):
    source, _ = pair()
    turn = rotation(24, 1)
    target = Space.of(source.vectors @ turn)
    translated = METHODS[method]().fit(source, target).translate(source)
    found = score(translated, target)
    assert found.top1.mean == 1
    assert found.cosine.mean > (0.95 if method == "whitened" else 0.999)


@settings(max_examples=10, deadline=None)
@given(method=st.sampled_from(PAIRED), seed=st.integers(0, 100))
def test_rotating_the_target_rotates_the_translation(rotation, method, seed):
    source, target = pair(n=200, seed=seed)
    turn = rotation(20, seed + 1)
    turned = Space(target.vectors @ turn, mean=target.mean @ turn)
    plain = METHODS[method]().fit(source, target).translate(source)
    after = METHODS[method]().fit(source, turned).translate(source)
    torch.testing.assert_close(after, plain @ turn, atol=2e-3, rtol=0)


@settings(max_examples=10, deadline=None)
@given(method=st.sampled_from(PAIRED), seed=st.integers(0, 100))
def test_rotating_the_source_changes_nothing(rotation, method, seed):
    source, target = pair(n=200, seed=seed)
    turn = rotation(24, seed + 1)
    turned = Space(source.vectors @ turn, mean=source.mean @ turn)
    plain = METHODS[method]().fit(source, target).translate(source)
    after = METHODS[method]().fit(turned, target).translate(turned)
    torch.testing.assert_close(after, plain, atol=2e-3, rtol=0)


@pytest.mark.parametrize("method", [*PAIRED, "mlp"])
def test_unseen_rows_are_found(method):
    source, target = pair(n=3000)
    train, held = slice(0, 2500), slice(2500, None)
    model = METHODS[method]().fit(source.take(train), target.take(train))
    assert model.paired and model.history[0].objective > 0.8
    found = score(model.translate(source.take(held)), target.take(held))
    assert found.top1.mean > 0.5 and found.cosine.mean > 0.8


@pytest.mark.parametrize("method", PAIRED)
def test_constant_dimensions_are_legal(method):
    source, target = pair()
    flat = torch.cat([source.vectors * 0.9, torch.full((600, 2), 0.3)], dim=1)
    translated = METHODS[method]().fit(flat, target).translate(flat)
    assert translated.isfinite().all() and score(translated, target).top1.mean > 0.5


def test_mlp_bends_where_lines_cannot():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 12, generator=generator)
    bent = (x @ torch.randn(12, 16, generator=generator)).abs()
    source, target = Space.of(x), Space.of(bent)
    cosine = {
        method: score(METHODS[method]().fit(source, target).translate(source), target)
        for method in ("mlp", "ridge")
    }
    best = {key: value.centred_cosine.mean for key, value in cosine.items()}
    assert best["mlp"] > best["ridge"] + 0.2


def test_mlp_is_seeded_and_leaves_the_global_generator_alone():
    source, target = pair(n=300)
    state = torch.get_rng_state()
    one, same, other = (
        MLP().fit(source, target, seed=s, progress=True).translate(source)
        for s in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, same) and not torch.equal(one, other)
