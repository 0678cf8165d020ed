r"""Global similarities, in two halves: features of one side, comparison of two sides.

With centred rows X `(n, d_a)`, Y `(n, d_b)` and kernels $K = XX^\top$, $L = YY^\top$,
everything linear follows from $X^\top Y$, since $\mathrm{tr}(KL) = \lVert X^\top Y
\rVert_F^2$. So does the unbiased HSIC of Song et al. (2012), whose kernels $\tilde K$,
$\tilde L$ have zero diagonals. Centring X changes it by nothing, and makes the rows of
K sum to 0, hence those of $\tilde K$ to $-p_i = -\lVert x_i \rVert^2$; with $q_i =
\lVert y_i \rVert^2$ its three terms are

$$ \mathrm{tr}(\tilde K \tilde L) = \lVert X^\top Y \rVert_F^2 - \textstyle\sum p_i q_i,
\quad 1^\top \tilde K 1 = -\textstyle\sum p_i,
\quad 1^\top \tilde K \tilde L 1 = \textstyle\sum p_i q_i , $$

$$ n(n-3)\,\mathrm{HSIC}_u = \lVert X^\top Y \rVert_F^2 - \frac{n}{n-2} \sum p_i q_i
+ \frac{\sum p_i \sum q_i}{(n-1)(n-2)} . $$
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..spaces.files import DataError
from .neighbors import BLOCK, blocks
from .nulls import Order, measure

RSA_ROWS = 8192  # beyond, the ranks of all n(n-1)/2 distances pass 4 GB
SAMPLE = 2048  # rows whose distances set the width of an RBF kernel
FLAT = 1e-10  # of the largest variance: a direction below has none in float64


def permute(x: Tensor, order: Tensor | None) -> Tensor:
    """Rows of `x` in `order`, or as they are."""
    return x if order is None else x[order.to(x.device)]


def centred_factor(x: Tensor, k: int = 0) -> Tensor:
    """Centred float64 rows; wider than many, in the coordinates of their own span.

    QR of X' gives X = R'Q', and R' `(n, n)` has X's inner products.
    """
    # In place: fresh pages cost as much as the products.
    x = x.to(torch.float64, copy=True)
    x -= x.mean(dim=0)
    return torch.linalg.qr(x.T, mode="r").R.T if x.shape[1] > x.shape[0] else x


@dataclass(frozen=True, eq=False)
class Linear:
    """Centred rows `(n, d)`, their squared lengths p `(n,)`, and ||X'X||^2."""

    x: Tensor
    p: Tensor
    energy: float


def linear(x: Tensor, k: int = 0) -> Linear:
    """The features of linear CKA."""
    x = centred_factor(x)
    p = torch.linalg.vector_norm(x, dim=1).square_()
    return Linear(x, p, _square(x.T @ x))


def cka_chance(a: Linear, b: Linear) -> float:
    r"""Exact: $\mathrm{tr}K\,\mathrm{tr}L / ((n-1)\lVert K\rVert\lVert L\rVert)$."""
    norms = math.sqrt(a.energy * b.energy)
    return (a.p.sum() * b.p.sum()).item() / ((len(a.p) - 1) * norms)


@measure(linear, cka_chance)
def cka(a: Linear, b: Linear, order: Order) -> float:
    r"""Linear CKA, biased: $\lVert X^\top Y \rVert^2 / (\lVert X^\top X \rVert\,\lVert
    Y^\top Y \rVert)$ of centred rows (Kornblith et al. 2019, arXiv 1905.00414).

    Tends to 1 by itself as d/n grows: chance says how far it has come.
    """
    return _square(a.x.T @ permute(b.x, order)) / math.sqrt(a.energy * b.energy)


@measure(linear, lambda a, b: 0.0)
def cka_unbiased(a: Linear, b: Linear, order: Order) -> float:
    r"""Linear CKA with unbiased HSIC (Song et al. 2012, eq. 5); chance 0, may be < 0.

    In feature space, O(n d^2), by the formula at the top of this file.
    """
    cross = _square(a.x.T @ permute(b.x, order))
    own = (_hsic(side.energy, side.p, side.p) for side in (a, b))
    return _hsic(cross, a.p, permute(b.p, order)) / math.sqrt(math.prod(own))


def pca_basis(x: Tensor, k: int = 0, variance: float = 0.99) -> Tensor:
    """Orthonormal columns `(n, r)`: the fewest principal scores of X that together
    have this share of its variance."""
    if not 0 < variance <= 1:
        raise DataError(f"variance = {variance}; give a share above 0, up to 1")
    x = centred_factor(x)
    values, vectors = (z.flip(-1) for z in torch.linalg.eigh(x.T @ x))
    seen = values.cumsum(0) / values.sum()
    rank = int((seen < variance * (1 - 1e-12)).sum()) + 1
    rank = min(rank, int((values > FLAT * values[0]).sum()))
    return x @ (vectors[:, :rank] / values[:rank].sqrt())


@measure(pca_basis)
def svcca(a: Tensor, b: Tensor, order: Order) -> float:
    r"""Mean canonical correlation of the principal directions that hold `variance` of
    each side (Raghu et al. 2017, arXiv 1706.05806); near 1 by chance unless n >> d."""
    return torch.linalg.svdvals(a.T @ permute(b, order)).clamp_max(1).mean().item()


def frobenius_normalise(x: Tensor, k: int = 0) -> Tensor:
    """Centred rows of Frobenius norm 1."""
    x = centred_factor(x)
    return x / x.norm()


@measure(frobenius_normalise, best=0.0)
def procrustes_distance(a: Tensor, b: Tensor, order: Order) -> float:
    r"""$\min_Q \lVert XQ - Y \rVert^2 = 2 - 2 \lVert X^\top Y \rVert_*$ over (semi-)
    orthogonal Q, both sides centred and of Frobenius norm 1 (Ding et al. 2021, arXiv
    2108.01661): 0 for equals, 2 at most."""
    return max(2 - 2 * torch.linalg.svdvals(a.T @ permute(b, order)).sum().item(), 0.0)


@dataclass(frozen=True, eq=False)
class RBF:
    """Centred rows `(n, d)`, their squared lengths, 1/(2 sigma^2), and of the kernel:
    row sums `(n,)` and the norm once centred."""

    x: Tensor
    p: Tensor
    rate: float
    sums: Tensor
    norm: float


def rbf(x: Tensor, k: int = 0) -> RBF:
    """The features of RBF CKA; sigma is the median distance among up to 2,048 rows."""
    # float64 would double the time of n^2 exponentials for digits beyond the sixth.
    x = (x - x.mean(dim=0)).float()
    p = x.square().sum(dim=1)
    some = x[:: -(-len(x) // SAMPLE)].double()
    median = torch.pdist(some).quantile(0.5).item()
    if median == 0:
        raise DataError("more than half of the rows are alike: no width for the kernel")
    side = RBF(x, p, 0.5 / median**2, x.new_zeros(len(x), dtype=torch.float64), 1.0)
    total = 0.0
    for rows, columns, weight in _upper(len(x)):
        block = _kernel(side, rows, columns)
        side.sums[rows] += block.sum(dim=1, dtype=torch.float64)
        if weight == 2:
            side.sums[columns] += block.sum(dim=0, dtype=torch.float64)
        total += weight * block.square_().sum(dtype=torch.float64).item()
    norm = math.sqrt(_centred(total, side.sums, side.sums))
    return RBF(x, p, side.rate, side.sums, norm)


def rbf_chance(a: RBF, b: RBF) -> float:
    """As `cka_chance`; the trace of a centred kernel is n - 1'K1 / n."""
    n = len(a.x)
    traces = [n - side.sums.sum().item() / n for side in (a, b)]
    return math.prod(traces) / ((n - 1) * a.norm * b.norm)


@measure(rbf, rbf_chance)
def cka_rbf(a: RBF, b: RBF, order: Order) -> float:
    r"""CKA, biased, with $K_{ij} = e^{-\lVert x_i - x_j \rVert^2 / 2\sigma^2}$, sigma
    the median distance. O(n^2 d), for the value and again for each permutation."""
    sums = permute(b.sums, order)
    b = RBF(permute(b.x, order), permute(b.p, order), b.rate, sums, b.norm)
    total = 0.0
    for rows, columns, weight in _upper(len(a.x)):
        block = _kernel(a, rows, columns).mul_(_kernel(b, rows, columns))
        total += weight * block.sum(dtype=torch.float64).item()
    return _centred(total, a.sums, sums) / (a.norm * b.norm)


def distance_ranks(x: Tensor, k: int = 0) -> Tensor:
    """`(n, n)` ranks of all distances among rows, centred, of norm 1; ties share."""
    n = len(x)
    if n > RSA_ROWS:
        fact = f"rsa ranks all {n * (n - 1) // 2:,} distances of {n:,} rows"
        raise DataError(f"{fact}; take {RSA_ROWS:,} rows at most")
    x = x.double()
    p = x.square().sum(dim=1)
    distance = (x @ x.T).mul_(-2).add_(p[:, None]).add_(p)
    upper = torch.ones(n, n, dtype=torch.bool, device=x.device).triu_(1)
    _, at, counts = distance[upper].unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0).double() - (counts - 1) / 2)[at]
    ranks -= ranks.mean()
    if ranks.norm() == 0:
        raise DataError("all distances among the rows are alike: no ranks to compare")
    square = distance.zero_()
    square[upper] = ranks / (ranks.norm() * 2**0.5)
    return square.add_(square.T.clone())


@measure(distance_ranks, lambda a, b: 0.0)
def rsa(a: Tensor, b: Tensor, order: Order) -> float:
    r"""Spearman correlation of the two sides' distances $\lVert x_i - x_j \rVert$, i <
    j (Kriegeskorte et al. 2008); chance 0. n up to 8,192, about 3 GB there."""
    total = 0.0
    for rows in blocks(len(a), BLOCK // 4):
        part = b[rows] if order is None else b[order[rows]][:, order]
        total += (a[rows] * part).sum().item()
    return total


def _square(x: Tensor) -> float:
    return x.square().sum().item()


def _hsic(cross: float, p: Tensor, q: Tensor) -> float:
    n = len(p)
    both = (p.sum() * q.sum()).item() / ((n - 1) * (n - 2))
    return cross - n / (n - 2) * (p @ q).item() + both


def _centred(total: float, k: Tensor, m: Tensor) -> float:
    # tr(KHLH) from the sum of K * L and the row sums of both.
    n = len(k)
    return total - 2 / n * (k @ m).item() + (k.sum() * m.sum()).item() / n**2


def _upper(n: int) -> Iterator[tuple[slice, slice, int]]:
    # Blocks on and above the diagonal; those above count twice.
    for rows in blocks(n, BLOCK):
        for columns in blocks(n, BLOCK):
            if columns.start >= rows.start:
                yield rows, columns, 1 + (columns.start > rows.start)


def _kernel(side: RBF, rows: slice, columns: slice) -> Tensor:
    squares = torch.addmm(
        side.p[columns].expand(len(side.x[rows]), -1),
        side.x[rows], side.x[columns].T, alpha=-2,
    )  # fmt: skip
    squares.add_(side.p[rows, None]).clamp_min_(0)
    return squares.mul_(-side.rate).exp_()
