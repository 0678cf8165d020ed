r"""Every loss of vec2vec as a pure function, and the two tables to choose them from.

Losses of unit rows `(S, B, d)`: reconstruction, cycle, vector space preservation (VSP;
chapters 9 and 10). Losses of logits `(S, B)`: the adversarial games (chapter 8). A
logit says how *fake* a row looks, labels are real = 0 and fake = 1, as in the released
code of arXiv 2505.12540. Every loss returns one number per seed, `(S,)`.

Configurations choose from `GAMES` and `VSP` by name. A game of your own is one line:

    GAMES["wasserstein"] = Game(
        d_loss=lambda real, fake: (real - fake).mean(-1),
        g_loss=lambda fake: fake.mean(-1),
    )
    config = AdversarialConfig(game="wasserstein")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..spaces.files import ConfigError

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def reconstruction(rebuilt: Tensor, x: Tensor, squared: bool = False) -> Tensor:
    r"""Mean over rows of $1 - \cos(R(x), x)$, or of $\lVert R(x) - x \rVert^2$.

    The first is what the released code trains, the second, of unit rows twice the
    first, what arXiv 2505.12540 prints.
    """
    if squared:
        return (rebuilt - x).square().sum(dim=-1).mean(dim=-1)
    return 1 - (rebuilt * x).sum(dim=-1).mean(dim=-1)


def cycle(returned: Tensor, x: Tensor, squared: bool = False) -> Tensor:
    r"""The same distance of a row x from its round trip $F_2(F_1(x))$, `returned`."""
    return reconstruction(returned, x, squared)


def gram(a: Tensor, b: Tensor | None = None) -> Tensor:
    """Cosines `(S, B, B)` of rows with those of `b` (themselves), never autocast."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ (a if b is None else b).mT


def vsp_paper(rows: Tensor, real: Tensor, real_gram: Tensor | None = None) -> Tensor:
    r"""$\frac{1}{B^2} \sum_{ij} (y_i \cdot y_j - F(x_i) \cdot F(x_j))^2$, as printed.

    `rows` F(x) and `real` y are of one space but, without pairs, of different texts:
    then the best F makes every cosine the mean of those of y (chapter 10). `real_gram`
    is gram(real), if at hand; so below. Source: arXiv 2505.12540, section 3.
    """
    real_gram = gram(real) if real_gram is None else real_gram
    return (real_gram - gram(rows)).square().mean(dim=(-2, -1))


def vsp_released(rows: Tensor, real: Tensor, real_gram: Tensor | None = None) -> Tensor:
    r"""Mean $|BB^\top - AA^\top|$ plus mean $|BB^\top - AB^\top|$, B detached.

    A, `rows`, are the reconstructions or round trips of B, `real`. The second,
    reflected term fixes the rows themselves, not only their cosines. Source: the
    released code of arXiv 2505.12540.
    """
    b = real.detach()
    real_gram = gram(b) if real_gram is None else real_gram.detach()
    gaps = (real_gram - gram(rows)).abs() + (real_gram - gram(rows, b)).abs()
    return gaps.mean(dim=(-2, -1))


def vsp_self(rows: Tensor, real: Tensor, real_gram: Tensor | None = None) -> Tensor:
    r"""Mean $|XX^\top - F(X) F(X)^\top|$ of a batch and its *own* translation, `rows`.

    Well posed without pairs: it is zero for every map that keeps cosines. Ours; the
    absolute value as in `vsp_released`.
    """
    real_gram = gram(real) if real_gram is None else real_gram
    return (real_gram - gram(rows)).abs().mean(dim=(-2, -1))


def mmd(x: Tensor, y: Tensor) -> Tensor:
    r"""Squared maximum mean discrepancy of two samples, unbiased, by Gaussian kernels:

    $\frac{1}{B(B-1)} \sum_{i \ne j} [k(x_i, x_j) + k(y_i, y_j)] - \frac{2}{B^2}
    \sum_{ij} k(x_i, y_j)$ with k the mean of $e^{-\lVert a - b \rVert^2 / (m v)}$ over
    m in BANDWIDTHS and v the mean squared distance within y, without gradient. Rows of
    any length, B >= 2 on both sides; may be below zero. Source: Gretton et al. 2012.
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

    $$ \mathrm{mean}_i [\log \hat q(f_i) - \log \hat p(f_i)] - \mathrm{mean}_j \log \hat
    q(y_j) $$

    with $\hat p(z) = \frac1B \sum_j k(z, y_j)$ of real rows, $\hat q$ of fake ones, a
    row left out of its own, and $k(a, b) = e^{a \cdot b / \tau}$ (von Mises-Fisher).
    $\log \hat q - \log \hat p$ is what the best discriminator of the vanilla game would
    answer (Goodfellow 2014; chapter 8): here it is written down, not trained. Its mean
    over fake rows estimates KL(q || p); over real ones $-\log \hat q$ is the part of
    KL(p || q) that depends on the nets. B >= 2, $\tau$ >= 0.03, or kernels underflow.
    """
    return _Density.apply(fake, real, temperature)


class _Density(torch.autograd.Function):
    # The B x B kernels, divided by k(z, z), are the cost: each is written once.

    @staticmethod
    def forward(ctx: Any, fake: Tensor, real: Tensor, temperature: float) -> Tensor:
        across = gram(fake, real).sub_(1).div_(temperature).exp_()
        within = gram(fake).sub_(1).div_(temperature).exp_()
        within.diagonal(dim1=-2, dim2=-1).zero_()
        n, m = across.shape[-2:]
        q_fake = within.sum(dim=-1, keepdim=True)
        p_fake = across.sum(dim=-1, keepdim=True)
        q_real = across.sum(dim=-2, keepdim=True)
        ctx.save_for_backward(fake, real, across, within, q_fake, p_fake, q_real)
        ctx.temperature = temperature
        sums = (q_fake, n - 1), (p_fake, m), (q_real, n)
        logs = [(value / count).log().mean(dim=(-2, -1)) for value, count in sums]
        return logs[0] - logs[1] - logs[2] - 1 / temperature

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        fake, real, across, within, q_fake, p_fake, q_real = ctx.saved_tensors
        n, m = across.shape[-2:]
        scale = grad[:, None, None] / ctx.temperature
        # With k = e^{s / tau}: d(mean log sum k) / ds = k / (tau n sum k).
        across = across * -(1 / (n * p_fake) + 1 / (m * q_real))
        row = 1 / (n * q_fake)
        to_fake = across @ real + (within * row) @ fake + within @ (row * fake)
        to_real = across.mT @ fake if ctx.needs_input_grad[1] else None
        return scale * to_fake, None if to_real is None else scale * to_real, None


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], rows: Tensor, weight: float,
    ensemble_size: int = 1,
) -> Tensor:  # fmt: skip
    r"""$\frac{w}{2}$ mean $\lVert \nabla_x D(x) \rVert^2$ at rows `(S, B, d)`; `(S,)`.

    R1 at real rows, R2 at fake ones (Mescheder et al. 2018); a mean over the members of
    an ensemble of M, too: the discriminator maps `(S M, B, d)` to logits. At weight 0
    no graph is built.
    """
    if weight == 0:
        return rows.new_zeros(len(rows))
    # One copy of the rows per member, or the members' gradients would add up.
    copies = rows.detach().repeat_interleave(ensemble_size, dim=0).requires_grad_()
    total = discriminator(copies).sum()
    (slope,) = torch.autograd.grad(total, copies, create_graph=True)
    squares = slope.square().sum(dim=-1).view(len(rows), -1)
    return weight / 2 * squares.mean(dim=-1)


# ---- the tables


@dataclass(frozen=True)
class Game:
    """An adversarial loss: what the discriminators minimise, and what the translator.

    `d_loss(real, fake)` and `g_loss(fake)` take logits `(S, B)` and return `(S,)`; with
    `needs_real` it is `g_loss(fake, real)`. Without a `d_loss` there is no
    discriminator: `g_loss(fake, real)` compares the rows `(S, B, d)` themselves. Where
    so named, a third argument is AdversarialConfig's `label_smoothing` for `d_loss`,
    its `temperature` for `g_loss`.
    """

    d_loss: Callable[..., Tensor] | None
    g_loss: Callable[..., Tensor]
    needs_real: bool = False
    label_smoothing: bool = False
    temperature: bool = False


# Of logits of real rows r and fake rows f, high = fake; s is the label smoothing.
GAMES: dict[str, Game] = {
    "least_squares": Game(  # with labels s and 1 - s (Mao et al. 2017)
        lambda r, f, s: (0.5 * ((r - s).square() + (f - 1 + s).square())).mean(-1),
        lambda f: (0.5 * f.square()).mean(-1),
        label_smoothing=True,
    ),
    # Cross-entropies: -s log p - (1 - s) log(1 - p) = softplus(l) - s l, p = sigmoid(l)
    # (Goodfellow 2014). The translator's is the form whose gradient does not vanish.
    "vanilla": Game(
        lambda r, f, s: (F.softplus(r) - s * r + F.softplus(-f) + s * f).mean(-1),
        lambda f: F.softplus(f).mean(-1),
        label_smoothing=True,
    ),
    "relativistic": Game(  # -log sigmoid(f - r), row by row (Jolicoeur-Martineau 2019)
        lambda r, f: F.softplus(r - f).mean(-1),
        lambda f, r: F.softplus(f - r).mean(-1),
        needs_real=True,
    ),
    "hinge": Game(
        lambda r, f: (F.relu(1 + r) + F.relu(1 - f)).mean(-1), lambda f: f.mean(-1)
    ),
    "mmd": Game(None, mmd),
    "density": Game(None, density, temperature=True),
}


def d_loss(
    game: str, real: Tensor, fake: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """What discriminators minimise in a game, from logits `(S, B)`; `(S,)`."""
    loss, smooths = GAMES[game].d_loss, GAMES[game].label_smoothing
    if loss is None:
        raise ConfigError(f"the game {game!r} has no discriminator")
    return loss(real, fake, label_smoothing) if smooths else loss(real, fake)


def g_loss(game: str, fake: Tensor, real: Tensor | None = None) -> Tensor:
    """What the translator minimises in a game, from logits `(S, B)`; `(S,)`."""
    entry = GAMES[game]
    if not entry.needs_real:
        return entry.g_loss(fake)
    if real is None:
        raise ConfigError(f"the game {game!r} compares with real logits; give them")
    return entry.g_loss(fake, real)


@dataclass(frozen=True)
class VspForm:
    """A form of vector space preservation: its loss, and which rows it compares.

    `loss(rows, real, real_gram)` takes unit rows and real ones' cosines `(S, B, B)`.
    `rows` are translations or round trips; `real` are the rows that these were made of
    ("own") or real rows of the space they lie in ("target"), of other texts.
    """

    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    rows: Literal["translations", "round trips"] = "translations"
    real: Literal["own", "target"] = "own"


VSP: dict[str, VspForm] = {
    "paper": VspForm(vsp_paper, real="target"),
    "released": VspForm(vsp_released, rows="round trips"),
    "self": VspForm(vsp_self),
}


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32 if it came in half precision: lengths and losses need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    squares = [z.square().sum(dim=-1) for z in (a, b)]
    return squares[0][..., :, None] + squares[1][..., None, :] - 2 * gram(a, b)


def _off_diagonal_mean(k: Tensor) -> Tensor:
    n = k.shape[-1]
    diagonal = k.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    return (k.sum(dim=(-2, -1)) - diagonal) / (n * (n - 1))
