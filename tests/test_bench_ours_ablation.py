"""The ablation of OURS: one change a row, one start, one criterion, a small table."""

from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

pytest.importorskip("accelerate")
from experiments import ours_ablation as experiment
from experiments.vec2vec import ANCHORED
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.linalg import whitening
from v2v_lite.spaces import unit

FEW = AnchorConfig(n_runs=2, sample_size=600, n_clusters=6, n_init=4, vote_rounds=1)
TINY = replace(
    experiment.QUICK, axes=6, n_train=800, steps=4, batch=32, anchors=FEW, draws=2
)


def flat(preset):
    found = {}
    for key, value in asdict(preset).items():
        inner = value if isinstance(value, dict) else {"": value}
        found |= {(key, name): v for name, v in inner.items()}
    return found


@pytest.mark.parametrize("name", experiment.ROWS)
def test_a_row_changes_what_it_names_and_no_more(name):
    own, row = (
        flat(experiment.preset_of(n, experiment.FULL))
        for n in (experiment.FULL_ROW, name)
    )
    changed = {key for key in own if own[key] != row[key]}
    named = {
        (field, "") if part == "" else (part, field)
        for part, fields in experiment.ROWS[name].items()
        for field in fields
    }
    assert changed == named
    smaller = {("optim", key) for key in ("batch_size", "steps", "d_lr")}
    assert {k for k in own if own[k] != flat(ANCHORED)[k]} == smaller


def test_all_rows_start_as_one_map_whatever_their_coordinates():
    problem = experiment.fixtures(TINY)

    def raw(name):  # the start between rows before any whitening
        preset = experiment.preset_of(name, TINY)
        white = []
        for space in problem.sides:
            x = unit(space.vectors - space.mean)
            prior = preset.whitening_rows / len(x)
            white.append(whitening(x, prior) if prior else torch.eye(x.shape[1]))
        return white[0] @ problem.maps_for(preset) @ torch.linalg.inv(white[1])

    full = raw(experiment.FULL_ROW)
    for name in ("whitening prior / 10", "whitening prior x 10", "shared read-out"):
        assert torch.allclose(raw(name), full, atol=1e-4)
    bare = raw("no spectral filter")
    assert torch.allclose(raw("no whitening, no filter"), bare, atol=1e-4)
    # Without a filter the start is the rotation that the filtered rows begin as, too.
    maps = problem.maps_for(experiment.preset_of("no spectral filter", TINY))
    assert torch.allclose(maps @ maps.mT, torch.eye(6).expand(2, -1, -1), atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=8, unique=True),
       st.integers(1, 20))  # fmt: skip
def test_the_interval_is_scipys(gaps, rows):
    if experiment.standard_error(gaps) < 1e-6:
        return
    want = ttest_1samp(gaps, 0).confidence_interval(1 - 0.05 / rows)
    found = experiment.interval(gaps, rows)
    assert found == pytest.approx((want.low, want.high), rel=1e-4, abs=1e-6)


def test_the_criterion_follows_from_the_interval():
    assert experiment.verdict(0.1, 0.2) == "better"
    assert experiment.verdict(-0.2, -0.1) == "worse"
    assert experiment.verdict(-0.1, 0.1) == "not told apart"


def test_a_small_table(tmp_path, monkeypatch):
    names = (experiment.FULL_ROW, "no game", "no EMA", "least squares")
    few = {name: experiment.ROWS[name] for name in names}
    monkeypatch.setattr(experiment, "ROWS", few)
    table, missing = experiment.measure(TINY, tmp_path)
    assert not missing and [row["name"] for row in table["rows"]] == list(names)
    full, quiet, *_ = table["rows"]
    assert full["gap"] == 0 and full["verdict"] == "not told apart"
    assert all(row["initial"] == full["initial"] for row in table["rows"])
    gaps = [a["top1"] - b["top1"] for a, b in zip(quiet["final"], full["final"],
            strict=True)]  # fmt: skip
    assert quiet["gap"] == pytest.approx(sum(gaps) / 2, abs=1e-5)
    assert len(experiment.lines(table)) == len(names)
    monkeypatch.setattr(experiment.Row, "run", None)  # whoever measures again fails
    assert experiment.measure(TINY, tmp_path)[0] == table
