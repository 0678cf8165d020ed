"""Similarities against naive float64 copies, closed forms, invariances and nulls."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr
from sklearn.cross_decomposition import CCA
from sklearn.neighbors import NearestNeighbors

from v2v_lite.measure import Similarity, compare, similarity
from v2v_lite.measure.cka import RSA_ROWS
from v2v_lite.spaces import DataError, Space

ALL = tuple(similarity.MEASURES)
LOCAL = ("mutual_knn", "cycle_knn", "lcs_knn", "cknna")
GLOBAL = tuple(name for name in ALL if name not in LOCAL)


def pair(n=60, d_a=7, d_b=5, noise=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 4, generator=g)
    return tuple(
        z @ torch.randn(4, d, generator=g)
        + noise * torch.randn(n, d, generator=g) + 0.3
        for d in (d_a, d_b)
    )  # fmt: skip


def measured(name, a, b, k=8, **null):
    local = {"k": k} if name in LOCAL else {}
    return getattr(similarity, name)(a, b, **local, **null)


# The measures once more, in NumPy, by the book: n x n matrices and Python loops.


def neighbours(x, k):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors()
    return found[1]


@functools.cache
def lcs(s, t):
    if not s or not t:
        return 0
    if s[0] == t[0]:
        return 1 + lcs(s[1:], t[1:])
    return max(lcs(s[1:], t), lcs(s, t[1:]))


def naive_cknna(x, y, k):
    near = neighbours(x, k), neighbours(y, k)
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    kernels = [z @ z.T - (z @ z.T).mean(axis=1, keepdims=True) for z in (x, y)]

    def align(s, t):
        return sum(
            kernels[s][i, j] * kernels[t][i, j]
            for i in range(len(x))
            for j in set(near[s][i]) & set(near[t][i])
        )

    return align(0, 1) / math.sqrt(align(0, 0) * align(1, 1))


def hsic(k, m):
    n = len(k)
    h = np.eye(n) - 1 / n
    return np.trace(k @ h @ m @ h)


def hsic_unbiased(k, m):
    n, one = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    first = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (first - 2 * one @ k @ m @ one / (n - 2)) / (n * (n - 3))


def gaussian(x):
    distances = pdist(x)
    return np.exp(-(squareform(distances) ** 2) / (2 * np.median(distances) ** 2))


def alignment(form, k, m):
    return form(k, m) / math.sqrt(form(k, k) * form(m, m))


def naive_svcca(x, y, variance=0.99):
    bases = []
    for z in (x, y):
        u, s, _ = np.linalg.svd(z - z.mean(0), full_matrices=False)
        rank = np.argmax(np.cumsum(s**2) / np.sum(s**2) >= variance) + 1
        bases.append(u[:, :rank] * s[:rank])
    rank = min(b.shape[1] for b in bases)
    u, v = CCA(rank, max_iter=100_000, tol=1e-14).fit_transform(*bases)
    return np.mean([np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(rank)])


def naive_procrustes(x, y):
    width = max(x.shape[1], y.shape[1])
    x, y = (np.pad(z - z.mean(0), ((0, 0), (0, width - z.shape[1]))) for z in (x, y))
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    turn, _ = orthogonal_procrustes(x, y)
    return np.linalg.norm(x @ turn - y) ** 2


def naive(name, x, y, k):
    near = neighbours(x, k), neighbours(y, k)
    lists = [
        (tuple(s), tuple(t)) for s, t in zip(*(z.tolist() for z in near), strict=True)
    ]
    return {
        "mutual_knn": lambda: np.mean([len({*s} & {*t}) / k for s, t in lists]),
        "cycle_knn": lambda: np.mean(
            [any(i in near[0][j] for j in near[1][i]) for i in range(len(x))]
        ),
        "lcs_knn": lambda: np.mean([lcs(s, t) / k for s, t in lists]),
        "cknna": lambda: naive_cknna(x, y, k),
        "cka": lambda: alignment(hsic, x @ x.T, y @ y.T),
        "cka_unbiased": lambda: alignment(hsic_unbiased, x @ x.T, y @ y.T),
        "cka_rbf": lambda: alignment(hsic, gaussian(x), gaussian(y)),
        "svcca": lambda: naive_svcca(x, y),
        "rsa": lambda: spearmanr(pdist(x), pdist(y)).statistic,
        "procrustes_distance": lambda: naive_procrustes(x, y),
    }[name]()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(60, 7, 5), (25, 6, 40), (31, 50, 60)])
def test_the_naive_copy_agrees(name, shape):
    # sklearn's CCA is iterative and needs more rows than directions.
    if name == "svcca" and shape != (60, 7, 5):
        pytest.skip("more directions than rows")
    a, b = pair(*shape)
    want = naive(name, a.double().numpy(), b.double().numpy(), 8)
    assert measured(name, a, b).value == pytest.approx(want, abs=1e-6)


def test_blocks_change_nothing(generator, monkeypatch):
    a, b = pair(70)
    whole = compare(a, b, k=5, permutations=3, generator=generator())
    monkeypatch.setattr("v2v_lite.measure.similarity.BLOCK", 16)
    monkeypatch.setattr("v2v_lite.measure.cka.BLOCK", 32)
    parts = compare(a, b, k=5, permutations=3, generator=generator())
    for one, other in zip(whole, parts, strict=True):
        for key in ("value", "chance", "null_mean", "null_sd", "p"):
            want = getattr(one, key)
            got = getattr(other, key)
            assert got == (want if want is None else pytest.approx(want, abs=1e-7))


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(12, 40), d_a=st.integers(2, 12), d_b=st.integers(2, 12),
    seed=st.integers(0, 10_000), scale=st.sampled_from([0.01, 3.0, 200.0]),
)  # fmt: skip
def test_rotation_and_scale_change_nothing(generator, n, d_a, d_b, seed, scale):
    a, b = pair(n, d_a, d_b, seed=seed)
    q, _ = torch.linalg.qr(torch.randn(d_a, d_a, generator=generator(seed)))
    before = compare(a, b, k=4)
    after = compare(scale * a @ q, b / scale, k=4)
    for one, other in zip(before, after, strict=True):
        # Two distances may tie in float32: one neighbour or rank more or less.
        slack = 2 / n if one.k else 2e-5
        assert one.value == pytest.approx(other.value, abs=slack), one.name


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-3, 3))
def test_global_measures_do_not_see_a_shift(seed, shift):
    a, b = pair(seed=seed)
    before, after = (compare(x, b, GLOBAL) for x in (a, a + shift))
    for one, other in zip(before, after, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-5), one.name


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_linear_map_changes_nothing_only_for_full_svcca(generator, seed):
    a, b = pair(seed=seed)
    m = torch.randn(7, 7, generator=generator(seed)) + 4 * torch.eye(7)
    before, after = (similarity.svcca(x, b, variance=1.0).value for x in (a, a @ m))
    assert before == pytest.approx(after, abs=1e-5)
    plain = measured("cka", a, b).value
    stretched = [a * (1 + 49 * torch.eye(7)[i]) for i in range(7)]
    moved = [abs(measured("cka", x, b).value - plain) for x in stretched]
    assert max(moved) > 0.01  # one direction may happen to leave the value alone


@pytest.mark.parametrize("name", ALL)
def test_equals_are_the_best(generator, name):
    a, _ = pair()
    found = measured(name, a, a, permutations=19, generator=generator())
    best = similarity.MEASURES[name].best
    assert found.value == pytest.approx(best, abs=1e-6)
    assert found.calibrated == pytest.approx(1, abs=1e-5)
    assert found.p == 1 / 20


@pytest.mark.parametrize("name", [n for n in ALL if n != "cycle_knn"])
def test_it_does_not_matter_who_comes_first(name):
    a, b = pair()
    forth, back = measured(name, a, b).value, measured(name, b, a).value
    assert forth == pytest.approx(back, abs=1e-6)


@pytest.mark.parametrize("name", [n for n in ALL if similarity.MEASURES[n].chance])
def test_chance_is_the_mean_over_permutations(generator, name):
    # Cauchy rows make hubs, whose part in the chance of cycles is not small.
    a, b = pair(40)
    a = a * torch.distributions.Cauchy(0.0, 1.0).sample((40, 1))
    found = measured(name, a, b, k=5, permutations=400, generator=generator())
    assert abs(found.null_mean - found.chance) < 3 * found.null_sd / math.sqrt(400)


def test_chance_of_short_subsequences_is_a_sum_by_hand(generator):
    # Lists of 3 of n - 1 others share c of them (hypergeometric), in random order: the
    # longest increasing runs of 1, 2 and 3 shuffled numbers have means 1, 3/2 and 2.
    a, b = pair(14, seed=4)
    found = measured("lcs_knn", a, b, k=3, permutations=2000, generator=generator())
    share = [
        math.comb(3, c) * math.comb(10, 3 - c) / math.comb(13, 3) for c in (1, 2, 3)
    ]
    want = (share[0] * 1 + share[1] * 1.5 + share[2] * 2) / 3
    assert abs(found.null_mean - want) < 3 * found.null_sd / math.sqrt(2000)


@pytest.mark.parametrize("name", ALL)
def test_independent_clouds_are_calibrated_to_nothing(generator, name):
    scores, ps = [], []
    for seed in range(40):
        a = torch.randn(30, 6, generator=generator(seed))
        b = torch.randn(30, 4, generator=generator(seed + 1000))
        found = measured(name, a, b, k=4, permutations=60, generator=generator(seed))
        scores.append(found.calibrated)
        ps.append(found.p)
    scores = np.array(scores)
    assert abs(scores.mean()) < 2 * scores.std(ddof=1) / math.sqrt(len(scores))
    assert 0.35 < np.mean(ps) < 0.75 and min(ps) >= 1 / 61


def test_width_inflates_biased_cka_alone(generator):
    a, b = (torch.randn(50, 2000, generator=generator(s)) for s in (1, 2))
    biased, fair = compare(a, b, ("cka", "cka_unbiased"))
    assert biased.value > 0.9 and biased.chance == pytest.approx(biased.value, abs=0.01)
    assert abs(fair.value) < 0.05


def test_local_scores_fall_with_n_and_say_so():
    a, b = pair(400, noise=2.0)
    few, many = (measured("mutual_knn", a[:n], b[:n]) for n in (40, 400))
    assert few.value > many.value and (few.n, few.k, many.n) == (40, 8, 400)
    assert few.chance == 8 / 39 and "n 40, k 8, chance 0.205" in few.line()


def test_twins_do_not_stand_for_themselves(generator):
    a = torch.randn(6, 5, generator=generator()).repeat_interleave(4, dim=0)
    index = similarity.nearest(a, 3).index
    assert (index != torch.arange(24)[:, None]).all()
    assert (index // 4 == torch.arange(24)[:, None] // 4).all()


def test_tied_distances_share_their_rank(generator):
    g = generator(3)
    a, b = (torch.randint(0, 3, (20, 3), generator=g).float() for _ in range(2))
    want = spearmanr(pdist(a), pdist(b)).statistic
    # Distances of integers are exact, so ties are ties for both.
    assert measured("rsa", a, b).value == pytest.approx(want, abs=1e-9)


def test_one_generator_one_null_and_spaces_are_welcome(generator):
    a, b = (Space.of(x) for x in pair())
    runs = [
        compare(a, b, ("mutual_knn", "cka"), permutations=9, generator=generator(5))
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert all(isinstance(found, Similarity) for found in runs[0])
    assert measured("cka", a, b) == measured("cka", a.vectors, b.vectors.numpy())


def test_bad_input():
    a, b = pair(20)
    with pytest.raises(DataError, match="one text"):
        compare(a, b[:19])
    with pytest.raises(DataError, match="k = 20"):
        compare(a, b, k=20)
    with pytest.raises(DataError, match="generator"):
        compare(a, b, permutations=5)
    with pytest.raises(DataError, match="permutations = -1"):
        compare(a, b, permutations=-1)
    with pytest.raises(DataError, match="no measure 'telepathy'.*mutual_knn"):
        compare(a, b, ("telepathy",))
    with pytest.raises(DataError, match="alike"):
        compare(a, torch.ones(20, 3))
    with pytest.raises(DataError, match="variance"):
        similarity.svcca(a, b, variance=0.0)
    with pytest.raises(DataError, match=f"{RSA_ROWS:,} rows at most"):
        many = torch.randn(RSA_ROWS + 1, 2)
        similarity.rsa(many, many)
    with pytest.raises(DataError, match="width for the kernel"):
        similarity.cka_rbf(torch.eye(20)[:, :3] + 1, b)


def test_rows_of_other_texts_are_refused():
    a, b = pair(20)
    words = [f"text {i}" for i in range(20)]
    one = Space.of(a, "one", texts=words)
    same = Space.of(b, "two", texts=words)
    assert similarity.cka(one, same) == similarity.cka(one, Space.of(b))
    order = [1, 0, *range(2, 20)]
    with pytest.raises(DataError, match="two hold different texts in rows 0, 1"):
        similarity.mutual_knn(one, same.take(order), k=3)
    with pytest.raises(DataError, match="one comes from texts"):
        compare(
            Space.of(a, "one", texts_sha256="ab" * 32),
            Space.of(b, "two", texts_sha256="cd" * 32),
        )
    with pytest.raises(DataError, match="row i of both"):
        similarity.rsa(one, same.take(range(19)))
