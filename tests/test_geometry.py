"""The experiment `geometry`: cases break what they say and nothing else."""

from dataclasses import replace

import pytest
import torch

from experiments import cases, geometry, store, trials
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.selflearn import Phase, SelfLearnConfig
from v2v_lite.spaces import DataError, check_disjoint
from v2v_lite.teaching import results

PAIR = ("minilm", "wordllama")
TINY = SelfLearnConfig(
    AnchorConfig(
        n_runs=3, sample_size=200, n_clusters=4, n_init=2, vote_rounds=1, n_restarts=1
    ),
    phases=(Phase(1, 128, 0.05, 1.0, 0.0),),
)


def made(change, level, n=200, seed=0):
    return cases.make(*PAIR, change, level, n, 100, seed)


@pytest.mark.parametrize("change", sorted({*cases.CHANGES} - {"near-duplicates"}))
def test_no_text_stands_on_both_sides_or_in_the_pool(change):
    level = geometry.LEVELS.get(change, (1,))[-1]
    sides = made(change, level if level != 16384 else 300)
    source, target = sides.train()
    check_disjoint(source, target)
    for space in (source, target):
        assert not torch.isin(space.ids, sides.a.ids[sides.pool]).any()
    assert torch.equal(sides.a.ids, sides.b.ids)
    torch.testing.assert_close(source.mean, source.vectors.mean(0), atol=1e-5, rtol=0)
    assert torch.equal(sides.test()[0].mean, source.mean)


def test_topics_part_by_the_share_that_the_level_says():
    group = cases._groups()
    assert 0.4 < group.float().mean() < 0.6
    for level in (0, 0.5, 1):
        sides = made("other topics", level)
        share = group[sides.rows_a].float().mean().item()
        other = group[sides.rows_b].float().mean().item()
        assert share == pytest.approx((1 - level) / 2, abs=0.01)
        assert other == pytest.approx((1 + level) / 2, abs=0.01)


def test_near_duplicates_are_the_sources_own_texts_a_little_moved():
    sides = made("near-duplicates", 0.25)
    twins = torch.isin(sides.rows_b, sides.rows_a)
    assert twins.sum() == 50
    was = cases.space_of("wordllama").vectors[sides.rows_b[twins]]
    now = sides.b.vectors[sides.rows_b[twins]]
    assert 0.9 < (was * now).sum(1).mean() < 0.99


def test_lengths_part_each_set_by_its_own_middle():
    sides = made("lengths", 1)
    texts = [t for name in cases.SETS for t in cases.load_documents(name).texts]
    size = torch.tensor([len(t) for t in texts])
    start = 0
    for n in cases._sizes():
        inside = [
            r[(r >= start) & (r < start + n)] for r in (sides.rows_a, sides.rows_b)
        ]
        assert size[inside[0]].max() <= size[inside[1]].min()
        start += n


def test_post_processing_is_what_it_is_called():
    plain = cases.space_of("minilm").vectors
    assert made("prefix", 64).a.d == 64 and made("pca", 32).a.d == 32
    assert set(made("bits", 1).a.vectors[0].sign().tolist()) == {-1, 1}
    four = made("bits", 4).a.vectors
    assert torch.cosine_similarity(four, plain).mean() > 0.95
    sides = made("top directions removed", 3)
    x = plain[sides.rows_a]
    top = torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][:3]
    assert (sides.a.vectors[sides.rows_a] @ top.T).abs().max() < 1e-3


def test_a_quick_plan_from_task_to_table(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "FIT", TINY)
    monkeypatch.setattr(geometry, "LEVELS", {"pca": (16,)})
    monkeypatch.setattr(geometry, "VARIANTS", (("", 0), ("pca", 16)))
    plan = replace(
        geometry.QUICK, n=300, pool=120, consensus_rows=300, transport_rows=(20,),
        studied=(("wordllama", "minilm", 2),),
        pairs=(("minilm", "wordllama"), ("granite", "minilm")),
    )  # fmt: skip
    tasks = [t for p in geometry.PARTS for g in geometry.tasks_of(p, plan) for t in g]
    assert len({t.key for t in tasks}) == len(set(tasks))
    table, missing = geometry.measure(plan, tmp_path, geometry.PARTS[:1], 0)
    assert missing == list(geometry.PARTS[1:])
    table, missing = geometry.measure(plan, tmp_path, geometry.PARTS, 0)
    assert not missing
    base, cut = table["assumptions"]
    assert (base["change"], cut["level"], base["seeds"]) == ("", 16, 2)
    assert set(table["alignability"]["spearman"]) == set(geometry.PREDICTORS)
    (run,) = table["consensus"]
    assert len(run["pairwise"]) == 12 and run["triangles"] < 1e-5
    assert run["via_narrow_space"] == pytest.approx(run["implied"], abs=1e-4)
    assert len(table["transport"]) == 2
    assert len(geometry.lines(table)) == 2
    again, _ = geometry.assemble(plan, store.Store(tmp_path / "geometry.json"))
    assert again == table


def test_four_spaces_share_no_text():
    spaces = trials.quarters(50, seed=1)
    ids = torch.cat([space.ids for space in spaces.values()])
    assert len(ids.unique()) == 200


def test_the_interval_redraws_pairs():
    rows = [
        {"source": s, "target": t, "rank": float(rank), "cka": -float(rank)}
        for rank, (s, t) in enumerate([("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")])
    ]
    found = geometry._correlation(rows, "cka", draws=50)
    assert found["rho"] == 1 and found["low"] == found["high"] == 1


def test_the_stored_result_has_all_parts():
    try:
        table = results.load("geometry")["table"]
    except DataError:
        pytest.skip("not measured yet")
    assert set(geometry.PARTS) <= set(table)
    for run in table["consensus"]:
        assert run["triangles"] < 1e-5
