"""k-means against scikit-learn's objective and its own definition."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2v_lite.align import kmeans, kmeans_runs
from v2v_lite.spaces.files import DataError


def rows(n, d, seed=0, groups=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator)
    if groups:
        centres = 3 * torch.randn(groups, d, generator=generator)
        x += centres[torch.randint(groups, (n,), generator=generator)]
    return torch.nn.functional.normalize(x)


@pytest.mark.parametrize("clusters", [5, 60])
def test_objective_is_near_scikit_learns(generator, clusters):
    from sklearn.cluster import KMeans

    x = rows(2000, 16, groups=40)
    theirs = KMeans(clusters, n_init=1, random_state=0).fit(x.numpy())
    ours = kmeans_runs(x, clusters, 3, generator=generator()).objective
    assert ours.min() <= 1.04 * theirs.inertia_ / len(x)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(8, 80),
    c=st.integers(1, 8),
    runs=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_labels_and_objective_are_by_definition(generator, n, c, runs, seed):
    x = rows(n, 5, seed)
    found = kmeans_runs(x, c, runs, generator=generator(seed))
    assert found.centroids.shape == (runs, c, 5) and found.labels.shape == (runs, n)
    for r in range(runs):
        far = torch.cdist(
            x, found.centroids[r], compute_mode="donot_use_mm_for_euclid_dist"
        )
        nearest = far.min(dim=1).values
        own = far[torch.arange(n), found.labels[r]]
        torch.testing.assert_close(own, nearest, atol=1e-3, rtol=0)
        want = (nearest**2).mean()
        torch.testing.assert_close(found.objective[r], want, atol=1e-5, rtol=0)


def test_separate_groups_are_found(generator):
    x = rows(600, 24, groups=8)
    found = kmeans_runs(x, 8, 8, generator=generator())
    best = int(found.objective.argmin())
    sizes = torch.bincount(found.labels[best], minlength=8)
    assert (sizes > 20).all() and found.objective[best] < 0.35


def test_one_cluster_is_the_mean_and_n_clusters_the_rows(generator):
    x = rows(30, 4)
    one = kmeans(x, 1, generator=generator())
    torch.testing.assert_close(one.centroids[0], x.mean(dim=0))
    assert kmeans(x, 30, generator=generator()).objective < 1e-6


def test_seeded_and_converging(generator, monkeypatch):
    x = rows(500, 6)
    one, same = (kmeans(x, 10, generator=generator(1)) for _ in range(2))
    assert torch.equal(one.centroids, same.centroids)
    monkeypatch.setattr(sys.modules[kmeans.__module__], "TOLERANCE", 0)
    objectives = [
        kmeans(x, 10, generator=generator(1), n_iter=i).objective.item()
        for i in (0, 1, 2, 5, 20)
    ]
    assert objectives == sorted(objectives, reverse=True)


def test_start_is_used(generator):
    x = rows(400, 8, groups=5)
    first = kmeans(x, 5, generator=generator())
    again = kmeans(x, 5, generator=generator(9), init=first.centroids, n_iter=3)
    assert again.objective <= first.objective + 1e-6
    assert (again.labels == first.labels).float().mean() > 0.95


def test_clusters_that_lose_their_rows_come_back(generator):
    x = rows(200, 4)
    init = torch.full((6, 4), 50.0)
    init[0] = 0  # all rows fall to the first
    found = kmeans(x, 6, generator=generator(), init=init)
    assert len(found.labels.unique()) == 6


def test_bad_input_is_named(generator):
    x = rows(10, 4)
    with pytest.raises(DataError, match="10 rows cannot make 11 clusters"):
        kmeans(x, 11, generator=generator())
    with pytest.raises(DataError, match="0 clusters"):
        kmeans(x, 0, generator=generator())
    with pytest.raises(DataError, match="init has shape"):
        kmeans(x, 3, generator=generator(), init=x[:2])
    with pytest.raises(DataError, match=r"\(10,\)"):
        kmeans(x[:, 0], 3, generator=generator())
