"""Entropic optimal transport between uniform weights: Sinkhorn's scaling of a kernel.

Self-learning needs only products with the plan and never writes the plan itself;
`sinkhorn_plan` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..spaces.files import DataError


def sinkhorn_plan(similarity: Tensor, temperature: float, n_iter: int) -> Tensor:
    r"""Entropic transport plan `(n, m)` between uniform weights, by Sinkhorn.

    $P = \mathrm{diag}(a)\, e^{S/\tau}\, \mathrm{diag}(b)$ with rows summing to 1/n and
    columns, after the last step, to 1/m (Cuturi 2013, arXiv 1306.0895). S are cosines,
    so float32 needs no log domain down to about tau = 0.025. `similarity` is
    overwritten. Raises DataError when the temperature is too low for the precision.
    """
    if not temperature > 0 or n_iter < 1:
        both = f"temperature = {temperature} and n_iter = {n_iter}"
        raise DataError(f"{both} must be > 0")
    kernel = similarity.sub_(1).div_(temperature).exp_()
    a, b = scalings(kernel, n_iter)
    return kernel.mul_(a[:, None]).mul_(b)


def scalings(
    kernel: Tensor, n_iter: int, b: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sinkhorn's a `(n,)`, b `(m,)` for a positive kernel `(n, m)`, from a given b.

    Raises DataError when rows or columns of the kernel have underflowed to 0.
    """
    n, m = kernel.shape
    b = kernel.new_full((m,), 1 / m) if b is None else b
    for _ in range(n_iter):
        a = 1 / (n * (kernel @ b))
        b = 1 / (m * (kernel.T @ a))
    if not (a.isfinite().all() and b.isfinite().all()):
        fact = f"the temperature is too low for {kernel.dtype}"
        mend = "raise it (float32: 0.025 and more) or use float64"
        raise DataError(f"Sinkhorn's scalings overflow: {fact}; {mend}")
    return a, b


@contextmanager
def reduced_precision_matmul() -> Iterator[None]:
    """Within it, float32 products may round inputs to bfloat16, where that is fast.

    A plan averages over thousands of rows, so eight bits of each are enough.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
