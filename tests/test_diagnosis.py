"""The diagnosis against maps whose worth is known, on rows no fit has seen."""

import pytest
import torch

from v2v_lite.align import Procrustes, RandomRotation, diagnose
from v2v_lite.align.diagnosis import combined_score, label_of, nearest_neighbor_score
from v2v_lite.spaces import DataError, Space, load, unit, unpaired


@pytest.fixture(scope="module")
def split():
    return unpaired(load("minilm"), load("granite"), seed=3)


@pytest.fixture(scope="module")
def good():
    """A right map, fitted with pairs: the diagnosis must find it right without."""
    rows = slice(0, 8000)
    return Procrustes().fit(load("minilm").take(rows), load("granite").take(rows))


def test_a_right_map_is_aligned_and_a_random_one_failed(split, good):
    random = RandomRotation().fit(split.source, split.target, seed=0)
    right = diagnose(good, *split.unseen())
    wrong = diagnose(random, *split.unseen())
    assert right.verdict == "aligned" and wrong.verdict == "failed"
    assert right.score > wrong.score + 0.3
    for trace in ("density", "anchor", "closeness", "csls"):
        assert getattr(right, trace) > getattr(wrong, trace), trace
    assert right.cycle < wrong.cycle


def test_the_score_falls_as_the_map_is_spoiled(split, good):
    kept, scores = good.weight, []
    noise = torch.randn(384, 384, generator=torch.Generator().manual_seed(0)) / 384**0.5
    for share in (0.0, 0.5, 0.8, 1.0):
        good.weight = (1 - share) * kept + share * noise
        scores.append(diagnose(good, *split.unseen()).score)
    good.weight = kept
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 2 * scores[-1]


def test_agreement_is_the_mean_cosine_of_the_translations(split, good):
    other = Procrustes().fit(
        load("minilm").take(slice(9000, 12_000)),
        load("granite").take(slice(9000, 12_000)),
    )
    source, target = split.unseen()
    found = diagnose(good, source, target, other_seeds=[other])
    cores = [unit(m.translate(source) - target.mean) for m in (good, other)]
    by_hand = (cores[0] * cores[1]).sum(1).mean().item()
    assert found.agreement == pytest.approx(by_hand, abs=1e-4)
    alone = diagnose(good, source, target)
    assert alone.agreement is None
    assert found.score == pytest.approx(alone.score * by_hand**0.5, rel=1e-3)


def test_one_seed_is_one_diagnosis(split, good):
    assert diagnose(good, *split.unseen(), n=500) == diagnose(
        good, *split.unseen(), n=500
    )


def test_closeness_of_the_same_cloud_is_one_and_of_a_turned_one_zero():
    g = torch.Generator().manual_seed(1)
    axes = torch.linspace(1, 0.05, 12)
    cloud = unit(torch.randn(1600, 12, generator=g) * axes + 0.3 * axes)
    turned, _ = torch.linalg.qr(torch.randn(12, 12, generator=g))
    assert nearest_neighbor_score(cloud[:800], cloud[800:], g) == pytest.approx(
        1, abs=0.1
    )
    assert nearest_neighbor_score(cloud[:800] @ turned, cloud[800:], g) < 0.6


def test_scores_are_within_their_range_and_words_follow():
    assert combined_score(2.0, 3.0) == 1
    assert combined_score(-1.0, 0.5) == 0
    assert combined_score(0.49, 0.49, 1.0) == pytest.approx(0.49)
    assert [label_of(s) for s in (0.9, 0.38, 0.1)] == ["aligned", "partial", "failed"]


def test_few_rows_are_refused(good):
    few = Space.of(torch.randn(30, 384))
    with pytest.raises(DataError, match="40 a side"):
        diagnose(good, few, few)


def test_any_function_of_rows_can_be_diagnosed(split, good):
    sides = split.unseen()
    found = diagnose(lambda rows: good.translate(rows), *sides, n=300)
    assert found == diagnose(good, *sides, n=300)
