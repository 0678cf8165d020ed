r"""Linear algebra that the methods share: orthogonal maps, whitening, sampling of rows.

Rows are `(n, d)`; "centred" rows have their mean subtracted.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor

from ..spaces.files import DataError

WIDE = 512  # dimensions up to which a decomposition of them all is cheap
ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: steepest at 0, bounded near 1


def procrustes(x: Tensor, y: Tensor) -> Tensor:
    r"""Semi-orthogonal W `(d_s, d_t)` that maximises $\mathrm{tr}(W^\top X^\top Y)$.

    $W = UV^\top$ of the SVD $X^\top Y = USV^\top$ (Schönemann 1966); x and y are paired
    rows `(n, d_s)` and `(n, d_t)`.
    """
    return polar(x.T @ y)


def polar(m: Tensor) -> Tensor:
    r"""The nearest semi-orthogonal matrix to `m` `(d_s, d_t)`: $UV^\top$ of its SVD."""
    u, _, vh = torch.linalg.svd(m, full_matrices=False)
    return u @ vh


def orthogonalised(g: Tensor) -> Tensor:
    r"""About $U V^\top$ of $G = U S V^\top$, `(..., m, n)`, by matrix products alone.

    Five rounds of $X \leftarrow a X + (b X X^\top + c (X X^\top)^2) X$ from $G / \lVert
    G \rVert_F$ bring singular values above a hundredth of the norm to between 0.6 and
    1.3, which serves as well as 1. A zero matrix stays zero.
    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers".
    """
    wide = g.shape[-2] <= g.shape[-1]
    x = g if wide else g.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-30)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.mT


def power(c: Tensor, exponent: float, ridge: float) -> Tensor:
    r"""A covariance `(d, d)` to a real power p: $V (\lambda + r \bar\lambda)^p V^\top$.

    `ridge` r times the mean variance is added to all eigenvalues, so that directions
    without variance (MiniLM has two) stay finite.
    """
    values, vectors = torch.linalg.eigh(c)
    values = values.clamp_min(0) + ridge * values.clamp_min(0).mean()
    return (vectors * values**exponent) @ vectors.T


def whitening(x: Tensor, ridge: float) -> Tensor:
    """$C^{-1/2}$ `(d, d)` of centred rows, `ridge` of the mean variance added."""
    return power(x.T @ x / x.shape[0], -0.5, ridge)


def principal_axes(c: Tensor) -> Tensor:
    """Eigenvectors of a covariance `c` `(d, d)` as columns, the largest first."""
    return torch.linalg.eigh(c).eigenvectors.flip(1)


def leading_axes(x: Tensor, k: int) -> Tensor:
    """The k principal axes of largest variance, `(d, k)`, of centred rows `(n, d)`.

    Beyond WIDE dimensions by subspace iteration on the covariance with 32 directions to
    spare: n d^2 + 6 d^2 k operations instead of some 10 d^3 (Halko et al. 2011). The
    first directions are always the same draw. k above d gives d axes.
    """
    c, d = x.T @ x / x.shape[0], x.shape[1]
    if d <= WIDE:
        return principal_axes(c)[:, :k]
    g = Generator().manual_seed(0)
    axes = torch.randn(d, min(k + 32, d), generator=g).to(x)
    for _ in range(6):
        axes = torch.linalg.qr(c @ axes).Q
    return (axes @ principal_axes(axes.T @ c @ axes))[:, :k]


def random_orthogonal(
    rows: int, columns: int | None = None, *, generator: Generator,
    determinant: Literal[1, -1] | None = None,
) -> Tensor:  # fmt: skip
    """A random semi-orthogonal `(rows, columns)` matrix, square by default.

    The Q of a Gaussian matrix's QR, signs set by the diagonal of R: uniform (Haar) over
    all such matrices (Mezzadri 2007). Half of the square ones are rotations
    (determinant 1), half reflections (-1); `determinant` asks for one kind, uniform
    within it. Drawn on the generator's device. Raises DataError for a determinant of a
    matrix that is not square.

    >>> g = Generator().manual_seed(0)
    >>> round(torch.det(random_orthogonal(3, generator=g, determinant=-1)).item(), 3)
    -1.0
    """
    columns = rows if columns is None else columns
    wide, narrow = max(rows, columns), min(rows, columns)
    normal = torch.randn(wide, narrow, generator=generator, device=generator.device)
    q, r = torch.linalg.qr(normal)
    q = q * r.diagonal().sign()
    if determinant is not None:
        if rows != columns:
            raise DataError(f"a {rows} x {columns} matrix has no determinant; drop it")
        if torch.det(q) * determinant < 0:
            q[:, 0].neg_()
    return (q if rows == wide else q.T).contiguous()


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson correlation of all entries of two tensors of one shape; 0 if constant."""
    a, b = (z.flatten() - z.mean() for z in (a, b))
    scale = (a.norm() * b.norm()).item()
    return (a @ b).item() / scale if scale > 0 else 0.0


def sample_rows(x: Tensor, size: int, generator: Generator) -> Tensor:
    """At most `size` rows of `x`, without replacement; all, in order, if there are no
    more. Indices are drawn on the CPU: a seed gives the same rows on any device."""
    if x.shape[0] <= size:
        return x
    return x[torch.randperm(x.shape[0], generator=generator)[:size].to(x.device)]
