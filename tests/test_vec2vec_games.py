"""Games and discriminators against cases by hand, torch and finite differences."""

import math
from dataclasses import replace
from functools import partial

import problems
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional as F

from v2v_lite.spaces.files import ConfigError
from v2v_lite.vec2vec import (
    GAMES,
    RELEASED,
    AdversarialConfig,
    Discriminator,
    d_loss,
    frozen,
    g_loss,
    gradient_penalty,
)

SMALL = AdversarialConfig(hidden_dim=7, depth=5)
rows = partial(problems.rows, seed=1, dtype=torch.float64)
KINDS = ["least_squares", "vanilla", "relativistic", "hinge"]


@pytest.mark.parametrize(
    "width, total", [(768, 3_943_425), (512, 3_681_281), (1024, 4_205_569)]
)
def test_parameters_are_those_of_the_released_code(generator, width, total):
    discriminator = Discriminator(width, RELEASED.adversarial, 1, generator())
    assert sum(p.numel() for p in discriminator.parameters()) == total


def test_the_network_is_the_table_of_the_architecture(generator):
    discriminator = Discriminator(5, SMALL, 2, generator()).double()
    x = rows(2, 6, 5)
    for s in range(2):
        matrices = [m for m in discriminator.layers if hasattr(m, "weight")]
        linears = [m for m in matrices if m.weight.ndim > 2 and m.weight.shape[1] > 1]
        h = x[s] @ linears[0].weight[s] + linears[0].bias[s]
        for layer in linears[1:4]:
            h = F.layer_norm(F.silu(h) @ layer.weight[s] + layer.bias[s], (7,))
        want = F.silu(h) @ linears[4].weight[s] + linears[4].bias[s]
        torch.testing.assert_close(discriminator(x)[s], want[:, 0])


def test_several_groups_in_one_pass_are_discriminatord_as_one_by_one(generator):
    for members in (1, 3):
        discriminator = Discriminator(5, SMALL, 2, generator(), members).double()
        groups = rows(2, 6, 5), rows(2, 4, 5, seed=2)
        for found, group in zip(discriminator.logits(*groups), groups, strict=True):
            torch.testing.assert_close(found, discriminator(group))


def test_members_are_discriminators_of_their_own(generator):
    discriminator = Discriminator(5, SMALL, 2, generator(), ensemble_size=3).double()
    x = rows(2, 6, 5)
    logits = discriminator(x).view(2, 3, 6)
    single = Discriminator(5, SMALL, 1, generator()).double()
    for s in range(2):
        for m in range(3):
            state = discriminator.state_dict()
            cut = {k: v[3 * s + m : 3 * s + m + 1] for k, v in state.items()}
            single.load_state_dict(cut)
            torch.testing.assert_close(single(x[s : s + 1])[0], logits[s, m])


def test_losses_by_hand():
    real, fake = torch.tensor([[0.5, -1.0]]), torch.tensor([[2.0, 0.0]])
    s = [math.log1p(math.exp(v)) for v in (0.5, -1.0, -2.0, 0.0)]  # softplus
    want = {
        "least_squares": 0.5 * (0.25 + 1 + 1 + 1) / 2,
        "vanilla": sum(s) / 2,
        "relativistic": (math.log1p(math.exp(-1.5)) + math.log1p(math.exp(-1))) / 2,
        "hinge": (1.5 + 0 + 0 + 1) / 2,
    }
    for kind, value in want.items():
        assert d_loss(kind, real, fake).tolist() == pytest.approx([value])
    t = [math.log1p(math.exp(v)) for v in (2.0, 0.0, 1.5, 1.0)]
    want = {
        "least_squares": 0.5 * 4 / 2,
        "vanilla": (t[0] + t[1]) / 2,
        "relativistic": (t[2] + t[3]) / 2,
        "hinge": 1.0,
    }
    for kind, value in want.items():
        assert g_loss(kind, fake, real).tolist() == pytest.approx([value])


def test_smoothing_moves_the_labels():
    real, fake = rows(1, 6, 1)[..., 0], rows(1, 6, 1, seed=2)[..., 0]
    found = d_loss("least_squares", real, fake, 0.1)
    want = 0.5 * (F.mse_loss(real, torch.full_like(real, 0.1))
                  + F.mse_loss(fake, torch.full_like(fake, 0.9)))  # fmt: skip
    torch.testing.assert_close(found[0], want)
    cross = F.binary_cross_entropy_with_logits
    want = cross(real, torch.full_like(real, 0.1)) + cross(
        fake, torch.full_like(fake, 0.9)
    )
    torch.testing.assert_close(d_loss("vanilla", real, fake, 0.1)[0], want)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_differences_and_of_one_seed(kind):
    real, fake = (rows(2, 5, 1, seed=seed)[..., 0].requires_grad_() for seed in (1, 2))
    assert gradcheck(lambda r, f: d_loss(kind, r, f), [real, fake])
    assert gradcheck(lambda r, f: g_loss(kind, f, r), [real, fake])
    (d_loss(kind, real, fake) + g_loss(kind, fake, real))[0].backward()
    assert (fake.grad[1] == 0).all() and fake.grad[0].abs().max() > 0


@pytest.mark.parametrize("kind", ["least_squares", "vanilla"])
def test_gradients_of_smoothed_labels_are_finite_differences(kind):
    real, fake = (rows(2, 5, 1, seed=seed)[..., 0].requires_grad_() for seed in (1, 2))
    assert gradcheck(lambda r, f: d_loss(kind, r, f, 0.1), [real, fake])


@pytest.mark.parametrize("kind", KINDS)
def test_the_translator_pulls_fakes_to_where_the_discriminator_sees_real_rows(kind):
    real, fake = torch.full((1, 4), -0.5), torch.full((1, 4), 0.5, requires_grad=True)
    (slope,) = torch.autograd.grad(d_loss(kind, real, fake).sum(), fake)
    assert (slope < 0).all()  # the discriminator wants fakes higher
    (slope,) = torch.autograd.grad(g_loss(kind, fake, real).sum(), fake)
    assert (slope > 0).all()


def test_the_gradient_penalty_is_finite_differences_and_trains_the_weights(generator):
    discriminator = Discriminator(
        3, replace(SMALL, depth=3), 2, generator(), ensemble_size=2
    ).double()
    x, step, squares = rows(2, 4, 3), 1e-5, 0.0
    for axis in range(3):
        move = torch.zeros(3, dtype=x.dtype)
        move[axis] = step
        squares = (
            squares
            + ((discriminator(x + move) - discriminator(x - move)) / (2 * step)) ** 2
        )
    want = 0.5 * 4 * squares.mean(dim=1)

    def penalty_of(weight):
        return gradient_penalty(
            discriminator.layers, x, weight, discriminator.ensemble_size
        )

    torch.testing.assert_close(penalty_of(4.0), want)
    weight = discriminator.layers[0].weight

    def penalty(value):
        discriminator.layers[0].weight.data.copy_(value)
        return penalty_of(4.0)[0].item()

    (found,) = torch.autograd.grad(penalty_of(4.0)[0], weight)
    assert (found[2:] == 0).all()  # the members of seed 1
    start, move = weight.detach().clone(), torch.zeros_like(weight)
    move[1, 2, 0] = step
    slope = (penalty(start + move) - penalty(start - move)) / (2 * step)
    assert found[1, 2, 0].item() == pytest.approx(slope, rel=1e-5)


def test_a_penalty_of_weight_zero_builds_no_graph(generator, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("a gradient was asked for")

    monkeypatch.setattr(torch.autograd, "grad", never)
    discriminator, x = Discriminator(3, SMALL, 2, generator()), rows(2, 4, 3).float()
    found = gradient_penalty(discriminator.layers, x, 0.0)
    assert found.tolist() == [0, 0] and not found.requires_grad
    with pytest.raises(AssertionError, match="was asked for"):
        gradient_penalty(discriminator.layers, x, 1.0)


def test_frozen_passes_gradients_on_but_keeps_none():
    discriminator, x = nn.Linear(3, 1), torch.randn(4, 3, requires_grad=True)
    with frozen(discriminator):
        out = discriminator(x).sum()
    out.backward()
    assert x.grad.abs().sum() > 0 and all(
        p.grad is None for p in discriminator.parameters()
    )
    assert all(p.requires_grad for p in discriminator.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_discriminator_learns_to_tell_two_clouds_apart(generator, kind):
    discriminator = Discriminator(3, replace(SMALL, depth=3), 1, generator()).double()
    real, fake = rows(1, 64, 3) + 1, rows(1, 64, 3, seed=2) - 1
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        d_loss(kind, *discriminator.logits(real, fake)).sum().backward()
        optimiser.step()
    assert (discriminator(fake).mean() - discriminator(real).mean()).item() > 0.5


def test_games_without_a_discriminator_compare_rows():
    assert {name for name, game in GAMES.items() if game.d_loss is None} == {
        "mmd", "density"
    }  # fmt: skip
    logits = torch.zeros(1, 2)
    with pytest.raises(ConfigError, match="'mmd' has no discriminator"):
        d_loss("mmd", logits, logits)
    with pytest.raises(ConfigError, match="'relativistic' compares with real"):
        g_loss("relativistic", logits)
