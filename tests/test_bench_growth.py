"""The experiment `growth`: small fits, whole table, and what a pair may decide."""

import pytest
import torch

pytest.importorskip("accelerate")
from experiments import growth, store
from v2v_lite.align import selflearn
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.grow import GrowConfig


@pytest.fixture
def quick(monkeypatch):
    """Two stages, two short phases, few anchors."""
    grow = GrowConfig(axes=(2, 3, 4), n_angles=8, n_steps=8, batch_size=128)
    phase = selflearn.Phase(2, 256, 0.05, 0.6, 0.3)
    anchors = AnchorConfig(n_runs=2, sample_size=300, n_clusters=4, n_init=5)

    def config(start, n_init, phases):
        return selflearn.SelfLearnConfig(
            anchors, phases, 500, n_init=n_init, start=start, grow=grow
        )

    monkeypatch.setattr(growth, "PHASES", (phase,) * 3)
    monkeypatch.setattr(growth, "GrowConfig", lambda: grow)
    monkeypatch.setattr(growth, "SelfLearnConfig", config)
    return growth.Plan(
        pairs=(("wordllama", "minilm"),), n_train=600, n_topics=600, main_seeds=1,
        seeds=1, topic_seeds=1, topics=(("minilm", "granite"),),
    )  # fmt: skip


def test_the_table(quick, tmp_path):
    table, missing = growth.measure(quick, tmp_path, ("main",), 0)
    assert missing == ["pairs", "topics", "topics_best"]
    table, missing = growth.measure(quick, tmp_path, growth.PARTS, 0)
    assert not missing and len(table["topics"]) == len(growth.STARTS)
    row = table["main"][0]
    assert row["pool"] == 4096 and [s["k"] for s in row["stages"]] == [2, 3, 4]
    # With pairs the plane is found: the reference is better than chance, 2,048.
    assert row["stages"][-1]["paired_rank"] < 600
    assert table["pairs"][0]["start"] == "grown"
    assert {row["start"] for row in table["topics"]} == set(growth.STARTS)
    (best,) = table["topics_best"]
    assert best["start"] in growth.STARTS and best["seed"] == 0
    one, two = table["pairs"]
    assert (one["attempt"], two["attempt"]) == (0, 1)
    assert one["grown_rank"] != two["grown_rank"]  # another game, on the same rows
    (best,) = table["pairs_best"]
    assert best["objective"] == max(one["objective"], two["objective"])
    assert len(growth.lines(table)) == 6
    again, missing = growth.assemble(quick, store.Store(tmp_path / "growth.json"))
    assert again == table and not missing


def test_pairs_decide_nothing(quick):
    """The fit of a seed is the same whatever the evaluation pairs are."""
    split = growth.split_of("minilm", "granite", 600, 0)
    models = [
        growth.fitted("grown", 2, split.source, split.target, 0)[0] for _ in range(2)
    ]
    growth.judged(models[0], split.eval_source, split.eval_target)
    assert torch.equal(models[0].weight, models[1].weight)
