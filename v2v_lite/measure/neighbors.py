"""Nearest neighbours by cosine and by CSLS, a block of the similarity matrix at a time.

Two sets of 100,000 rows have 40 GB of similarities; a block of 4,096 x 4,096 has 64 MB.
Every function here keeps one such block and a running best, whatever the sizes are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..spaces.files import DataError
from ..spaces.rows import check_rows
from ..spaces.space import Space

Rows: TypeAlias = Space | Tensor | np.ndarray | Sequence
BLOCK = 4096


def topk(
    queries: Rows, keys: Rows, k: int, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    r"""Each query's `k` nearest keys by cosine, best first: values, indices `(n, k)`.

    Queries are `(n, d)`, keys `(m, d)`, of any length. Raises DataError when widths
    differ, rows are bad, or k is not within 1 to m.

    >>> topk([[1.0, 0.1]], [[0.0, 1.0], [2.0, 0.0]], k=1)[1]
    tensor([[1]])
    """
    x, y = _pair(queries, keys)
    _check_k(k, y.shape[0], "k")
    return _search(x, y, k, block)


def mean_topk(queries: Rows, keys: Rows, k: int = 10, block: int = BLOCK) -> Tensor:
    r"""`(n,)` mean cosine of each query to its `k` nearest keys, the r of CSLS.

    $r(x) = \frac1k \sum_{y \in N_k(x)} \cos(x, y)$: large for rows in a dense region.
    """
    return topk(queries, keys, k, block)[0].mean(dim=1)


def csls_topk(
    queries: Rows, keys: Rows, k_out: int, k: int = 10, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    r"""Each query's `k_out` nearest keys by CSLS: values and indices `(n, k_out)`.

    $\mathrm{CSLS}(x, y) = 2\cos(x, y) - r(x) - r(y)$, r the mean cosine to the `k`
    nearest rows of the other set (MUSE, arXiv 1710.04087, eq. 5). Hubs, near to
    everything, have a large r and stop being everybody's answer.
    """
    x, y = _pair(queries, keys)
    _check_k(k_out, y.shape[0], "k_out")
    r_x, r_y = _local_densities(x, y, k, block)
    values, index = _search(x, y, k_out, block, penalty=r_y)
    return values - r_x[:, None], index


def mutual_pairs(
    x: Rows, y: Rows, k: int = 10, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    """Rows that are each other's nearest under CSLS: indices `(p,)` into x and into y.

    The pairs come in the order of x. `k` is the neighbourhood of CSLS.
    """
    x, y = _pair(x, y)
    r_x, r_y = _local_densities(x, y, k, block)
    forth = _search(x, y, 1, block, penalty=r_y)[1][:, 0]
    back = _search(y, x, 1, block, penalty=r_x)[1][:, 0]
    index = torch.arange(x.shape[0], device=x.device)
    mutual = index[back[forth] == index]
    return mutual, forth[mutual]


def blocks(n: int, block: int) -> Iterator[slice]:
    """Slices of at most `block` that cover `range(n)`."""
    if block < 1:
        raise DataError(f"block = {block}, but a block holds at least one row")
    return (slice(i, min(i + block, n)) for i in range(0, n, block))


def as_unit_rows(x: Rows, name: str, scale: bool = True) -> Tensor:
    """`(n, d)` float32 unit rows of a space, a tensor or an array; DataError if bad.

    With `scale=False` only a Space's rows are of length one, others stay as they are.
    """
    return x.vectors if isinstance(x, Space) else check_rows(x, name, unit_rows=scale)


def check_widths(x: Tensor, y: Tensor, a: str, b: str, mend: str) -> None:
    """DataError unless x and y, which it calls `a` and `b`, are rows of one width."""
    if x.shape[1] != y.shape[1]:
        raise DataError(f"{a} are {x.shape[1]}-d and {b} {y.shape[1]}-d; {mend}")


def merged(
    one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor], k: int
) -> tuple[Tensor, Tensor]:
    """The k largest of two lists of values and indices, `(n, i)` and `(n, j)`."""
    values, index = (torch.cat(both, dim=1) for both in zip(one, two, strict=True))
    values, order = values.topk(min(k, values.shape[1]), dim=1)
    return values, index.gather(1, order)


def _pair(queries: Rows, keys: Rows) -> tuple[Tensor, Tensor]:
    x, y = as_unit_rows(queries, "queries"), as_unit_rows(keys, "keys")
    mend = "only rows of one space can be compared, so translate one side first"
    check_widths(x, y, "queries", "keys", mend)
    return x, y.to(x.device)


def _check_k(k: int, m: int, name: str) -> None:
    if not 1 <= k <= m:
        raise DataError(f"{name} = {k}, but with {m} keys it must be 1 to {m}")


def _search(
    x: Tensor, y: Tensor, k: int, block: int, penalty: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    # Best k of cos(x, y), or of 2 cos(x, y) - penalty(y) where a penalty is given.
    values = x.new_empty(x.shape[0], k)
    index = torch.empty(x.shape[0], k, dtype=torch.int64, device=x.device)
    for rows in blocks(x.shape[0], block):
        best = x.new_empty(0, 0), index[:0]
        for columns in blocks(y.shape[0], block):
            sims = x[rows] @ y[columns].T
            if penalty is not None:
                sims.mul_(2).sub_(penalty[columns])
            # max is several times faster than topk(1), which matching asks for.
            few = min(k, sims.shape[1])
            new = sims.max(1, keepdim=True) if k == 1 else sims.topk(few, dim=1)
            found = new[0], new[1] + columns.start
            best = merged(best, found, k) if columns.start else found
        values[rows], index[rows] = best
    return values, index


def _local_densities(x: Tensor, y: Tensor, k: int, block: int) -> tuple[Tensor, Tensor]:
    # r of both sides in one pass over the products, which cost more than the top-k.
    n, m = x.shape[0], y.shape[0]
    _check_k(k, min(n, m), "k")
    r_x = x.new_empty(n)
    best_y = [x.new_empty(len(y[columns]), 0) for columns in blocks(m, block)]
    for rows in blocks(n, block):
        best_x = x.new_empty(len(x[rows]), 0)
        for j, columns in enumerate(blocks(m, block)):
            sims = x[rows] @ y[columns].T
            best_x = _largest(best_x, sims, k)
            best_y[j] = _largest(best_y[j], sims.T.contiguous(), k)
        r_x[rows] = best_x.mean(dim=1)
    return r_x, torch.cat([b.mean(dim=1) for b in best_y])


def _largest(best: Tensor, sims: Tensor, k: int) -> Tensor:
    new = sims.topk(min(k, sims.shape[1]), dim=1, sorted=False).values
    if not best.shape[1]:
        return new
    both = torch.cat([best, new], dim=1)
    return both.topk(min(k, both.shape[1]), dim=1, sorted=False).values
