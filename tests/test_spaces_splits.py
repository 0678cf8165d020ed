"""No text on two sides, whatever the sizes and the seed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2v_lite.spaces import (
    DataError,
    LeakError,
    Space,
    check_disjoint,
    hold_out,
    unpaired,
)


def pair(n, texts=None, seed=0):
    """Two toy encoders of the same n texts."""
    rng = np.random.default_rng(seed)
    texts = texts or [f"text {i}" for i in range(n)]
    return [
        Space.of(rng.normal(size=(n, d)), name, texts)
        for name, d in (("a", 3), ("b", 4))
    ]


@given(
    n=st.integers(3, 60),
    seed=st.integers(0, 2**31),
    n_eval=st.integers(1, 30),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_no_text_is_ever_on_two_sides(n, seed, n_eval, data):
    n_eval = min(n_eval, n - 2)
    half = (n - n_eval) // 2
    n_train = data.draw(st.none() | st.integers(1, half))
    a, b = pair(n)
    split = unpaired(a, b, n_eval, seed, n_train)
    source, target = set(split.source.ids.tolist()), set(split.target.ids.tolist())
    pool = split.eval_source.ids.tolist()
    assert len(source) == len(target) == (half if n_train is None else n_train)
    assert not source & target
    assert not (source | target) & set(pool)
    assert pool == split.eval_target.ids.tolist() == a.ids[n - n_eval :].tolist()


def test_rows_still_belong_to_their_texts():
    a, b = pair(40)
    split = unpaired(a, b, n_eval=10, seed=3)
    for whole, part in ((a, split.source), (b, split.target), (b, split.eval_target)):
        row_of = dict(zip(whole.ids.tolist(), whole.vectors, strict=True))
        for i, row in zip(part.ids.tolist(), part.vectors, strict=True):
            assert torch.equal(row_of[i], row)
    assert (split.source.name, split.target.name, split.seed) == ("a", "b", 3)


def test_a_seed_gives_one_split_and_another_seed_another_with_the_same_pool():
    a, b = pair(50)
    one, again, other = (unpaired(a, b, 10, seed) for seed in (5, 5, 6))
    assert torch.equal(one.source.ids, again.source.ids)
    assert torch.equal(one.target.vectors, again.target.vectors)
    assert not torch.equal(one.source.ids, other.source.ids)
    assert torch.equal(one.eval_source.vectors, other.eval_source.vectors)


def test_both_sides_are_shuffled():
    split = unpaired(*pair(400), n_eval=100)
    order = {f: i for i, f in enumerate(pair(400)[0].ids.tolist())}
    for side in (split.source, split.target):
        places = [order[i] for i in side.ids.tolist()]
        assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.3


def test_means_are_those_of_the_training_rows_alone():
    split = unpaired(*pair(60), n_eval=20)
    for train, pool in (
        (split.source, split.eval_source),
        (split.target, split.eval_target),
    ):
        np.testing.assert_allclose(train.mean, train.vectors.numpy().mean(0), atol=1e-6)
        assert torch.equal(pool.mean, train.mean)


@given(n=st.integers(5, 30), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_repeated_text_is_a_leak_whatever_the_seed(n, seed, data):
    i = data.draw(st.integers(0, n - 2))
    j = data.draw(st.integers(i + 1, n - 1))
    texts = [f"text {k}" for k in range(n)]
    texts[j] = texts[i]
    with pytest.raises(LeakError, match=f"row {j}"):
        unpaired(*pair(n, texts), n_eval=2, seed=seed)


def test_without_ids_a_row_repeated_in_both_spaces_is_a_leak():
    x, y = (np.random.default_rng(s).normal(size=(12, 3)) for s in (0, 1))
    x[7] = x[2]
    one_sided = unpaired(Space.of(x), Space.of(y), n_eval=2)  # a bag of words may do so
    assert len(one_sided.source) == 5
    y[7] = y[2]
    with pytest.raises(LeakError, match="row 7"):
        unpaired(Space.of(x), Space.of(y), n_eval=2)


def test_rows_of_different_texts_are_refused():
    a, b = pair(10)
    order = [0, 1, 3, 2, *range(4, 10)]
    with pytest.raises(DataError, match="different texts in rows 2, 3"):
        unpaired(a, b.take(order), n_eval=2)
    with pytest.raises(DataError, match="10 rows and b 9"):
        unpaired(a, b.take(slice(9)), n_eval=2)
    x = np.random.default_rng(0).normal(size=(10, 3))
    c, d = (
        Space.of(x, n, texts_sha256=h) for n, h in (("c", "1" * 64), ("d", "2" * 64))
    )
    with pytest.raises(DataError, match="c comes from texts 111111111111, d from"):
        unpaired(c, d, n_eval=2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_eval": 0}, "n_eval = 0"),
        ({"n_eval": 9}, "10 rows less 9 evaluation pairs leave no"),
        ({}, "10 rows less 4096 .* use more rows"),
        ({"n_eval": 2, "n_train": 5}, "n_train = 5, .* leave 1 to 4 a side"),
        ({"n_eval": 2, "n_train": 0}, "n_train = 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(kwargs, message):
    with pytest.raises(DataError, match=message):
        unpaired(*pair(10), **kwargs)


def test_check_disjoint_names_the_shared_rows():
    a, b = pair(10)
    check_disjoint(a.take(slice(0, 5)), b.take(slice(5, 10)))
    with pytest.raises(LeakError, match="2 texts stand on both sides: rows 3, 4 of a"):
        check_disjoint(a.take(slice(0, 5)), b.take(slice(3, 10)))
    with pytest.raises(DataError, match="without ids"):
        check_disjoint(a, Space.of(np.eye(3)))


@given(n=st.integers(400, 900), share=st.sampled_from([0.1, 0.2, 0.5]))
@settings(max_examples=20, deadline=None)
def test_rows_held_out_are_apart_and_share_the_mean_of_the_rest(n, share):
    space = pair(n)[0]
    rest, held = hold_out(space, share)
    assert not set(rest.ids.tolist()) & set(held.ids.tolist())
    assert rest.n + held.n == n and held.n == int(n * share)
    assert torch.allclose(rest.mean, rest.vectors.mean(0), atol=1e-5)
    assert torch.equal(rest.mean, held.mean)


def test_too_few_rows_to_hold_any_back():
    with pytest.raises(DataError, match="give at least 400"):
        hold_out(pair(50)[0])


def test_unseen_rows_are_unpaired_halves_of_the_pool():
    split = unpaired(*pair(60), n_eval=20, seed=1)
    source, target = split.unseen()
    assert not set(source.ids.tolist()) & set(target.ids.tolist())
    assert source.n == target.n == 10
