r"""A few known pairs beside many rows without one.

Somebody who holds two stores often knows some texts of both. The pairs
$(x_{i_k}, y_{j_k})$, $k = 1 \dots n$, in whitened coordinates, give a cross moment of
their own, without the blur of a plan,

$$ C_{pairs} = \frac1n \sum_k x_{i_k} y_{j_k}^\top , $$

but a noisy one: its error falls as $1 / \sqrt n$. So it is added, in every round, to
the plan's moment with the weight $n / n_0$, as if the plan were worth $n_0$ pairs, and
to the start likewise.

The two constants were set while watching scores of MiniLM to WordLlama, 4,096 unpaired
rows a side and 20 to 1,000 pairs, on 2,048 training texts that no fit saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ..spaces.files import DataError
from ..spaces.rows import name_rows

Pairs: TypeAlias = tuple[Tensor | Sequence[int], Tensor | Sequence[int]]


def check_pairs(pairs: Pairs | None, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Row numbers i `(p,)` below n and j `(p,)` below m, as int64; none for None.

    Raises DataError for lists of unequal length, numbers that are no rows, and a row
    that stands in two pairs.
    """
    pairs = ((), ()) if pairs is None else pairs
    if len(pairs) != 2:
        raise DataError(f"pairs hold {len(pairs)} parts; give (i, j), lists of rows")
    i, j = (torch.as_tensor(side).flatten() for side in pairs)
    if len(i) != len(j):
        raise DataError(f"{len(i)} rows of the source are paired with {len(j)}")
    for side, index, size in ("source", i, n), ("target", j, m):
        if len(index) and (index.is_floating_point() or index.dtype == torch.bool):
            raise DataError(f"pairs: {side} rows of type {index.dtype}; give numbers")
        wrong = ((index < 0) | (index >= size)).nonzero().flatten().tolist()
        if wrong:
            fact = f"pairs: {side} row {index[wrong[0]]} of {size} rows"
            raise DataError(f"{fact}; count from 0 in the rows that are fitted")
        if len(index.unique()) < len(index):
            values, counts = index.unique(return_counts=True)
            twice = name_rows(values[counts > 1].tolist())
            raise DataError(f"pairs: {side} {twice} in two pairs; keep one of them")
    return i.long(), j.long()


# How many pairs a plan, and a start without pairs, are worth.
PLAN_PAIRS, START_PAIRS = 1500, 20


def pair_moment(
    x: Tensor, y: Tensor, pairs: tuple[Tensor, Tensor]
) -> tuple[Tensor | None, int]:
    """What the pairs of whitened rows add to a plan's moment, (n / n_0) C_pairs
    `(d_s, d_t)`, and n; None when there is no pair."""
    i, j = (index.to(x.device) for index in pairs)
    return (x[i].T @ y[j] / PLAN_PAIRS if len(i) else None), len(i)


def start_with(cross: Tensor, known: Tensor, n: int) -> Tensor:
    """A start's cross moment `(d_s, d_t)` and that of n pairs, both of norm one,
    joined as if the start were worth START_PAIRS pairs."""
    share = n / (n + START_PAIRS)
    return (1 - share) * cross / cross.norm() + share * known / known.norm()
