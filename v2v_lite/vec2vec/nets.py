r"""The translator: adapters around one backbone, S independent copies in one module.

$F_{s \to t} = B_t \circ T \circ A_s$, and the reconstruction $R_s = B_s \circ T \circ
A_s$ (arXiv 2505.12540, section 3; chapter 7). Every tensor has a leading seed axis:
rows `(S, B, d)`, weights `(S, d_in, d_out)`. Copies share a program, never a number.
Batches that go through the same net go together, `(S, G, B, d)`, as one product; batch
normalisation keeps them apart.

In training mode dropout draws from the default generator of the rows' device. A run is
therefore reproducible if it starts with `torch.manual_seed(seed)`, best inside
`torch.random.fork_rng()`, and a resumed one if that generator's state was saved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spaces.files import DataError
from .presets import NetConfig

TINY = 1e-6  # a singular value below this share of the largest is float32's noise


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
    """Batch normalisation of `(S, B, w)`, the statistics of each seed its own."""

    def __init__(self, seeds: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(seeds, width))
        self.bias = nn.Parameter(torch.zeros(seeds, width))
        self.register_buffer("mean", torch.zeros(seeds, width))
        self.register_buffer("variance", torch.ones(seeds, width))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:  # batches that do not share their statistics
            return torch.stack([self(batch) for batch in x.unbind(1)], dim=1)
        # Seeds side by side are channels: (B, S w), a view where S = 1.
        flat = F.batch_norm(
            x.transpose(0, 1).flatten(1),
            self.mean.view(-1),
            self.variance.view(-1),
            self.weight.view(-1),
            self.bias.view(-1),
            self.training,
        )
        return flat.view(x.shape[1], x.shape[0], x.shape[2]).transpose(0, 1)


class Block(nn.Module):
    """Linear, SiLU, then norm and dropout; or, as the last one, linear, dropout, SiLU,
    linear. With `skip` the input is added, zero-padded or cut to the new width."""

    def __init__(
        self,
        linear: SeedLinear,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
        last: SeedLinear | None = None,
        skip: bool = False,
    ) -> None:
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
        return h + resized(x, h.shape[-1]) if self.skip else h

    def _drop(self, h: Tensor) -> Tensor:
        return dropout(h, self.dropout) if self.training and self.dropout else h


def dropout(h: Tensor, share: float) -> Tensor:
    """`h` with a `share` of its entries zero and the rest made larger to make up.

    On a CPU drawing costs more than all the rest: there one number of 64 bits serves
    four entries, and the share is kept to 2^-17.
    """
    if h.device.type != "cpu":
        return F.dropout(h, share)
    draws = torch.empty(-(-h.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: h.numel()].view(h.shape)
    keep = bits >= round(share * 2**16) - 2**15
    return h * keep.to(h.dtype).div_(1 - share)


def resized(x: Tensor, width: int) -> Tensor:
    """`x` with its last axis cut, or padded with zeros, to `width`."""
    extra = width - x.shape[-1]
    return F.pad(x, (0, extra)) if extra > 0 else x[..., :width]


def stack(
    seeds: int,
    widths: tuple[int, int, int],
    depth: int,
    config: NetConfig,
    generator: torch.Generator,
    zero: bool = False,
) -> nn.Sequential:
    """`depth` blocks from width `widths[0]` through `widths[1]` to `widths[2]`.

    The first has neither norm nor dropout, the last two linear layers. With `zero` the
    last layer starts at zero and no block has a skip.
    """
    d_in, width, d_out = widths
    skip, blocks = config.residual and not zero, []
    for number in range(depth):
        linear = SeedLinear(seeds, d_in if number == 0 else width, width, generator)
        if number == depth - 1:
            last = SeedLinear(seeds, width, d_out, None if zero else generator)
            block = Block(linear, None, config.dropout, last, skip)
        elif number == 0:
            block = Block(linear, skip=skip)
        else:
            norm = SeedBatchNorm(seeds, width) if config.norm == "batch" else None
            block = Block(linear, norm, config.dropout, None, skip)
        blocks.append(block)
    return nn.Sequential(*blocks)


class Nets(nn.Module):
    """S translators between two spaces or more, given as `{name: width}`.

    Weights are drawn from `generator` (on the CPU; then `.to(device)`). Raises
    DataError for fewer than two spaces, unknown names, or rows of another shape.
    """

    def __init__(
        self,
        widths: dict[str, int],
        config: NetConfig,
        seeds: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths.values()) < 1 or seeds < 1:
            raise DataError(
                f"widths = {widths}, seeds = {seeds}; give two spaces or more, and one "
                "seed or more"
            )
        self.widths, self.config, self.seeds = dict(widths), config, seeds
        self.latent = z = config.latent or max(widths.values())
        # By position, not by name: a module's name must not hold a dot.
        self.position = {name: i for i, name in enumerate(widths)}

        def adapter(d_in: int, d_out: int) -> nn.Module:
            if config.linear_adapters:
                return SeedLinear(seeds, d_in, d_out, generator)
            shape = d_in, config.width, d_out
            return stack(seeds, shape, config.adapter_depth, config, generator)

        self.inputs = nn.ModuleList(adapter(d, z) for d in widths.values())
        self.outputs = nn.ModuleList(adapter(z, d) for d in widths.values())
        shape, zero = (z, config.width, z), config.zero_backbone
        self.backbone = stack(
            seeds, shape, config.backbone_depth, config, generator, zero
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The spaces in their order; the last is the known one, the target."""
        return tuple(self.position)

    def encode(self, name: str, x: Tensor) -> Tensor:
        """Latents T(A(x)) `(S, B, Z)` of unit rows `(S, B, d)`; not normalised."""
        return self._through(self._enter(name, x))

    def encode_all(self, rows: Sequence[tuple[str, Tensor]]) -> Tensor:
        """Latents `(S, G, B, Z)` of G batches (name, `(S, B, d)`): T runs once."""
        return self._through(torch.stack([self._enter(*one) for one in rows], dim=1))

    def decode(self, name: str, z: Tensor) -> Tensor:
        """Unit rows `(S, ..., B, d)` of the space `name` from latents."""
        x = self.outputs[self._find(name)](z)
        return F.normalize(at_least_float32(x), dim=-1)

    def translate(self, source: str, target: str, x: Tensor) -> Tensor:
        """F(x), unit rows `(S, B, d_t)` from rows `(S, B, d_s)`."""
        return self.decode(target, self.encode(source, x))

    def reconstruct(self, name: str, x: Tensor) -> Tensor:
        """R(x), unit rows `(S, B, d)` from rows of the same space."""
        return self.decode(name, self.encode(name, x))

    @torch.no_grad()
    def start_from(self, source: str, target: str, weight: Tensor) -> None:
        r"""Set the linear adapters of a pair so that translating begins as x W.

        W is `(d_s, d_t)`, or `(S, d_s, d_t)` with one map a seed; it is scaled to
        singular values of root mean square 1, which no translation notices. The latent
        holds the target's coordinates, and in spare ones, as far as they reach, what of
        the source W maps to zero: with $N$ an orthonormal basis of that part,

            A_s = [W, N],  B_s = pinv(A_s),  A_t = [I, 0],  B_t = transpose(A_t).

        With the backbone at its zero start exactly: translate(source, target, x) is
        unit(x W), translate(target, source, y) is unit(y pinv(W)), and reconstruct is
        the identity for the target, and for the source if Z >= d_t + d_s - rank(W).
        Raises DataError unless adapters are linear, the backbone starts at zero and
        Z >= d_t. Several sources of one target may be set in turn.
        """
        if not (self.config.linear_adapters and self.config.zero_backbone):
            raise DataError(
                "only nets of linear_adapters and zero_backbone start from a given "
                "map; set both in NetConfig"
            )
        i, j = self._find(source), self._find(target)
        d_s, d_t = self.widths[source], self.widths[target]
        if weight.shape[-2:] != (d_s, d_t) or self.latent < d_t:
            raise DataError(
                f"W is {tuple(weight.shape)} and the latent {self.latent} wide; from "
                f"{source} to {target} W must be ({d_s}, {d_t}), the latent >= {d_t}"
            )
        into = _padded(weight.double().expand(self.seeds, -1, -1), self.latent)
        identity = torch.eye(d_t, self.latent).expand(self.seeds, -1, -1)
        values = {
            self.inputs[i]: into,
            self.outputs[i]: torch.linalg.pinv(into, rtol=TINY),
            self.inputs[j]: identity,
            self.outputs[j]: identity.mT,
        }
        for layer, value in values.items():
            layer.weight.copy_(value)
            layer.bias.zero_()

    def _enter(self, name: str, x: Tensor) -> Tensor:
        i = self._find(name)
        if x.ndim != 3 or x.shape[::2] != (self.seeds, self.widths[name]):
            raise DataError(
                f"rows of {name} have shape {tuple(x.shape)}; give (S, B, d) = "
                f"({self.seeds}, B, {self.widths[name]})"
            )
        return self.inputs[i](x)

    def _through(self, z: Tensor) -> Tensor:
        return z + self.backbone(z) if self.config.zero_backbone else self.backbone(z)

    def _find(self, name: str) -> int:
        if name not in self.position:
            raise DataError(
                f"no space {name!r} here; choose of {', '.join(self.names)}"
            )
        return self.position[name]


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32 if it came in half precision: lengths and losses need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _padded(weight: Tensor, latent: int) -> Tensor:
    # (S, d_s, d_t) -> (S, d_s, Z): [W, N], N the directions of the source that W loses.
    seeds, d_s, d_t = weight.shape
    wide = weight.new_zeros(seeds, d_s, latent)
    for out, w in zip(wide, weight, strict=True):
        u, s, _ = torch.linalg.svd(w)
        rank = int((s > s[0] * TINY).sum())
        out[:, :d_t] = w * (math.sqrt(rank) / s.norm())
        lost = u[:, rank : rank + latent - d_t]
        out[:, d_t : d_t + lost.shape[1]] = lost
    return wide
