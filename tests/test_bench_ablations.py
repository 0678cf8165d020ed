"""The ablations: intervals of SciPy's, axes of NumPy's, a small table as a whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

pytest.importorskip("accelerate")
from experiments import ablations
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.teaching.comparison import split_of
from v2v_lite.teaching.worlds import REDUCED, on_axes

FEW = AnchorConfig(n_runs=2, sample_size=600, n_clusters=6, n_init=4, vote_rounds=1)
TINY = ablations.Plan(
    axes=6, n_train=800, seeds=2, steps=4, n_evals=2, anchors=FEW, success_fraction=0.0
)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_scipys(both):
    wins, runs = both
    want = binomtest(wins, runs).proportion_ci(method="wilson")
    assert ablations.wilson(wins, runs) == pytest.approx(tuple(want), abs=1e-6)


def test_rows_go_on_the_axes_of_the_training_rows():
    split = split_of("minilm", "wordllama", 500, 0)
    train, pool = on_axes(5, split.source, split.eval_source)
    x = (split.source.vectors - split.source.mean).double().numpy()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    axes = np.linalg.svd(x, full_matrices=False)[2][:5]
    want = x @ axes.T
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    assert np.allclose(np.abs(want), train.vectors.abs(), atol=1e-4)
    assert (train.d, pool.n) == (5, split.eval_source.n)


def test_a_table_is_measured_once_and_its_rows_share_their_starts(
    tmp_path, monkeypatch
):
    few = {
        name: ablations.ROWS[name] for name in ("full", "no adversary", "paper's VSP")
    }
    monkeypatch.setattr(ablations, "ROWS", few)
    table = ablations.measure(TINY, tmp_path)[0]
    full, quiet, printed = table["rows"]
    assert [row["name"] for row in table["rows"]] == list(few)
    assert full["initial"] == quiet["initial"] == printed["initial"]
    assert full["final"] != quiet["final"] != printed["final"]
    assert full["successes"] == full["seeds"] == 2 and full["only_full"] == 0
    assert [point["step"] for point in full["curve"]] == [0, 2, 4]
    assert 0 < table["paired"]["top1"] < 1 and table["problem"]["pool"] == 4096
    monkeypatch.setattr(ablations.Row, "run", None)  # whoever measures again fails
    assert ablations.measure(TINY, tmp_path)[0] == table


def test_a_row_counts_what_reaches_the_bar():
    def seeds(*values):
        return [{"top1": v, "rank": 10.0} for v in values]

    found = {"curve": {"0": seeds(0.1, 0.1, 0.1), "9": seeds(0.5, 0.4, 0.1)},
             "seconds": 1.0}  # fmt: skip
    row = ablations.row_of("full", found, 0.4)
    assert row["succeeded"] == [True, True, False] and row["successes"] == 2
    assert row["interval"] == pytest.approx(ablations.wilson(2, 3), rel=1e-4)
    assert row["curve"][-1] == {"step": 9, "top1": 0.4, "rank": 10.0}


def test_a_row_changes_nothing_but_its_losses():
    for changes in ablations.ROWS.values():
        assert replace(REDUCED.loss, **changes) is not None
    assert ablations.ROWS["full"] == {}
    assert torch.equal(*(ablations.fixtures(TINY)[2] for _ in "12"))
