r"""The adversarial game: discriminators, what they minimise, what the translator does.

A logit says how *fake* a row looks: the labels are real = 0, fake = 1, as in the
released code of arXiv 2505.12540, and all games are written that way round (chapter 8).
Losses are pure functions of logits `(S, B)`, one number a seed, `(S,)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spaces.files import DataError
from .nets import SeedLinear, at_least_float32
from .presets import GameConfig


class SeedLayerNorm(nn.Module):
    """Layer normalisation of `(S, B, w)`, with a gain and a bias for each seed."""

    def __init__(self, seeds: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(seeds, 1, width))
        self.bias = nn.Parameter(torch.zeros(seeds, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        shape = self.weight.shape[2:]
        if len(x) == 1:  # one kernel
            return F.layer_norm(x, shape, self.weight.view(-1), self.bias.view(-1))
        return (F.layer_norm(x, shape) * self.weight).add_(self.bias)


class Discriminator(nn.Module):
    """S discriminators: rows `(S, B, d)` to logits `(S, B)`, high where they look fake.

    Linear, then `depth - 2` times SiLU, linear, LayerNorm, then SiLU and a linear layer
    to one number. With M > 1 `members` a seed, each alone, the logits are `(S, M B)`.
    No row's logit depends on another row.
    """

    def __init__(
        self,
        width_in: int,
        config: GameConfig,
        seeds: int,
        generator: torch.Generator,
        members: int = 1,
    ) -> None:
        super().__init__()
        self.seeds, self.members = seeds, members
        copies, width = seeds * members, config.width
        layers: list[nn.Module] = [SeedLinear(copies, width_in, width, generator)]
        for _ in range(config.depth - 2):
            linear = SeedLinear(copies, width, width, generator)
            layers += [nn.SiLU(), linear, SeedLayerNorm(copies, width)]
        layers += [nn.SiLU(), SeedLinear(copies, width, 1, generator)]
        self.layers = nn.Sequential(*layers)

    def forward(self, rows: Tensor) -> Tensor:
        if self.members > 1:
            rows = rows.repeat_interleave(self.members, dim=0)
        return at_least_float32(self.layers(rows)).view(self.seeds, -1)

    def judge(self, *groups: Tensor) -> tuple[Tensor, ...]:
        """The logits of several `(S, B, d)`, in one pass: a large product is faster."""
        if len(groups) == 1:
            return (self(groups[0]),)
        sizes = [rows.shape[1] for rows in groups]
        logits = self(torch.cat(groups, dim=1)).view(self.seeds, self.members, -1)
        return tuple(part.flatten(1) for part in logits.split(sizes, dim=-1))


class Glasses(nn.Module):
    r"""What a judge sees of a space: rows `(S, B, d)` to unit rows, $\mathrm{unit}(x P
    \sigma^f P^\top Q \lambda^g)$.

    The columns of P, `(d, d)` a seed, are the axes of the start's map, $\sigma$ their
    strengths, largest 1; Q are the principal axes of the space before it was whitened,
    $\lambda$ the standard deviations along them, largest 1. f is the focus, g the
    spread.
    """

    def __init__(self, seeds: int, width: int) -> None:
        super().__init__()
        one, eye = torch.ones(seeds, 1, width), torch.eye(width).repeat(seeds, 1, 1)
        self.register_buffer("axes", eye)
        self.register_buffer("strength", one)
        self.register_buffer("principal", eye.clone())
        self.register_buffer("deviation", one.clone())
        self.register_buffer("lens", eye.clone(), persistent=False)

    def put_on(self, axes: Tensor, strength: Tensor, white: Tensor) -> None:
        r"""Take axes `(S, d, r)`, strengths `(S, r)` and the whitening `(d, d)`, of
        eigenvalues $1 / \lambda$; directions beyond the axes are not seen."""
        self.axes.zero_()[..., : axes.shape[-1]] = axes
        self.strength.zero_()[..., : strength.shape[-1]] = strength[:, None]
        inverse, self.principal[:] = torch.linalg.eigh(white.to(self.axes.dtype))
        self.deviation[:] = inverse.min() / inverse

    def look(self, focus: float, spread: float) -> None:
        """Set focus and spread of all that is seen from now on."""
        sharp = self.axes * self.strength**focus
        self.lens = sharp @ (self.axes.mT @ self.principal) * self.deviation**spread

    def forward(self, rows: Tensor) -> Tensor:
        # Kernels of what is seen need float32, also under autocast.
        return F.normalize(at_least_float32(rows @ self.lens), dim=-1)


def d_loss(kind: str, real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    r"""What the discriminators minimise, `(S,)`; r and f are logits of real and fake.

    With labels s = `smoothing` for real and 1 - s for fake, and $\sigma$ the logistic:

    - least_squares: mean $\frac12 [(r - s)^2 + (f - 1 + s)^2]$ (Mao et al. 2017)
    - vanilla: cross-entropies of $\sigma(r)$ and $\sigma(f)$, summed (Goodfellow 2014)
    - relativistic: mean $-\log \sigma(f - r)$, row by row (Jolicoeur-Martineau 2019)
    - hinge: mean $\max(0, 1 + r) + \max(0, 1 - f)$
    """
    s = smoothing
    if kind == "least_squares":
        values = 0.5 * ((real - s).square() + (fake - 1 + s).square())
    elif kind == "vanilla":
        # -s log p - (1 - s) log(1 - p) = softplus(l) - s l, where p = sigmoid(l)
        values = F.softplus(real) - s * real + F.softplus(-fake) + s * fake
    elif kind == "relativistic":
        values = F.softplus(real - fake)
    elif kind == "hinge":
        values = F.relu(1 + real) + F.relu(1 - fake)
    else:
        raise DataError(f"kind = {kind!r} has no discriminator loss")
    return values.mean(dim=-1)


def g_loss(kind: str, fake: Tensor, real: Tensor | None = None) -> Tensor:
    r"""What the translator minimises, `(S,)`, so that its rows look real.

    - least_squares: mean $\frac12 f^2$
    - vanilla: mean $-\log(1 - \sigma(f))$, the form whose gradient does not vanish
    - relativistic: mean $-\log \sigma(r - f)$; it alone needs `real`
    - hinge: mean f
    """
    if kind == "least_squares":
        values = 0.5 * fake.square()
    elif kind == "vanilla":
        values = F.softplus(fake)
    elif kind == "relativistic":
        if real is None:
            raise DataError("real = None; the relativistic game compares with real")
        values = F.softplus(fake - real)
    elif kind == "hinge":
        values = fake
    else:
        raise DataError(f"kind = {kind!r} has no generator loss")
    return values.mean(dim=-1)


def gradient_penalty(
    discriminator: Discriminator, rows: Tensor, weight: float
) -> Tensor:
    r"""$\frac{w}{2}$ mean $\lVert \nabla_x D(x) \rVert^2$ at rows `(S, B, d)`; `(S,)`.

    R1 at real rows, R2 at fake ones (Mescheder et al. 2018); the mean is over rows and
    members. At weight 0 it is zero and no graph is built.
    """
    if weight == 0:
        return rows.new_zeros(discriminator.seeds)
    # One copy of the rows a member, or the members' gradients would add up.
    members = discriminator.members
    rows = rows.detach().repeat_interleave(members, dim=0).requires_grad_()
    logits = discriminator.layers(rows)
    (slope,) = torch.autograd.grad(logits.sum(), rows, create_graph=True)
    squares = slope.square().sum(dim=-1).view(discriminator.seeds, -1)
    return weight / 2 * squares.mean(dim=-1)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within it, what is computed with `module` sends no gradient to its weights."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
