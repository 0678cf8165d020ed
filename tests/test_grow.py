"""The grown game against autograd, kernels written out, and planted rotations."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2v_lite.align import SelfLearn, SelfLearnConfig
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.grow import (
    GrowConfig,
    density_direction,
    density_loss,
    grow,
    plane_maps,
)
from v2v_lite.align.linalg import random_orthogonal
from v2v_lite.align.selflearn import Phase
from v2v_lite.spaces import ConfigError, DataError, unit

SMALL = GrowConfig(axes=(2, 3, 4), n_angles=16, n_steps=30, batch_size=200)


def cloud(n, seed, d=6):
    """Rows of no symmetry: a skewed, anisotropic mixture of three heaps."""
    g = torch.Generator().manual_seed(seed)
    heaps = torch.tensor(
        [[3.0, 0, 0.5, 0.2, 0, 0], [-1, 1.5, -0.5, 0, 0.2, 0], [-2, -1, 1, -0.3, 0, 0]]
    )[:, :d]
    which = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), n, True, generator=g)
    spread = torch.tensor([0.8, 0.6, 0.5, 0.4, 0.3, 0.2])[:d]
    rows = heaps[which] + torch.randn(n, d, generator=g) * spread
    return rows - rows.mean(0)


def problem(n=2000, seed=0, d=6):
    """Two samples of one cloud, the second under a hidden orthogonal map."""
    hidden = random_orthogonal(d, generator=torch.Generator().manual_seed(seed + 50))
    return cloud(n, seed, d), cloud(n, seed + 1, d) @ hidden, hidden


def test_the_loss_is_the_kernels_written_out():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(7, 3, generator=g), torch.randn(5, 3, generator=g)
    w = random_orthogonal(3, generator=g)
    h2 = 0.3 * (x.square().sum(1).mean() + y.square().sum(1).mean()).item()
    total = 0.0
    for a, b in ((x @ w, y), (y, x @ w)):
        for row in a:
            kernels = [math.exp(-((row - z) ** 2).sum().item() / (2 * h2)) for z in b]
            total -= math.log(sum(kernels) / len(b)) / len(a)
    found = density_loss(w[None], x, y, 0.3)
    assert found.tolist() == pytest.approx([total], rel=1e-5)


def test_both_directions_are_one_loss():
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(40, 3, generator=g), torch.randn(30, 3, generator=g)
    w = random_orthogonal(3, generator=g)
    there, back = density_loss(w[None], x, y, 0.1), density_loss(w.T[None], y, x, 0.1)
    assert there.item() == pytest.approx(back.item(), rel=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), k=st.integers(2, 6), bandwidth=st.floats(0.05, 1))
def test_the_direction_is_the_gradient_along_the_group(seed, k, bandwidth):
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(n, k, generator=g, dtype=torch.float64) for n in (30, 20))
    w = random_orthogonal(k, generator=g).double()
    w = torch.linalg.qr(w).Q  # orthogonal in double precision
    skew = torch.randn(k, k, generator=g, dtype=torch.float64)
    skew = skew - skew.T
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    moved = w @ torch.linalg.matrix_exp(t * skew)
    slope = torch.autograd.grad(density_loss(moved[None], x, y, bandwidth).sum(), t)[0]
    c = density_direction(w[None], x, y, bandwidth)[0]
    h2 = bandwidth * (x.square().sum(1).mean() + y.square().sum(1).mean()).item()
    assert slope.item() == pytest.approx(-(c * (w @ skew)).sum().item() / h2, rel=1e-6)
    along = c - w @ c.T @ w
    assert torch.allclose(w.T @ along, -(w.T @ along).T, atol=1e-9)  # tangent
    # the part left out is symmetric: it only stretches
    rest = w.T @ (c - along / 2)
    assert torch.allclose(rest, rest.T, atol=1e-9)


def test_plane_maps_are_half_rotations_half_reflections():
    maps = plane_maps(12)
    assert maps.shape == (24, 2, 2)
    assert torch.allclose(maps @ maps.mT, torch.eye(2).expand(24, 2, 2), atol=1e-6)
    assert torch.det(maps).round().tolist() == [1.0] * 12 + [-1.0] * 12
    assert len({tuple(m.flatten().mul(1e4).round().tolist()) for m in maps}) == 24


@pytest.mark.parametrize("seed", [0, 1, 2, 3])  # hidden maps of both determinants
def test_a_planted_map_is_grown(seed):
    x, y, hidden = problem(seed=seed)
    found = grow(x, y, SMALL, torch.Generator().manual_seed(seed))
    truth = found.source_axes.T @ hidden @ found.target_axes
    assert (found.maps[0] - truth).abs().max() < 0.15
    assert found.losses.tolist() == sorted(found.losses.tolist())
    assert [k for k, _, _ in found.history] == [2, 3, 4]
    assert found.map().shape == (6, 6)
    eye = torch.eye(4).expand(len(found.maps), 4, 4)
    assert torch.allclose(found.maps @ found.maps.mT, eye, atol=2e-3)


def test_unequal_widths_and_a_seed_are_ordinary():
    x, y, _ = problem(600)
    y = torch.cat([y, torch.zeros(600, 3)], dim=1)
    once, again = (grow(x, y, SMALL, torch.Generator().manual_seed(3)) for _ in "ab")
    assert once.map().shape == (6, 9) and torch.equal(once.maps, again.maps)
    narrow = grow(x[:, :3], y, SMALL, torch.Generator().manual_seed(3))
    assert narrow.maps.shape[1] == 3  # the stages that fit


def test_kept_maps_are_distinct():
    x, y, _ = problem(600)
    found = grow(x, y, SMALL, torch.Generator().manual_seed(0))
    variance = (x @ found.source_axes).square().mean(0)
    for i, one in enumerate(found.maps):
        for other in found.maps[:i]:
            gap = (one - other).square().sum(1) @ variance
            assert gap > 0.9 * SMALL.min_distance * variance.sum()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"axes": (3, 4)}, "axes"), ({"axes": (2, 4, 4)}, "axes"),
        ({"axes": ()}, "axes"), ({"batch_size": 1}, "batch_size"),
        ({"n_angles": 0}, "n_angles"),
        ({"bandwidth": 0.0}, "bandwidth"), ({"lr": 0.0}, "lr"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(wrong, named):
    with pytest.raises(ConfigError, match=named):
        GrowConfig(**wrong)


def test_one_dimension_is_too_few():
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match="two axes, but rows are 1-d"):
        grow(x, x, SMALL, torch.Generator())


STAGES = ("self-learn 1", "self-learn 2")


def small_config(start, phases=2):
    phases = phases * (
        Phase(4, 300, temperature=0.05, singular_value_exponent=0.6, ema_decay=0.3),
    )
    anchors = AnchorConfig(n_runs=3, sample_size=300, n_clusters=5, n_init=20)
    return SelfLearnConfig(anchors, phases, 60, n_init=2, start=start, grow=SMALL)


def test_self_learning_starts_from_what_was_grown():
    x, y, hidden = problem(900)
    x, y = unit(x), unit(y)
    model = SelfLearn(small_config("grown")).fit(x, y, seed=0)
    assert [stage.name for stage in model.history] == ["grown", *STAGES]
    moved = model.translate(x)
    cosines = unit(moved - moved.mean(0)) * unit(x @ hidden)
    assert cosines.sum(1).mean() > 0.8
    again = SelfLearn(small_config("grown")).fit(x, y, seed=0)
    assert torch.equal(model.weight, again.weight)


def test_the_best_start_is_the_one_of_the_highest_objective():
    x, y, _ = problem(900)
    x, y = unit(x), unit(y)
    # Compared after the last of two phases, after the third of four.
    for phases, compared in ((2, 2), (4, 3)):
        config = replace(small_config("anchors", phases), n_init=1)
        alone = SelfLearn(config).fit(x, y, seed=0).history
        best = SelfLearn(replace(config, start="best")).fit(x, y, seed=0).history
        names = [f"self-learn {k + 1}" for k in range(phases)]
        assert [stage.name for stage in best[1:]] == names
        # It begins with the very same anchors.
        assert best[compared].objective >= alone[compared].objective - 1e-6


def test_an_unknown_start_is_named():
    with pytest.raises(
        ConfigError, match="start = 'guess'; choose anchors, grown, best"
    ):
        SelfLearnConfig(start="guess")
