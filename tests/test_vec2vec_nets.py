"""The translator against torch's own layers, the paper's counts, and closed forms."""

from dataclasses import replace

import pytest
import torch
from problems import generator
from torch import nn

from v2v_lite.spaces import DataError
from v2v_lite.vec2vec import OURS, PAPER, RELEASED, NetConfig, Nets, Networks
from v2v_lite.vec2vec.layers import SeedBatchNorm, SeedLayerNorm, SeedLinear

SMALL = NetConfig(latent_dim=9, hidden_dim=12, dropout=0.0)
LINEAR = replace(OURS.net, hidden_dim=10)


def rows(seeds, batch, width, seed=1):
    x = torch.randn(seeds, batch, width, generator=generator(seed), dtype=torch.float64)
    return nn.functional.normalize(x, dim=-1)


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("width, total", [(768, 21_004_800), (512, 20_480_256)])
def test_parameters_are_those_of_the_released_code(width, total):
    nets = Nets({"a": 768, "b": width}, RELEASED.net, 1, generator())
    assert count(nets) == total
    assert count(nets.inputs[0]) == 3_938_304
    assert count(nets.backbone) == 5_252_096
    assert count(nets.outputs[0]) == 3_938_048


def test_linear_is_torchs_linear_for_each_seed():
    layer, x = SeedLinear(3, 5, 4, generator()).double(), rows(3, 6, 5)
    nn.init.normal_(layer.bias)
    for s in range(3):
        want = nn.functional.linear(x[s], layer.weight[s].T, layer.bias[s, 0])
        torch.testing.assert_close(layer(x)[s], want)


def test_batch_norm_is_torchs_for_each_seed_in_training_and_after():
    ours = SeedBatchNorm(2, 5).double()
    theirs = [nn.BatchNorm1d(5).double() for _ in range(2)]
    with torch.no_grad():
        for s, norm in enumerate(theirs):
            norm.weight.normal_()
            ours.weight[s] = norm.weight
    for number in range(3):
        x = rows(2, 8, 5, seed=number)
        want = torch.stack([norm(x[s]) for s, norm in enumerate(theirs)])
        torch.testing.assert_close(ours(x), want)
    ours.eval()
    want = torch.stack([norm.eval()(x[s]) for s, norm in enumerate(theirs)])
    torch.testing.assert_close(ours(x), want)


def test_batch_norm_begins_near_one_and_zero_where_the_preset_says_so():
    """The released code draws gains from N(1, .02^2) and biases from N(0, .02^2)."""
    config = replace(RELEASED.net, latent_dim=8, hidden_dim=4000)
    widths = {"a": 8, "b": 8}
    nets, same = (Nets(widths, config, 2, generator(4)) for _ in "12")
    norm = nets.inputs[0][1].norm
    assert norm.weight.mean().item() == pytest.approx(1.0, abs=0.001)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert norm.bias.mean().item() == pytest.approx(0.0, abs=0.001)
    assert norm.bias.std().item() == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(norm.weight[0], norm.weight[1])
    assert torch.equal(norm.weight, same.inputs[0][1].norm.weight)
    plain = Nets(widths, replace(config, norm_init_std=0.0), 2, generator(4))
    norm = plain.inputs[0][1].norm
    assert (norm.weight == 1).all() and (norm.bias == 0).all()


def test_every_discriminator_of_the_released_code_begins_kaiming_normal():
    """All three: the known space's has no settings of its own there, but the same
    default (the released code's `Discriminator`)."""
    game = replace(RELEASED.adversarial, hidden_dim=500)
    net = replace(RELEASED.net, hidden_dim=8, latent_dim=300)
    preset = replace(RELEASED, net=net, adversarial=game)
    found = Networks({"u": 300, "k": 300}, preset, 1, generator()).discriminators()
    assert len(found) == 3
    for discriminator in found:
        linear = [m for m in discriminator.layers if isinstance(m, SeedLinear)]
        assert len(linear) == 5
        for layer in linear[:4]:
            d_in = layer.weight.shape[1]
            assert layer.weight.std().item() == pytest.approx(
                (2 / d_in) ** 0.5, rel=0.02
            )
        assert all((layer.bias == 0).all() for layer in linear)


def test_the_papers_nets_have_torchs_layer_norm_in_the_middle_blocks():
    """Also where batches go together; and no row sees another."""
    config = replace(PAPER.net, latent_dim=9, hidden_dim=12, dropout=0.0)
    nets = Nets({"a": 7, "b": 5}, config, 2, generator()).double()
    with torch.no_grad():
        for p in nets.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator(2)))
    x = rows(2, 6, 7)
    for s in range(2):
        h = x[s]
        for number, block in enumerate((*nets.inputs[0], *nets.backbone)):
            depth = number if number < 3 else number - 3
            linear, norm, last = block.linear, block.norm, block.last
            out = h @ linear.weight[s] + linear.bias[s]
            out = nn.functional.silu(out)
            assert (norm is not None) == (depth > 0 and last is None)
            if norm is not None:
                out = nn.functional.layer_norm(
                    out, (12,), norm.weight[s, 0], norm.bias[s, 0]
                )
            if last is not None:
                out = out @ last.weight[s] + last.bias[s]
            h = out + padded(h, out.shape[1])
        torch.testing.assert_close(nets.encode("a", x)[s], h)
    single = torch.cat([nets.encode("a", row) for row in x.split(1, dim=1)], dim=1)
    torch.testing.assert_close(nets.encode("a", x), single)


def test_layer_norm_is_torchs_for_each_seed():
    ours, x = SeedLayerNorm(2, 5).double(), rows(2, 8, 5)
    with torch.no_grad():
        ours.weight.normal_()
        ours.bias.normal_()
    for s in range(2):
        want = nn.functional.layer_norm(x[s], (5,), ours.weight[s, 0], ours.bias[s, 0])
        torch.testing.assert_close(ours(x)[s], want)


def plain(layer, x):
    return x @ layer.weight[0] + layer.bias[0]


def padded(x, width):
    wide = torch.zeros(len(x), max(width, x.shape[1]), dtype=x.dtype)
    wide[:, : x.shape[1]] = x
    return wide[:, :width]


def by_hand(blocks, x):
    """The table of the architecture, without dropout, for one seed in training."""
    silu = nn.SiLU()
    for number, block in enumerate(blocks):
        h = plain(block.linear, x)
        if number == len(blocks) - 1:
            h = plain(block.last, silu(h))
        else:
            h = silu(h)
            if number:
                h = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()
        x = h + padded(x, h.shape[1])
    return x


def test_the_network_is_the_table_of_the_architecture():
    nets = Nets({"a": 7, "b": 15}, SMALL, 1, generator()).double()
    x = rows(1, 6, 15)
    z = by_hand(nets.backbone, by_hand(nets.inputs[1], x[0]))
    torch.testing.assert_close(nets.encode("b", x)[0], z)
    y = by_hand(nets.outputs[0], z)
    want = y / y.norm(dim=1, keepdim=True)
    torch.testing.assert_close(nets.translate("b", "a", x)[0], want)


def test_weights_are_kaiming_normal_with_zero_bias_and_seeded():
    layer, same = (SeedLinear(2, 300, 400, generator(3)) for _ in range(2))
    assert layer.weight.std().item() == pytest.approx((2 / 300) ** 0.5, rel=0.01)
    assert layer.weight.mean().abs() < 1e-3 and (layer.bias == 0).all()
    assert torch.equal(layer.weight, same.weight)
    assert not torch.equal(layer.weight[0], layer.weight[1])


def test_batches_that_go_together_are_batches_that_go_alone():
    """Also in training: statistics, and their running means, batch by batch."""
    config = replace(SMALL, backbone_depth=4)
    pair = [Nets({"a": 7, "b": 5}, config, 2, generator()).double() for _ in "12"]
    x, y, z = rows(2, 6, 7), rows(2, 6, 5), rows(2, 6, 7, seed=2)
    together = pair[0].encode_all([("a", x), ("b", y), ("a", z)])
    alone = [pair[1].encode("a", x), pair[1].encode("b", y), pair[1].encode("a", z)]
    for k in range(3):
        torch.testing.assert_close(together[:, k], alone[k])
    out = pair[0].decode("b", together)
    for k in range(3):
        torch.testing.assert_close(out[:, k], pair[1].decode("b", alone[k]))
    one, two = (nets.state_dict() for nets in pair)
    for key in one:
        torch.testing.assert_close(one[key], two[key])


def test_dropout_drops_its_share_in_training_alone_and_follows_the_default_generator():
    nets = Nets({"a": 40, "b": 40}, replace(SMALL, dropout=0.25), 2, generator())
    block, x = nets.inputs[0][1], torch.ones(2, 500, 12)
    block.norm, block.skip = None, False
    dropped = (block(x) == 0).float().mean().item()
    assert dropped == pytest.approx(0.25, abs=0.02)
    h = rows(2, 50, 12).requires_grad_()  # what is kept grows, and so does its gradient
    out = block._drop(h)
    kept = out != 0
    torch.testing.assert_close(out, torch.where(kept, h / 0.75, 0.0))
    out.sum().backward()
    torch.testing.assert_close(h.grad, kept.double() / 0.75)
    x = rows(2, 8, 40).float()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        one, other = nets.encode("a", x), nets.encode("a", x)
        torch.manual_seed(5)
        again = nets.encode("a", x)
    assert torch.equal(one, again) and not torch.equal(one, other)
    nets.eval()
    assert torch.equal(nets.encode("a", x), nets.encode("a", x))


@pytest.mark.parametrize("config", [replace(SMALL, dropout=0.1), LINEAR])
def test_seeds_do_not_mix(config):
    nets = Nets({"a": 8, "b": 6}, config, 2, generator()).double()
    for p in nets.parameters():  # also what starts at zero must count
        nn.init.normal_(p, std=0.5)
    y = nets.translate("a", "b", rows(2, 7, 8))
    y[0].square().sum().backward()  # constant for unit rows, but for its rounding
    weights = torch.randn(7, 6, dtype=torch.float64)
    nets.zero_grad()
    (nets.translate("a", "b", rows(2, 7, 8))[0] * weights).sum().backward()
    used = [p.grad for p in nets.parameters() if p.grad is not None]
    assert len(used) > 4 and all((grad[1] == 0).all() for grad in used)
    assert any((grad[0] != 0).any() for grad in used)


def test_translations_are_unit_rows_also_in_half_precision():
    nets = Nets({"a": 8, "b": 6}, SMALL, 2, generator())
    x = rows(2, 16, 8).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = nets.translate("a", "b", x)
    assert y.dtype == torch.float32 and y.shape == (2, 16, 6)
    torch.testing.assert_close(y.norm(dim=-1), torch.ones(2, 16))


WIDTHS = [(6, 6, 6), (5, 8, 8), (8, 5, 5), (8, 5, 8), (8, 5, 7), (5, 8, 11)]


@pytest.mark.parametrize("d_s, d_t, latent", WIDTHS)
@pytest.mark.parametrize("rank", [3, 5])
def test_training_starts_exactly_at_the_given_map(d_s, d_t, latent, rank):
    config = replace(LINEAR, latent_dim=latent)
    nets = Nets({"s.1": d_s, "t": d_t}, config, 2, generator()).double()
    left, right = rows(2, d_s, rank), rows(2, rank, d_t, seed=4)
    weight = 7 * left @ right  # one map a seed, of rank 3 or 5
    nets.init_from_map("s.1", "t", weight)
    x, y = rows(2, 9, d_s, seed=2), rows(2, 9, d_t, seed=3)
    unit = nn.functional.normalize
    torch.testing.assert_close(nets.translate("s.1", "t", x), unit(x @ weight, dim=-1))
    back = unit(y @ torch.linalg.pinv(weight), dim=-1)
    torch.testing.assert_close(nets.translate("t", "s.1", y), back)
    torch.testing.assert_close(nets.reconstruct("t", y), y)
    kept = nets.reconstruct("s.1", x)
    if latent >= d_t + d_s - rank:
        torch.testing.assert_close(kept, x)
    else:
        assert (kept - x).norm() > 1e-3


def test_a_rotation_starts_with_transposes_and_latents_of_one_length():
    nets = Nets({"s": 6, "t": 6}, LINEAR, 1, generator()).double()
    turn, _ = torch.linalg.qr(rows(1, 6, 6)[0])
    nets.init_from_map("s", "t", turn * 50)
    torch.testing.assert_close(nets.inputs[0].weight[0], turn)
    torch.testing.assert_close(nets.outputs[0].weight[0], turn.T)
    z = nets.encode("s", rows(1, 5, 6))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(1, 5, dtype=z.dtype))


def test_the_zero_backbone_learns_from_its_first_step():
    nets = Nets({"s": 6, "t": 6}, LINEAR, 1, generator()).double()
    nets.init_from_map("s", "t", torch.eye(6))
    assert (nets.backbone[-1].last.weight == 0).all()
    (nets.translate("s", "t", rows(1, 5, 6))[..., 0]).sum().backward()
    assert nets.backbone[-1].last.weight.grad.abs().max() > 0


def test_three_spaces_share_one_backbone():
    nets = Nets({"a": 6, "b": 5, "c": 4}, LINEAR, 1, generator())
    for name in "ab":
        nets.init_from_map(name, "c", torch.eye(nets.widths[name], 4))
    x = rows(1, 3, 6).float()
    want = nn.functional.normalize(x[..., :4], dim=-1)
    torch.testing.assert_close(nets.translate("a", "c", x), want)
    assert nets.names == ("a", "b", "c") and nets.latent_dim == 6
    assert nets.translate("a", "b", x).shape == (1, 3, 5)


def test_wrong_calls_are_named():
    nets = Nets({"a": 6, "b": 5}, SMALL, 2, generator())
    with pytest.raises(DataError, match="no space 'c' here"):
        nets.encode("c", torch.zeros(2, 3, 6))
    with pytest.raises(DataError, match=r"\(3, 6\); give \(S, B, d\) = \(2, B, 6\)"):
        nets.encode("a", torch.zeros(3, 6))
    with pytest.raises(DataError, match="only nets of linear_adapters"):
        nets.init_from_map("a", "b", torch.zeros(6, 5))
    with pytest.raises(DataError, match="two spaces or more"):
        Nets({"a": 6}, SMALL, 1, generator())
    narrow = Nets({"a": 6, "b": 5}, replace(LINEAR, latent_dim=4), 1, generator())
    with pytest.raises(DataError, match="the latent 4 wide"):
        narrow.init_from_map("a", "b", torch.zeros(6, 5))
