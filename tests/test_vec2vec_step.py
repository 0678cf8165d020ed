"""A step put together: who gets gradients, what is computed once, and the totals."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from v2v_lite.spaces import DataError
from v2v_lite.spaces.files import ConfigError
from v2v_lite.vec2vec import (
    GAMES,
    OURS,
    PAPER,
    PRESETS,
    RELEASED,
    VSP,
    AdversarialConfig,
    Game,
    Networks,
    VspForm,
    discriminator_losses,
    forward,
    generator_losses,
    losses,
    step_losses,
    train_step,
)

KINDS = ["least_squares", "vanilla", "relativistic", "hinge", "mmd", "density"]


def small(preset, **game):
    """The preset with little nets and no dropout."""
    net = replace(preset.net, hidden_dim=9, latent_dim=8, dropout=0.0)
    adversarial = replace(preset.adversarial, hidden_dim=6, **game)
    return replace(preset, net=net, adversarial=adversarial)


def with_loss(preset, **values):
    return replace(preset, loss=replace(preset.loss, **values))


def setting(preset, seeds=1, batch_size=7, widths=(6, 5)):
    g = torch.Generator().manual_seed(0)
    names = dict(zip("uvw", widths, strict=False))
    networks = Networks(names, preset, seeds, g).double()
    rows = {
        name: F.normalize(
            torch.randn(seeds, batch_size, d, generator=g, dtype=torch.float64), dim=-1
        )
        for name, d in names.items()
    }
    return networks, rows


def grads(parameters):
    return [p.grad for p in parameters if p.grad is not None]


def test_the_released_total_by_hand():
    preset = small(RELEASED)
    networks, batch = setting(preset)
    found = step_losses(networks, batch, preset)
    nets, (u, k) = networks.nets, batch.values()  # unknown and known
    z_u, z_k = nets.encode("u", u), nets.encode("v", k)
    t_u, t_k = nets.decode("v", z_u), nets.decode("u", z_k)
    c_u, c_k = nets.translate("v", "u", t_u), nets.translate("u", "v", t_k)
    r_u, r_k = nets.decode("u", z_u), nets.decode("v", z_k)

    def far(a, b):
        return 1 - F.cosine_similarity(a, b, dim=-1).mean()

    def vsp(a, b):
        k = b @ b.mT
        return (k - a @ a.mT).abs().mean() + (k - a @ b.mT).abs().mean()

    d_u, d_k, d_z = networks.discriminators()
    want = {
        "reconstruction": (far(r_u, u) + far(r_k, k)) / 2,
        "cycle": (far(c_u, u) + far(c_k, k)) / 2,
        "vsp_reconstruction": (vsp(r_u, u) + vsp(r_k, k)) / 2,
        "vsp": (vsp(c_u, u) + vsp(c_k, k)) / 2,
        "adv": 0.5 * (d_u(t_k) ** 2).mean() + 0.5 * (d_k(t_u) ** 2).mean(),
        "latent_adv": 0.5 * (d_z(z_u) ** 2).mean(),
        "adv_d": 0.5 * (d_u(u) ** 2 + (d_u(t_k) - 1) ** 2).mean()
        + 0.5 * (d_k(k) ** 2 + (d_k(t_u) - 1) ** 2).mean(),
        "latent_adv_d": 0.5 * (d_z(z_k) ** 2 + (d_z(z_u) - 1) ** 2).mean(),
    }
    w = dict(cycle=10, vsp=10)
    generator = [k for k in want if not k.endswith("_d")]
    want["generator"] = sum(w.get(k, 1) * want[k] for k in generator)
    want["discriminator"] = want["adv_d"] + want["latent_adv_d"]
    assert found.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(found[name], value[None], msg=name)


def test_the_released_numbers_by_hand():
    """Numbers worked out on paper, no code: the nets swap a vector's two coordinates
    on the way out to v, and every discriminator says 1/2 of everything."""
    net = replace(
        RELEASED.net, latent_dim=2, hidden_dim=3, backbone_depth=1, dropout=0.0,
        linear_adapters=True, identity_backbone=True,
    )  # fmt: skip
    adversarial = replace(RELEASED.adversarial, hidden_dim=3, depth=2)
    preset = replace(RELEASED, net=net, adversarial=adversarial)
    g = torch.Generator().manual_seed(0)
    networks = Networks({"u": 2, "v": 2}, preset, 1, g).double()
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    maps = networks.nets.inputs[0], networks.nets.inputs[1], *networks.nets.outputs
    with torch.no_grad():
        for layer, value in zip(maps, (swap @ swap, swap @ swap, swap @ swap, swap)):  # noqa: B905
            layer.weight.copy_(value[None])
        for discriminator in networks.discriminators():
            for weight in discriminator.parameters():
                weight.zero_()
            discriminator.layers[-1].bias.fill_(0.5)
    batch = {
        "u": torch.tensor([[[1, 0], [0, 1]]], dtype=torch.float64),
        "v": torch.tensor([[[0.6, 0.8], [0.8, 0.6]]], dtype=torch.float64),
    }
    found = step_losses(networks, batch, preset)
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
        "adv": 2 * 0.5 * 0.25,
        "latent_adv": 0.5 * 0.25,
        "adv_d": 2 * 0.5 * (0.25 + 0.25),
        "latent_adv_d": 0.5 * (0.25 + 0.25),
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
    preset = with_loss(small(preset), cycle_stop_gradient=False, input_noise=0.0)
    networks, batch = setting(preset)
    mine = networks.nets.parameters() if side == "generator" else None
    weights = list(mine or networks.discriminator_parameters())
    if not weights:  # the density game has no weights to train
        assert preset.adversarial.game == "density" and side == "discriminator"
        return
    g = torch.Generator().manual_seed(3)
    moves = [torch.randn(w.shape, generator=g, dtype=w.dtype) for w in weights]

    def loss():
        return step_losses(networks, batch, preset)[side].sum()

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


def test_the_paper_total_by_hand():
    preset = small(PAPER)
    networks, batch = setting(preset)
    found = step_losses(networks, batch, preset)
    nets, (x, y) = networks.nets, batch.values()
    z = {"u": nets.encode("u", x), "v": nets.encode("v", y)}
    f1, f2 = nets.decode("v", z["u"]), nets.decode("u", z["v"])

    def far(a, b):
        return (a - b).square().sum(-1).mean()

    def gap(a, b):
        return (a @ a.mT - b @ b.mT).square().mean()

    d1, d2, l1, l2 = networks.discriminators()
    logits = d1(f2), d2(f1), l1(z["v"]), l2(z["u"])
    fools = [-torch.log(1 - torch.sigmoid(v)).mean() for v in logits]
    want = (
        far(nets.decode("u", z["u"]), x) + far(nets.decode("v", z["v"]), y)
        + far(nets.translate("v", "u", f1), x) + far(nets.translate("u", "v", f2), y)
        + gap(x, f2) + gap(y, f1) + sum(fools)
    )  # fmt: skip
    torch.testing.assert_close(found["generator"], want[None])


def test_ours_compares_a_batch_with_its_own_translation():
    preset = small(OURS)
    networks, batch = setting(preset)
    networks.nets.init_from_map("u", "v", torch.randn(6, 5).double())
    found = step_losses(networks, batch, preset)
    (x, y), nets = batch.values(), networks.nets
    f, b = nets.translate("u", "v", x), nets.translate("v", "u", y)
    want = (x @ x.mT - f @ f.mT).abs().mean() + (y @ y.mT - b @ b.mT).abs().mean()
    torch.testing.assert_close(found["vsp"], want[None] / 2)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
@pytest.mark.parametrize("kind", KINDS)
def test_each_side_trains_its_own_weights_alone(preset, kind):
    preset = small(preset, game=kind)
    networks, batch = setting(preset)
    output = forward(networks.nets, batch, preset.loss)
    d_losses = discriminator_losses(networks, output, preset)["discriminator"]
    discriminators = networks.discriminator_parameters()
    if kind in ("mmd", "density"):
        assert not discriminators and not d_losses.requires_grad
        assert d_losses.tolist() == [0]
    else:
        d_losses.sum().backward()
        assert len(grads(discriminators)) == len(discriminators)
        assert not grads(networks.nets.parameters())
        networks.zero_grad()
    generator_losses(networks, output, preset)["generator"].sum().backward()
    assert not grads(discriminators)
    assert len(grads(networks.nets.parameters())) == len([*networks.nets.parameters()])
    assert all(p.requires_grad for p in networks.parameters())


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
@pytest.mark.parametrize("kind", ["least_squares", "relativistic", "mmd", "density"])
def test_the_gradient_is_finite_differences(preset, kind):
    # Games that look at real latents hold them fixed: not the gradient of one loss.
    latent = preset.adversarial.latent if kind == "least_squares" else "none"
    preset = with_loss(
        small(preset, game=kind, latent=latent), cycle_stop_gradient=False
    )
    networks, batch = setting(preset, batch_size=5)
    for p in networks.parameters():
        torch.nn.init.normal_(p, std=0.4, generator=torch.Generator().manual_seed(1))
    for loss in ("generator", "discriminator"):
        side = networks.nets.parameters()
        d = networks.discriminator_parameters()
        side = [*side] if loss == "generator" else d
        moves = [torch.randn_like(p) for p in side]

        def value(by, loss=loss, side=side, moves=moves):
            with torch.no_grad():
                for p, move in zip(side, moves, strict=True):
                    p.add_(by * move)
                found = step_losses(networks, batch, preset)[loss].item()
                for p, move in zip(side, moves, strict=True):
                    p.sub_(by * move)
            return found

        if side:
            networks.zero_grad()
            step_losses(networks, batch, preset)[loss].sum().backward()
            products = [p.grad * m for p, m in zip(side, moves, strict=True)]
            slope = sum(product.sum().item() for product in products)
            numeric = (value(1e-6) - value(-1e-6)) / 2e-6
            assert slope == pytest.approx(numeric, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_seeds_do_not_mix(preset):
    preset = small(preset, r1=0.5, r2=0.5)
    networks, batch = setting(preset, seeds=3)
    found = step_losses(networks, batch, preset)
    assert all(value.shape == (3,) for value in found.values())
    (found["generator"] + found["discriminator"])[0].backward()
    for name, p in networks.named_parameters():
        of_seed = p.grad.unflatten(0, (3, -1))
        assert (of_seed[1:] == 0).all(), name
    assert any(p.grad[0].abs().max() > 0 for p in networks.parameters())


def test_noise_never_reaches_the_targets():
    """The released code added it in place, and then rebuilt the noise."""
    preset = with_loss(small(RELEASED), input_noise=0.5)
    networks, batch = setting(preset, batch_size=400)
    before = {name: x.clone() for name, x in batch.items()}
    output = forward(networks.nets, batch, preset.loss)
    clean = forward(networks.nets, batch, RELEASED.loss)
    for name, x in before.items():
        assert torch.equal(batch[name], x) and output.rows[name] is batch[name]
        assert not torch.allclose(output.latents[name], clean.latents[name])
    found = generator_losses(networks, output, preset)["reconstruction"]
    rebuilt = output.reconstructions
    want = [1 - (rebuilt[name] * x).sum(-1).mean(-1) for name, x in before.items()]
    torch.testing.assert_close(found, sum(want) / 2)


def test_a_detached_cycle_spares_the_first_translation():
    for detached in (True, False):
        preset = with_loss(small(RELEASED), cycle_stop_gradient=detached)
        networks, batch = setting(preset)
        output = forward(networks.nets, batch, preset.loss)
        first = output.translations["u", "v"]
        loss = losses.cycle(output.round_trips["u", "v"], batch["u"]).sum()
        (slope,) = torch.autograd.grad(loss, first, allow_unused=True)
        assert (slope is None) == detached


def test_a_zero_start_has_no_loss_but_the_game_on_one_space_turned():
    preset = small(OURS)
    networks, batch = setting(preset, widths=(6, 6))
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    networks.nets.init_from_map("u", "v", turn)
    found = step_losses(networks, batch, preset)
    assert "reconstruction" not in found  # its weight is 0: the work is skipped
    for term in ("cycle", "vsp"):
        assert found[term].item() == pytest.approx(0, abs=1e-12)
    assert found["generator"].item() == pytest.approx(found["adv"].item())


def test_every_network_runs_once_for_all_losses():
    """Released: 4 encodings, 6 decodings, two at a time where a net has two to do; 3
    discriminators see two groups, then one."""
    preset = small(RELEASED)
    networks, batch = setting(preset)
    calls = Counter()
    for name, module in networks.named_modules():
        count = name in ("nets.backbone", "nets.outputs.0", "nets.outputs.1")
        if count or name.endswith("layers"):
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    step_losses(networks, batch, preset)
    assert calls.pop("nets.backbone") == 2
    assert {calls.pop(f"nets.outputs.{i}") for i in range(2)} == {2}
    assert len(calls) == 3 and set(calls.values()) == {2}


def test_a_released_step_multiplies_no_more_than_it_must():
    """Products of one step: each layer forward, to its weight, and to its input unless
    the input is data or detached; frozen discriminators only to their input."""
    preset = small(RELEASED)
    networks, batch = setting(preset, batch_size=50)

    def layers(module):
        weights = [p for p in module.parameters() if p.ndim == 3 and p.shape[1] > 1]
        return [2 * 50 * p.shape[1] * p.shape[2] for p in weights]

    nets = networks.nets
    inputs, outputs = ([layers(m) for m in ms] for ms in (nets.inputs, nets.outputs))
    want = 0
    for adapter in inputs:  # on data, then on detached translations
        want += 2 * (3 * sum(adapter) - adapter[0])
    want += 4 * 3 * sum(layers(nets.backbone))
    want += 3 * 3 * sum(map(sum, outputs))
    for discriminator in networks.discriminators():
        each = layers(discriminator)
        want += 2 * (3 * sum(each) - each[0]) + 2 * sum(each)
    with FlopCounterMode(display=False) as counter:
        output = forward(nets, batch, preset.loss)
        d_losses = discriminator_losses(networks, output, preset)["discriminator"]
        d_losses.sum().backward()
        fools = generator_losses(networks, output, preset)["generator"]
        fools.sum().backward()
    grams = 2 * 50 * 50 * (6 + 5)
    # Known; of what is rebuilt and returned: AA' with two gradients' products (they
    # are added before the product by autograd or after), AB' with one.
    most = grams * (1 + 2 * (3 + 2))
    found = counter.get_total_flops() - want
    assert 0 < found <= most


def test_a_weight_of_zero_skips_the_work():
    off = dict.fromkeys(
        (
            "reconstruction_weight",
            "cycle_weight",
            "vsp_weight",
            "vsp_reconstruction_weight",
            "latent_adv_weight",
        ),
        0.0,
    )
    preset = with_loss(small(RELEASED), **off)
    networks, batch = setting(preset)
    assert len(networks.latent_discriminators) == 0
    output = forward(networks.nets, batch, preset.loss)
    assert not output.reconstructions and not output.round_trips
    found = generator_losses(networks, output, preset)
    assert found.keys() == {"adv", "generator"}


def test_penalties_are_asked_for_only_with_a_weight(monkeypatch):
    networks, batch = setting(small(RELEASED))
    plain = step_losses(networks, batch, small(RELEASED))
    both = small(RELEASED, r1=2.0, r2=2.0)
    found = step_losses(networks, batch, both)
    assert "gradient_penalty" not in plain and found["gradient_penalty"].item() > 0
    want = plain["discriminator"] + found["gradient_penalty"]
    torch.testing.assert_close(found["discriminator"], want)
    one = step_losses(networks, batch, small(RELEASED, r1=2.0))["gradient_penalty"]
    other = step_losses(networks, batch, small(RELEASED, r2=2.0))["gradient_penalty"]
    torch.testing.assert_close(one + other, found["gradient_penalty"])

    def never(*args, **kwargs):
        raise AssertionError("a gradient was asked for")

    monkeypatch.setattr(torch.autograd, "grad", never)
    step_losses(networks, batch, small(RELEASED))


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_three_spaces_average_what_two_have(preset):
    preset = small(preset, game="relativistic")
    networks, batch = setting(preset, widths=(6, 5, 4))
    found = step_losses(networks, batch, preset)
    assert torch.stack(list(found.values())).isfinite().all()
    output = forward(networks.nets, batch, preset.loss)
    assert len(output.translations) == 6
    size = {"both": 3, "one": 1, "none": 0}[preset.adversarial.latent]
    assert len(networks.latent_discriminators) == size
    assert len(networks.output_discriminators) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_game_turns_a_cloud_back(kind):
    """A skewed cloud turned by 20 degrees, no point in common: most of five seeds find
    the way back."""
    preset = small(OURS, game=kind, ensemble_size=1)
    g = torch.Generator().manual_seed(0)
    networks = Networks({"u": 3, "v": 3}, preset, 5, g)
    networks.nets.init_from_map("u", "v", torch.eye(3))
    c, s = 0.9397, 0.3420
    turn = torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1]])

    def draw(n):
        z = torch.randn(5, n, 3, generator=g) * torch.tensor([0.2, 0.6, 0.3])
        return F.normalize(z + torch.tensor([1.0, 0.3, 0.2]), dim=-1)

    test, rates = draw(500), {"lr": 3e-3, "betas": (0.5, 0.999)}
    ours = torch.optim.Adam(networks.nets.parameters(), **rates)
    theirs = [*networks.discriminator_parameters(), torch.zeros(1)]
    theirs = torch.optim.Adam(theirs, **rates)
    for _ in range(200):
        batch = {"u": draw(64), "v": draw(64) @ turn}
        output = forward(networks.nets, batch, preset.loss)
        d_losses = discriminator_losses(networks, output, preset)["discriminator"].sum()
        if d_losses.requires_grad:
            theirs.zero_grad()
            d_losses.backward()
            theirs.step()
        ours.zero_grad()
        generator_losses(networks, output, preset)["generator"].sum().backward()
        ours.step()
    with torch.no_grad():
        found = networks.nets.translate("u", "v", test)
    before, after = (1 - (z * (test @ turn)).sum(-1).mean(-1) for z in (test, found))
    assert after.median() < 0.25 * before.median()


def test_a_batch_in_another_order_is_refused():
    preset = small(RELEASED)
    networks, batch = setting(preset)
    with pytest.raises(DataError, match="in this order"):
        forward(networks.nets, dict(reversed(batch.items())), preset.loss)


@pytest.mark.parametrize("form", ["paper", "released", "self"])
def test_preservation_of_some_rows_is_that_of_a_smaller_batch(form):
    preset = with_loss(small(RELEASED), vsp=form, vsp_rows=4)
    networks, batch = setting(preset)
    networks.eval()  # batch norm would see another batch
    found = generator_losses(
        networks, forward(networks.nets, batch, preset.loss), preset
    )
    few = {name: rows[:, :4] for name, rows in batch.items()}
    whole = with_loss(preset, vsp_rows=0)
    want = generator_losses(networks, forward(networks.nets, few, whole.loss), whole)
    for name in ("vsp", "vsp_reconstruction"):
        assert torch.allclose(found[name], want[name])
    assert not torch.allclose(found["generator"], want["generator"])


# ---- the update, and what users add


def plain_optimisers(networks, lr=1e-2):
    weights = networks.discriminator_parameters()
    found = {"nets": torch.optim.Adam(networks.nets.parameters(), lr)}
    if weights:
        found["discriminators"] = torch.optim.Adam(weights, lr)
    return found


@pytest.mark.parametrize("preset", [PAPER, RELEASED])
def test_a_step_updates_discriminators_then_the_nets_against_them(preset):
    preset = small(preset)
    networks, batch = setting(preset, seeds=2)
    twin, _ = setting(preset, seeds=2)
    losses_ = train_step(networks, plain_optimisers(networks), batch, preset)
    optimisers = plain_optimisers(twin)
    output = forward(twin.nets, batch, preset.loss)
    want = discriminator_losses(twin, output, preset)
    want["discriminator"].sum().backward()
    optimisers["discriminators"].step()
    new = generator_losses(twin, output, preset)
    new["generator"].sum().backward()
    optimisers["nets"].step()
    for name, value in (want | new).items():
        assert torch.equal(losses_[name], value.detach())
    both = networks.state_dict().values(), twin.state_dict().values()
    assert all(map(torch.equal, *both))
    assert all(p.grad is None for p in networks.parameters())


def test_the_plain_engine_clips_each_seed():
    preset = small(RELEASED)
    clipped = replace(preset, optim=replace(preset.optim, grad_clip=1e-3))
    networks, batch = setting(preset, seeds=2)
    before = [p.detach().clone() for p in networks.nets.parameters()]
    sgd = {"nets": torch.optim.SGD(networks.nets.parameters(), 1.0)}
    train_step(networks, sgd, batch, clipped)
    moves = zip(networks.nets.parameters(), before, strict=True)
    squares = sum((p - b).flatten(1).square().sum(1) for p, b in moves)
    torch.testing.assert_close(squares.sqrt(), torch.full((2,), 1e-3).double())


def test_a_users_own_game_trains_like_the_others(monkeypatch):
    """One line of Python, then a name; here the hinge loss written anew."""
    mine = Game(
        d_loss=lambda real, fake: (F.relu(1 + real) + F.relu(1 - fake)).mean(-1),
        g_loss=lambda fake: fake.mean(-1),
    )
    with pytest.raises(ConfigError, match="'mine'; choose one of least_squares, van"):
        AdversarialConfig(game="mine")
    monkeypatch.setitem(GAMES, "mine", mine)
    found = []
    for game in ("mine", "hinge"):
        preset = small(RELEASED, game=game)
        networks, batch = setting(preset)
        optimisers = plain_optimisers(networks)
        for _ in range(3):
            losses_ = train_step(networks, optimisers, batch, preset)
        found.append((losses_, networks.state_dict()))
    for key, value in found[0][1].items():
        assert torch.equal(value, found[1][1][key]), key
    assert found[0][0]["adv"].item() == found[1][0]["adv"].item()


def test_a_users_own_games_may_need_real_logits_or_no_discriminator(monkeypatch):
    averaged = Game(
        d_loss=lambda r, f: F.softplus(r - f.mean(-1, keepdim=True)).mean(-1),
        g_loss=lambda f, r: F.softplus(f - r.mean(-1, keepdim=True)).mean(-1),
        needs_real=True,
    )
    moments = Game(None, lambda fake, real: (fake.mean(1) - real.mean(1)).norm(dim=-1))
    for game in (averaged, moments):
        monkeypatch.setitem(GAMES, "mine", game)
        preset = small(RELEASED, game="mine")
        networks, batch = setting(preset)
        found = train_step(networks, plain_optimisers(networks), batch, preset)
        assert found["adv"].isfinite().all()
        assert bool(networks.discriminators()) == (game.d_loss is not None)
        assert ("adv_d" in found) == (game.d_loss is not None)


@pytest.mark.parametrize("rows", ["translations", "round trips"])
@pytest.mark.parametrize("real", ["own", "target"])
def test_a_users_own_vsp_form_compares_the_rows_it_names(rows, real, monkeypatch):
    seen = []

    def largest(made, of, gram):
        seen.append((made, of))
        torch.testing.assert_close(gram, of @ of.mT)
        return (made @ made.mT - gram).abs().amax((-2, -1))

    with pytest.raises(ConfigError, match="'mine'; choose one of paper, rel"):
        with_loss(RELEASED, vsp="mine")
    monkeypatch.setitem(VSP, "mine", VspForm(largest, rows, real))
    preset = with_loss(small(RELEASED), vsp="mine", vsp_reconstruction_weight=0.0)
    networks, batch = setting(preset, widths=(6, 6))
    output = forward(networks.nets, batch, preset.loss)
    found = generator_losses(networks, output, preset)["vsp"]
    made = output.translations if rows == "translations" else output.round_trips
    for (pair, one), (got, of) in zip(made.items(), seen, strict=True):
        assert torch.equal(got, one)
        assert torch.equal(of, batch[pair[1] if real == "target" else pair[0]])
    want = [largest(*args, args[1] @ args[1].mT) for args in seen[:2]]
    torch.testing.assert_close(found, sum(want) / 2)
