r"""Every loss of vec2vec as a pure function, and the two tables to choose them from.

Losses of unit rows `(S, B, d)`: reconstruction, cycle, vector space preservation (VSP;
chapters 9 and 10). Losses of logits `(S, B)`: the adversarial games (chapter 8). A
logit says how *fake* a row looks: labels are real = 0 and fake = 1, as in the released
code of arXiv 2505.12540. Every loss returns one number per seed, `(S,)`, so gradients
of seeds cannot mix.

`GAMES` and `VSP` are what configurations choose from by name. A loss of your own is one
line, and then a name like the others:

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

__all__ = [
    "GAMES", "VSP", "Game", "VspForm", "cycle", "d_loss", "density", "g_loss",
    "gradient_penalty", "gram", "mmd", "reconstruction", "vsp_paper", "vsp_released",
    "vsp_self",
]  # fmt: skip

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


def vsp_paper(
    translated: Tensor, real: Tensor, real_gram: Tensor | None = None
) -> Tensor:
    r"""$\frac{1}{B^2} \sum_{ij} (y_i \cdot y_j - F(x_i) \cdot F(x_j))^2$, as printed.

    `translated` F(x) and `real` y are of one space but, without pairs, of different
    texts: then the best F makes every cosine the mean of those of y (chapter 10). Not
    to be trained, but as an exhibit. `real_gram` is gram(real), if it is at hand; so
    below. Source: arXiv 2505.12540, section 3.
    """
    real_gram = gram(real) if real_gram is None else real_gram
    return (real_gram - gram(translated)).square().mean(dim=(-2, -1))


def vsp_released(
    rows: Tensor, reference: Tensor, real_gram: Tensor | None = None
) -> Tensor:
    r"""Mean $|BB^\top - AA^\top|$ plus mean $|BB^\top - AB^\top|$, B detached.

    A, `rows`, are the reconstructions or round trips of B, `reference`. The second,
    reflected term fixes the rows themselves, not only their cosines. Source: the
    released code of arXiv 2505.12540.
    """
    b = reference.detach()
    real_gram = gram(b) if real_gram is None else real_gram.detach()
    gaps = (real_gram - gram(rows)).abs() + (real_gram - gram(rows, b)).abs()
    return gaps.mean(dim=(-2, -1))


def vsp_self(translated: Tensor, x: Tensor, real_gram: Tensor | None = None) -> Tensor:
    r"""Mean $|XX^\top - F(X) F(X)^\top|$ of a batch and its *own* translation.

    Well posed without pairs: it is zero for every map that keeps cosines. Rows
    `(S, B, d_t)` and `(S, B, d_s)`. Ours; the absolute value as in `vsp_released`.
    """
    real_gram = gram(x) if real_gram is None else real_gram
    return (real_gram - gram(translated)).abs().mean(dim=(-2, -1))


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
        logs = [(sums / k).log().mean(dim=(-2, -1)) for sums, k in (
            (q_fake, n - 1), (p_fake, m), (q_real, n))]  # fmt: skip
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


# ---- adversarial games: losses of logits (S, B) of real and fake rows, high = fake


def d_least_squares(real: Tensor, fake: Tensor, label_smoothing: float = 0.0) -> Tensor:
    r"""Mean $\frac12 [(r - s)^2 + (f - 1 + s)^2]$ with labels s, 1 - s (Mao 2017)."""
    s = label_smoothing
    return (0.5 * ((real - s).square() + (fake - 1 + s).square())).mean(dim=-1)


def g_least_squares(fake: Tensor) -> Tensor:
    r"""Mean $\frac12 f^2$."""
    return (0.5 * fake.square()).mean(dim=-1)


def d_vanilla(real: Tensor, fake: Tensor, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropies of $\sigma(r)$ and $\sigma(f)$, summed (Goodfellow 2014)."""
    s = label_smoothing
    # -s log p - (1 - s) log(1 - p) = softplus(l) - s l, where p = sigmoid(l)
    values = F.softplus(real) - s * real + F.softplus(-fake) + s * fake
    return values.mean(dim=-1)


def g_vanilla(fake: Tensor) -> Tensor:
    r"""Mean $-\log(1 - \sigma(f))$, the form whose gradient does not vanish."""
    return F.softplus(fake).mean(dim=-1)


def d_relativistic(real: Tensor, fake: Tensor) -> Tensor:
    r"""Mean $-\log \sigma(f - r)$, row by row (Jolicoeur-Martineau 2019)."""
    return F.softplus(real - fake).mean(dim=-1)


def g_relativistic(fake: Tensor, real: Tensor) -> Tensor:
    r"""Mean $-\log \sigma(r - f)$."""
    return F.softplus(fake - real).mean(dim=-1)


def d_hinge(real: Tensor, fake: Tensor) -> Tensor:
    r"""Mean $\max(0, 1 + r) + \max(0, 1 - f)$."""
    return (F.relu(1 + real) + F.relu(1 - fake)).mean(dim=-1)


def g_hinge(fake: Tensor) -> Tensor:
    """Mean f."""
    return fake.mean(dim=-1)


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], rows: Tensor, weight: float,
    ensemble_size: int = 1,
) -> Tensor:  # fmt: skip
    r"""$\frac{w}{2}$ mean $\lVert \nabla_x D(x) \rVert^2$ at rows `(S, B, d)`; `(S,)`.

    R1 at real rows, R2 at fake ones (Mescheder et al. 2018). The discriminator maps
    `(S M, B, d)` to logits, M being the `ensemble_size`: the mean is over rows and
    members. At weight 0 it is zero and no graph is built.
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
    discriminator: `g_loss(fake, real)` compares the rows `(S, B, d)` themselves. With
    `label_smoothing` `d_loss` takes AdversarialConfig's value of it as a third
    argument, with `temperature` `g_loss` does.
    """

    d_loss: Callable[..., Tensor] | None
    g_loss: Callable[..., Tensor]
    needs_real: bool = False
    label_smoothing: bool = False
    temperature: bool = False


GAMES: dict[str, Game] = {
    "least_squares": Game(d_least_squares, g_least_squares, label_smoothing=True),
    "vanilla": Game(d_vanilla, g_vanilla, label_smoothing=True),
    "relativistic": Game(d_relativistic, g_relativistic, needs_real=True),
    "hinge": Game(d_hinge, g_hinge),
    "mmd": Game(None, mmd),
    "density": Game(None, density, temperature=True),
}


def d_loss(
    game: str, real: Tensor, fake: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """What discriminators minimise in a game, from logits `(S, B)`; `(S,)`."""
    entry = GAMES[game]
    if entry.d_loss is None:
        raise ConfigError(f"the game {game!r} has no discriminator")
    smooth = (label_smoothing,) if entry.label_smoothing else ()
    return entry.d_loss(real, fake, *smooth)


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

    `loss(rows, real, real_gram)` takes unit rows `(S, B, d)` and the real rows' cosines
    `(S, B, B)` and returns `(S,)`. `rows` are translations or round trips; `real` are
    the rows that these were made of ("own") or real rows of the space they lie in
    ("target"), which without pairs are of other texts.
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
