"""Recall, nDCG, the mixed index and its calibration, against sums written by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2v_lite.measure import topk
from v2v_lite.measure.search import (
    Calibration,
    TopK,
    mixed_index,
    mixed_of,
    ndcg_at,
    recall_at,
)
from v2v_lite.spaces import DataError, unit

answers = st.integers(1, 8).flatmap(
    lambda k: st.tuples(*[st.permutations(range(12)).map(lambda p: p[:k])] * 2)
)


@given(both=answers)
@settings(max_examples=60, deadline=None)
def test_recall_and_ndcg_are_the_sums_of_their_definitions(both):
    found, true = both
    k = len(true)
    gain = {document: k - place for place, document in enumerate(true)}
    dcg = sum(gain.get(j, 0) / math.log2(p + 2) for p, j in enumerate(found))
    best = sum((k - p) / math.log2(p + 2) for p in range(k))
    one, two = torch.tensor([found]), torch.tensor([true])
    assert ndcg_at(one, two).item() == pytest.approx(dcg / best, abs=1e-5)
    recall = len(set(found) & set(true)) / k
    assert recall_at(one, two).item() == pytest.approx(recall)


def test_places_count_in_ndcg_and_not_in_recall():
    true = torch.tensor([[0, 1, 2], [0, 1, 2]])
    found = torch.tensor([[0, 1, 9], [9, 1, 0]])
    assert recall_at(found, true).tolist() == pytest.approx([2 / 3, 2 / 3])
    # (3 + 2/log2 3) and (2/log2 3 + 3/2), of 3 + 2/log2 3 + 1/2
    first = 2 / math.log2(3)
    wanted = [(3 + first) / (3.5 + first), (first + 1.5) / (3.5 + first)]
    assert ndcg_at(found, true).tolist() == pytest.approx(wanted)


def test_answers_of_different_number_are_refused():
    with pytest.raises(DataError, match=r"\(1, 2\) and true \(1, 3\)"):
        recall_at(torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(DataError, match="k answers"):
        ndcg_at(torch.zeros(1, 0), torch.zeros(1, 0))


def rows(n, d=24, seed=0):
    """Rows of twelve subjects."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(12, d, generator=torch.Generator().manual_seed(99))
    which = torch.randint(12, (n,), generator=g)
    return unit(centres[which] + 0.6 * torch.randn(n, d, generator=g))


def blurred(x, seed=5):
    """What a translation does: rows a little farther from everything."""
    g = torch.Generator().manual_seed(seed)
    return unit(x + 0.12 * torch.randn(x.shape, generator=g))


def best_scores(queries, x, k):
    return np.sort(queries.numpy() @ x.numpy().T, axis=1)[:, -k:]


def test_a_calibration_matches_mean_and_sd_of_the_best_scores():
    queries, native = rows(40, seed=1), rows(300)
    translated = blurred(rows(200, seed=2))
    tops = (topk(queries, z[:200], 7)[0] for z in (native, translated))
    c = Calibration.match(*tops)
    one, two = (best_scores(queries, z[:200], 7) for z in (native, translated))
    assert c.scale == pytest.approx(one.std(ddof=1) / two.std(ddof=1), rel=1e-4)
    assert c.shift == pytest.approx(one.mean() - c.scale * two.mean(), abs=1e-4)
    after = c.scale * two + c.shift
    assert after.mean() == pytest.approx(one.mean(), abs=1e-5)
    assert c(torch.tensor([0.5])).item() == pytest.approx(c.scale / 2 + c.shift)


def test_a_mixed_index_is_one_index_of_inner_products():
    queries, native, known = rows(30, seed=1), rows(50), rows(60, seed=2)
    translated, numbers = blurred(known), ~torch.arange(60)
    one, two = TopK(queries, 9).add(native), TopK(queries, 9).add(translated, numbers)
    true = TopK(queries, 9).add(native).add(known, numbers)
    found = mixed_of(one, two, one, two, true, store=60 / 110)
    truth = torch.where(true.at < 0, 50 + ~true.at, true.at).tolist()
    for c, share, recall in (
        (Calibration(), found.before, found.recall_before),
        (found.calibration, found.after, found.recall_after),
    ):
        # The translated rows as (a t, b), the native ones as (n, 0), under (q, 1).
        store = torch.cat([
            torch.cat([native, torch.zeros(50, 1)], dim=1),
            torch.cat([c.scale * translated, torch.full((60, 1), c.shift)], dim=1),
        ])  # fmt: skip
        scores = torch.cat([queries, torch.ones(30, 1)], dim=1) @ store.T
        order = np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :9]
        assert share.mean == pytest.approx((order >= 50).mean())
        hits = [len({*a} & {*b}) / 9 for a, b in zip(order, truth, strict=True)]
        assert recall.mean == pytest.approx(np.mean(hits), abs=1e-6)
    assert found.before.mean != found.after.mean


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), k=st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_a_search_by_blocks_is_a_search_of_all(sizes, k):
    queries, keys = rows(5, seed=1), rows(max(sum(sizes), 1), seed=4)[: sum(sizes)]
    numbers = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    numbers, top, at = numbers[: sum(sizes)], TopK(queries, k), 0
    for size in sizes:
        top.add(keys[at : at + size], numbers[at : at + size])
        at += size
    order = np.argsort(-(queries.numpy() @ keys.numpy().T), axis=1, kind="stable")
    assert top.at.tolist() == numbers.numpy()[order[:, :k]].tolist()
    assert top.values.shape == (5, min(k, sum(sizes)))


def test_blurred_rows_lose_places_and_the_calibration_gives_them_back():
    documents = rows(1600)
    found = mixed_index(
        rows(300, seed=3), documents[:800], blurred(documents[800:]), 10,
        true=documents[800:],
    )  # fmt: skip
    assert found.store == 0.5
    assert found.fair.mean == pytest.approx(0.5, abs=0.05)
    assert found.before.mean < 0.35 and 0.43 < found.after.mean < 0.57
    assert found.before.n == 150  # the other half of the queries fitted it
    assert found.recall_after.mean > 0


def test_native_rows_on_both_sides_need_no_calibration():
    documents = rows(1600)
    found = mixed_index(
        rows(200, seed=3), documents[:1200], documents[1200:], 10, documents[1200:]
    )
    assert found.store == 0.25
    assert found.recall_before.mean == 1 and found.before == found.fair
    assert found.calibration.scale == pytest.approx(1, abs=0.15)


def test_a_mixed_index_without_pairs_has_no_recall():
    found = mixed_index(rows(50, seed=3), rows(100), blurred(rows(100, seed=4)))
    assert found.fair is found.recall_before is found.recall_after is None


def test_a_mixed_index_says_what_is_wrong():
    with pytest.raises(DataError, match="needs 20 of each"):
        mixed_index(rows(9), rows(100), rows(19))
    with pytest.raises(DataError, match="row i of both must be one document"):
        mixed_index(rows(9), rows(100), rows(40), true=rows(30))
