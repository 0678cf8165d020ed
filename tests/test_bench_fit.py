"""The experiment `fit`: its rows by hand, and the whole table in small."""

import pytest
import torch

pytest.importorskip("accelerate")
from experiments import fit, store
from v2v_lite.align import selflearn
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.grow import GrowConfig
from v2v_lite.spaces import load, unit


@pytest.fixture
def pair():
    space = load("wordllama", "eval")
    return space.take(slice(0, 900)), space.take(slice(900, 1000))


def test_widened_rows_keep_their_cosines(pair):
    mapped = fit.widened(pair, 400, 0)
    for before, after in zip(pair, mapped, strict=True):
        assert tuple(after.vectors.shape) == (before.n, 400)
        cosines = [z.vectors[:50] @ z.vectors[:50].T for z in (before, after)]
        assert (cosines[0] - cosines[1]).abs().max() < 6 * fit.NOISE / 400**0.5 + 1e-3
    assert torch.equal(mapped[1].mean, mapped[0].mean)


def test_a_nuisance_has_its_share_of_the_variance(pair):
    moved = fit.with_nuisance(pair, 0.14, 0)
    rows = unit(moved[0].vectors - moved[0].mean)
    values = torch.linalg.eigvalsh(rows.T @ rows / len(rows))
    assert 0.12 < values[-1] / values.sum() < 0.17
    assert torch.equal(moved[1].mean, moved[0].mean)
    # What moved the rows is the direction that the map of another fit leaves out.
    axis, _ = fit.nuisance_axis(256, 0)
    top = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -1]
    assert (axis @ top).abs() > 0.98
    assert fit.with_nuisance(pair, 0.0, 0) == [*pair]  # the very same


def test_the_table(monkeypatch, tmp_path):
    few = AnchorConfig(n_runs=2, sample_size=300, n_clusters=4, n_init=5)
    grow = GrowConfig(axes=(2, 3), n_angles=8, n_steps=4, batch_size=128)
    phase = selflearn.Phase(1, 128, 0.05, 0.6, 0.3)

    def config(**options):
        return selflearn.SelfLearnConfig(few, grow=grow, **options)

    monkeypatch.setattr(fit, "SelfLearnConfig", config)
    monkeypatch.setattr(fit, "PHASES", (phase,) * 4)
    monkeypatch.setattr(fit, "SHORT", (phase,) * 3)
    plan = fit.Plan(
        main=("wordllama", "wordllama"), widths=((256, 256), (520, 300)), n_wide=400,
        n_nuisance=1200, nuisance_seeds=1, pairs=(("wordllama", "minilm"),),
        n_starts=400,
    )  # fmt: skip
    table, missing = fit.measure(plan, tmp_path, ("width",), 0)
    assert missing == ["nuisance", "paired", "starts"]
    widths = [(row["width"], row["target_width"]) for row in table["width"]]
    assert widths == [(256, 256), (520, 300)]
    table, missing = fit.measure(plan, tmp_path, fit.PARTS, 0)
    assert not missing and table["share"] == 0.14
    plain, dropped, kept = table["nuisance"]
    assert (plain["share"], dropped["share"], kept["drop"]) == (0, 0.14, False)
    # With the axis or without it, by the objective; so few rounds cannot tell which.
    assert dropped["objective"] >= kept["objective"]
    assert dropped["detail"].get("target_without", (0,)) == (0,)
    assert "target_without" not in kept["detail"] | plain["detail"]
    # Each map in the other pool: that of the direction costs both.
    assert plain["other"]["share"] == 0.14 and dropped["other"]["share"] == 0
    assert plain["other"]["cosine"] < plain["cosine"]
    assert dropped["cosine"] < dropped["other"]["cosine"] and "other" not in kept
    assert table["paired"][1]["top1"] < table["paired"][0]["top1"] == 1  # one encoder
    assert [row["start"] for row in table["starts"]] == ["anchors", "best"]
    assert len(fit.lines(table)) == 9 and table["starts"][0]["pool"] == 4096
    again, missing = fit.assemble(plan, store.Store(tmp_path / "fit.json"))
    assert again["width"] == table["width"] and not missing
