"""Muon: orthogonalised steps, seeds apart, Adam for the rest, state that travels."""

import copy

import torch

from v2v_lite.vec2vec.optim import Muon, orthogonalised


def test_orthogonalised_is_near_the_polar_factor(rows):
    for shape in (3, 20, 20), (2, 12, 30), (2, 30, 12):
        g = rows(*shape).double()
        u, s, vh = torch.linalg.svd(g, full_matrices=False)
        found = u.mT @ orthogonalised(g) @ vh.mT  # diagonal: no axis is turned
        kept = found.diagonal(dim1=-2, dim2=-1)
        assert torch.allclose(found, torch.diag_embed(kept), atol=1e-9)
        sure = s > 1e-2 * s.norm(dim=-1, keepdim=True)
        assert kept[sure].min() > 0.6 and kept.max() < 1.3
    assert orthogonalised(torch.zeros(1, 4, 4)).abs().max() == 0


def test_orthogonalised_knows_no_axes_and_no_scale(rows):
    g = rows(1, 9, 9).double()
    a, b = (torch.linalg.qr(rows(9, 9, seed=k).double())[0] for k in (1, 2))
    turned = orthogonalised(1e4 * a @ g @ b)
    assert torch.allclose(turned, a @ orthogonalised(g) @ b, atol=1e-8)


def test_a_step_is_the_formula_for_each_seed_alone(rows):
    weight = torch.nn.Parameter(rows(2, 5, 4).double())
    optim = Muon([{"params": [weight], "momentum": 0.8}], lr=0.3)
    before, mean = weight.detach().clone(), torch.zeros(2, 5, 4).double()
    for k in range(3):
        weight.grad = rows(2, 5, 4, seed=10 + k).double()
        mean = 0.8 * mean + 0.2 * weight.grad
        ahead = 0.8 * mean + 0.2 * weight.grad
        step = torch.stack([orthogonalised(one) for one in ahead])
        before = before - 0.3 * step
        optim.step()
        assert torch.allclose(weight, before)


def test_groups_without_momentum_are_adams(rows):
    mine, adams, other = (torch.nn.Parameter(rows(1, 3, 3).double()) for _ in range(3))
    muon = {"params": [other], "momentum": 0.9, "lr": 0.1}
    one = Muon([muon, {"params": [mine]}], lr=1e-2, betas=(0.5, 0.9))
    two = torch.optim.Adam([adams], lr=1e-2, betas=(0.5, 0.9))
    for k in range(4):
        for weight in (mine, adams, other):
            weight.grad = rows(1, 3, 3, seed=k).double()
        one.step()
        two.step()
    assert torch.equal(mine, adams) and not torch.equal(other, adams)


def test_a_loaded_state_goes_on_to_the_bit(rows):
    def fresh():
        weights = [torch.nn.Parameter(rows(1, 4, 4, seed=k).double()) for k in (0, 1)]
        group = {"params": weights[:1], "momentum": 0.9}
        return weights, Muon([group, {"params": weights[1:]}], lr=0.05)

    def go(weights, optim, first, last):
        for k in range(first, last):
            for weight in weights:
                weight.grad = rows(1, 4, 4, seed=k).double() * weight.detach()
            optim.step()

    weights, optim = fresh()
    go(weights, optim, 0, 3)
    others, again = fresh()
    for mine, old in zip(others, weights, strict=True):
        mine.data.copy_(old.data)
    again.load_state_dict(copy.deepcopy(optim.state_dict()))
    go(weights, optim, 3, 6)
    go(others, again, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def test_a_weight_without_a_gradient_stays(rows):
    weight = torch.nn.Parameter(rows(1, 3, 3).double())
    before = weight.detach().clone()
    Muon([{"params": [weight], "momentum": 0.9}], lr=1.0).step()
    assert torch.equal(weight, before)
