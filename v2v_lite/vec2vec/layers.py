"""Layers of S seeds at once: every tensor has a leading seed axis.

Rows are `(S, B, d)`, weights `(S, d_in, d_out)`, and no number passes from one seed to
another. (`torch.func.stack_module_state` with `vmap` does the same for any module; here
the products are written out as one `baddbmm`.) Batches that go through the same network
go together, `(S, G, B, d)`; batch normalisation keeps them apart.

Dropout draws from the default generator of the rows' device, so a run is reproducible
if it starts with `torch.manual_seed(seed)`, best inside `torch.random.fork_rng()`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import NetConfig


class SeedLinear(nn.Module):
    """x W + b for S seeds, `(S, B, d_in)` to `(S, B, d_out)`.

    W is Kaiming-normal, of variance 2 / d_in, or zero without a generator; b is zero.
    """

    def __init__(
        self, seeds: int, d_in: int, d_out: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        weight = torch.zeros(seeds, d_in, d_out)
        if generator is not None:
            weight.normal_(0.0, math.sqrt(2 / d_in), generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(seeds, 1, d_out))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.baddbmm(self.bias, x.flatten(1, -2), self.weight)
        return out.view(*x.shape[:-1], -1)


class SeedBatchNorm(nn.Module):
    """Batch normalisation of `(S, B, w)` with separate statistics per seed.

    Gains begin at 1 and biases at 0, or with a generator `std` around them, normally
    distributed.
    """

    mean: Tensor
    variance: Tensor

    def __init__(
        self, seeds: int, width: int, std: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        gain, bias = torch.ones(seeds, width), torch.zeros(seeds, width)
        if std:
            gain.normal_(1.0, std, generator=generator)
            bias.normal_(0.0, std, generator=generator)
        self.weight, self.bias = nn.Parameter(gain), nn.Parameter(bias)
        self.register_buffer("mean", torch.zeros(seeds, width))
        self.register_buffer("variance", torch.ones(seeds, width))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:  # batches that do not share their statistics
            return torch.stack([self(batch) for batch in x.unbind(1)], dim=1)
        # Seeds side by side are channels: (B, S w), a view where S = 1.
        flat = x.transpose(0, 1).flatten(1)
        mean, variance = self.mean.view(-1), self.variance.view(-1)
        weight, bias = self.weight.view(-1), self.bias.view(-1)
        flat = F.batch_norm(flat, mean, variance, weight, bias, self.training)
        return flat.unflatten(1, (len(x), -1)).transpose(0, 1)


class SeedLayerNorm(nn.Module):
    """Layer normalisation of `(S, ..., w)`, with a gain and a bias per seed."""

    def __init__(self, seeds: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(seeds, 1, width))
        self.bias = nn.Parameter(torch.zeros(seeds, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        shape = self.weight.shape[2:]
        if len(x) == 1:  # one kernel
            return F.layer_norm(x, shape, self.weight.view(-1), self.bias.view(-1))
        ones = [1] * (x.ndim - 2)
        gain, bias = (p.view(len(x), *ones, -1) for p in (self.weight, self.bias))
        return (F.layer_norm(x, shape) * gain).add_(bias)


class Block(nn.Module):
    """Linear, SiLU, then norm and dropout; or, as the last one, linear, dropout, SiLU,
    linear. With `skip` the input is added, zero-padded or cut to the new width."""

    def __init__(
        self, linear: SeedLinear, norm: nn.Module | None = None, dropout: float = 0.0,
        last: SeedLinear | None = None, skip: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.linear, self.norm, self.last = linear, norm, last
        self.dropout, self.skip = dropout, skip

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        if self.last is not None:
            h = self.last(F.silu(self._drop(h)))
        else:
            h = F.silu(h)
            h = self._drop(h if self.norm is None else self.norm(h))
        # A negative padding cuts.
        return h + F.pad(x, (0, h.shape[-1] - x.shape[-1])) if self.skip else h

    def _drop(self, h: Tensor) -> Tensor:
        if h.device.type == "cpu" and self.dropout and self.training:
            # Twice as fast as F.dropout there, which was a tenth of RELEASED's step.
            return h * torch.rand_like(h).ge_(self.dropout).div_(1 - self.dropout)
        return F.dropout(h, self.dropout, self.training) if self.dropout else h


def stack(
    seeds: int, widths: tuple[int, int, int], depth: int, config: NetConfig,
    generator: torch.Generator, zero: bool = False,
) -> nn.Sequential:  # fmt: skip
    """`depth` blocks from width `widths[0]` through `widths[1]` to `widths[2]`.

    The first has neither norm nor dropout, the last two linear layers. With `zero` the
    last layer starts at zero and no block has a skip.
    """
    d_in, width, d_out = widths
    skip, blocks = config.residual and not zero, list[Block]()
    for number in range(depth):
        linear = SeedLinear(seeds, d_in if number == 0 else width, width, generator)
        norm: nn.Module | None = None
        last: SeedLinear | None = None
        if number == depth - 1:
            last = SeedLinear(seeds, width, d_out, None if zero else generator)
        elif number > 0 and config.norm == "batch":
            norm = SeedBatchNorm(seeds, width, config.norm_init_std, generator)
        elif number > 0 and config.norm == "layer":
            norm = SeedLayerNorm(seeds, width)
        dropout = config.dropout if number > 0 or last is not None else 0.0
        blocks.append(Block(linear, norm, dropout, last, skip))
    return nn.Sequential(*blocks)


def clip_by_seed(weights: Iterable[Tensor], largest: float) -> None:
    """Scale each seed's gradient, over all weights `(S, ...)`, to norm <= `largest`."""
    grads = [w.grad for w in weights if w.grad is not None]
    squares = torch.stack([g.flatten(1).square().sum(dim=1) for g in grads])
    scale = (largest / squares.sum(dim=0).sqrt().clamp_min(1e-12)).clamp(max=1)
    for grad in grads:
        grad.mul_(scale.view(-1, *[1] * (grad.dim() - 1)))
