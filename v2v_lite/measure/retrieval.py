"""Scores of a translation: cosine, retrieval and rank, each with its standard error.

A cosine alone is misleading: in a narrow space, answering every query with the mean of
the target reaches .9 and retrieves nothing. A rank alone says nothing without the size
of the pool of candidates. So one record holds all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..spaces.files import DataError
from ..spaces.rows import unit
from .estimate import Estimate
from .neighbors import BLOCK, Rows, as_unit_rows, blocks

# Cosines this near to each other are one number in float32, and ties count against us.
TIE = 1e-6
TOP = (1, 5, 16)


@dataclass(frozen=True)
class Score:
    """How well translations match the true targets, in a pool of `pool` candidates."""

    pool: int
    cosine: Estimate
    centred_cosine: Estimate
    top1: Estimate
    top5: Estimate
    top16: Estimate
    rank: Estimate
    foscttm: Estimate

    def line(self) -> str:
        """One line of text: the numbers with their standard errors, and the pool."""
        return (
            f"top-1 {self.top1} · rank {self.rank.mean:.2f} ± {self.rank.se:.2f} · "
            f"cosine {self.cosine.mean:.3f} · centred {self.centred_cosine.mean:.3f} · "
            f"pool {self.pool:,}"
        )


def score(
    translated: Rows, target: Rows, centre: Tensor | None = None,
    rank_by: Literal["centred", "cosine"] = "centred", block: int = BLOCK,
    progress: bool = False,
) -> Score:  # fmt: skip
    r"""Score translations `(n, d)` against their true targets `(n, d)`, row by row.

    $\mathrm{rank}_i = 1 + \#\{j \ne i : s_{ij} \ge s_{ii}\}$, where $s_{ij}$ is the
    cosine of translation i and target j after subtracting `centre` `(d,)` from both
    (default: the mean of `target`), or the plain cosine with `rank_by="cosine"`. Ties
    count against the method. Top-k is the share of ranks up to k; FOSCTTM = (rank - 1)
    / (n - 1), 0 perfect and 0.5 chance. Ranks are counted in blocks: memory beyond the
    inputs' own is a few blocks. Raises DataError for shapes that differ, bad rows, or a
    pool of fewer than 2.

    >>> eye = torch.eye(3)
    >>> result = score(eye, eye[[0, 2, 1]])
    >>> result.pool, round(result.top1.mean, 2), round(result.rank.mean, 2)
    (3, 0.33, 2.33)
    """
    # Not brought to length one here: that would copy the pool. Blocks are, one by one.
    x = as_unit_rows(translated, "translated", scale=False).detach()
    y = as_unit_rows(target, "target", scale=False).detach()
    if x.shape != y.shape:
        shapes = f"translated is {tuple(x.shape)} and target {tuple(y.shape)}"
        mend = "row i of both must be one text, in the target's space"
        raise DataError(f"{shapes}; {mend}")
    if len(x) < 2:
        raise DataError("a pool of 1 ranks nothing; score at least 2 rows")
    if rank_by not in ("centred", "cosine"):
        raise DataError(f"rank_by = {rank_by!r}; choose 'centred' or 'cosine'")
    x = x.to(y.device)
    centre = _centre_of(y, centre, block)
    zero = torch.zeros_like(centre)
    plain = _paired_cosines(x, y, zero, block)
    centred = _paired_cosines(x, y, centre, block)
    origin, true = (centre, centred) if rank_by == "centred" else (zero, plain)
    ranks = _count_ranks(x, y, origin, true, block, progress)
    return Score(
        pool=len(ranks),
        cosine=Estimate.of(plain),
        centred_cosine=Estimate.of(centred),
        **{f"top{k}": Estimate.of(ranks <= k) for k in TOP},
        rank=Estimate.of(ranks),
        foscttm=Estimate.of((ranks - 1) / (len(ranks) - 1)),
    )


def _centre_of(y: Tensor, centre: Tensor | None, block: int) -> Tensor:
    if centre is None:
        total = torch.zeros(y.shape[1], dtype=torch.float64, device=y.device)
        for rows in blocks(y.shape[0], block):
            total += unit(y[rows]).sum(dim=0, dtype=torch.float64)
        return (total / y.shape[0]).float()
    centre = torch.as_tensor(centre, dtype=torch.float32, device=y.device)
    if centre.shape != (y.shape[1],) or not centre.isfinite().all():
        fact = f"centre has shape {tuple(centre.shape)}"
        raise DataError(f"{fact}, but ({y.shape[1]},) finite numbers are needed")
    return centre


def _prepared(rows: Tensor, centre: Tensor) -> Tensor:
    return unit(unit(rows) - centre)


def _paired_cosines(x: Tensor, y: Tensor, centre: Tensor, block: int) -> Tensor:
    return torch.cat([
        (_prepared(x[rows], centre) * _prepared(y[rows], centre)).sum(dim=1)
        for rows in blocks(len(x), block)
    ])  # fmt: skip


def _count_ranks(
    x: Tensor, y: Tensor, centre: Tensor, true: Tensor, block: int, progress: bool
) -> Tensor:
    from tqdm.auto import tqdm

    ranks = torch.ones(x.shape[0], dtype=torch.int64, device=x.device)
    spans = list(blocks(x.shape[0], block))
    for rows in tqdm(spans, "ranks", disable=not progress, leave=False):
        queries = _prepared(x[rows], centre)
        bar = true[rows, None] - TIE
        for columns in spans:
            sims = queries @ _prepared(y[columns], centre).T
            if columns == rows:
                sims.fill_diagonal_(-math.inf)  # the target itself does not count
            # Compared in place and summed as floats: half the time of summing booleans.
            ranks[rows] += sims.ge_(bar).sum(dim=1).long()
    return ranks
