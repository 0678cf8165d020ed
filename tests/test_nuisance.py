"""Nuisance axes: spectra by hand, and worlds in which one side has an axis too many."""

from dataclasses import replace

import pytest
import torch

from v2v_lite.align import Phase, SelfLearn, SelfLearnConfig, selflearn
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.linalg import random_orthogonal
from v2v_lite.align.nuisance import hypotheses, mismatch, without_nuisance
from v2v_lite.spaces import unit

FALLING = 1 / torch.arange(1.0, 21.0) ** 1.5
NOTHING = ((), ())


def test_a_mismatch_is_the_mean_of_absolute_logs():
    one, other = torch.ones(10), torch.tensor([2.0] * 4 + [1.0] * 6)
    # Shares: a tenth each; of 14 parts two for each of four, one for each of the rest.
    expected = (4 * abs(torch.tensor(1.4 / 2).log()) + 4 * torch.tensor(1.4).log()) / 8
    assert mismatch(one, other) == pytest.approx(expected.item(), rel=1e-6)
    assert mismatch(FALLING, 3 * FALLING) == pytest.approx(0, abs=1e-6)


def test_like_spectra_suggest_nothing():
    assert hypotheses(FALLING, 5 * FALLING) == []
    assert hypotheses(FALLING, FALLING[:7]) == []  # too narrow to compare


@pytest.mark.parametrize("axes", [(0,), (2,), (0, 1, 2)])
def test_the_axes_that_one_side_alone_has_are_suspected_first(axes):
    extra = FALLING[[i for i in range(20) if i not in axes]]
    none, first, *_ = hypotheses(FALLING, extra)
    assert none == NOTHING and first == (axes, ())
    none, first, *_ = hypotheses(extra, FALLING)
    assert first == ((), axes)


def worlds(n=1500, d=32):
    """Rows of 24 topics on both sides, other draws, the target's turned."""
    g = torch.Generator().manual_seed(0)
    scale = 0.93 ** torch.arange(float(d))
    centres = torch.randn(24, d, generator=g)
    turn = random_orthogonal(d, generator=g)

    def rows():
        topics = centres[torch.randint(24, (n,), generator=g)]
        return (topics + 0.2 * torch.randn(n, d, generator=g)) * scale

    x, y = rows(), rows()
    lengths, axis = torch.randn(n, 1, generator=g), random_orthogonal(d, generator=g)[0]
    return x, y @ turn, y @ turn + 2.2 * lengths * axis


def centred(z):
    return unit(z - z.mean(0))


def test_an_axis_without_meaning_is_found_and_left_out():
    x, plain, y = worlds()
    x, plain, y = map(centred, (x, plain, y))
    assert without_nuisance(x, plain, (None, None), 0) == ((None, None), NOTHING)
    (front_x, front_y), found = without_nuisance(x, y, (None, None), 0)
    assert found == ((), (0,))
    assert torch.allclose(front_x, torch.eye(32), atol=1e-6)
    # A projection of rank d - 1, along the direction of most variance.
    top = torch.linalg.eigh(y.T @ y).eigenvectors[:, -1]
    assert torch.allclose(front_y, torch.eye(32) - torch.outer(top, top), atol=1e-5)
    assert without_nuisance(x[:500], y[:500], (None, None), 0)[1] == NOTHING  # few


def test_a_fit_says_what_it_left_out_and_its_map_holds_nothing_of_it():
    x, _, y = worlds()
    few = AnchorConfig(n_runs=3, sample_size=800, n_clusters=8, n_init=10)
    model = SelfLearn(SelfLearnConfig(few, phases=())).fit(unit(x), unit(y), seed=0)
    assert model.history[0].detail["target_without"] == (0,)
    rows = centred(unit(y))
    top = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -1]
    assert (model.weight @ top).norm() < 1e-4 * model.weight.norm()
    config = SelfLearnConfig(few, phases=(), drop_nuisance=False)
    kept = SelfLearn(config).fit(unit(x), unit(y), seed=0)
    assert "target_without" not in kept.history[0].detail
    assert (kept.weight @ top).norm() > 1e-2 * kept.weight.norm()


def test_what_was_left_out_comes_back_if_the_objective_is_higher_with_it(monkeypatch):
    x, plain, y = map(unit, worlds())
    few = AnchorConfig(n_runs=3, sample_size=800, n_clusters=8, n_init=10)
    phases = 2 * (Phase(4, 400, 0.05, singular_value_exponent=0.6, ema_decay=0.3),)
    config = SelfLearnConfig(few, phases, n_init=1)
    # An axis of the target alone: the fit without it agrees better, and is kept.
    model = SelfLearn(config).fit(x, y, seed=0)
    assert model.history[0].detail["target_without"] == (0,)
    whole = SelfLearn(replace(config, drop_nuisance=False)).fit(x, y, seed=0)
    assert model.history[2].objective > whole.history[2].objective
    # An axis that both have, left out by mistake: the fit with it is kept instead.
    gone = torch.linalg.eigh(centred(plain).T @ centred(plain)).eigenvectors[:, -3:]
    front = torch.eye(32) - gone @ gone.T
    wrong = lambda x, y, fronts, seed: ((None, front), ((), (0, 1, 2)))  # noqa: E731
    monkeypatch.setattr(selflearn, "without_nuisance", wrong)
    back = SelfLearn(config).fit(x, plain, seed=0)
    kept = SelfLearn(replace(config, drop_nuisance=False)).fit(x, plain, seed=0)
    assert torch.equal(back.weight, kept.weight)
    assert "target_without" not in back.history[0].detail
    # After a single phase the objective says too little, so none is compared.
    early = SelfLearn(replace(config, phases=phases[:1])).fit(x, plain, seed=0)
    assert early.history[0].detail["target_without"] == (0, 1, 2)
