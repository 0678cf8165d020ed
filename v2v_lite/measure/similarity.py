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
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from ..spaces.files import DataError
from ..spaces.rows import check_rows, unit
from ..spaces.space import Space
from . import cka as _cka
from .neighbors import Rows, blocks, topk
from .nulls import Measure, Similarity, check_null, check_same_texts, permutation_test

__all__ = [
    "MEASURES", "Near", "cka", "cka_rbf", "cka_unbiased", "cknna", "compare",
    "cycle_knn", "lcs_knn", "mutual_knn", "nearest", "procrustes_distance", "rsa",
    "svcca",
]  # fmt: skip

Gen: TypeAlias = Generator | None
BLOCK = 1024  # rows whose k x k comparisons are made at once


def mutual_knn(
    a: Rows, b: Rows, k: int = 10, permutations: int = 0, generator: Gen = None
) -> Similarity:
    r"""Share of the k nearest that both sides agree on; chance k / (n - 1).

    $\frac{1}{nk} \sum_i |N^a_i \cap N^b_i|$ (Huh et al. 2024, arXiv 2405.07987).

    >>> import torch
    >>> x = torch.randn(50, 8, generator=Generator().manual_seed(0))
    >>> mutual_knn(x, 3 * x.flip(1), k=5).value
    1.0
    """
    return _one("mutual_knn", a, b, k, permutations, generator)


def cycle_knn(
    a: Rows, b: Rows, k: int = 10, permutations: int = 0, generator: Gen = None
) -> Similarity:
    r"""Share of rows that come home: $i \in N^a_j$ for some $j \in N^b_i$.

    Chance $1 - \frac1n \sum_i \binom{n-1-r_i}{k} / \binom{n-1}{k}$, with $r_i$ the
    number of a's lists that hold i: hubs lower it. Not symmetric in a and b. Source: as
    `mutual_knn`.
    """
    return _one("cycle_knn", a, b, k, permutations, generator)


def lcs_knn(
    a: Rows, b: Rows, k: int = 10, permutations: int = 0, generator: Gen = None
) -> Similarity:
    r"""Mean length of the longest common subsequence of both lists of neighbours,
    nearest first, over k: `mutual_knn` that minds the order. Source: the same."""
    return _one("lcs_knn", a, b, k, permutations, generator)


def cknna(
    a: Rows, b: Rows, k: int = 10, permutations: int = 0, generator: Gen = None
) -> Similarity:
    r"""Kernel alignment on mutual neighbours only, as printed in arXiv 2405.07987.

    $A(K, L) / \sqrt{A(K, K)\,A(L, L)}$ with $A(K, L) = \sum_i \sum_{j \in N^a_i \cap
    N^b_i} \bar K_{ij} \bar L_{ij}$, where $\bar K_{ij}$ is the cosine of rows i and j
    less the mean of row i's. (The released code masks first and centres after.)
    """
    return _one("cknna", a, b, k, permutations, generator)


def cka(a: Rows, b: Rows, permutations: int = 0, generator: Gen = None) -> Similarity:
    r"""Linear CKA, biased: $\lVert X^\top Y \rVert^2 / (\lVert X^\top X \rVert\,\lVert
    Y^\top Y \rVert)$ of centred rows (Kornblith et al. 2019, arXiv 1905.00414).

    Tends to 1 by itself as d/n grows: chance says how far it has come.
    """
    return _one("cka", a, b, 1, permutations, generator)


def cka_unbiased(
    a: Rows, b: Rows, permutations: int = 0, generator: Gen = None
) -> Similarity:
    r"""Linear CKA with unbiased HSIC (Song et al. 2012, eq. 5); chance 0, may be < 0.

    In feature space, O(n d^2): the formula is derived in `measure.cka`.
    """
    return _one("cka_unbiased", a, b, 1, permutations, generator)


def cka_rbf(
    a: Rows, b: Rows, permutations: int = 0, generator: Gen = None
) -> Similarity:
    r"""CKA, biased, with $K_{ij} = e^{-\lVert x_i - x_j \rVert^2 / 2\sigma^2}$, sigma
    the median distance. O(n^2 d), for the value and again for each permutation."""
    return _one("cka_rbf", a, b, 1, permutations, generator)


def svcca(
    a: Rows, b: Rows, variance: float = 0.99, permutations: int = 0,
    generator: Gen = None,
) -> Similarity:  # fmt: skip
    r"""Mean canonical correlation of the principal directions that hold `variance` of
    each side (Raghu et al. 2017, arXiv 1706.05806); near 1 by chance unless n >> d."""
    if not 0 < variance <= 1:
        raise DataError(f"variance = {variance}; give a share above 0, up to 1")
    measure = replace(
        MEASURES["svcca"], features=lambda x, k: _cka.pca_basis(x, k, variance)
    )
    return _each([measure], a, b, 1, permutations, generator, False)[0]


def rsa(a: Rows, b: Rows, permutations: int = 0, generator: Gen = None) -> Similarity:
    r"""Spearman correlation of the two sides' distances $\lVert x_i - x_j \rVert$, i <
    j (Kriegeskorte et al. 2008); chance 0. n up to 8,192, about 3 GB there."""
    return _one("rsa", a, b, 1, permutations, generator)


def procrustes_distance(
    a: Rows, b: Rows, permutations: int = 0, generator: Gen = None
) -> Similarity:
    r"""$\min_Q \lVert XQ - Y \rVert^2 = 2 - 2 \lVert X^\top Y \rVert_*$ over (semi-)
    orthogonal Q, both sides centred and of Frobenius norm 1 (Ding et al. 2021, arXiv
    2108.01661): 0 for equals, 2 at most."""
    return _one("procrustes_distance", a, b, 1, permutations, generator)


def compare(
    a: Rows,
    b: Rows,
    measures: Sequence[str] | None = None,
    k: int = 10,
    permutations: int = 0,
    generator: Gen = None,
    progress: bool = False,
) -> tuple[Similarity, ...]:
    """Several measures of one pair of sides (default: all of `MEASURES`), in order.

    What measures share (neighbours, say) is worked out once.
    """
    names = tuple(MEASURES if measures is None else measures)
    for name in names:
        if name not in MEASURES:
            raise DataError(f"no measure {name!r}; there are {', '.join(MEASURES)}")
    chosen = [MEASURES[name] for name in names]
    return _each(chosen, a, b, k, permutations, generator, progress)


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


def _mutual(a: Near, b: Near, order: Tensor | None) -> float:
    found = sum(same.sum().item() for _, same in _same(a, b.permuted(order)))
    return found / a.index.numel()


def _mutual_chance(a: Near, b: Near) -> float:
    n, k = a.index.shape
    return k / (n - 1)


def _cycle(a: Near, b: Near, order: Tensor | None) -> float:
    b, returned = b.permuted(order), 0.0
    own = torch.arange(len(a.index), device=a.index.device)[:, None, None]
    for rows in blocks(len(own), BLOCK):
        returned += (a.index[b.index[rows]] == own[rows]).any(2).any(1).sum().item()
    return returned / len(own)


def _cycle_chance(a: Near, b: Near) -> float:
    n, k = a.index.shape
    others = n - 1 - a.index.flatten().bincount(minlength=n)[:, None].double()
    t = torch.arange(k, device=others.device)
    missed = ((others - t).clamp_min(0) / (n - 1 - t)).prod(dim=1)
    return 1 - missed.mean().item()


def _lcs(a: Near, b: Near, order: Tensor | None) -> float:
    total, k = 0.0, a.index.shape[1]
    for _, same in _same(a, b.permuted(order)):
        # best[:, t]: longest in a's list so far and b's first t (dynamic programming)
        best = torch.zeros(len(same), k + 1, device=same.device)
        for row in same.unbind(dim=1):
            longer = torch.maximum(best[:, 1:], best[:, :-1] + row)
            best[:, 1:] = longer.cummax(dim=1).values
        total += best[:, -1].sum().item()
    return total / a.index.numel()


def _cknna(a: Near, b: Near, order: Tensor | None) -> float:
    b, total = b.permuted(order), 0.0
    for rows, same in _same(a, b):
        product = a.cosine[rows, :, None] * b.cosine[rows, None, :]
        total += product[same].sum().item()
    return total / (a.cosine.norm() * b.cosine.norm()).item()


def _zero(a: object, b: object) -> float:
    return 0.0


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("mutual_knn", nearest, _mutual, _mutual_chance, local=True),
        Measure("cycle_knn", nearest, _cycle, _cycle_chance, local=True),
        Measure("lcs_knn", nearest, _lcs, local=True),
        Measure("cknna", nearest, _cknna, local=True),
        Measure("cka", _cka.linear, _cka.cka_biased, _cka.cka_biased_chance),
        Measure("cka_unbiased", _cka.linear, _cka.cka_unbiased, _zero),
        Measure("cka_rbf", _cka.rbf, _cka.rbf_biased, _cka.rbf_chance),
        Measure("svcca", _cka.pca_basis, _cka.mean_cca),
        Measure("rsa", _cka.distance_ranks, _cka.spearman_rdm, _zero),
        Measure(
            "procrustes_distance",
            _cka.frobenius_normalise,
            _cka.procrustes_distance,
            best=0.0,
        ),
    )
}


def _one(
    name: str, a: Rows, b: Rows, k: int, permutations: int, generator: Gen
) -> Similarity:
    return _each([MEASURES[name]], a, b, k, permutations, generator, False)[0]


def _each(
    measures: Sequence[Measure], a: Rows, b: Rows, k: int, permutations: int,
    generator: Gen, progress: bool,
) -> tuple[Similarity, ...]:  # fmt: skip
    from tqdm.auto import tqdm

    check_null(permutations, generator)
    x, y = _rows(a, "a"), _rows(b, "b")
    n = _check_pair(x, y, k)
    check_same_texts(a, b)
    y, sides, found = y.to(x.device), {}, []
    total = len(measures) * (permutations + 1)
    with tqdm(total=total, desc="similarity", disable=not progress) as bar:
        for measure in measures:
            if measure.features not in sides:
                sides[measure.features] = measure.features(x, k), measure.features(y, k)
            both = sides[measure.features]
            found.append(
                permutation_test(measure, *both, n, k, permutations, generator, bar)
            )
            bar.update()
    return tuple(found)


def _rows(x: Rows, name: str) -> Tensor:
    rows = x.vectors if isinstance(x, Space) else check_rows(x, name, unit_rows=False)
    if torch.equal(rows.amax(dim=0), rows.amin(dim=0)):
        raise DataError(f"{name}: all rows are alike; nothing lies near or far")
    return rows.detach()


def _check_pair(x: Tensor, y: Tensor, k: int) -> int:
    n = len(x)
    if len(y) != n or n < 4:
        raise DataError(
            f"a has {n} rows and b {len(y)}; row i of both must be one text, "
            "and 4 are needed"
        )
    if not 1 <= k <= n - 1:
        raise DataError(f"k = {k}, but {n} rows have 1 to {n - 1} neighbours")
    return n
