"""The grown game with trained judges, and vec2vec from a grown map."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("accelerate")
from v2v_lite.align import SelfLearn, SelfLearnConfig
from v2v_lite.align.grow import GrowConfig, grow
from v2v_lite.align.linalg import random_orthogonal
from v2v_lite.align.selflearn import PHASES
from v2v_lite.spaces import ConfigError, unit
from v2v_lite.vec2vec import OURS, Trainer, TrainerConfig, maps, train
from v2v_lite.vec2vec.grow import (
    JUDGED,
    PLAIN,
    JudgeConfig,
    judge_direction,
    trained_judges,
)
from v2v_lite.vec2vec.layers import stack

FEW = JudgeConfig(hidden_dim=16, batch_size=32, n_steps=2)
SMALL = GrowConfig(axes=(2, 3), n_angles=12, n_steps=40, batch_size=200)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def problem(seed, n=2000, d=4):
    """Two samples of one skewed, stretched cloud, the second turned."""
    sides = []
    for k in (2 * seed, 2 * seed + 1):
        rows = torch.randn(n, d, generator=generator(k)).mul(0.7).exp()
        sides.append((rows - rows.mean(0)) * torch.tensor([1.0, 0.7, 0.5, 0.2])[:d])
    turn = random_orthogonal(d, generator=generator(seed + 90))
    return sides[0], sides[1] @ turn, turn


def fake_loss(judges, maps, x, y, game):
    """The sum over both sides of g, with the judges as plain functions of rows."""
    total = torch.zeros((), dtype=torch.float64)
    for k, w in enumerate(maps):
        for side, fake, real in ((k, x @ w, y), (k + len(maps), y @ w.T, x)):
            f, r = (logits(judges, side, rows) for rows in (fake, real))
            total = total + {
                "least_squares": lambda f, r: f.square().mean() / 2,
                "vanilla": lambda f, r: (1 + f.exp()).log().mean(),
                "relativistic": lambda f, r: (1 + (f - r).exp()).log().mean(),
                "hinge": lambda f, r: f.mean(),
            }[game](f, r)
    return total


def logits(judges, side, rows):
    """A judge written out: two layers of SiLU and a linear one."""
    (one, two) = judges
    h = rows
    for layer in (one.linear, two.linear):
        h = h @ layer.weight[side] + layer.bias[side]
        h = h * torch.sigmoid(h)
    return (h @ two.last.weight[side] + two.last.bias[side])[:, 0]


@pytest.mark.parametrize("game", ["least_squares", "vanilla", "relativistic", "hinge"])
def test_the_direction_is_where_the_game_falls(game):
    judges = stack(4, (3, 8, 1), 2, PLAIN, generator(0)).double()
    x, y = (torch.randn(20, 3, generator=generator(k)).double() for k in (1, 2))
    maps = torch.stack([random_orthogonal(3, generator=generator(k)) for k in (3, 4)])
    maps = maps.double()
    found = judge_direction(judges, maps, x, y, game)
    for index in ((0, 0, 0), (0, 2, 1), (1, 1, 2)):
        step = torch.zeros_like(maps)
        step[index] = 1e-6
        ends = [fake_loss(judges, maps + s * step, x, y, game) for s in (1, -1)]
        slope = (ends[0] - ends[1]).item() / 2e-6
        assert found[index].item() == pytest.approx(-slope, rel=1e-5, abs=1e-8)
    assert all(p.requires_grad and p.grad is None for p in judges.parameters())


def test_judges_of_a_hypothesis_see_no_other():
    x, y, _ = problem(0)
    maps = torch.stack([random_orthogonal(4, generator=generator(k)) for k in range(3)])
    other = maps.clone()
    other[1] = random_orthogonal(4, generator=generator(9))
    found = []
    for some in (maps, other):
        g = generator(5)
        direction = trained_judges(FEW)(x, y, 3, g)
        for _ in range(4):
            c = direction(some, x[:50], y[:50])
        found.append(c)
    assert torch.allclose(found[0][[0, 2]], found[1][[0, 2]], rtol=1e-4, atol=1e-7)
    assert not torch.allclose(found[0][1], found[1][1], rtol=0.1)


def test_judges_learn_to_tell_what_is_far():
    x, y, turn = problem(1)
    wrong = turn @ torch.diag(torch.tensor([-1.0, -1, 1, 1]))
    direction = trained_judges(replace(FEW, n_steps=60, lr=5e-3))(x, y, 2, generator(0))
    direction(torch.stack([turn, wrong]), x[:500], y[:500])
    rows = torch.stack([x[:500] @ turn, x[:500] @ wrong] * 2), y[:500].expand(4, -1, -1)
    with torch.no_grad():
        fake, real = (direction.nets(z * direction.scale)[:2, :, 0] for z in rows)
    gaps = fake.mean(1) - real.mean(1)  # a logit is high where rows look fake
    assert gaps[1] > 0.2 > gaps[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_rotation_is_grown_by_trained_judges(seed):
    x, y, turn = problem(seed)
    judge = trained_judges(JudgeConfig(hidden_dim=32, batch_size=96))
    found = grow(x, y, SMALL, generator(seed), judge=judge)
    truth = found.source_axes.T @ turn @ found.target_axes
    assert (found.maps[0] - truth).abs().max() < 0.2
    again = grow(x, y, SMALL, generator(seed), judge=judge)
    assert torch.equal(found.maps, again.maps)


def test_sides_of_unequal_numbers_of_rows_play():
    x, y, _ = problem(2)
    for n, m in ((20, 90), (90, 20)):
        direction = trained_judges(FEW)(x[:n], y[:m], 1, generator(0))
        assert direction(torch.eye(4)[None], x[:n], y[:m]).isfinite().all()


def test_wrong_settings_are_named():
    with pytest.raises(ConfigError, match="'density' has no discriminator.*hinge"):
        JudgeConfig(game="density")
    with pytest.raises(ConfigError, match="'gan' has no discriminator"):
        JudgeConfig(game="gan")
    with pytest.raises(ConfigError, match="depth = 1; at least 2"):
        JudgeConfig(depth=1)
    with pytest.raises(ConfigError, match="r1_every = 0"):
        JudgeConfig(r1_every=0)
    assert JUDGED.axes[-1] == 24


# ---- vec2vec from a grown map


def quick(monkeypatch):
    """OURS in small from a grown map, and the self-learning config behind it."""
    small = GrowConfig(axes=(2, 3), n_angles=12, n_steps=20, batch_size=100)
    config = SelfLearnConfig(grow=small)
    phases = (replace(PHASES[0], n_iter=2, batch_size=200),)
    monkeypatch.setattr(maps, "SelfLearnConfig", lambda: config)
    monkeypatch.setattr(maps, "PHASES", phases)
    net = replace(OURS.net, hidden_dim=16)
    optim = replace(OURS.optim, steps=6, batch_size=32, precision="no")
    preset = replace(OURS, net=net, optim=optim, init="grown")
    return preset, replace(config, start="grown", phases=phases, n_init=1)


def test_nets_start_from_the_grown_map(monkeypatch, world):
    preset, config = quick(monkeypatch)
    preset = replace(preset, output_transform="shared")
    spaces = world(widths=(8, 6))
    made = Trainer(spaces, preset, seeds=(2, 3), device="cpu")
    for k, seed in enumerate((2, 3)):
        model = SelfLearn(config).fit(spaces["a"], spaces["b"], seed=seed)
        rows = spaces["a"].take(slice(40))
        found = made.translator(made.nets, k, "a", "b").translate(rows)
        want = model.translate(rows)
        found, want = (unit(z - spaces["b"].mean) for z in (found, want))
        assert (found * want).sum(dim=1).min() > 0.999


def test_three_spaces_of_unequal_widths_are_grown_to_the_last(monkeypatch, world):
    preset, _ = quick(monkeypatch)
    spaces = world(widths=(8, 5, 6), names="abc")
    white = {name: None for name in spaces}
    found = maps.initial_maps(spaces, white, preset, (0, 1))
    shapes = {pair: tuple(m.shape) for pair, m in found.items()}
    assert shapes == {("a", "c"): (2, 8, 6), ("b", "c"): (2, 5, 6)}
    assert not torch.allclose(found["a", "c"][0], found["a", "c"][1])


def test_a_run_from_a_grown_map_resumes_bit_for_bit(monkeypatch, world, tmp_path):
    preset, _ = quick(monkeypatch)
    often = TrainerConfig(eval_every=3, checkpoint_every=3)
    spaces = world(widths=(8, 6))
    whole = train(spaces, preset, out=tmp_path / "whole", config=often)
    step, folder = Trainer.step, tmp_path / "stopped"

    def stopped(self):
        if self.state.step == 4:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(spaces, preset, out=folder, config=often)
    monkeypatch.setattr(Trainer, "step", step)
    # Resuming grows nothing again.
    monkeypatch.setattr(maps, "initial_maps", lambda *_: pytest.fail("grown twice"))
    again = train(spaces, out=folder, config=often, resume=True)
    assert again.history == whole.history and again.preset.init == "grown"
    for one, two in zip(again.nets.parameters(), whole.nets.parameters(), strict=True):
        assert torch.equal(one, two)
