r"""Anchors: cluster both sides, and match the clusters by their geometry alone.

Two encoders place the same topics in other coordinates, but how the topics lie to one
another is much the same. So the cosines between the C centroids of one side, K_A, look
like those of the other side, K_B, up to an unknown order P (chapter 6):

$$ \max_P \; \mathrm{tr}(K_A P K_B P^\top) . $$

This quadratic assignment is hard, but small. All restarts of all clusterings climb it
at once, by the best swap of two clusters each time, as batched matrix products. One
clustering is still often wrong: two samples do not break into the same clusters. So the
clusterings are repeated, and then each is matched again with a pull towards what the
*others* say (`agree`), which is where most of the precision comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..spaces.files import DataError
from ..spaces.rows import unit
from .clusters import kmeans_runs

BATCH = 1024  # permutations that climb together: their kernels fit a cache


@dataclass(frozen=True)
class AnchorConfig:
    """Sizes of the anchor search.

    `runs` clusterings of `rows` rows a side into `clusters`; each is matched from
    `starts` random orders, then `rounds` times again from `restarts`, with the other
    runs' linear vote weighing `pull` against the kernels' own agreement.
    """

    runs: int = 30
    rows: int = 12_000
    clusters: int = 32
    iterations: int = 10
    starts: int = 200
    rounds: int = 5
    restarts: int = 8
    pull: float = 0.5

    def __post_init__(self) -> None:
        lows = {"runs": 2, "rows": 3, "clusters": 3, "iterations": 1, "starts": 1,
                "rounds": 0, "restarts": 1, "pull": 0}  # fmt: skip
        for key, low in lows.items():
            if getattr(self, key) < low:
                raise DataError(
                    f"{key} = {getattr(self, key)}; at least {low} is needed"
                )


@dataclass(frozen=True, eq=False)
class Anchors:
    """Matched centroids `(runs, C, d)` of both sides, row by row.

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
    x: Tensor,
    y: Tensor,
    config: AnchorConfig,
    generator: torch.Generator,
    white_x: Tensor,
    white_y: Tensor,
    bar=None,
) -> Anchors:
    """Match clusters of unit rows `(n, d_s)` with clusters of unit rows `(m, d_t)`.

    No row of x needs a partner in y. The votes are compared, and the anchors handed
    out, in the coordinates of `white_x` `(d_s, d_s)` and `white_y` `(d_t, d_t)`. Raises
    DataError when a side has fewer rows than clusters.
    """
    c = config
    a, b = (_centroids(z, c, generator) for z in (x, y))
    if bar is not None:
        bar.update()
    kernels = _kernel(a), _kernel(b)
    a, b = a @ white_x, b @ white_y
    starts = random_orders(c.runs, c.starts, c.clusters, generator)
    order, objective = _best(*kernels, starts)
    anchors = Anchors(a, _reorder(b, order), objective.mean().item(), 1.0)
    for _ in range(c.rounds):
        if bar is not None:
            bar.update()
        starts = random_orders(c.runs, c.restarts, c.clusters, generator)
        starts[:, 0] = order  # never lose what was found
        pull = c.pull * _votes(a, b, anchors)
        new, _ = _best(*kernels, starts, pull)
        kept = (new == order).float().mean().item()
        order = new
        objective = trace(*kernels, order)
        anchors = Anchors(a, _reorder(b, order), objective.mean().item(), kept)
    return anchors


def random_orders(runs: int, starts: int, c: int, generator: torch.Generator) -> Tensor:
    """Random permutations of c things, `(runs, starts, c)`."""
    return torch.rand(runs, starts, c, generator=generator).argsort(dim=2)


def trace(kernel_a: Tensor, kernel_b: Tensor, order: Tensor) -> Tensor:
    """tr(K_A P K_B P') of each order: kernels `(b, c, c)`, order `(b, c)` -> `(b,)`."""
    return (kernel_a * _permute(kernel_b, order)).sum(dim=(1, 2))


def match_kernels(
    kernel_a: Tensor, kernel_b: Tensor, order: Tensor, linear: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Climb $\mathrm{tr}(K_A P K_B P^\top) + \sum_i L_{i, p(i)}$ by best swaps.

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
        a, p, lin = kernel_a[open_], order[open_], linear[open_]
        gain, at = _swap_gains(a, _permute(kernel_b[open_], p), _columns(lin, p))
        better = gain > 1e-6
        open_, at, p = open_[better], at[better], p[better]
        i, j = at // p.shape[1], at % p.shape[1]
        row = torch.arange(len(open_), device=order.device)
        p[row, i], p[row, j] = p[row, j], p[row, i]
        order[open_] = p
    value = trace(kernel_a, kernel_b, order)
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


def _best(
    kernel_a: Tensor, kernel_b: Tensor, starts: Tensor, linear: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    # The best order of each run over its starts (runs, q, c): (runs, c), (runs,).
    runs, q, c = starts.shape
    run = torch.arange(runs, device=starts.device).repeat_interleave(q)
    flat = starts.flatten(0, 1)
    found = [
        match_kernels(
            kernel_a[r], kernel_b[r], p, None if linear is None else linear[r]
        )
        for r, p in zip(run.split(BATCH), flat.split(BATCH), strict=True)
    ]
    orders = torch.cat([p for p, _ in found]).view(runs, q, c)
    value, at = torch.cat([v for _, v in found]).view(runs, q).max(dim=1)
    return orders[torch.arange(runs, device=at.device), at], value


def _votes(a: Tensor, b: Tensor, anchors: Anchors) -> Tensor:
    # How much the other runs' matches want cluster i with cluster j of this: cosines
    # after the map that the other runs' anchors make, weighted towards the directions
    # in which they agree. Leaving the run itself out keeps it from voting for itself.
    total, out = anchors.cross(), []
    for run in range(a.shape[0]):
        others = total - anchors.source[run].T @ anchors.target[run]
        u, s, vh = torch.linalg.svd(others, full_matrices=False)
        weight = (s / s[0]).sqrt()
        vote = unit(a[run] @ u * weight) @ unit(b[run] @ vh.T * weight).T
        out.append(_centre(vote))
    return _normed(torch.stack(out))


def _centroids(z: Tensor, c: AnchorConfig, generator: torch.Generator) -> Tensor:
    rows = torch.randperm(z.shape[0], generator=generator)[: c.rows].to(z.device)
    found = kmeans_runs(
        z[rows], c.clusters, c.runs, generator=generator, iterations=c.iterations
    )
    means = unit(found.centroids)
    return means - means.mean(dim=1, keepdim=True)


def _kernel(means: Tensor) -> Tensor:
    return _normed(means @ means.transpose(1, 2))


def _centre(k: Tensor) -> Tensor:
    k = k - k.mean(dim=-1, keepdim=True)
    return k - k.mean(dim=-2, keepdim=True)


def _normed(k: Tensor) -> Tensor:
    return k / k.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)


def _permute(k: Tensor, order: Tensor) -> Tensor:
    c = order.shape[1]
    rows = k.gather(1, order[:, :, None].expand(-1, -1, c))
    return _columns(rows, order)


def _columns(k: Tensor, order: Tensor) -> Tensor:
    return k.gather(2, order[:, None, :].expand(-1, order.shape[1], -1))


def _reorder(b: Tensor, order: Tensor) -> Tensor:
    return b.gather(1, order[:, :, None].expand(-1, -1, b.shape[2]))
