"""The engine: a step by hand, seeds apart, resuming, choosing without pairs."""

import gc
import json
import logging
import os
import random
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import world
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("accelerate")
from v2v_lite.align import SelfLearn, SelfLearnConfig
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.spaces import DataError
from v2v_lite.vec2vec import (
    OURS,
    AdversarialConfig,
    LossConfig,
    NetConfig,
    OptimConfig,
    Preset,
    Trainer,
    TrainerConfig,
    TrainingDiverged,
    checkpoint,
    initialise,
    maps,
    train,
)
from v2v_lite.vec2vec import result as result_module
from v2v_lite.vec2vec import step as step_module
from v2v_lite.vec2vec.batches import BLOCK, Batches, derive_seed
from v2v_lite.vec2vec.checkpoint import checkpoints, flat, load
from v2v_lite.vec2vec.distributed import Interrupted, StopSignal
from v2v_lite.vec2vec.optim import lr_multiplier
from v2v_lite.vec2vec.presets import from_dict
from v2v_lite.vec2vec.state import LossMeter, TrainState
from v2v_lite.vec2vec.step import (
    clip_by_seed,
    discriminator_losses,
    forward,
    generator_losses,
)

ROOT = Path(__file__).resolve().parent.parent
OFTEN = TrainerConfig(log_every=3, eval_every=6, checkpoint_every=4)

# Everything that a run can carry: batch norm, dropout, noise, latents, EMA, clipping.
FULL = Preset(
    "full",
    NetConfig(8, 12, adapter_depth=3, backbone_depth=2, dropout=0.1),
    AdversarialConfig(hidden_dim=12, depth=3, latent="both"),
    LossConfig(input_noise=0.1),
    OptimConfig(
        lr=1e-3, d_lr=1e-3, warmup_steps=5, batch_size=16, steps=14, schedule="cosine",
        grad_clip=0.5, ema_decay=0.9,
    ),
)  # fmt: skip
# What has no rows look at each other and draws nothing: batches then add up exactly.
PLAIN = replace(
    FULL,
    net=replace(FULL.net, norm="none", dropout=0.0),
    loss=LossConfig(vsp_weight=0.0, vsp_reconstruction_weight=0.0),
)


def steps(preset, count):
    return replace(preset, optim=replace(preset.optim, steps=count))


def quietly(preset, spaces=None, **options):
    """A trainer for single steps, without evaluations (they cost the most here)."""
    return Trainer(spaces or world(), preset, device="cpu", **options)


def same(one, two):
    one, two = flat(one), flat(two)
    return one.keys() == two.keys() and all(
        torch.equal(one[key], two[key]) for key in one
    )


# ---- a step


def test_a_step_is_adam_on_d_then_adam_on_the_nets_against_the_new_d():
    preset, engine = PLAIN, quietly(replace(PLAIN, optim=OptimConfig(
        lr=1e-2, d_lr=3e-2, warmup_steps=4, batch_size=16, steps=9)))  # fmt: skip
    widths = {name: space.d for name, space in engine.spaces.items()}
    device = torch.device("cpu")
    reference = TrainState(widths, preset, (0,), device, {}, {}).networks
    nets = torch.optim.Adam(reference.nets.parameters(), betas=(0.5, 0.999))
    judges = torch.optim.Adam(
        reference.discriminator_parameters(), betas=(0.5, 0.999), eps=6.25e-10
    )
    for step in range(3):
        told = engine.step()
        nets.param_groups[0]["lr"] = 1e-2 * (step + 1) / 4
        judges.param_groups[0]["lr"] = 3e-2 * (step + 1) / 4
        batch = engine.batches.at(step, slice(0, 16))
        flow = forward(reference.nets, batch, preset.loss)
        losses = discriminator_losses(reference, flow, preset)
        judges.zero_grad()
        losses["discriminator"].sum().backward()
        judges.step()
        losses |= generator_losses(reference, flow, preset)
        nets.zero_grad()
        losses["generator"].sum().backward()
        nets.step()
        assert set(told) == set(losses)
        assert all(torch.allclose(told[key], losses[key]) for key in losses)
    found, wanted = engine.state.networks.state_dict(), reference.state_dict()
    for key in wanted:
        torch.testing.assert_close(found[key], wanted[key], atol=1e-6, rtol=1e-5)


def test_a_batch_in_parts_is_the_batch():
    whole, parts = (
        quietly(PLAIN),
        quietly(PLAIN, config=TrainerConfig(grad_accumulation=4)),
    )
    for _ in range(3):
        one, two = whole.step(), parts.step()
        assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)
    for x, y in zip(
        whole.state.networks.parameters(),
        parts.state.networks.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)


def test_a_seed_among_others_is_the_seed_alone():
    centred = replace(PLAIN, centred=True)
    many, alone = quietly(centred, seeds=(3, 4, 5)), quietly(centred, seeds=(4,))
    for _ in range(3):
        many.step()
        alone.step()
    for key, value in alone.nets.state_dict().items():
        of_many = many.nets.state_dict()[key]
        torch.testing.assert_close(of_many[1:2], value, atol=1e-6, rtol=1e-4)
        assert of_many.shape[0] == 3


def test_without_an_adversary_there_is_one_optimiser():
    for game in (
        AdversarialConfig(game="mmd", latent="both"),
        AdversarialConfig(latent="none"),
    ):
        loss = replace(PLAIN.loss, adv_weight=float(game.game == "mmd"))
        engine = quietly(replace(PLAIN, adversarial=game, loss=loss))
        before = [w.clone() for w in engine.state.networks.nets.parameters()]
        engine.step()
        after = engine.state.networks.nets.parameters()
        assert set(engine.optimisers) == {"nets"}
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_centred_rows_are_centred_once_and_for_all():
    spaces = world()
    engine = quietly(replace(PLAIN, centred=True), spaces=spaces)
    x = spaces["a"].vectors - spaces["a"].mean
    x = x / x.norm(dim=1, keepdim=True)
    assert torch.allclose(engine.batches.spaces["a"], x, atol=1e-6)


class Reads(TorchDispatchMode):
    """Counts the numbers that are fetched from tensors, Adam's own counters aside."""

    def __init__(self, optims):
        super().__init__()
        self.own = {
            state["step"].data_ptr() for o in optims for state in o.state.values()
        }
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "_local_scalar_dense" in str(function) or "nonzero" in str(function):
            self.count += args[0].data_ptr() not in self.own
        return function(*args, **(kwargs or {}))


def test_nothing_in_a_step_waits_for_the_device():
    engine = quietly(FULL, seeds=(0, 1))
    engine.state.meter.add(0, engine.step())  # Adam's counters come to be
    with Reads([o.optimizer for o in engine.optimisers.values()]) as reads:
        for _ in range(4):
            engine.state.meter.add(engine.state.step, engine.step())
        assert reads.count == 0
        engine.log_losses()
        assert reads.count > 0


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_on_a_gpu_nothing_in_a_step_synchronises(precision):
    preset = replace(FULL, optim=replace(FULL.optim, precision=precision))
    engine = Trainer(world(), preset, seeds=(0, 1), device="cuda")
    engine.state.meter.add(0, engine.step())
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            engine.state.meter.add(engine.state.step, engine.step())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    engine.check_finite()


def test_compiled_nets_are_the_nets(monkeypatch):
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: compile_(self, backend="eager")
    )
    preset = replace(PLAIN, adversarial=replace(PLAIN.adversarial, game="hinge"))
    plain, compiled = (
        quietly(preset),
        quietly(preset, config=TrainerConfig(compile=True)),
    )
    for _ in range(2):
        plain.step()
        compiled.step()
    one, two = plain.state.tensors()["networks"], compiled.state.tensors()["networks"]
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=1e-6, rtol=1e-5)


def test_what_is_compiled_stays_compiled(monkeypatch):
    """Past its limit of variants torch runs the rest uncompiled, and only warns."""
    compile_, said = torch.nn.Module.compile, []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: compile_(self, backend="eager")
    )
    log = logging.getLogger("torch._dynamo.convert_frame")
    monkeypatch.setattr(log, "warning", lambda text, *_: said.append(text))
    torch.compiler.reset()
    for seeds in ((0,), (0, 1)):
        engine = quietly(FULL, config=TrainerConfig(compile=True), seeds=seeds)
        engine.step()
        engine.step()
    torch.compiler.reset()
    assert said == []


# ---- rows, rates, means, norms


def test_rows_depend_on_seed_space_and_step_alone():
    spaces = {"a": torch.arange(50.0)[:, None], "b": torch.arange(50.0)[:, None]}
    late = Batches(spaces, (7, 8), 12)
    step = 2 * BLOCK + 3
    there = late.at(step, slice(None))
    walked = Batches(spaces, (7, 8), 12)
    for k in range(step + 1):
        came = walked.at(k, slice(None))
    assert all(torch.equal(there[k], came[k]) for k in spaces)
    assert there["a"].shape == (2, 12, 1)
    assert torch.equal(late.at(step, slice(3, 6))["b"], there["b"][:, 3:6])
    alone = Batches(spaces, (8,), 12).at(step, slice(None))
    assert torch.equal(alone["b"][0], there["b"][1])
    assert not torch.equal(there["a"], there["b"])  # unpaired: each space its own
    assert not torch.equal(there["a"][0], there["a"][1])
    assert not torch.equal(late.at(step + 1, slice(None))["a"], there["a"])


def test_all_rows_are_drawn_alike():
    batches = Batches({"a": torch.arange(10.0)[:, None]}, (0,), 100)
    seen = torch.cat([batches.at(k, slice(None))["a"][0] for k in range(BLOCK)])
    counts = seen.long().flatten().bincount(minlength=10).double()
    mean = counts.mean()
    assert ((counts - mean).square() / mean).sum() < 27.9  # chi-squared, 9 df, p = .001


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4))
def test_mixed_numbers_seed_a_generator(numbers):
    assert 0 <= derive_seed(*numbers) < 2**63
    assert derive_seed(*numbers) != derive_seed(*numbers, 0)


def test_rates_rise_stay_and_fall():
    o = OptimConfig(warmup_steps=10, steps=110, schedule="cosine")
    found = [lr_multiplier(step, o) for step in range(110)]
    assert found[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    lr = torch.optim.lr_scheduler.CosineAnnealingLR
    adam = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 1.0)
    scheduler = lr(adam, 100)
    for step in range(10, 110):
        assert found[step] == pytest.approx(scheduler.get_last_lr()[0], abs=1e-9)
        adam.step()
        scheduler.step()
    assert {lr_multiplier(k, OptimConfig(warmup_steps=0)) for k in (0, 5, 10**6)} == {
        1.0
    }


def test_the_running_mean_is_its_sum():
    engine = quietly(replace(PLAIN, optim=replace(PLAIN.optim, ema_decay=0.3)))
    state, key = engine.state, "backbone.0.linear.weight"
    seen = [state.networks.nets.state_dict()[key].clone()]
    for _ in range(5):
        engine.step()
        seen.append(state.networks.nets.state_dict()[key].clone())
    # Young, the decay is (1 + t) / (10 + t): 2/11, 3/12, 4/13, then at most 0.3.
    decays = [2 / 11, 0.25, 0.3, 0.3, 0.3]
    wanted = seen[0].double()
    for decay, new in zip(decays, seen[1:], strict=True):
        wanted = decay * wanted + (1 - decay) * new.double()
    assert torch.allclose(state.ema.state_dict()[key].double(), wanted, atol=1e-6)
    assert engine.nets is state.ema


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(0.01, 20.0))
def test_clipping_is_torchs_for_each_seed(seed, largest):
    g = torch.Generator().manual_seed(seed)
    scales = torch.tensor([0.1, 1.0, 10.0])
    shapes = [(3, 4, 2), (3, 1, 2), (3, 5)]
    weights = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for w in weights:
        size = scales.view(3, *[1] * (w.dim() - 1))
        w.grad = torch.randn(w.shape, generator=g) * size
    wanted = []
    for k in range(3):
        alone = [torch.nn.Parameter(torch.zeros(w.shape[1:])) for w in weights]
        for one, w in zip(alone, weights, strict=True):
            one.grad = w.grad[k].clone()
        torch.nn.utils.clip_grad_norm_(alone, largest)
        wanted.append([one.grad for one in alone])
    clip_by_seed(weights, largest)
    for k in range(3):
        for w, grad in zip(weights, wanted[k], strict=True):
            torch.testing.assert_close(w.grad[k], grad, atol=1e-5, rtol=1e-4)


def test_the_meter_tells_means_and_the_first_bad_loss():
    meter, inf = LossMeter(), float("inf")
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    for step, row in enumerate(values):
        meter.add(step, {"x": row, "y": -row})
    assert meter.first_bad() is None
    assert meter.means() == [{"x": 2.0, "y": -2.0}, {"x": 4.0, "y": -4.0}]
    meter.add(2, {"x": torch.tensor([1.0, 1.0]), "y": torch.tensor([1.0, inf])})
    meter.add(3, {"x": torch.tensor([inf, 1.0]), "y": torch.tensor([-inf, inf])})
    assert meter.first_bad() == (2, "y", 1)


# ---- checkpoints


def test_a_run_that_is_killed_and_resumed_is_the_undisturbed_run(tmp_path):
    when = random.SystemRandom().randrange(5, 14)
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from problems import world
from test_vec2vec_trainer import FULL, OFTEN, Trainer, train
step = Trainer.step
def until(self):
    if self.state.step == {when}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self)
Trainer.step = until
train(world(), FULL, seeds=2, out=sys.argv[1], config=OFTEN)
"""
    call = [sys.executable, "-c", code, str(tmp_path / "killed")]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = load(tmp_path / "killed" / "checkpoints")[1]["step"]
    assert kept == (when - 1) // 4 * 4 if when % 4 else kept == when, when
    again = train(world(), out=tmp_path / "killed", config=OFTEN, resume=True)
    whole = train(world(), FULL, seeds=2, out=tmp_path / "whole", config=OFTEN)
    trees = [load(tmp_path / k / "checkpoints") for k in ("killed", "whole")]
    assert same(trees[0][0], trees[1][0]), when
    ones, twos = ({k: v for k, v in t[1].items() if k != "sha256"} for t in trees)
    assert ones == twos
    assert again.history == whole.history and again.scores == whole.scores
    assert (tmp_path / "killed/history.json").read_text() == (
        tmp_path / "whole/history.json"
    ).read_text()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_so(number, tmp_path, monkeypatch):
    step = Trainer.step

    def struck(engine):
        if engine.state.step == 6:
            os.kill(os.getpid(), number)
        return step(engine)

    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(Trainer, "step", struck)
    with pytest.raises(Interrupted, match=rf"{number.name}.*step 7.*step-000000007"):
        train(world(), steps(FULL, 9), out=tmp_path, config=OFTEN)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    assert [p.stem[-1] for p in checkpoints(tmp_path / "checkpoints")] == ["4", "7"]
    monkeypatch.undo()
    train(world(), out=tmp_path, config=OFTEN, resume=True)
    train(world(), steps(FULL, 9), out=tmp_path / "whole", config=OFTEN)
    one, two = (load(p / "checkpoints") for p in (tmp_path, tmp_path / "whole"))
    assert same(one[0], two[0]) and one[1]["history"] == two[1]["history"]


def test_the_second_signal_is_obeyed():
    # A shell's background job ignores SIGINT, and Python then sets no handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), StopSignal() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.asked == "SIGINT"
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    real = step_module.generator_losses

    def spoiled(networks, flow, preset):
        found = real(networks, flow, preset)
        calls.append(1)
        if len(calls) == 7:
            bad = torch.tensor([1.0, float("nan")])
            found["cycle"] = found["cycle"] * bad
            found["generator"] = found["generator"] * bad
        return found

    calls = []
    monkeypatch.setattr(step_module, "generator_losses", spoiled)
    loop = TrainerConfig(log_every=5, eval_every=50, checkpoint_every=4)
    with pytest.raises(
        TrainingDiverged, match="step 7.*'cycle'.*seed 6.*step-000000004"
    ):
        train(world(), PLAIN, seeds=2, seed=5, out=tmp_path, config=loop)
    tree = load(tmp_path / "checkpoints")[0]
    assert all(value.isfinite().all() for value in flat(tree).values())


def test_weights_that_are_not_finite_are_not_saved(tmp_path, monkeypatch):
    # The step that breaks them has finite losses still.
    step = Trainer.step

    def broken(engine):
        found = step(engine)
        if engine.state.step == 4:
            next(engine.state.networks.nets.parameters()).data[1] = float("inf")
        return found

    monkeypatch.setattr(Trainer, "step", broken)
    with pytest.raises(TrainingDiverged, match="step 4.*seed 1"):
        train(world(), PLAIN, seeds=2, out=tmp_path, config=OFTEN)
    assert load(tmp_path / "checkpoints")[1]["step"] == 0


def test_a_full_disk_ends_the_run_and_not_the_checkpoint(tmp_path, monkeypatch):
    write = checkpoint.write_tensors

    def full(path, tensors, header):
        if '"step": 8,' in header["state"]:
            raise OSError(28, "No space left on device")
        write(path, tensors, header)

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(DataError, match="disk is full.*step-000000004"):
        train(world(), PLAIN, out=tmp_path, config=OFTEN)
    assert load(tmp_path / "checkpoints")[1]["step"] == 4


def test_resuming_wants_the_same_run(tmp_path):
    train(world(), steps(PLAIN, 4), out=tmp_path, config=OFTEN)
    again = {"out": tmp_path, "resume": True}
    with pytest.raises(DataError, match="holds a run"):
        train(world(), PLAIN, out=tmp_path)
    with pytest.raises(DataError, match=r"optim.steps is 4, not 14"):
        train(world(), PLAIN, **again)
    with pytest.raises(DataError, match=r"seeds \[0\], not 3"):
        train(world(), seeds=3, **again)
    with pytest.raises(DataError, match="'b': 6.*'b': 5"):
        train(world(widths=(8, 5)), **again)
    with pytest.raises(DataError, match="not those that the run"):
        train(world(seed=1), **again)
    with pytest.raises(DataError, match="there are none"):
        train(world(), out=tmp_path / "nowhere", resume=True)
    with pytest.raises(DataError, match="resume: give"):
        train(world(), resume=True)


@pytest.mark.parametrize("preset", [FULL, OURS])
def test_a_preset_survives_json(preset):
    assert from_dict(Preset, json.loads(json.dumps(asdict(preset)))) == preset


# ---- choosing without pairs


def test_the_best_nets_of_each_seed_are_kept(monkeypatch, tmp_path):
    scores = iter([0.1, 0.1, 0.5, 0.2, 0.3, 0.4, 0.0, 0.4])  # two seeds, four times
    real, seen = result_module.diagnose, []

    def scripted(model, *sides, other_seeds=(), **options):
        found = real(model, *sides, other_seeds=other_seeds, **options)
        if other_seeds:
            return found
        seen.append(model.nets.state_dict())
        return replace(found, score=next(scores))

    monkeypatch.setattr(result_module, "diagnose", scripted)
    loop = TrainerConfig(log_every=2, eval_every=2, checkpoint_every=9)
    found = train(world(), steps(FULL, 6), seeds=2, out=tmp_path, config=loop)
    assert found.steps == (2, 6)  # of equal scores the later
    assert load(tmp_path / "checkpoints")[1]["best_scores"] == [0.5, 0.4]
    for k, at in ((0, 2), (1, 7)):
        kept = found.translator(k=k).nets.state_dict()
        assert all(torch.equal(kept[key], seen[at][key]) for key in kept)
    records = [r["score"] for r in found.history[0] if "score" in r]
    assert records == [0.1, 0.5, 0.3, 0.0]


@pytest.mark.parametrize(
    ("told", "kept"), [((0.5, 0.515, 0.51), 0), ((0.5, 0.51, 0.53, 0.535, 0.532), 3)]
)
def test_a_given_start_is_left_only_for_a_clear_gain(monkeypatch, told, kept):
    preset = replace(
        OURS, optim=replace(OURS.optim, steps=len(told) - 1, batch_size=16),
        net=replace(OURS.net, hidden_dim=8), anchor_runs=2, anchor_draws=1,
    )  # fmt: skip
    scores, real = iter(told), result_module.diagnose
    monkeypatch.setattr(
        maps, "initial_maps", lambda *_: {("a", "b"): torch.eye(8, 6)[None]}
    )
    monkeypatch.setattr(
        result_module, "diagnose",
        lambda *a, **k: replace(real(*a, **k), score=next(scores, told[kept])),
    )  # fmt: skip
    found = train(world(), preset, config=TrainerConfig(eval_every=1))
    assert found.steps == (kept,)


def test_it_stops_when_no_seed_does_better(monkeypatch):
    scores = iter([0.1, 0.2, 0.2, 0.1, 0.1, 0.15])
    real = result_module.diagnose
    monkeypatch.setattr(
        result_module,
        "diagnose",
        lambda *a, **k: replace(real(*a, **k), score=next(scores)),
    )
    loop = TrainerConfig(log_every=1, eval_every=1, checkpoint_every=9, patience=3)
    found = train(world(), PLAIN, config=loop)
    assert found.history[0][-1]["step"] == 4 and found.steps == (2,)


def test_what_is_reported_decides_nothing(tmp_path):
    told = []

    def report(model):
        told.append((model.source_name, model.target_name))
        return {"top1": 1.0 - 0.1 * len(told)}

    preset, options = steps(PLAIN, 6), {"seeds": 2, "config": OFTEN}
    plain = train(world(), preset, **options)
    found = train(world(), preset, report=report, **options)
    assert found.scores == plain.scores and found.steps == plain.steps
    assert same(found.nets.state_dict(), plain.nets.state_dict())
    assert told == [("a", "b")] * 4  # two seeds, before the first step and after 6
    records = [r for r in found.history[1] if "score" in r]
    assert [r["report top1"] for r in records] == pytest.approx([0.8, 0.6])
    assert found.summary()["min"] == min(found.scores)
    assert found.best == max(range(2), key=found.scores.__getitem__)


def test_it_evaluates_on_rows_it_does_not_train_on():
    spaces, held_out = initialise.split(world(), None, PLAIN)
    made = Trainer(spaces, PLAIN, held_out=held_out, device="cpu")
    kept, held = made.spaces["a"], made.held_out["a"]
    assert kept.n + held.n == 520 and held.n == 52
    rows = {tuple(row) for row in kept.vectors.tolist()}
    assert not rows & {tuple(row) for row in held.vectors.tolist()}
    assert torch.equal(held.mean, kept.mean)


def test_a_result_keeps_no_rows_alive():
    found = train(world(), steps(PLAIN, 1), config=OFTEN)
    gc.collect()
    living = [x for x in gc.get_objects() if isinstance(x, (Trainer, Batches))]
    assert not living and found.translator().translate(torch.ones(2, 8)).shape == (2, 6)


def test_single_steps_from_maps_at_hand():
    small = replace(
        OURS, net=replace(OURS.net, hidden_dim=8),
        optim=replace(OURS.optim, batch_size=16, ema_decay=0.0),
    )  # fmt: skip
    maps = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(0))
    made = Trainer(
        world(), small, seeds=(0, 1), initial_maps={("a", "b"): maps}, device="cpu"
    )
    u, _, vh = torch.linalg.svd(maps, full_matrices=False)
    rows = torch.randn(2, 5, 8)
    got = made.nets.translate("a", "b", rows)
    want = torch.nn.functional.normalize(rows @ u @ vh, dim=-1)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    losses = made.step()
    assert losses["generator"].shape == (2,) and made.state.step == 1
    assert not torch.equal(made.nets.translate("a", "b", rows), got)


# ---- starts


@pytest.mark.parametrize("start", ["anchors", "selflearn"])
def test_it_starts_from_the_map_of_an_unpaired_method(start, monkeypatch):
    few = AnchorConfig(n_runs=3, n_clusters=6, n_init=3, n_restarts=2)
    small = {"anchors": few} | ({} if start == "selflearn" else {"phases": ()})
    if start == "selflearn":
        phase = replace(SelfLearnConfig().phases[0], n_iter=2, batch_size=200)
        small["phases"] = (phase,)
    config = SelfLearnConfig(**small)
    monkeypatch.setattr(maps, "SelfLearnConfig", lambda: config)
    net = replace(OURS.net, hidden_dim=16)
    game = replace(OURS.adversarial, hidden_dim=16)
    spaces = world()
    off = (0.0, 0.0)  # no filters: from the very map
    game = replace(game, singular_value_exponent=off, variance_exponent=off)
    preset = replace(
        OURS, net=net, adversarial=game, init=start, whitening_rows=0, anchor_runs=3
    )
    engine = quietly(preset, seeds=(2, 3), spaces=spaces)
    for k, seed in enumerate((2, 3)):
        model = SelfLearn(config).fit(spaces["a"], spaces["b"], seed=seed)
        found = engine.translator(engine.nets, k, "a", "b")
        rows = spaces["a"].take(slice(40))
        assert torch.allclose(found.translate(rows), model.translate(rows), atol=1e-4)
        assert found.seed == seed


def test_three_spaces_train_at_once():
    spaces = world(widths=(8, 6, 5), names="abc")
    found = train(spaces, steps(PLAIN, 2), config=OFTEN)
    assert found.nets.names == ("a", "b", "c")
    assert len(found.diagnoses[0]) == 2
    between = found.translator("b", "a")
    rows = spaces["b"].vectors[:7]
    nets = found.nets.eval()
    wanted = nets.translate("b", "a", rows[None])[0]
    assert torch.allclose(between.translate(rows), wanted, atol=1e-6)
    with pytest.raises(DataError, match="give two of a, b, c"):
        found.translator("a", "d")


# ---- TensorBoard, input


def test_tensorboard_gets_what_the_history_has(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop = replace(OFTEN, tensorboard=True)
    found = train(world(), steps(PLAIN, 6), seeds=2, out=tmp_path, config=loop)
    (folder,) = {path.parent for path in tmp_path.rglob("events.out.tfevents*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    for name in ("cycle", "score"):
        told = [(e.step, e.value) for e in events.Scalars(f"{name}/seed 1")]
        kept = [(r["step"], r[name]) for r in found.history[1] if name in r]
        assert told == [pytest.approx(pair, rel=1e-5) for pair in kept]


@pytest.mark.parametrize(
    "spaces, preset, options, words",
    [
        ({}, PLAIN, {}, "0 spaces; give two"),
        ({"n": 20}, PLAIN, {}, "20 rows leave 2 .*at least 400"),
        ({}, replace(PLAIN, optim=OptimConfig(batch_size=469)), {}, "468 rows .*469"),
        ({}, "magic", {}, "no preset 'magic'; known are paper, released, ours"),
        ({}, PLAIN, {"seeds": 0}, "seeds = 0"),
        ({}, PLAIN, {"device": "abacus"}, "'abacus'.*auto, cpu, cuda"),
        (
            {},
            PLAIN,
            {"config": TrainerConfig(grad_accumulation=3)},
            "batch_size = 16 .*multiple of 3",
        ),
        ({}, PLAIN, {"config": TrainerConfig(grad_accumulation=16)}, "2 rows or more"),
        ({}, PLAIN, {"held_out": {}}, "rows of the same spaces"),
    ],
)
def test_bad_input_is_named(spaces, preset, options, words):
    given = {} if words.startswith("0 spaces") else world(**spaces)
    with pytest.raises(DataError, match=words):
        train(given, preset, **options)


@pytest.mark.parametrize("field", ["log_every", "eval_every", "grad_accumulation"])
def test_a_loop_must_turn(field):
    with pytest.raises(DataError, match=rf"TrainerConfig.{field} = 0; it must be 1"):
        TrainerConfig(**{field: 0})
    assert TrainerConfig(patience=0).patience == 0


def test_a_gpu_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(DataError, match="finds no GPU"):
        train(world(), PLAIN, device="cuda")


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train(world(), steps(FULL, 2), config=OFTEN)
    assert torch.equal(torch.rand(3), wanted)


# ---- several processes


def test_two_processes_are_one(tmp_path):
    """Gradients, by Adam's first moments; then a resumed run, bit for bit."""
    code = f"""
import os, shutil, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import torch
torch.set_num_threads(1)
from problems import world
from test_vec2vec_trainer import FULL, OFTEN, PLAIN, checkpoints, steps, train
out = sys.argv[1]
train(world(), steps(PLAIN, 3), seeds=2, out=out + "/two", config=OFTEN, device="cpu")
train(world(), steps(FULL, 8), seeds=2, out=out + "/whole", config=OFTEN, device="cpu")
if os.environ["RANK"] == "0":
    shutil.copytree(out + "/whole", out + "/again")
    checkpoints(out + "/again/checkpoints")[-1].unlink()
torch.distributed.barrier()
train(world(), out=out + "/again", config=OFTEN, resume=True, device="cpu")
"""
    (tmp_path / "both.py").write_text(code)
    call = [
        # Accelerate 1.15 makes one process of `--cpu --num_processes 2`, silently.
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu",
        "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
        "--dynamo_backend", "no", "--main_process_port", "0",
        str(tmp_path / "both.py"), str(tmp_path),
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    train(world(), steps(PLAIN, 3), seeds=2, out=tmp_path / "one", config=OFTEN)
    one, two, whole, again = (
        load(tmp_path / name / "checkpoints")
        for name in ("one", "two", "whole", "again")
    )
    for side in ("nets", "discriminators"):
        moments = flat(one[0][f"optim {side}"])
        assert any(key.endswith("exp_avg") for key in moments)
        for key, value in moments.items():
            other = flat(two[0][f"optim {side}"])[key]
            torch.testing.assert_close(other, value, atol=1e-6, rtol=1e-4)
    for ours, theirs in zip(one[1]["history"][1], two[1]["history"][1], strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3, abs=1e-3)
    assert again[1]["step"] == 8 and same(whole[0], again[0])
