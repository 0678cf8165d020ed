"""Views of a space, the map the nets start from, and the filters of the judges."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from v2v_lite.align import SelfLearn, SelfLearnConfig
from v2v_lite.spaces import DataError, hold_out, load, unit, unpaired
from v2v_lite.vec2vec import OURS, RELEASED, Networks, train
from v2v_lite.vec2vec import maps as maps_module
from v2v_lite.vec2vec.maps import initial_maps
from v2v_lite.vec2vec.result import SpaceStats, output_matrices


def test_views_are_bare_centred_or_white(cloud):
    space = cloud()
    x = space.vectors
    assert torch.equal(SpaceStats.of(space, RELEASED).transform(x), x)
    centred = replace(RELEASED, centred=True)
    want = unit(x - space.mean)
    assert torch.allclose(SpaceStats.of(space, centred).transform(x), want)
    white = SpaceStats.of(space, replace(centred, whitening_rows=1e-3)).transform(x)
    spread = torch.linalg.eigvalsh(white.T @ white / len(x)) * 6
    assert spread.min() > 0.5 and spread.max() < 1.5  # before: a hundredfold
    raw = torch.linalg.eigvalsh(want.T @ want / len(x)) * 6
    assert raw.min() < 0.1 * spread.min()


def networks(widths, seeds=2):
    net = replace(OURS.net, hidden_dim=5)
    g = torch.Generator().manual_seed(1)
    return Networks(widths, replace(OURS, net=net), seeds, g).double()


@pytest.mark.parametrize("widths", [(6, 6), (6, 4), (4, 6)])
def test_the_start_is_the_rotation_and_filters_show_its_directions(widths):
    two = networks(dict(zip("st", widths, strict=True)))
    g = torch.Generator().manual_seed(2)
    maps = torch.randn(2, *widths, generator=g, dtype=torch.float64)
    whites = {name: whitening_of(d, d) for name, d in zip("st", widths, strict=True)}
    two.init_from_map("s", "t", maps, whites)
    u, s, vh = torch.linalg.svd(maps, full_matrices=False)
    x = F.normalize(torch.randn(2, 9, widths[0], generator=g).double(), dim=-1)
    y = F.normalize(torch.randn(2, 9, widths[1], generator=g).double(), dim=-1)
    with torch.no_grad():
        there = F.normalize(x @ u @ vh, dim=-1)
        assert torch.allclose(two.nets.translate("s", "t", x), there, atol=1e-6)
        back = F.normalize(y @ vh.mT @ u.mT, dim=-1)
        assert torch.allclose(two.nets.translate("t", "s", y), back, atol=1e-6)
        for name, rows in ("s", x), ("t", y):
            rebuilt = two.nets.reconstruct(name, rows)
            assert torch.allclose(rebuilt, rows, atol=1e-6)
    two.config = replace(
        two.config, singular_value_exponent=(0.5, 0.0), variance_exponent=(2.0, 1.0)
    )
    two.set_progress(0.0)
    # Cosines are what the game sees; beyond the shared directions it sees none.
    sharp = y @ vh.mT * (s / s[:, :1]).sqrt()[:, None] @ vh
    back = torch.linalg.inv(whites["t"])
    assert same_cosines(two.filtered("t", y), sharp @ back @ back)
    two.set_progress(1.0)
    back = torch.linalg.inv(whites["s"])
    assert same_cosines(two.filtered("s", x), x @ u @ u.mT @ back)


def whitening_of(d, seed):
    x = torch.randn(3 * d, d, generator=torch.Generator().manual_seed(seed)).double()
    values, axes = torch.linalg.eigh(x.T @ x)
    return axes / values.sqrt() @ axes.T


def same_cosines(a, b):
    a, b = (F.normalize(rows, dim=-1) for rows in (a, b))
    return torch.allclose(a @ a.mT, b @ b.mT, atol=1e-6)


def test_without_focus_judges_see_the_rows():
    g = torch.Generator().manual_seed(1)
    game = replace(RELEASED.adversarial, hidden_dim=5)
    net = replace(RELEASED.net, hidden_dim=5, latent_dim=5)
    preset = replace(RELEASED, adversarial=game, net=net)
    two = Networks({"s": 4, "t": 4}, preset, 1, g)
    rows = torch.randn(1, 3, 4)
    assert torch.equal(two.filtered("s", rows), rows)


def test_maps_of_real_anchors_differ_by_seed_and_are_better_than_chance():
    split = unpaired(load("minilm"), load("granite"), seed=0, n_train=3000)
    spaces = {"s": split.source, "t": split.target}
    preset = replace(OURS, anchor_runs=4, init="anchors")
    stats = {name: SpaceStats.of(space, preset) for name, space in spaces.items()}
    whitenings = {name: one.whitening for name, one in stats.items()}
    maps = initial_maps(spaces, whitenings, preset, (0, 1), False)["s", "t"]
    assert maps.shape == (2, 384, 384) and not torch.allclose(maps[0], maps[1])
    x = stats["s"].transform(split.eval_source.vectors)
    y = unit(split.eval_target.vectors - split.target.mean)
    for one in maps:
        found = unit(x @ one) @ y.T
        rank = (found >= found.diagonal()[:, None]).sum(1).double().mean()
        assert rank < 1200  # chance is 2,048
    assert initial_maps(spaces, whitenings, RELEASED, (0,), False) == {}


def test_of_several_draws_the_one_that_covaries_most(cloud, monkeypatch):
    drawn = [torch.diag(torch.tensor(row)) for row in ([3.0, 0.0], [2.0, 2.0])]

    class Drawn:
        def __init__(self, cross):
            self.cross = lambda: cross

    left = iter(drawn)
    monkeypatch.setattr(maps_module, "find_anchors", lambda *_: Drawn(next(left)))
    spaces = {"s": cloud(d=2), "t": cloud(d=2, seed=1)}
    preset = replace(OURS, anchor_draws=2, init="anchors")
    stats = {name: SpaceStats.of(space, preset) for name, space in spaces.items()}
    whitenings = {name: one.whitening for name, one in stats.items()}
    (found,) = initial_maps(spaces, whitenings, preset, (0,), False)["s", "t"]
    assert torch.equal(found, drawn[1])  # 4 beats 3, though its largest is smaller


def test_filters_show_float32_also_under_autocast():
    two = networks({"s": 6, "t": 6}, seeds=1).float()
    maps = torch.linalg.qr(torch.randn(1, 6, 6))[0]
    whites = {name: whitening_of(6, k).float() for k, name in enumerate("st")}
    two.init_from_map("s", "t", maps, whites)
    with torch.autocast("cpu", torch.bfloat16):
        assert two.filtered("s", torch.randn(1, 3, 6)).dtype == torch.float32


def test_the_read_out_keeps_what_the_start_says_of_each_direction():
    two = networks({"s": 6, "t": 4}, seeds=1)
    g = torch.Generator().manual_seed(3)
    maps = torch.randn(1, 6, 4, generator=g, dtype=torch.float64)
    whites = {"s": whitening_of(6, 0), "t": whitening_of(4, 1)}
    two.init_from_map("s", "t", maps, whites)
    stats = SpaceStats("t", torch.zeros(4), 1.0, whites["t"].float())
    shared = replace(OURS, output_transform="shared")
    x = torch.randn(1, 9, 6, generator=g, dtype=torch.float64)
    with torch.no_grad():
        y = two.nets.translate("s", "t", F.normalize(x, dim=-1))[0]
    out = F.normalize(
        y @ output_matrices(stats, shared, two.filter_of("t"))[0].double(), dim=-1
    )
    assert torch.allclose(out, F.normalize(x[0] @ maps[0], dim=-1), atol=1e-5)
    # By variance instead: half of what whitening took is given back.
    plain = output_matrices(stats, OURS, two.filter_of("t"))[0]
    assert torch.allclose(stats.whitening @ plain @ plain, torch.eye(4), atol=1e-4)
    assert output_matrices(SpaceStats("t", torch.zeros(4)), RELEASED, None) is None


def test_self_learning_with_its_strengths_is_where_training_starts():
    split = unpaired(load("minilm"), load("granite"), seed=0, n_train=1500)
    spaces = {"s": split.source, "t": split.target}
    preset = replace(
        OURS, init="selflearn", anchor_runs=4, output_transform="shared",
        optim=replace(OURS.optim, steps=1, batch_size=64, lr=1e-9),
    )  # fmt: skip
    told = []
    train(spaces, preset, report=lambda model: told.append(model) or {})
    config = SelfLearnConfig()
    config = replace(config, anchors=replace(config.anchors, n_runs=4))
    held = {name: hold_out(space)[0] for name, space in spaces.items()}
    ours = SelfLearn(config).fit(held["s"], held["t"], seed=0)
    z, want = (model.translate(split.eval_source) for model in (told[0], ours))
    z, want = (unit(rows - held["t"].mean) for rows in (z, want))
    assert (z * want).sum(1).min() > 0.999


def test_a_read_out_by_strengths_is_of_one_pair(cloud):
    spaces = {name: cloud(d=4, seed=k) for k, name in enumerate("abc")}
    preset = replace(
        OURS, output_transform="shared", optim=replace(OURS.optim, batch_size=16)
    )
    with pytest.raises(DataError, match="one pair, but 3 spaces"):
        train(spaces, preset)
