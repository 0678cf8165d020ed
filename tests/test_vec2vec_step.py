"""A step put together: who gets gradients, what is computed once, and the totals."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from v2v_lite.spaces import DataError
from v2v_lite.vec2vec import (
    PRESETS,
    PRINTED,
    RELEASED,
    SOUND,
    Players,
    discriminator_losses,
    forward,
    generator_losses,
    losses,
    step_losses,
)

KINDS = ["least_squares", "vanilla", "relativistic", "hinge", "mmd", "density"]


def small(preset, **game):
    """The preset with little nets and no dropout."""
    net = replace(preset.net, width=9, latent=8, dropout=0.0)
    return replace(preset, net=net, game=replace(preset.game, width=6, **game))


def with_loss(preset, **values):
    return replace(preset, loss=replace(preset.loss, **values))


def setting(preset, seeds=1, batch=7, widths=(6, 5)):
    g = torch.Generator().manual_seed(0)
    names = dict(zip("uvw", widths, strict=False))
    players = Players(names, preset, seeds, g).double()
    rows = {
        name: F.normalize(
            torch.randn(seeds, batch, d, generator=g, dtype=torch.float64), dim=-1
        )
        for name, d in names.items()
    }
    return players, rows


def grads(parameters):
    return [p.grad for p in parameters if p.grad is not None]


def test_the_released_total_by_hand():
    preset = small(RELEASED)
    players, batch = setting(preset)
    found = step_losses(players, batch, preset)
    nets, (u, k) = players.nets, batch.values()  # unknown and known
    z_u, z_k = nets.encode("u", u), nets.encode("v", k)
    t_u, t_k = nets.decode("v", z_u), nets.decode("u", z_k)
    c_u, c_k = nets.translate("v", "u", t_u), nets.translate("u", "v", t_k)
    r_u, r_k = nets.decode("u", z_u), nets.decode("v", z_k)

    def far(a, b):
        return 1 - F.cosine_similarity(a, b, dim=-1).mean()

    def vsp(a, b):
        k = b @ b.mT
        return (k - a @ a.mT).abs().mean() + (k - a @ b.mT).abs().mean()

    d_u, d_k, d_z = *players.outputs, *players.latents
    want = {
        "reconstruction": (far(r_u, u) + far(r_k, k)) / 2,
        "cycle": (far(c_u, u) + far(c_k, k)) / 2,
        "vsp_reconstruction": (vsp(r_u, u) + vsp(r_k, k)) / 2,
        "vsp": (vsp(c_u, u) + vsp(c_k, k)) / 2,
        "output_game": 0.5 * (d_u(t_k) ** 2).mean() + 0.5 * (d_k(t_u) ** 2).mean(),
        "latent_game": 0.5 * (d_z(z_u) ** 2).mean(),
        "output_d": 0.5 * (d_u(u) ** 2 + (d_u(t_k) - 1) ** 2).mean()
        + 0.5 * (d_k(k) ** 2 + (d_k(t_u) - 1) ** 2).mean(),
        "latent_d": 0.5 * (d_z(z_k) ** 2 + (d_z(z_u) - 1) ** 2).mean(),
    }
    w = dict(cycle=10, vsp=10)
    generator = [k for k in want if not k.endswith("_d")]
    want["generator"] = sum(w.get(k, 1) * want[k] for k in generator)
    want["discriminator"] = want["output_d"] + want["latent_d"]
    assert found.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(found[name], value[None], msg=name)


def test_the_released_numbers_by_hand():
    """Numbers worked out on paper, no code: the nets swap a vector's two coordinates
    on the way out to v, and every judge says 1/2 of everything."""
    net = replace(
        RELEASED.net, latent=2, width=3, backbone_depth=1, dropout=0.0,
        linear_adapters=True, zero_backbone=True,
    )  # fmt: skip
    preset = replace(RELEASED, net=net, game=replace(RELEASED.game, width=3, depth=2))
    g = torch.Generator().manual_seed(0)
    players = Players({"u": 2, "v": 2}, preset, 1, g).double()
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    maps = players.nets.inputs[0], players.nets.inputs[1], *players.nets.outputs
    with torch.no_grad():
        for layer, value in zip(maps, (swap @ swap, swap @ swap, swap @ swap, swap)):  # noqa: B905
            layer.weight.copy_(value[None])
        for judge in (*players.outputs, *players.latents):
            for weight in judge.parameters():
                weight.zero_()
            judge.layers[-1].bias.fill_(0.5)
    batch = {
        "u": torch.tensor([[[1, 0], [0, 1]]], dtype=torch.float64),
        "v": torch.tensor([[[0.6, 0.8], [0.8, 0.6]]], dtype=torch.float64),
    }
    found = step_losses(players, batch, preset)
    # u is rebuilt as itself and v swapped: 1 - cos is 0, and 1 - .96 for both rows of
    # v. Every round trip passes one swap: u comes back as its other row, at 1 - 0.
    # Round trips of v are (.8, .6) for (.6, .8): 1 - .96. Swapped rows have the cosines
    # of the rows (Gram term 0), and the reflected term is mean |K - swapped|: for u
    # |1 - 0| in all four entries, for v |1 - .96| in all four.
    want = {
        "reconstruction": 0.04 / 2,
        "cycle": (1 + 0.04) / 2,
        "vsp_reconstruction": 0.04 / 2,
        "vsp": (1 + 0.04) / 2,
        "output_game": 2 * 0.5 * 0.25,
        "latent_game": 0.5 * 0.25,
        "output_d": 2 * 0.5 * (0.25 + 0.25),
        "latent_d": 0.5 * (0.25 + 0.25),
    }
    want["generator"] = 0.02 + 10 * 0.52 + 0.02 + 10 * 0.52 + 0.25 + 0.125
    want["discriminator"] = 0.75
    assert found.keys() == want.keys()
    for name, value in want.items():
        assert found[name].item() == pytest.approx(value), name


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
@pytest.mark.parametrize("side", ["generator", "discriminator"])
def test_slopes_of_a_whole_step_are_finite_differences(preset, side):
    """Along a random direction in all weights of one side; a detached round trip is
    held fixed, as the step holds it."""
    preset = with_loss(small(preset), cycle_detached=False, noise=0.0)
    players, batch = setting(preset)
    mine = players.nets.parameters() if side == "generator" else None
    weights = list(mine or players.discriminators())
    if not weights:  # a game whose judge is written down has no weights to train
        assert preset.game.kind == "density" and side == "discriminator"
        return
    g = torch.Generator().manual_seed(3)
    moves = [torch.randn(w.shape, generator=g, dtype=w.dtype) for w in weights]

    def loss():
        return step_losses(players, batch, preset)[side].sum()

    slopes = torch.autograd.grad(loss(), weights, allow_unused=True)
    both = zip(slopes, moves, strict=True)
    found = sum((s * m).sum() for s, m in both if s is not None)
    values = []
    with torch.no_grad():
        for step in (1e-5, -2e-5):
            for w, m in zip(weights, moves, strict=True):
                w.add_(step * m)
            values.append(loss())
    want = (values[0] - values[1]) / 2e-5
    assert found.item() == pytest.approx(want.item(), rel=1e-4, abs=1e-6)


def test_the_printed_total_by_hand():
    preset = small(PRINTED)
    players, batch = setting(preset)
    found = step_losses(players, batch, preset)
    nets, (x, y) = players.nets, batch.values()
    z = {"u": nets.encode("u", x), "v": nets.encode("v", y)}
    f1, f2 = nets.decode("v", z["u"]), nets.decode("u", z["v"])

    def far(a, b):
        return (a - b).square().sum(-1).mean()

    def gap(a, b):
        return (a @ a.mT - b @ b.mT).square().mean()

    d1, d2, l1, l2 = *players.outputs, *players.latents
    logits = d1(f2), d2(f1), l1(z["v"]), l2(z["u"])
    fools = [-torch.log(1 - torch.sigmoid(v)).mean() for v in logits]
    want = (
        far(nets.decode("u", z["u"]), x) + far(nets.decode("v", z["v"]), y)
        + far(nets.translate("v", "u", f1), x) + far(nets.translate("u", "v", f2), y)
        + gap(x, f2) + gap(y, f1) + sum(fools)
    )  # fmt: skip
    torch.testing.assert_close(found["generator"], want[None])


def test_sound_compares_a_batch_with_its_own_translation():
    preset = small(SOUND)
    players, batch = setting(preset)
    players.nets.start_from("u", "v", torch.randn(6, 5).double())
    found = step_losses(players, batch, preset)
    (x, y), nets = batch.values(), players.nets
    f, b = nets.translate("u", "v", x), nets.translate("v", "u", y)
    want = (x @ x.mT - f @ f.mT).abs().mean() + (y @ y.mT - b @ b.mT).abs().mean()
    torch.testing.assert_close(found["vsp"], want[None] / 2)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
@pytest.mark.parametrize("kind", KINDS)
def test_each_side_trains_its_own_weights_alone(preset, kind):
    preset = small(preset, kind=kind)
    players, batch = setting(preset)
    flow = forward(players.nets, batch, preset.loss)
    judged = discriminator_losses(players, flow, preset)["discriminator"]
    judges = players.discriminators()
    if kind in ("mmd", "density"):
        assert not judges and judged.tolist() == [0] and not judged.requires_grad
    else:
        judged.sum().backward()
        assert len(grads(judges)) == len(judges)
        assert not grads(players.nets.parameters())
        players.zero_grad()
    generator_losses(players, flow, preset)["generator"].sum().backward()
    assert not grads(judges)
    assert len(grads(players.nets.parameters())) == len([*players.nets.parameters()])
    assert all(p.requires_grad for p in players.parameters())


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
@pytest.mark.parametrize("kind", ["least_squares", "relativistic", "mmd", "density"])
def test_the_gradient_is_finite_differences(preset, kind):
    # Games that look at real latents hold them fixed: not the gradient of one loss.
    latent = preset.game.latent if kind == "least_squares" else "none"
    preset = with_loss(small(preset, kind=kind, latent=latent), cycle_detached=False)
    players, batch = setting(preset, batch=5)
    for p in players.parameters():
        torch.nn.init.normal_(p, std=0.4, generator=torch.Generator().manual_seed(1))
    for loss in ("generator", "discriminator"):
        side = players.nets.parameters()
        side = [*side] if loss == "generator" else players.discriminators()
        moves = [torch.randn_like(p) for p in side]

        def value(by, loss=loss, side=side, moves=moves):
            with torch.no_grad():
                for p, move in zip(side, moves, strict=True):
                    p.add_(by * move)
                found = step_losses(players, batch, preset)[loss].item()
                for p, move in zip(side, moves, strict=True):
                    p.sub_(by * move)
            return found

        if side:
            players.zero_grad()
            step_losses(players, batch, preset)[loss].sum().backward()
            products = [p.grad * m for p, m in zip(side, moves, strict=True)]
            slope = sum(product.sum().item() for product in products)
            numeric = (value(1e-6) - value(-1e-6)) / 2e-6
            assert slope == pytest.approx(numeric, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_seeds_do_not_mix(preset):
    preset = small(preset, r1=0.5, r2=0.5)
    players, batch = setting(preset, seeds=3)
    found = step_losses(players, batch, preset)
    assert all(value.shape == (3,) for value in found.values())
    (found["generator"] + found["discriminator"])[0].backward()
    for name, p in players.named_parameters():
        of_seed = p.grad.unflatten(0, (3, -1))
        assert (of_seed[1:] == 0).all(), name
    assert any(p.grad[0].abs().max() > 0 for p in players.parameters())


def test_noise_never_reaches_the_targets():
    """The released code added it in place, and then rebuilt the noise."""
    preset = with_loss(small(RELEASED), noise=0.5)
    players, batch = setting(preset, batch=400)
    before = {name: x.clone() for name, x in batch.items()}
    flow = forward(players.nets, batch, preset.loss)
    clean = forward(players.nets, batch, RELEASED.loss)
    for name, x in before.items():
        assert torch.equal(batch[name], x) and flow.rows[name] is batch[name]
        assert not torch.allclose(flow.latents[name], clean.latents[name])
    found = generator_losses(players, flow, preset)["reconstruction"]
    want = [1 - (flow.rebuilt[name] * x).sum(-1).mean(-1) for name, x in before.items()]
    torch.testing.assert_close(found, sum(want) / 2)


def test_a_detached_cycle_spares_the_first_translation():
    for detached in (True, False):
        preset = with_loss(small(RELEASED), cycle_detached=detached)
        players, batch = setting(preset)
        flow = forward(players.nets, batch, preset.loss)
        first = flow.translated["u", "v"]
        loss = losses.cycle(flow.returned["u", "v"], batch["u"]).sum()
        (slope,) = torch.autograd.grad(loss, first, allow_unused=True)
        assert (slope is None) == detached


def test_a_zero_start_has_no_loss_but_the_game_on_one_space_turned():
    preset = small(SOUND)
    players, batch = setting(preset, widths=(6, 6))
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    players.nets.start_from("u", "v", turn)
    found = step_losses(players, batch, preset)
    assert "reconstruction" not in found  # its weight is 0: the work is skipped
    for term in ("cycle", "vsp"):
        assert found[term].item() == pytest.approx(0, abs=1e-12)
    assert found["generator"].item() == pytest.approx(found["output_game"].item())


def test_every_network_runs_once_for_all_losses():
    """Released: 4 encodings, 6 decodings, two at a time where a net has two to do; 3
    judges see two groups, then one."""
    preset = small(RELEASED)
    players, batch = setting(preset)
    calls = Counter()
    for name, module in players.named_modules():
        count = name in ("nets.backbone", "nets.outputs.0", "nets.outputs.1")
        if count or name.endswith("layers"):
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    step_losses(players, batch, preset)
    assert calls.pop("nets.backbone") == 2
    assert {calls.pop(f"nets.outputs.{i}") for i in range(2)} == {2}
    assert len(calls) == 3 and set(calls.values()) == {2}


def test_a_released_step_multiplies_no_more_than_it_must():
    """Products of one step: each layer forward, to its weight, and to its input unless
    the input is data or detached; frozen judges only to their input."""
    preset = small(RELEASED)
    players, batch = setting(preset, batch=50)

    def layers(module):
        weights = [p for p in module.parameters() if p.ndim == 3 and p.shape[1] > 1]
        return [2 * 50 * p.shape[1] * p.shape[2] for p in weights]

    nets = players.nets
    inputs, outputs = ([layers(m) for m in ms] for ms in (nets.inputs, nets.outputs))
    want = 0
    for adapter in inputs:  # on data, then on detached translations
        want += 2 * (3 * sum(adapter) - adapter[0])
    want += 4 * 3 * sum(layers(nets.backbone))
    want += 3 * 3 * sum(map(sum, outputs))
    for judge in (*players.outputs, *players.latents):
        each = layers(judge)
        want += 2 * (3 * sum(each) - each[0]) + 2 * sum(each)
    with FlopCounterMode(display=False) as counter:
        flow = forward(nets, batch, preset.loss)
        judged = discriminator_losses(players, flow, preset)["discriminator"]
        judged.sum().backward()
        fools = generator_losses(players, flow, preset)["generator"]
        fools.sum().backward()
    grams = 2 * 50 * 50 * (6 + 5)
    # Known; of what is rebuilt and returned: AA' with two gradients' products (they
    # are added before the product by autograd or after), AB' with one.
    most = grams * (1 + 2 * (3 + 2))
    found = counter.get_total_flops() - want
    assert 0 < found <= most


def test_a_weight_of_zero_skips_the_work():
    off = dict.fromkeys(
        ("reconstruction", "cycle", "vsp_weight", "vsp_reconstruction", "latent_game"),
        0.0,
    )
    preset = with_loss(small(RELEASED), **off)
    players, batch = setting(preset)
    assert len(players.latents) == 0
    flow = forward(players.nets, batch, preset.loss)
    assert not flow.rebuilt and not flow.returned
    found = generator_losses(players, flow, preset)
    assert found.keys() == {"output_game", "generator"}


def test_penalties_are_asked_for_only_with_a_weight(monkeypatch):
    players, batch = setting(small(RELEASED))
    plain = step_losses(players, batch, small(RELEASED))
    both = small(RELEASED, r1=2.0, r2=2.0)
    found = step_losses(players, batch, both)
    assert "penalty" not in plain and found["penalty"].item() > 0
    want = plain["discriminator"] + found["penalty"]
    torch.testing.assert_close(found["discriminator"], want)
    one = step_losses(players, batch, small(RELEASED, r1=2.0))["penalty"]
    other = step_losses(players, batch, small(RELEASED, r2=2.0))["penalty"]
    torch.testing.assert_close(one + other, found["penalty"])

    def never(*args, **kwargs):
        raise AssertionError("a gradient was asked for")

    monkeypatch.setattr(torch.autograd, "grad", never)
    step_losses(players, batch, small(RELEASED))


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_three_spaces_average_what_two_have(preset):
    preset = small(preset, kind="relativistic")
    players, batch = setting(preset, widths=(6, 5, 4))
    found = step_losses(players, batch, preset)
    assert torch.stack(list(found.values())).isfinite().all()
    flow = forward(players.nets, batch, preset.loss)
    assert len(flow.translated) == 6
    size = {"both": 3, "one": 1, "none": 0}[preset.game.latent]
    assert len(players.latents) == size and len(players.outputs) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_game_turns_a_cloud_back(kind):
    """A skewed cloud turned by 20 degrees, no point in common: most of five seeds find
    the way back."""
    preset = small(SOUND, kind=kind, members=1)
    g = torch.Generator().manual_seed(0)
    players = Players({"u": 3, "v": 3}, preset, 5, g)
    players.nets.start_from("u", "v", torch.eye(3))
    c, s = 0.9397, 0.3420
    turn = torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1]])

    def draw(n):
        z = torch.randn(5, n, 3, generator=g) * torch.tensor([0.2, 0.6, 0.3])
        return F.normalize(z + torch.tensor([1.0, 0.3, 0.2]), dim=-1)

    test, rates = draw(500), {"lr": 3e-3, "betas": (0.5, 0.999)}
    ours = torch.optim.Adam(players.nets.parameters(), **rates)
    theirs = torch.optim.Adam([*players.discriminators(), torch.zeros(1)], **rates)
    for _ in range(200):
        batch = {"u": draw(64), "v": draw(64) @ turn}
        flow = forward(players.nets, batch, preset.loss)
        judged = discriminator_losses(players, flow, preset)["discriminator"].sum()
        if judged.requires_grad:
            theirs.zero_grad()
            judged.backward()
            theirs.step()
        ours.zero_grad()
        generator_losses(players, flow, preset)["generator"].sum().backward()
        ours.step()
    with torch.no_grad():
        found = players.nets.translate("u", "v", test)
    before, after = (1 - (z * (test @ turn)).sum(-1).mean(-1) for z in (test, found))
    assert after.median() < 0.25 * before.median()


def test_a_batch_in_another_order_is_refused():
    preset = small(RELEASED)
    players, batch = setting(preset)
    with pytest.raises(DataError, match="in this order"):
        forward(players.nets, dict(reversed(batch.items())), preset.loss)


@pytest.mark.parametrize("form", ["printed", "released", "sound"])
def test_preservation_of_some_rows_is_that_of_a_smaller_batch(form):
    preset = with_loss(small(RELEASED), vsp=form, vsp_rows=4)
    players, batch = setting(preset)
    players.eval()  # batch norm would see another batch
    found = generator_losses(players, forward(players.nets, batch, preset.loss), preset)
    few = {name: rows[:, :4] for name, rows in batch.items()}
    whole = with_loss(preset, vsp_rows=0)
    want = generator_losses(players, forward(players.nets, few, whole.loss), whole)
    for name in ("vsp", "vsp_reconstruction"):
        assert torch.allclose(found[name], want[name])
    assert not torch.allclose(found["generator"], want["generator"])
