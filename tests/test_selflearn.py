"""Self-learning against Sinkhorn's conditions, POT-free limits, and real vectors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from v2v_lite.align import (
    METHODS,
    MiniConfig,
    MiniVec2Vec,
    SelfLearn,
    SelfLearnConfig,
    Translator,
)
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.linalg import leading_axes, polar, whitening
from v2v_lite.align.selflearn import Phase, SharedSubspace, self_learn
from v2v_lite.align.sinkhorn import sinkhorn_plan
from v2v_lite.measure import score
from v2v_lite.spaces import DataError, Space, load, unit, unpaired


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 30), m=st.integers(2, 30),
    temperature=st.floats(0.05, 1.0), seed=st.integers(0, 999),
)  # fmt: skip
def test_a_plan_has_uniform_columns_and_nearly_uniform_rows(n, m, temperature, seed):
    g = torch.Generator().manual_seed(seed)
    cosines = torch.rand(n, m, generator=g, dtype=torch.float64) * 2 - 1
    plan = sinkhorn_plan(cosines.clone(), temperature, 500)
    assert torch.allclose(plan.sum(0), torch.full((m,), 1 / m, dtype=plan.dtype))
    assert (plan.sum(1) - 1 / n).abs().max() < 1e-3 / n + 1e-6
    assert (plan > 0).all()


def test_a_cold_plan_is_the_best_assignment():
    g = torch.Generator().manual_seed(5)
    cosines = torch.rand(12, 12, generator=g, dtype=torch.float64) * 0.5
    plan = sinkhorn_plan(cosines.clone(), 0.002, 20_000)
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    assert plan.argmax(dim=1).tolist() == columns.tolist()


def test_a_hot_plan_is_uniform():
    plan = sinkhorn_plan(torch.rand(7, 9, dtype=torch.float64), 1e6, 5)
    assert torch.allclose(plan, torch.full((7, 9), 1 / 63, dtype=torch.float64))


@pytest.mark.parametrize("temperature", [0.01, 0.002, 1e-5])
def test_a_temperature_too_low_for_float32_is_refused(temperature):
    g = torch.Generator().manual_seed(0)
    rows = unit(torch.randn(300, 16, generator=g))
    with pytest.raises(DataError, match="temperature is too low for torch.float32"):
        sinkhorn_plan(rows @ rows.flip(0).T * 0.05, temperature, 50)
    with pytest.raises(DataError, match="temperature = 0"):
        sinkhorn_plan(rows @ rows.T, 0, 50)


def test_features_weigh_directions_by_what_they_share():
    shared = SharedSubspace(torch.eye(2), torch.tensor([4.0, 1.0]), torch.eye(2))
    rows = torch.tensor([[1.0, 1.0]])
    phi, _ = shared.features(rows, rows, exponent=0.5)
    assert phi[0].tolist() == pytest.approx([2 / 5**0.5, 1 / 5**0.5])


def test_true_directions_are_kept_and_near_ones_are_improved():
    # Two samples of one skewed cloud: the true map is the identity.
    def cloud(seed):
        g = torch.Generator().manual_seed(seed)
        which = torch.randint(20, (1200,), generator=g)
        centres = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
        return unit(centres[which] + 0.2 * torch.randn(1200, 8, generator=g))

    x, y = (z - z.mean(0) for z in (cloud(2), cloud(3)))
    x, y = x @ whitening(x, 0.1), y @ whitening(y, 0.1)
    g = torch.Generator().manual_seed(4)
    start = polar(torch.eye(8) + 0.35 * torch.randn(8, 8, generator=g))
    before = torch.trace(start).item() / 8
    phase = Phase(15, 800, 0.05, singular_value_exponent=0.5, ema_decay=0.3)
    g = torch.Generator().manual_seed(0)
    after, objective = self_learn(x, y, SharedSubspace.of(start), phase, 6, g)
    found = torch.trace(after.u @ after.v.T).item() / 8
    assert found > max(before, 0.95)
    assert 0 < objective <= 1


SMALL = SelfLearnConfig(
    anchors=AnchorConfig(sample_size=6000, n_clusters=24, n_init=60),
    phases=(
        Phase(10, 1500, 0.05, singular_value_exponent=1.0, ema_decay=0.3),
        Phase(12, 3000, 0.04, singular_value_exponent=0.6, ema_decay=0.3),
    ),
)


@pytest.fixture(scope="module")
def fitted():
    split = unpaired(load("minilm"), load("granite"), seed=5, n_train=8000)
    return split, SelfLearn(SMALL).fit(split.source, split.target, seed=1)


def test_real_encoders_are_aligned_without_a_pair(fitted):
    split, model = fitted
    found = score(model.translate(split.eval_source), split.eval_target)
    assert found.pool == 4096
    assert found.top1.mean > 0.4  # chance is 0.0002
    assert found.rank.mean < 40  # and 2,048


def test_every_stage_has_its_objective(fitted):
    names = [stage.name for stage in fitted[1].history]
    assert names == ["anchors", "self-learn 1", "self-learn 2"]
    assert all(0 < stage.objective <= 1 for stage in fitted[1].history)


def test_saved_and_loaded_it_translates_alike(fitted, tmp_path):
    split, model = fitted
    model.save(tmp_path / "m")
    rows = split.eval_source.take(slice(0, 50))
    again = Translator.load(tmp_path / "m").translate(rows)
    assert torch.equal(again, model.translate(rows))


def test_one_seed_is_one_result_and_widths_may_differ():
    split = unpaired(load("minilm"), load("wordllama"), seed=2, n_train=1200)
    tiny = SelfLearnConfig(
        anchors=AnchorConfig(3, 800, 6, n_init=10, vote_rounds=1),
        phases=(Phase(2, 400, 0.05, singular_value_exponent=1, ema_decay=0),),
    )
    fits = [SelfLearn(tiny).fit(split.source, split.target, seed=3) for _ in range(2)]
    assert torch.allclose(fits[0].weight, fits[1].weight, atol=1e-4)
    assert fits[0].weight.shape == (384, 256)


def test_bad_input():
    few = Space.of(torch.randn(10, 8))
    with pytest.raises(DataError, match="rows"):
        SelfLearn().fit(few, few)
    with pytest.raises(DataError, match="temperature"):
        Phase(1, 10, 0, 1, 0)
    with pytest.raises(DataError, match="shrinkage_rows"):
        SelfLearnConfig(shrinkage_rows=0)


@pytest.mark.parametrize("kind", [SelfLearn, MiniVec2Vec])
def test_wide_rows_are_fitted_in_their_leading_axes(kind):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(700, 530, generator=g) * 0.99 ** torch.arange(530.0)
    y = torch.randn(600, 12, generator=g)
    few = AnchorConfig(n_runs=2, sample_size=300, n_clusters=5, n_init=4, n_restarts=1)
    small = {
        SelfLearn: SelfLearnConfig(few, phases=()),
        MiniVec2Vec: MiniConfig(2, 300, 5, 2, 10, 1, 200, 10),
    }[kind]
    for source, target in ((x, y), (y, x)):
        model = kind(small).fit(unit(source), unit(target), seed=0)
        assert tuple(model.weight.shape) == (source.shape[1], target.shape[1])
        rows = unit(x) - unit(x).mean(0)
        axes = leading_axes(unit(rows), 512)
        wide = model.weight if source is x else model.weight.T
        outside = wide - axes @ (axes.T @ wide)
        assert outside.norm() < 1e-3 * wide.norm()
        assert model.translate(unit(source[:3])).shape == (3, target.shape[1])


def test_narrow_rows_are_fitted_as_they_are():
    class Whole(SelfLearn):
        name = "whole"
        narrows = False

    try:
        g = torch.Generator().manual_seed(0)
        x, y = (unit(torch.randn(300, 20, generator=g)) for _ in "xy")
        few = AnchorConfig(n_runs=2, sample_size=300, n_clusters=5, n_init=4)
        config = SelfLearnConfig(few, phases=())
        fits = [kind(config).fit(x, y, seed=0).weight for kind in (SelfLearn, Whole)]
        assert torch.equal(*fits)
    finally:
        del METHODS["whole"]
