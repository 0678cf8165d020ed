r"""Anchors: cluster both sides, and match the clusters by their geometry alone.

Two encoders place the same topics at other coordinates, but the topics lie to one
another in much the same way. So the cosines between the C centroids of one side, K_A,
resemble those of the other side, K_B, up to an unknown permutation P (chapter 6):

$$ \max_P \; \mathrm{tr}(K_A P K_B P^\top) . $$

This quadratic assignment problem (QAP) is hard, but small. Local search by the best
swap of two clusters runs for all restarts of all clusterings at once, as batched matrix
products. One clustering is still often wrong: two samples do not break into the same
clusters. So the clusterings are repeated, and then each is matched again with a linear
term, the vote of the *others* (`_votes`), which gives most of the precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from tqdm.auto import tqdm

from ..spaces.rows import unit
from .base import check_minima
from .kmeans import kmeans_runs

BATCH = 1024  # permutations that are searched together: their kernels fit a cache


@dataclass(frozen=True)
class AnchorConfig:
    """Sizes of the anchor search.

    `n_runs` clusterings of `sample_size` rows a side into `n_clusters` by at most
    `kmeans_iters` iterations; each is matched from `n_init` random permutations, then
    `vote_rounds` times again from `n_restarts`, the other runs' linear vote weighing
    `vote_weight` against the kernels' own agreement.
    """

    n_runs: int = 30
    sample_size: int = 12_000
    n_clusters: int = 32
    kmeans_iters: int = 10
    n_init: int = 200
    vote_rounds: int = 5
    n_restarts: int = 8
    vote_weight: float = 0.5

    def __post_init__(self) -> None:
        check_minima(
            self, n_runs=2, sample_size=3, n_clusters=3, vote_rounds=0, vote_weight=0
        )


@dataclass(frozen=True, eq=False)
class Anchors:
    """Matched centroids `(n_runs, C, d)` of both sides, row by row.

    `objective` is the mean over runs of tr(K_A P K_B P') as a share of the largest
    that kernels of these norms could reach (1: same geometry); `agreement` the share
    of matches that the last round of voting left alone.
    """

    source: Tensor
    target: Tensor
    objective: float
    agreement: float

    def cross(self) -> Tensor:
        """Sum over the matched anchors of the outer products, `(d_s, d_t)`."""
        return torch.einsum("rcd,rce->de", self.source, self.target)


def find_anchors(
    x: Tensor, y: Tensor, config: AnchorConfig, generator: Generator, white_x: Tensor,
    white_y: Tensor, bar: tqdm | None = None,
) -> Anchors:  # fmt: skip
    """Match clusters of unit rows `(n, d_s)` with clusters of unit rows `(m, d_t)`.

    No row of x needs a partner in y. The votes are compared, and the anchors handed
    out, in the coordinates of `white_x` `(d_s, d_s)` and `white_y` `(d_t, d_t)`. Raises
    DataError when a side has fewer rows than clusters.
    """
    c, bar = config, tqdm(disable=True) if bar is None else bar
    a, b = (_centroids(z, c, generator) for z in (x, y))
    bar.update()
    kernels = _normed(a @ a.transpose(1, 2)), _normed(b @ b.transpose(1, 2))
    a, b = a @ white_x, b @ white_y
    starts = random_permutations(c.n_runs, c.n_init, c.n_clusters, generator)
    order, kept = _best(*kernels, starts, torch.zeros_like(kernels[0])), 1.0
    for _ in range(c.vote_rounds):
        bar.update()
        starts = random_permutations(c.n_runs, c.n_restarts, c.n_clusters, generator)
        starts[:, 0] = order  # never lose what was found
        votes = c.vote_weight * _votes(a, b, _rows(b, order))
        before, order = order, _best(*kernels, starts, votes)
        kept = (order == before).float().mean().item()
    objective = qap_objective(*kernels, order).mean().item()
    return Anchors(a, _rows(b, order), objective, kept)


def random_permutations(
    n_runs: int, n_init: int, c: int, generator: Generator
) -> Tensor:
    """Random permutations of 0 to c - 1, `(n_runs, n_init, c)`."""
    return torch.rand(n_runs, n_init, c, generator=generator).argsort(dim=2)


def qap_objective(kernel_a: Tensor, kernel_b: Tensor, order: Tensor) -> Tensor:
    """tr(K_A P K_B P') of kernels `(b, c, c)` and permutations `(b, c)`: `(b,)`."""
    return (kernel_a * _permute(kernel_b, order)).sum(dim=(1, 2))


def match_kernels(
    kernel_a: Tensor, kernel_b: Tensor, order: Tensor, linear: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Local search for $\max \mathrm{tr}(K_A P K_B P^\top) + \sum_i L_{i, p(i)}$.

    Symmetric kernels and `linear` L `(b, c, c)`, starts `order` `(b, c)`: cluster i of
    A goes with cluster `order[i]` of B. Each step makes the best of all c(c-1)/2 swaps
    in every problem at once; a problem that no swap improves is done. Returns the
    orders and their objectives `(b,)`.
    """
    order = order.clone()
    if linear is None:
        linear = torch.zeros_like(kernel_a)
    open_ = torch.arange(order.shape[0], device=order.device)
    while len(open_):
        a, p = kernel_a[open_], order[open_]
        b, lin = _permute(kernel_b[open_], p), _columns(linear[open_], p)
        gain, at = _swap_gains(a, b, lin)
        better = gain > 1e-6
        open_, at, p = open_[better], at[better], p[better]
        i, j = at // p.shape[1], at % p.shape[1]
        row = torch.arange(len(open_), device=order.device)
        p[row, i], p[row, j] = p[row, j], p[row, i]
        order[open_] = p
    value = qap_objective(kernel_a, kernel_b, order)
    return order, value + _columns(linear, order).diagonal(dim1=1, dim2=2).sum(dim=1)


def _swap_gains(a: Tensor, b: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
    # What swapping the partners of i and j adds, for all i, j at once; b and linear are
    # already in the current order. Without the terms k = i, j it is
    # 2 sum_k (a_ik - a_jk)(b_jk - b_ik); those two terms are taken out and put right.
    m = a @ b
    gain = _pairwise(m)
    da, db = (z.diagonal(dim1=1, dim2=2) for z in (a, b))
    gain -= (da[:, :, None] - a) * (b - db[:, :, None])
    gain -= (a - da[:, None, :]) * (db[:, None, :] - b)
    gain *= 2
    gain += (da[:, :, None] - da[:, None, :]) * (db[:, None, :] - db[:, :, None])
    gain += _pairwise(linear)
    gain.diagonal(dim1=1, dim2=2).fill_(-1)
    return gain.flatten(1).max(dim=1)


def _pairwise(m: Tensor) -> Tensor:
    diagonal = m.diagonal(dim1=1, dim2=2)
    return m + m.transpose(1, 2) - diagonal[:, :, None] - diagonal[:, None, :]


def _best(kernel_a: Tensor, kernel_b: Tensor, starts: Tensor, linear: Tensor) -> Tensor:
    # The best order (runs, c) of each run over its starts (runs, q, c).
    runs, q, c = starts.shape
    run = torch.arange(runs, device=starts.device).repeat_interleave(q)
    flat = starts.flatten(0, 1)
    found = [
        match_kernels(kernel_a[r], kernel_b[r], p, linear[r])
        for r, p in zip(run.split(BATCH), flat.split(BATCH), strict=True)
    ]
    orders, values = (torch.cat(part) for part in zip(*found, strict=True))
    at = values.view(runs, q).max(dim=1).indices
    return orders.view(runs, q, c)[torch.arange(runs, device=at.device), at]


def _votes(a: Tensor, b: Tensor, matched: Tensor) -> Tensor:
    # How much the other runs' matches want cluster i with cluster j of this: cosines
    # after the map that the other runs' anchors make, weighted towards the directions
    # in which they agree. Leaving the run itself out keeps it from voting for itself.
    total, out = torch.einsum("rcd,rce->de", a, matched), []
    for run in range(a.shape[0]):
        others = total - a[run].T @ matched[run]
        u, s, vh = torch.linalg.svd(others, full_matrices=False)
        weight = (s / s[0]).sqrt()
        vote = unit(a[run] @ u * weight) @ unit(b[run] @ vh.T * weight).T
        vote = vote - vote.mean(dim=1, keepdim=True)
        out.append(vote - vote.mean(dim=0, keepdim=True))
    return _normed(torch.stack(out))


def _centroids(z: Tensor, c: AnchorConfig, generator: Generator) -> Tensor:
    rows = torch.randperm(z.shape[0], generator=generator)[: c.sample_size].to(z.device)
    found = kmeans_runs(
        z[rows], c.n_clusters, c.n_runs, generator=generator, n_iter=c.kmeans_iters
    )
    means = unit(found.centroids)
    return means - means.mean(dim=1, keepdim=True)


def _normed(k: Tensor) -> Tensor:
    return k / k.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)


def _permute(k: Tensor, order: Tensor) -> Tensor:
    return _columns(_rows(k, order), order)


def _rows(k: Tensor, order: Tensor) -> Tensor:
    return k.take_along_dim(order[:, :, None], dim=1)


def _columns(k: Tensor, order: Tensor) -> Tensor:
    return k.take_along_dim(order[:, None, :], dim=2)
