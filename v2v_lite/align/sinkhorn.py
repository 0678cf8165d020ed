"""Entropic transport between uniform weights: Sinkhorn's scalings of a kernel.

Shared by self-learning, which needs only products with the plan and so never writes the
plan itself, and by chapter 6, which looks at one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def transport(similarity: Tensor, temperature: float, steps: int) -> Tensor:
    r"""Entropic transport plan `(n, m)` between uniform weights, by Sinkhorn.

    $P = \mathrm{diag}(a)\, e^{S/\tau}\, \mathrm{diag}(b)$ with rows summing to 1/n and
    columns, after the last step, to 1/m (Cuturi 2013, arXiv 1306.0895). S are cosines,
    so float32 needs no log domain down to about tau = 0.025; below, distant pairs
    underflow to 0. `similarity` is overwritten.
    """
    kernel = similarity.sub_(1).div_(temperature).exp_()
    a, b = scalings(kernel, steps)
    return kernel.mul_(a[:, None]).mul_(b)


def scalings(
    kernel: Tensor, steps: int, b: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sinkhorn's a `(n,)`, b `(m,)` for a positive kernel `(n, m)`, from a given b."""
    n, m = kernel.shape
    b = kernel.new_full((m,), 1 / m) if b is None else b
    for _ in range(steps):
        a = 1 / (n * (kernel @ b))
        b = 1 / (m * (kernel.T @ a))
    return a, b


@contextmanager
def coarse_products() -> Iterator[None]:
    """Within it, float32 products may round inputs to bfloat16, where that is fast.

    A plan averages over thousands of rows, so eight bits of each are enough.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
