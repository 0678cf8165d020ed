"""The nonlinear experiment: starts both ways, what may bend, what is kept, a table."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import ttest_1samp
from torch.nn import functional as F

pytest.importorskip("accelerate")
from experiments import bent, nonlinear, starts
from v2v_lite.align import SelfLearn, SelfLearnConfig
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.linalg import whitening
from v2v_lite.spaces import unit
from v2v_lite.vec2vec import Trainer
from v2v_lite.vec2vec.state import TrainState

FEW = AnchorConfig(n_runs=2, sample_size=600, n_clusters=6, n_init=4, vote_rounds=1)
START = starts.Start("minilm", "wordllama", 600, 0)
PAIR = "minilm", "wordllama"


def trial(arm, game, **changes):
    values = {"lr": 0.01, "slow": 0.03, "steps": 2, "n_evals": 1, "batch": 32}
    return bent.Trial(START, arm, game, **(values | {"hidden": 8} | changes))


@pytest.fixture
def rotation():
    g = torch.Generator().manual_seed(3)
    noise = torch.randn(384, 256, generator=g, dtype=torch.float64)
    return torch.linalg.qr(noise)[0], torch.linspace(1, 0.2, 256).double()


@pytest.fixture
def trainer(rotation):
    def make(arm, game="density"):
        (a, b), _, _ = starts.sides_of(START)
        u, rho = rotation  # M = U rho V', with V the identity
        one = trial(arm, game)
        made = Trainer(
            dict(zip(PAIR, (a, b), strict=True)), one.preset, seeds=(0,),
            initial_maps={PAIR: (u * rho).float()[None]}, device="cpu",
        )  # fmt: skip
        before = {
            pair: bent.translate(made, pair, side)
            for pair, side in ((PAIR, a), (PAIR[::-1], b))
        }
        bent.bend(made, arm, one.hidden)
        return made, (a, b), before

    return make


def cosine(a, b):
    return (unit(a) * unit(b)).sum(1).min().item()


@pytest.mark.parametrize("arm", bent.ARMS)
def test_a_training_starts_as_the_linear_map_in_both_directions(trainer, rotation, arm):
    made, (a, b), before = trainer(arm)
    u, rho = rotation
    for pair, side, other, matrix in (
        (PAIR, a, b, u * rho), (PAIR[::-1], b, a, (u * rho).T)
    ):  # fmt: skip
        x = unit(side.vectors - side.mean)
        white = whitening(x, 12_000 / side.n).double()
        truth = unit(x.double() @ white @ matrix)  # self-learning's map, written out
        found = bent.translate(made, pair, side)
        assert torch.allclose(found, before[pair], atol=1e-5)
        assert cosine(found - other.mean, truth.float()) > 0.9999


@pytest.mark.parametrize("arm", bent.ARMS)
def test_only_what_an_arm_names_may_bend(trainer, arm):
    made, _, _ = trainer(arm)
    nets = made.state.networks.nets
    before = {k: v.clone() for k, v in nets.state_dict().items()}
    made.step()
    made.step()  # a hidden layer moves once the last one is not zero
    moved = {k for k, v in nets.state_dict().items() if not torch.equal(v, before[k])}
    backbone = {k for k in before if k.startswith("backbone")}
    curves = {k for k in before if "curve" in k}
    wanted = {"linear": set(), "backbone": backbone, "adapters": curves}[arm]
    assert moved & (backbone | curves) == wanted
    straight = {"inputs.0.weight", "inputs.0.straight.weight"}
    assert moved & straight and "outputs.1.weight" in moved


def test_a_bent_adapter_is_its_formula(trainer):
    made, (a, _), _ = trainer("adapters")
    one = made.state.networks.nets.inputs[0]
    x = unit(a.vectors[:5] - a.mean)[None]
    hidden, last = one.curve[0].linear, one.curve[0].last
    with torch.no_grad():
        last.weight.normal_(generator=torch.Generator().manual_seed(0))
        want = x @ one.straight.weight + F.silu(x @ hidden.weight) @ last.weight
        assert torch.allclose(one(x), want, atol=1e-5)
    entries = (x @ hidden.weight).std().item()
    assert 0.7 < entries < 2.5  # where SiLU bends


def test_the_loss_with_pairs_is_a_cross_entropy_and_falls(trainer, monkeypatch):
    made, _, _ = trainer("adapters")
    _, _, split = starts.sides_of(START)
    pairs = bent.pairs_of(made, split)
    assert {len(rows) for both in pairs.values() for rows in both} == {1200}
    seen, true = pairs["minilm"][0][:9], pairs["wordllama"][1][:9]
    with torch.no_grad():
        nets = made.state.networks.nets
        logits = (bent.direction(nets, made.stats, PAIR, seen) @ true.T / 0.05).double()
    want = (logsumexp(logits.numpy(), axis=1) - logits.diag().numpy()).mean()
    small = {name: (x[:9], y[:9]) for name, (x, y) in pairs.items()}
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.arange(9))
    found = bent.paired_step(made, small, torch.Generator())
    assert found["minilm to wordllama"].item() == pytest.approx(want, rel=1e-4)
    again = bent.paired_step(made, small, torch.Generator())
    assert sum(again.values()) < sum(found.values())


def test_curvature_is_small_for_a_linear_map_and_not_for_a_bent_one():
    (a, b), _, _ = starts.sides_of(starts.Start("minilm", "wordllama", 4000, 0))
    x = unit(a.vectors - a.mean)
    g = torch.Generator().manual_seed(0)
    weight, more = (torch.randn(384, 256, generator=g) for _ in "12")
    straight = unit(b.mean + unit(x @ weight))
    curved = unit(b.mean + unit(x @ weight + 3 * (x @ more).square()))
    assert bent.curvature(a, straight, b.mean) < 0.01
    assert bent.curvature(a, curved, b.mean) > 0.05


# ---- what is kept, and intervals


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0, 0.1))
def test_what_is_kept_is_what_the_trainer_would_keep(scores, delta):
    nothing = SimpleNamespace(state_dict=dict)
    state = SimpleNamespace(
        preset=SimpleNamespace(init="selflearn", min_delta=delta), best=nothing,
        nets=nothing, best_scores=[-1.0], best_steps=[0], step=0,
        evals_without_improvement=0,
    )  # fmt: skip
    for state.step, value in enumerate(scores):
        TrainState.keep_best(state, [value])
    assert nonlinear.kept_at(scores, delta) == state.best_steps[0]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8, unique=True))
def test_the_interval_is_scipys(values):
    found = nonlinear.interval(values)
    if np.std(values) < 1e-6:
        return
    want = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx(
        (want.low, want.high), rel=1e-3, abs=1e-4
    )


# ---- the table


def test_a_small_table(tmp_path, monkeypatch):
    cheap = SelfLearnConfig(anchors=FEW, phases=())
    monkeypatch.setattr(starts, "SelfLearn", lambda: SelfLearn(cheap))
    plan = replace(nonlinear.QUICK, n_train=600, steps=2, paired_steps=2, n_evals=1)
    table, missing = nonlinear.measure(plan, tmp_path)
    assert not missing
    rows = table["unpaired"]["rows"]
    assert len(rows) == 2 * 2 * 2  # seeds, settings, directions
    for row in rows:
        same = [r for r in rows if (r["source"], r["seed"]) == (row["source"],
                row["seed"])]  # fmt: skip
        for key in ("top1", "rank"):  # one start for all
            values = [r["start"][key] for r in same]
            assert values == pytest.approx(values[:1] * len(values), rel=1e-3)
        assert row["kept"] in (row["start"], row["last"])
    for row in table["unpaired"]["gains"]:
        assert row["of"] == 4 and row["mean"]["n"] == 2  # trainings
        some = [r for r in rows if (r["arm"], r["game"]) == (row["arm"], row["game"])]
        gain = np.mean([r[row["when"]]["top1"] - r["start"]["top1"] for r in some])
        assert row["mean"]["gain"] == pytest.approx(gain, abs=1e-5)
    assert len(nonlinear.lines(table)) == 2 * (2 + 1 + 2)
    monkeypatch.setattr(bent.Trial, "run", None)  # whoever measures again fails
    monkeypatch.setattr(starts.Start, "run", None)
    assert nonlinear.measure(plan, tmp_path)[0] == table
