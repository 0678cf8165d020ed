r"""How alike are two spaces? Measures on paired rows, for the Platonic hypothesis.

Row i of both sides is one text; widths may differ. *Local* measures compare who is near
to whom by cosine, rows as they are (a common mean rules cosines: subtract it to be rid
of it). *Global* ones compare all pairs, centred, and the largest directions decide.
All survive rotation and scale, and only SVCCA with all variance a general linear map.
Values of different n, k or width do not compare; `calibrated` ones do better (`nulls`).

Each function takes rows `(n, d_a)` and `(n, d_b)`, n >= 4 (spaces, tensors, arrays),
`permutations` and their `generator` (on the CPU), and returns a `Similarity`. No n x n
matrix is kept but by `rsa`. Raises DataError for rows that are not pairs (by number,
ids or SHA-256 of texts), bad or all alike, and for k beyond n - 1. The measures and
their doubts: chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..spaces.files import DataError
from ..spaces.rows import unit
from .cka import cka, cka_rbf, cka_unbiased, procrustes_distance, rsa, svcca
from .neighbors import Rows, blocks, topk
from .nulls import Gen, Measure, Order, Similarity, evaluate, measure

BLOCK = 1024  # rows whose k x k comparisons are made at once


@dataclass(frozen=True, eq=False)
class Near:
    """The k nearest other rows, `(n, k)` indices, and their centred cosines."""

    index: Tensor
    cosine: Tensor

    def permuted(self, order: Tensor | None) -> Near:
        """The same of the rows in `order`."""
        if order is None:
            return self
        order = order.to(self.index.device)
        return Near(order.argsort()[self.index[order]], self.cosine[order])


def nearest(x: Tensor, k: int) -> Near:
    """`Near` of rows `(n, d)` by cosine, nearest first."""
    x, own = unit(x), torch.arange(len(x), device=x.device)[:, None]
    values, index = topk(x, x, k + 1)
    # A twin may come before the row itself, so the row goes last wherever it stands.
    keep = (index == own).int().argsort(dim=1, stable=True)[:, :k]
    cosine = values.gather(1, keep) - (x @ x.mean(dim=0))[:, None]
    return Near(index.gather(1, keep), cosine.double())


def _same(a: Near, b: Near) -> Iterator[tuple[slice, Tensor]]:
    # Blocks (rows, k, k): is a's neighbour number s b's number t?
    for rows in blocks(len(a.index), BLOCK):
        yield rows, a.index[rows, :, None] == b.index[rows, None, :]


def _mutual_chance(a: Near, b: Near) -> float:
    n, k = a.index.shape
    return k / (n - 1)


@measure(nearest, _mutual_chance, local=True)
def mutual_knn(a: Near, b: Near, order: Order) -> float:
    r"""Share of the k nearest that both sides agree on; chance k / (n - 1).

    $\frac{1}{nk} \sum_i |N^a_i \cap N^b_i|$ (Huh et al. 2024, arXiv 2405.07987).

    >>> import torch
    >>> x = torch.randn(50, 8, generator=Generator().manual_seed(0))
    >>> mutual_knn(x, 3 * x.flip(1), k=5).value
    1.0
    """
    found = sum(same.sum().item() for _, same in _same(a, b.permuted(order)))
    return found / a.index.numel()


def _cycle_chance(a: Near, b: Near) -> float:
    n, k = a.index.shape
    others = n - 1 - a.index.flatten().bincount(minlength=n)[:, None].double()
    t = torch.arange(k, device=others.device)
    missed = ((others - t).clamp_min(0) / (n - 1 - t)).prod(dim=1)
    return 1 - missed.mean().item()


@measure(nearest, _cycle_chance, local=True)
def cycle_knn(a: Near, b: Near, order: Order) -> float:
    r"""Share of rows that come home: $i \in N^a_j$ for some $j \in N^b_i$.

    Chance $1 - \frac1n \sum_i \binom{n-1-r_i}{k} / \binom{n-1}{k}$, with $r_i$ the
    number of a's lists that hold i: hubs lower it. Not symmetric in a and b. Source: as
    `mutual_knn`.
    """
    b, returned = b.permuted(order), 0.0
    own = torch.arange(len(a.index), device=a.index.device)[:, None, None]
    for rows in blocks(len(own), BLOCK):
        returned += (a.index[b.index[rows]] == own[rows]).any(2).any(1).sum().item()
    return returned / len(own)


@measure(nearest, local=True)
def lcs_knn(a: Near, b: Near, order: Order) -> float:
    r"""Mean length of the longest common subsequence of both lists of neighbours,
    nearest first, over k: `mutual_knn` that minds the order. Source: the same."""
    total, k = 0.0, a.index.shape[1]
    for _, same in _same(a, b.permuted(order)):
        # best[:, t]: longest in a's list so far and b's first t (dynamic programming)
        best = torch.zeros(len(same), k + 1, device=same.device)
        for row in same.unbind(dim=1):
            longer = torch.maximum(best[:, 1:], best[:, :-1] + row)
            best[:, 1:] = longer.cummax(dim=1).values
        total += best[:, -1].sum().item()
    return total / a.index.numel()


@measure(nearest, local=True)
def cknna(a: Near, b: Near, order: Order) -> float:
    r"""Kernel alignment on mutual neighbours only, as printed in arXiv 2405.07987.

    $A(K, L) / \sqrt{A(K, K)\,A(L, L)}$ with $A(K, L) = \sum_i \sum_{j \in N^a_i \cap
    N^b_i} \bar K_{ij} \bar L_{ij}$, where $\bar K_{ij}$ is the cosine of rows i and j
    less the mean of row i's. (The released code masks first and centres after.)
    """
    b, total = b.permuted(order), 0.0
    for rows, same in _same(a, b):
        product = a.cosine[rows, :, None] * b.cosine[rows, None, :]
        total += product[same].sum().item()
    return total / (a.cosine.norm() * b.cosine.norm()).item()


MEASURES: dict[str, Measure] = {one.name: one for one in (
    mutual_knn, cycle_knn, lcs_knn, cknna, cka, cka_unbiased, cka_rbf, svcca, rsa,
    procrustes_distance,
)}  # fmt: skip


def compare(
    a: Rows, b: Rows, measures: Sequence[str] | None = None, k: int = 10,
    permutations: int = 0, generator: Gen = None, progress: bool = False,
) -> tuple[Similarity, ...]:  # fmt: skip
    """Several measures of one pair of sides (default: all of `MEASURES`), in order.

    What measures share (neighbours, say) is worked out once.
    """
    names = tuple(MEASURES if measures is None else measures)
    for name in names:
        if name not in MEASURES:
            raise DataError(f"no measure {name!r}; there are {', '.join(MEASURES)}")
    chosen = [MEASURES[name] for name in names]
    return evaluate(chosen, a, b, k, permutations, generator, progress)
