"""Losses against cases by hand, double loops, finite differences, their own claims."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from v2v_lite.vec2vec import losses

PLAIN = [losses.reconstruction, losses.cycle]
VSPS = [losses.vsp_paper, losses.vsp_released, losses.vsp_self]
A = [[1.0, 0.0], [0.0, 1.0]]
HALF = [[1.0, 0.0], [0.6, 0.8]]


def rows(seeds, batch, width, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(seeds, batch, width, generator=g, dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1)


def pair(a, b):
    return torch.tensor([a]), torch.tensor([b])


@pytest.mark.parametrize("loss", PLAIN)
def test_distances_by_hand(loss):
    a, b = pair(HALF, A)  # cosines 1 and .8, squared distances 0 and .4
    assert loss(a, b).tolist() == pytest.approx([0.1])
    assert loss(a, b, squared=True).tolist() == pytest.approx([0.2])


def test_vsp_by_hand():
    # Grams: A's is the identity, HALF's has .6 off the diagonal; HALF A' has rows
    # (1, 0) and (.6, .8), which lie .6 and .2 in sum of four from the identity.
    a, b = pair(HALF, A)
    assert losses.vsp_paper(a, b).tolist() == pytest.approx([2 * 0.36 / 4])
    assert losses.vsp_self(a, b).tolist() == pytest.approx([2 * 0.6 / 4])
    want = 2 * 0.6 / 4 + (0.6 + 0.2) / 4
    assert losses.vsp_released(a, b).tolist() == pytest.approx([want])


def test_vsp_released_is_its_double_loop_and_holds_the_reference_fixed():
    a, b = rows(1, 5, 4), rows(1, 5, 4, seed=1).requires_grad_()
    total = 0.0
    for i in range(5):
        for j in range(5):
            k = (b[0, i] @ b[0, j]).item()
            total += abs(k - (a[0, i] @ a[0, j]).item())
            total += abs(k - (a[0, i] @ b[0, j]).item())
    a.requires_grad_()
    found = losses.vsp_released(a, b)
    assert found.item() == pytest.approx(total / 25)
    found.sum().backward()
    assert b.grad is None and a.grad.abs().max() > 0


@pytest.mark.parametrize("vsp", VSPS)
def test_a_gram_matrix_at_hand_changes_nothing(vsp):
    a, b = rows(2, 5, 4), rows(2, 5, 4, seed=1)
    torch.testing.assert_close(vsp(a, b, losses.gram(b)), vsp(a, b))


@pytest.mark.parametrize("loss", [*PLAIN, *VSPS, losses.mmd])
def test_gradients_are_finite_differences(loss):
    # Not unit: |1 - a.a| of unit rows has a kink there, which decode's unit undoes.
    a, b = (1.3 * rows(2, 4, 3)).requires_grad_(), rows(2, 4, 3, seed=1)
    assert gradcheck(lambda z: loss(z, b), [a])


@pytest.mark.parametrize("loss", PLAIN)
def test_gradients_of_squared_distances_are_finite_differences(loss):
    a, b = rows(2, 4, 3).requires_grad_(), rows(2, 4, 3, seed=1)
    assert gradcheck(lambda z: loss(z, b, squared=True), [a])


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("loss", [*PLAIN, *VSPS])
def test_gradients_through_unit_rows_are_finite_differences(loss, squared):
    """As in a step: what a network puts out is made unit, and then compared."""
    if squared and loss not in PLAIN:
        pytest.skip("one form only")
    option = {"squared": True} if squared else {}
    h, b = (1.7 * rows(2, 4, 3)).requires_grad_(), rows(2, 4, 3, seed=1)

    def through(z):
        return loss(torch.nn.functional.normalize(z, dim=-1), b, **option)

    if loss in (losses.vsp_released, losses.vsp_self):
        # 1 - a.a is a rounding error of either sign: leave the diagonal's kink out.
        def through(z):
            a = torch.nn.functional.normalize(z, dim=-1)
            bare = losses.gram(a).diagonal(dim1=-2, dim2=-1) - 1
            return loss(a, b) - bare.abs().sum(-1) / 16

    assert gradcheck(through, [h])


@pytest.mark.parametrize("vsp", [losses.vsp_paper, losses.vsp_self])
def test_gradients_to_the_other_side_are_finite_differences(vsp):
    a, b = 1.3 * rows(2, 4, 3), (0.8 * rows(2, 4, 3, seed=1)).requires_grad_()
    assert gradcheck(lambda z: vsp(a, z), [b])


def test_released_gradients_by_hand():
    """Two rows: only the cosine c = a1.a2 = .6 is off, K_12 = 0. The Gram term pushes
    each row along the other, the reflected one along the reference's rows."""
    a, b = pair(HALF, A)
    a = a.double().requires_grad_()
    losses.vsp_released(a, b.double()).sum().backward()
    # |K - AA'| has two entries off the diagonal: d = 2/4 (a2, a1). |K - AB'|: row 1
    # is exact (no slope, sign 0); row 2 has b1.a2 = .6 > 0 and b2.a2 = .8 < 1.
    want = torch.tensor([[0.6, 0.8], [1.0, 0.0]]) / 2
    want = want + torch.tensor([[0.0, 0.0], [1.0, -1.0]]) / 4
    found = a.grad[0]
    # The diagonal of AA' is 1: what is left there is along the row itself.
    for row, slope, expected in zip(a.detach()[0], found, want.double(), strict=True):
        across = torch.tensor([-row[1], row[0]])
        assert (slope @ across).item() == pytest.approx((expected @ across).item())


@pytest.mark.parametrize("loss", [*PLAIN, *VSPS, losses.mmd])
def test_each_seed_has_its_own_loss_and_gradient(loss):
    a, b = rows(3, 5, 4).requires_grad_(), rows(3, 5, 4, seed=1)
    found = loss(a, b)
    alone = torch.cat([loss(a[s : s + 1], b[s : s + 1]) for s in range(3)])
    torch.testing.assert_close(found, alone)
    found[1].backward()
    assert (a.grad[[0, 2]] == 0).all() and a.grad[1].abs().max() > 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), wide=st.integers(5, 9))
def test_sound_is_zero_for_every_isometry_and_for_little_else(seed, wide):
    x = rows(1, 12, 5, seed)
    q, _ = torch.linalg.qr(rows(1, wide, 5, seed + 1)[0])
    assert losses.vsp_self(x @ q.T, x).item() == pytest.approx(0, abs=1e-12)
    assert losses.vsp_self(rows(1, 12, wide, seed + 2), x).item() > 0.05


def test_the_printed_loss_prefers_a_constant_to_the_truth():
    """Independent texts of one cloud, truly translated (here: the identity), against
    translations without any structure: every cosine 0, the mean of centred rows'."""
    real, true = rows(1, 200, 250), rows(1, 200, 250, seed=1)
    real, true = (torch.nn.functional.normalize(z[..., :10], dim=-1)
                  for z in (real, true))  # fmt: skip
    flat = torch.eye(200, dtype=torch.float64)[None]
    truth, constant = (losses.vsp_paper(z, real).item() for z in (true, flat))
    assert constant == pytest.approx(truth / 2, rel=0.05)
    assert losses.vsp_self(true, true).item() == 0 < losses.vsp_self(flat, true)


def test_mmd_is_its_double_loop():
    x, y = rows(1, 4, 3)[0], 2 * rows(1, 5, 3, seed=1)[0]

    def gap(a, b):
        return (a - b).square().sum().item()

    scale = sum(gap(a, b) for a in y for b in y) / 20

    def k(a, b):
        return sum(math.exp(-gap(a, b) / (m * scale)) for m in (0.25, 0.5, 1, 2, 4)) / 5

    def within(z):
        n = len(z)
        return sum(k(z[i], z[j]) for i in range(n) for j in range(n) if i != j) / (
            n * (n - 1)
        )

    want = within(x) + within(y) - 2 * sum(k(a, b) for a in x for b in y) / 20
    assert losses.mmd(x[None], y[None]).item() == pytest.approx(want)


def test_mmd_is_unbiased_and_sees_a_shift():
    many = 400  # each seed is one draw of two samples
    x, y = rows(many, 12, 3), rows(many, 12, 3, seed=1)
    same = losses.mmd(x, y)
    assert same.mean().abs() < 4 * same.std() / many**0.5 and (same < 0).any()
    shifted = losses.mmd(x + 0.8, y)
    assert shifted.mean() > 10 * same.std() / many**0.5


def test_cosines_keep_their_precision_under_autocast():
    x = rows(1, 6, 40).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses.gram(x)
    torch.testing.assert_close(found, x @ x.mT, atol=1e-6, rtol=0)


def test_density_is_its_double_loop():
    x, y, tau = rows(1, 5, 3)[0], rows(1, 4, 3, seed=1)[0], 0.3

    def p(z, others):
        return sum(math.exp(z @ one / tau) for one in others) / len(others)

    q_fake = [math.log(p(x[i], [x[k] for k in range(5) if k != i])) for i in range(5)]
    p_fake = [math.log(p(z, y)) for z in x]
    q_real = [math.log(p(z, x)) for z in y]
    want = (sum(q_fake) - sum(p_fake)) / 5 - sum(q_real) / 4
    assert losses.density(x[None], y[None], tau).item() == pytest.approx(want)


def test_density_is_least_where_the_fakes_are_real():
    # On the circle, two crowds; fakes turned away from the real ones cost more.
    angle = torch.tensor([0.0, 0.1, 0.2, 2.0, 2.1], dtype=torch.float64)
    real = torch.stack([angle.cos(), angle.sin()], dim=-1)[None]

    def turned(by):
        a = angle + 0.05 + by
        return torch.stack([a.cos(), a.sin()], dim=-1)[None]

    values = [losses.density(turned(by), real, 0.05).item() for by in (0, 0.3, 0.9)]
    assert values[0] < values[1] < values[2]


def test_density_has_the_gradient_of_finite_differences():
    x = rows(2, 4, 3).requires_grad_()
    y = rows(2, 5, 3, seed=1).requires_grad_()
    assert gradcheck(lambda a, b: losses.density(a, b, 0.2), (x, y))
