r"""The losses that need no adversary: reconstruction, cycle, vector space preservation.

Pure functions of *unit* rows `(S, B, d)`, one number a seed, `(S,)` (chapters 9, 10).
Cosines are then plain products, and gradients of seeds cannot mix. `mmd` stands in for
an adversary and takes rows of any length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .nets import at_least_float32

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def reconstruction(rebuilt: Tensor, x: Tensor, squared: bool = False) -> Tensor:
    r"""Mean over rows of $1 - \cos(R(x), x)$, or of $\lVert R(x) - x \rVert^2$.

    Both are `(S, B, d)`. The first is what the released code trains, the second what
    arXiv 2505.12540 prints; of unit rows the second is exactly twice the first.
    """
    if squared:
        return (rebuilt - x).square().sum(dim=-1).mean(dim=-1)
    return 1 - (rebuilt * x).sum(dim=-1).mean(dim=-1)


def cycle(returned: Tensor, x: Tensor, squared: bool = False) -> Tensor:
    r"""Mean over rows of $1 - \cos(F_2(F_1(x)), x)$, or of the squared distance.

    `returned` is what comes back from the round trip; the same distance as
    `reconstruction`, and the same source.
    """
    return reconstruction(returned, x, squared)


def gram(a: Tensor, b: Tensor | None = None) -> Tensor:
    """The cosines `(S, B, B)` of rows with those of `b`, by default with themselves.

    In full precision also under autocast: their differences are what counts.
    """
    with torch.autocast(a.device.type, enabled=False):
        return a @ (a if b is None else b).mT


def vsp_printed(
    translated: Tensor, real: Tensor, known: Tensor | None = None
) -> Tensor:
    r"""$\frac{1}{B^2} \sum_{ij} (y_i \cdot y_j - F(x_i) \cdot F(x_j))^2$, as printed.

    `translated` F(x) and `real` y are of one space but, without pairs, of different
    texts: then the best F makes every cosine the mean of those of y (chapter 10). Not
    to be trained, but as an exhibit. `known` is gram(real), if it is at hand; so below.
    Source: arXiv 2505.12540, section 3.
    """
    known = gram(real) if known is None else known
    return (known - gram(translated)).square().mean(dim=(-2, -1))


def vsp_released(
    rows: Tensor, reference: Tensor, known: Tensor | None = None
) -> Tensor:
    r"""Mean $|BB^\top - AA^\top|$ plus mean $|BB^\top - AB^\top|$, B detached.

    A, `rows`, are the reconstructions or round trips of B, `reference`. The second,
    reflected term fixes the rows themselves, not only their cosines. Source: the
    released code of arXiv 2505.12540.
    """
    b = reference.detach()
    known = gram(b) if known is None else known.detach()
    gaps = (known - gram(rows)).abs() + (known - gram(rows, b)).abs()
    return gaps.mean(dim=(-2, -1))


def vsp_sound(translated: Tensor, x: Tensor, known: Tensor | None = None) -> Tensor:
    r"""Mean $|XX^\top - F(X) F(X)^\top|$ of a batch and its *own* translation.

    Well posed without pairs: it is zero for every map that keeps cosines. Rows
    `(S, B, d_t)` and `(S, B, d_s)`. Ours; the absolute value as in `vsp_released`.
    """
    known = gram(x) if known is None else known
    return (known - gram(translated)).abs().mean(dim=(-2, -1))


def mmd(x: Tensor, y: Tensor) -> Tensor:
    r"""Squared maximum mean discrepancy of two samples, unbiased, by Gaussian kernels.

    $\frac{1}{B(B-1)} \sum_{i \ne j} [k(x_i, x_j) + k(y_i, y_j)] - \frac{2}{B^2}
    \sum_{ij} k(x_i, y_j)$ with k the mean of $e^{-\lVert a - b \rVert^2 / (m v)}$ over
    m in BANDWIDTHS and v the mean squared distance within y, without gradient. Rows
    `(S, B, d)` of any length, B >= 2 on both sides; may be below zero. Source: Gretton
    et al. 2012, Journal of Machine Learning Research 13.
    """
    x, y = at_least_float32(x), at_least_float32(y)  # latents under autocast
    within_y = _squared_distances(y, y)
    scale = _off_diagonal_mean(within_y.detach())[:, None, None]

    def kernel(distances: Tensor) -> Tensor:
        powers = distances / -scale
        return torch.stack([(powers / m).exp() for m in BANDWIDTHS]).mean(dim=0)

    within = _off_diagonal_mean(kernel(_squared_distances(x, x)))
    across = kernel(_squared_distances(x, y)).mean(dim=(-2, -1))
    return within + _off_diagonal_mean(kernel(within_y)) - 2 * across


def density(fake: Tensor, real: Tensor, temperature: float) -> Tensor:
    r"""How far the density of `fake` is from that of `real`, by kernels; `(S,)`.

    With $k(a, b) = e^{a \cdot b / \tau}$ (von Mises-Fisher) the densities are estimated
    as $\hat p(z) = \frac1B \sum_j k(z, y_j)$ of real rows, $\hat q$ of fake ones, a row
    left out of its own. $D^*(z) = \log \hat q(z) - \log \hat p(z)$ is what the best
    discriminator of the vanilla game would answer (Goodfellow 2014; chapter 8): here it
    is written down, not trained. Over fake rows its mean estimates KL(q || p); over
    real ones $-\log \hat q$ is what depends on the nets in KL(p || q). The loss is

    $$ \mathrm{mean}_i [\log \hat q(f_i) - \log \hat p(f_i)] - \mathrm{mean}_j \log \hat
    q(y_j). $$

    Unlike in `mmd` the logarithm gives a row in a thin region as much say as one in a
    crowd. Unit rows `(S, B, d)`, B >= 2; $\tau$ of 0.03 or more, or kernels underflow.
    """
    return _Density.apply(fake, real, temperature)


class _Density(torch.autograd.Function):
    # The B x B kernels are the cost, and each is written once: autograd would write a
    # dozen. They are divided by their largest value, k(z, z).

    @staticmethod
    def forward(ctx, fake: Tensor, real: Tensor, temperature: float) -> Tensor:
        across = gram(fake, real).sub_(1).div_(temperature).exp_()
        within = gram(fake).sub_(1).div_(temperature).exp_()
        within.diagonal(dim1=-2, dim2=-1).zero_()
        n, m = across.shape[-2:]
        q_fake = within.sum(dim=-1, keepdim=True)
        p_fake = across.sum(dim=-1, keepdim=True)
        q_real = across.sum(dim=-2, keepdim=True)
        ctx.save_for_backward(fake, real, across, within, q_fake, p_fake, q_real)
        ctx.temperature = temperature
        logs = [(sums / k).log().mean(dim=(-2, -1)) for sums, k in (
            (q_fake, n - 1), (p_fake, m), (q_real, n))]  # fmt: skip
        return logs[0] - logs[1] - logs[2] - 1 / temperature

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        fake, real, across, within, q_fake, p_fake, q_real = ctx.saved_tensors
        n, m = across.shape[-2:]
        scale = grad[:, None, None] / ctx.temperature
        # With k = e^{s / tau}: d(mean log sum k) / ds = k / (tau n sum k).
        across = across * -(1 / (n * p_fake) + 1 / (m * q_real))
        row = 1 / (n * q_fake)
        to_fake = across @ real + (within * row) @ fake + within @ (row * fake)
        to_real = across.mT @ fake if ctx.needs_input_grad[1] else None
        return scale * to_fake, None if to_real is None else scale * to_real, None


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    squares = [z.square().sum(dim=-1) for z in (a, b)]
    return squares[0][..., :, None] + squares[1][..., None, :] - 2 * gram(a, b)


def _off_diagonal_mean(k: Tensor) -> Tensor:
    n = k.shape[-1]
    diagonal = k.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    return (k.sum(dim=(-2, -1)) - diagonal) / (n * (n - 1))
