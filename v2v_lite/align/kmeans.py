r"""k-means on unit rows, many independent runs at once.

Lloyd's algorithm from k-means++ seeds (Arthur and Vassilvitskii 2007), minimising

$$ J = \frac1n \sum_i \min_c \lVert x_i - \mu_c \rVert^2 . $$

The nearest mean of a unit row is
$\arg\max_c \; x_i \cdot \mu_c - \frac12 \lVert\mu_c\rVert^2$:
one matrix product serves all runs, and on two cores 30 runs of 20 clusters cost little
more than one run of 600.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..spaces.files import DataError
from ..spaces.rows import check_shape
from .linalg import sample_rows

SEED_ROWS = 8  # rows per cluster that k-means++ draws from; more gains nothing
BLOCK = 8192  # rows whose products with all means exist at a time
TOLERANCE = 1e-4  # an iteration that gains a smaller share of the objective is the last


@dataclass(frozen=True, eq=False)
class Clusters:
    """Means, the cluster of each row, and the objective J.

    Of one run: centroids `(c, d)`, labels `(n,)`, objective a float tensor `()`. Of
    several: the same with a leading axis of runs. Centroids are plain means: shorter
    than one, the more the wider their cluster.
    """

    centroids: Tensor
    labels: Tensor
    objective: Tensor


def kmeans(
    x: Tensor, n_clusters: int, *, generator: Generator, n_iter: int = 50,
    init: Tensor | None = None,
) -> Clusters:  # fmt: skip
    """Cluster unit rows `(n, d)`; `init` `(c, d)` are means to start from.

    Stops after `n_iter`, or when the objective hardly falls. Raises DataError when
    there are fewer rows than clusters.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> found = kmeans(x, 2, generator=Generator().manual_seed(0))
    >>> bool(found.labels[0] == found.labels[2] != found.labels[1])
    True
    """
    start = None if init is None else init[None]
    many = kmeans_runs(x, n_clusters, 1, generator=generator, n_iter=n_iter, init=start)
    return Clusters(many.centroids[0], many.labels[0], many.objective[0])


def kmeans_runs(
    x: Tensor, n_clusters: int, n_runs: int, *, generator: Generator, n_iter: int = 50,
    init: Tensor | None = None,
) -> Clusters:  # fmt: skip
    """`n_runs` independent clusterings of the same rows as one program.

    `init` is `(n_runs, c, d)`. A run that has converged goes on until all have.
    """
    _check(x, n_clusters, n_runs, init)
    means = _plus_plus(x, n_clusters, n_runs, generator) if init is None else init
    square = (x * x).sum(dim=1)
    labels, distances = _nearest(x, square, means)
    objective = distances.mean(dim=1)
    for _ in range(n_iter):
        means = _means(x, labels, distances, means)
        labels, distances = _nearest(x, square, means)
        before, objective = objective, distances.mean(dim=1)
        if (before - objective <= TOLERANCE * before).all():
            break
    return Clusters(means, labels, objective)


def _check(x: Tensor, n_clusters: int, runs: int, init: Tensor | None) -> None:
    check_shape(x, "rows")
    n, d = x.shape
    if n_clusters < 1 or runs < 1:
        raise DataError(f"{n_clusters} clusters in {runs} runs; at least 1 is needed")
    if n < n_clusters:
        mend = "give more rows or ask for fewer clusters"
        raise DataError(f"{n} rows cannot make {n_clusters} clusters; {mend}")
    expected = (runs, n_clusters, d)
    if init is not None and tuple(init.shape) != expected:
        raise DataError(f"init has shape {tuple(init.shape)}, but {expected} is needed")


def _plus_plus(x: Tensor, c: int, runs: int, generator: Generator) -> Tensor:
    # Each next seed is drawn with probability proportional to its squared distance from
    # the nearest seed so far. Random numbers come from the CPU, whatever the device, so
    # that one seed means one result.
    x = sample_rows(x, max(SEED_ROWS * c, 2048), generator)
    n = x.shape[0]
    square = (x * x).sum(dim=1)
    chosen = torch.randint(n, (runs,), generator=generator).to(x.device)
    seeds = [x[chosen]]
    nearest = torch.full((runs, n), torch.inf, device=x.device)
    for _ in range(c - 1):
        last = seeds[-1]
        far = square + (last * last).sum(dim=1, keepdim=True) - 2 * last @ x.T
        nearest = torch.minimum(nearest, far.clamp_min_(0))
        cumulative = nearest.double().cumsum(dim=1)
        draw = torch.rand(runs, 1, generator=generator, dtype=torch.float64)
        step = torch.searchsorted(cumulative, draw.to(x.device) * cumulative[:, -1:])
        seeds.append(x[step[:, 0].clamp_max(n - 1)])
    return torch.stack(seeds, dim=1)  # (runs, c, d)


def _nearest(x: Tensor, square: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    # Labels and squared distances, (runs, n) each.
    runs, c, d = means.shape
    flat = means.reshape(runs * c, d)
    half = (flat * flat).sum(dim=1) / 2
    labels, gains = [], []
    for rows in x.split(max(BLOCK * 512 // (runs * c), 256)):
        gain = torch.addmm(-half, rows, flat.T).view(-1, runs, c)
        best, at = gain.max(dim=2)
        labels.append(at.T)
        gains.append(best.T)
    distances = (square - 2 * torch.cat(gains, dim=1)).clamp_min(0)
    return torch.cat(labels, dim=1), distances


def _means(x: Tensor, labels: Tensor, distances: Tensor, old: Tensor) -> Tensor:
    # One index_add_ a run reads x once; a one-hot product would read it c times.
    total = torch.zeros_like(old)
    for run, own in enumerate(labels):
        total[run].index_add_(0, own, x)
    count = torch.stack([own.bincount(minlength=old.shape[1]) for own in labels])
    means = total / count.clamp_min(1)[:, :, None]
    # A cluster that lost all its rows starts again at the rows that fit worst.
    for run in (count == 0).any(dim=1).nonzero().flatten().tolist():
        empty = (count[run] == 0).nonzero().flatten()
        means[run, empty] = x[distances[run].topk(len(empty)).indices]
    return means
