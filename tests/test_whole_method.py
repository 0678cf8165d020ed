"""Chapter 11's page, taken from the notebook by its tags, against the library.

The page is plain `torch.nn` and knows nothing of the library; from the same weights and
batches both must make the same ten steps. What is changed on the page must be noticed.
"""

import copy
import io
import json
import tokenize
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from problems import generator, rows
from torch import nn
from torch.nn import functional as F

from v2v_lite.vec2vec import RELEASED, Networks, train_step
from v2v_lite.vec2vec.optim import build_optimisers, set_learning_rates

CHAPTER = Path(__file__).resolve().parent.parent / "book" / "11_training.ipynb"
STEPS, SIZES = 10, (10, 8)


@cache
def source(tag: str) -> str:
    notebook = json.loads(CHAPTER.read_text(encoding="utf-8"))
    found = [c for c in notebook["cells"] if tag in c["metadata"].get("tags", ())]
    assert found, f"no cell of chapter 11 has the tag {tag!r}"
    return "\n\n".join("".join(c["source"]) for c in found)


def page(changes: tuple[tuple[str, str], ...] = ()) -> dict:
    """The names that the page defines, with some of its text replaced."""
    text = source("whole-method")
    for old, new in changes:
        assert old in text, f"the page no longer says {old!r}"
        text = text.replace(old, new)
    names = {"torch": torch, "nn": nn, "F": F, "copy": copy, "replace": replace}
    for part in (text, source("whole-method-twin")):
        exec(compile(part, "<chapter 11>", "exec"), names)
    return names


def after_ten_steps(dtype=torch.float32, changes=()) -> tuple[float, float]:
    """(difference of page and library, distance walked), largest over the weights."""
    names = page(changes)
    preset = names["small"](RELEASED)
    g = generator(3)
    networks = Networks(dict(zip("xy", SIZES, strict=True)), preset, 1, g).to(dtype)
    net, game = preset.net, preset.adversarial
    sizes = net.latent_dim, net.hidden_dim, game.hidden_dim
    nets, judges = names["build"](*SIZES, *sizes, drop=0.0)
    nets, judges = nets.to(dtype), judges.to(dtype)
    names["copy_weights"](networks, nets, judges)
    start = copy.deepcopy((nets, judges))
    x, y = (
        F.normalize(rows(n, d, seed=n), dim=-1).to(dtype)
        for n, d in zip((100, 120), SIZES, strict=True)
    )
    optim, optimisers = preset.optim, build_optimisers(networks, preset.optim)
    ours = names["batches"](x, y, 32, generator(1))
    for number in range(STEPS):
        set_learning_rates(optimisers, optim, number)
        a, b = next(ours)
        batch = {"x": a[None], "y": b[None]}
        theirs = train_step(networks, optimisers, batch, preset)
    again = names["batches"](x, y, 32, generator(1))
    rates = optim.lr, optim.d_lr
    terms = names["train"](nets, judges, again, STEPS, rates, optim.warmup_steps)
    if not changes:
        for name, value in terms.items():
            torch.testing.assert_close(value.detach()[None], theirs[name])
    found = [names["largest_gap"](networks, *both) for both in ((nets, judges), start)]
    return found[0], found[1]


@pytest.mark.parametrize("dtype, most", [(torch.float32, 5e-6), (torch.float64, 1e-13)])
def test_ten_steps_of_the_page_are_those_of_the_library(dtype, most):
    difference, walked = after_ten_steps(dtype)
    assert difference < most
    assert walked > 5e-3


DETACHED = ("B_y(T(A_x(x_fake.detach())))", "B_y(T(A_x(x_fake)))")
SILENT = {
    "a cycle with gradient": [DETACHED],
    "cycle at weight 1": [('"cycle": 10', '"cycle": 1')],
    "VSP without the reflected term": [
        ("return own + (gram - made @ real.T).abs().mean()", "return own")
    ],
    "VSP squared": [("made @ made.T).abs()", "made @ made.T).square()")],
    "latents change roles": [('("z", z_y, z_x)', '("z", z_x, z_y)')],
    "labels exchanged": [
        ("on_real**2 + (on_fake - 1) ** 2", "(on_real - 1) ** 2 + on_fake**2")
    ],
    "no factor 1/2 for the translator": [("0.5 * (D[k](fake)", "1.0 * (D[k](fake)")],
    "no warm-up": [("min(1.0, number / warmup)", "1.0")],
    "another epsilon": [("(0.5, 0.999), 6.25e-10)", "(0.5, 0.999), 1e-4)")],
    "layer norm for batch norm": [("nn.BatchNorm1d(width)\n", "nn.LayerNorm(width)\n")],
    "the skip is missing": [
        ("return h + F.pad(x, (0, h", "return h + 0 * F.pad(x, (0, h")
    ],
    "an output is not made unit": [("F.normalize(B_x(z_x))", "B_x(z_x)")],
    "the translator first": [
        ("    D_opt.step()\n", ""),
        ("    nets_opt.step()\n", "    nets_opt.step()\n    D_opt.step()\n"),
    ],
}


@pytest.mark.parametrize("name", SILENT)
def test_a_mistake_on_the_page_is_noticed(name):
    """Each of these runs without an error and trains something else."""
    assert after_ten_steps(torch.float64, tuple(SILENT[name]))[0] > 1e-6


@pytest.mark.parametrize("kind", ["real", "fake"])
def test_a_discriminator_update_that_reaches_the_nets_is_an_error(kind):
    """Its backward pass frees the graph that the translator's needs."""
    drop = (f"D[k]({kind}.detach())", f"D[k]({kind})")
    with pytest.raises(RuntimeError, match="second time"):
        after_ten_steps(torch.float64, (drop,))


def test_freezing_the_discriminators_saves_work_and_changes_nothing():
    """Because their gradients are cleared before the next backward pass."""
    drop = ("D.requires_grad_(False)", "pass")
    assert after_ten_steps(torch.float64, (drop,))[0] < 1e-13


def test_the_page_has_ninety_lines_of_code_and_the_released_sizes():
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT,
              tokenize.DEDENT, tokenize.ENDMARKER}  # fmt: skip
    text = source("whole-method")
    code = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            code |= set(range(token.start[0], token.end[0] + 1))
    assert len(code) <= 90
    assert "v2v_lite" not in text
    with torch.device("meta"):
        nets, judges = page()["build"](768, 768)
    assert sum(p.numel() for p in nets.parameters()) == 21_004_800
    counts = [sum(p.numel() for p in one.parameters()) for one in judges.values()]
    assert counts == [3_943_425, 3_943_425, 4_205_569]


def test_the_page_starts_as_the_released_code_does():
    nets, judges = page()["build"](30, 20, 500, 400, 300)
    norm = nets["T"][1][2]
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.25)
    assert norm.weight.mean().item() == pytest.approx(1.0, abs=0.01)
    linear = nets["T"][1][0], judges["z"][2], judges["y"][2]
    for layer in linear:
        want = (2 / layer.in_features) ** 0.5
        assert layer.weight.std().item() == pytest.approx(want, rel=0.05)
        assert (layer.bias == 0).all()
    assert nets["T"][1][3].p == 0.1


def test_an_epoch_shows_every_row_once_on_either_side():
    x, y = torch.arange(12.0)[:, None], torch.arange(15.0)[:, None]
    data = page()["batches"](x, y, 4, generator())
    epoch = [next(data) for _ in range(3)]
    seen = torch.cat([a for a, _ in epoch]).flatten()
    assert torch.equal(seen.sort().values, x.flatten())
    assert len(torch.cat([b for _, b in epoch]).unique()) == 12
    assert not torch.equal(torch.cat([next(data)[0] for _ in range(3)]).flatten(), seen)
