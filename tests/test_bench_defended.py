"""The experiment `defences`: a tiny table, whole; its tasks against the theorem."""

from dataclasses import replace

import pytest

pytest.importorskip("accelerate")
from experiments import defended, ours_ablation
from experiments.defended_tasks import Attack, Cost, Nets
from v2v_lite.align.anchors import AnchorConfig

FEW = AnchorConfig(n_runs=2, sample_size=600, n_clusters=6, n_init=4, vote_rounds=1)
NETS = replace(
    ours_ablation.QUICK, axes=6, n_train=800, steps=4, batch=32, anchors=FEW, draws=2
)
WHO = "granite", 600, 0


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(defended, "SETTINGS", (defended.NONE, defended.TOP))
    monkeypatch.setattr(defended, "NOISE", (0.5, 2.0, 4.0))
    return replace(defended.QUICK, n_train=600, pairs=(60, 300), nets=NETS)


def test_the_table(tiny, tmp_path):
    table, missing = defended.measure(tiny, tmp_path, ("cost", "paired"), 0)
    assert missing == ["nets", "attacks"] and "nets" not in table
    none = table["cost"][0]
    assert none["recall"] == [1.0] and none["posts"]["precision"] == [1.0]
    assert none["centred"][0] < 1
    kinds = {(r["kind"], r["attack"], r["pairs"]) for r in table["attacks"]}
    assert ("remove-top", "paired, adapted", 60) in kinds
    assert ("none", "paired", 300) in kinds and ("noise", "paired", 300) in kinds
    dose = table["half_effect"]["posts, paired"]
    assert dose["largest"] == 4 and 0 <= dose["beyond"] <= 1
    assert len(defended.lines(table)) == len(table["cost"]) + len(table["attacks"])


def test_a_rotation_costs_nothing_and_hides_nothing_from_pairs(tmp_path):
    cost = Cost(*WHO, "permute", 0.0).run(tmp_path)
    assert cost["recall"] == 1.0
    plain, turned = (
        Attack(*WHO, kind, 0.0, "paired", 300).run(tmp_path) for kind in ("", "rotate")
    )
    assert turned["rank"] == pytest.approx(plain["rank"], rel=0.01)
    for name in defended.SETS:
        for way in ("paired", "adapted"):
            a, b = (row[name][way]["top1"] for row in (plain, turned))
            assert a == pytest.approx(b, abs=0.01)


def test_rotated_nets_start_as_the_same_map(tmp_path):
    plain, turned = (Nets("OURS", t, NETS).run(tmp_path) for t in (False, True))
    for a, b in zip(plain["initial"], turned["initial"], strict=True):
        assert a["rank"] == pytest.approx(b["rank"], rel=1e-3)
    assert len(turned["final"]) == NETS.seeds
