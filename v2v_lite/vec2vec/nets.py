r"""All networks: the translator, its discriminators, and the filters before them.

The translator is adapters around one backbone, $F_{s \to t} = B_t \circ T \circ A_s$,
with the reconstruction $R_s = B_s \circ T \circ A_s$ (arXiv 2505.12540, section 3;
chapter 7). S seeds train as one module: every tensor has a leading seed axis, rows
`(S, B, d)` and weights `(S, d_in, d_out)`, and no number passes from one seed to
another. (`torch.func.stack_module_state` with `vmap` does the same for any module; here
the products are written out as one `baddbmm`.) Batches that go through the same network
go together, `(S, G, B, d)`; batch normalisation keeps them apart.

Dropout draws from the default generator of the rows' device, so a run is reproducible
if it starts with `torch.manual_seed(seed)`, best inside `torch.random.fork_rng()`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spaces.files import DataError
from .config import AdversarialConfig, NetConfig, Preset
from .losses import GAMES, at_least_float32

__all__ = [
    "Block", "Discriminator", "Nets", "Networks", "SeedBatchNorm", "SeedLayerNorm",
    "SeedLinear", "SpectralFilter", "stack",
]  # fmt: skip

TINY = 1e-6  # a singular value below this fraction of the largest is float32's noise


# ---- layers


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
    """Batch normalisation of `(S, B, w)` with separate statistics per seed."""

    mean: Tensor
    variance: Tensor

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


class SeedLayerNorm(nn.Module):
    """Layer normalisation of `(S, B, w)`, with a gain and a bias per seed."""

    def __init__(self, seeds: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(seeds, 1, width))
        self.bias = nn.Parameter(torch.zeros(seeds, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        shape = self.weight.shape[2:]
        if len(x) == 1:  # one kernel
            return F.layer_norm(x, shape, self.weight.view(-1), self.bias.view(-1))
        return (F.layer_norm(x, shape) * self.weight).add_(self.bias)


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
        if not self.skip:
            return h
        extra = h.shape[-1] - x.shape[-1]
        return h + (F.pad(x, (0, extra)) if extra > 0 else x[..., : h.shape[-1]])

    def _drop(self, h: Tensor) -> Tensor:
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


# ---- the translator


class Nets(nn.Module):
    """S translators between two spaces or more, given as `{name: dimension}`.

    Weights are drawn from `generator` (on the CPU; then `.to(device)`). Raises
    DataError for fewer than two spaces, unknown names, or rows of another shape.
    """

    def __init__(
        self, widths: dict[str, int], config: NetConfig, seeds: int,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        if len(widths) < 2 or min(widths.values()) < 1 or seeds < 1:
            raise DataError(
                f"widths = {widths}, seeds = {seeds}; give two spaces or more, and one "
                "seed or more"
            )
        self.widths, self.config, self.seeds = dict(widths), config, seeds
        self.latent_dim = z = config.latent_dim or max(widths.values())
        # By position, not by name: a module's name must not hold a dot.
        self.position = {name: i for i, name in enumerate(widths)}

        def adapter(d_in: int, d_out: int) -> nn.Module:
            if config.linear_adapters:
                return SeedLinear(seeds, d_in, d_out, generator)
            shape = d_in, config.hidden_dim, d_out
            return stack(seeds, shape, config.adapter_depth, config, generator)

        self.inputs = nn.ModuleList(adapter(d, z) for d in widths.values())
        self.outputs = nn.ModuleList(adapter(z, d) for d in widths.values())
        shape, zero = (z, config.hidden_dim, z), config.identity_backbone
        self.backbone = stack(
            seeds, shape, config.backbone_depth, config, generator, zero
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The spaces in their order; the last is the known one, the target."""
        return tuple(self.position)

    def encode(self, name: str, x: Tensor) -> Tensor:
        """Latents T(A(x)) `(S, B, Z)` of unit rows `(S, B, d)`; not normalised."""
        return self._backbone(self._adapt(name, x))

    def encode_all(self, rows: Sequence[tuple[str, Tensor]]) -> Tensor:
        """Latents `(S, G, B, Z)` of G batches (name, `(S, B, d)`): T runs once."""
        return self._backbone(torch.stack([self._adapt(*one) for one in rows], dim=1))

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
    def init_from_map(self, source: str, target: str, weight: Tensor) -> None:
        r"""Set the linear adapters of a pair so that translating begins as x W.

        W is `(d_s, d_t)`, or `(S, d_s, d_t)` with one map per seed; it is scaled to
        singular values of root mean square 1, which no translation notices. The latent
        holds the target's coordinates, and in spare ones, as far as they reach, what of
        the source W maps to zero: with $N$ an orthonormal basis of that part,

            A_s = [W, N],  B_s = pinv(A_s),  A_t = [I, 0],  B_t = transpose(A_t).

        With the backbone at its identity start exactly: translate(source, target, x) is
        unit(x W), translate(target, source, y) is unit(y pinv(W)), and reconstruct is
        the identity for the target, and for the source if Z >= d_t + d_s - rank(W).
        Raises DataError unless adapters are linear, the backbone starts as identity and
        Z >= d_t. Several sources of one target may be set in turn.
        """
        if not (self.config.linear_adapters and self.config.identity_backbone):
            raise DataError(
                "only nets of linear_adapters and identity_backbone start from a given "
                "map; set both in NetConfig"
            )
        i, j = self._find(source), self._find(target)
        d_s, d_t = self.widths[source], self.widths[target]
        if weight.shape[-2:] != (d_s, d_t) or self.latent_dim < d_t:
            raise DataError(
                f"W is {tuple(weight.shape)} and the latent {self.latent_dim} wide; "
                f"from {source} to {target} W must be ({d_s}, {d_t}), the latent >= "
                f"{d_t}"
            )
        into = _padded(weight.double().expand(self.seeds, -1, -1), self.latent_dim)
        identity = torch.eye(d_t, self.latent_dim).expand(self.seeds, -1, -1)
        values = {
            self.inputs[i]: into,
            self.outputs[i]: torch.linalg.pinv(into, rtol=TINY),
            self.inputs[j]: identity,
            self.outputs[j]: identity.mT,
        }
        for layer, value in values.items():
            linear = cast(SeedLinear, layer)
            linear.weight.copy_(value)
            linear.bias.zero_()

    def _adapt(self, name: str, x: Tensor) -> Tensor:
        i = self._find(name)
        if x.ndim != 3 or x.shape[::2] != (self.seeds, self.widths[name]):
            raise DataError(
                f"rows of {name} have shape {tuple(x.shape)}; give (S, B, d) = "
                f"({self.seeds}, B, {self.widths[name]})"
            )
        return self.inputs[i](x)

    def _backbone(self, z: Tensor) -> Tensor:
        moved = self.backbone(z)
        return z + moved if self.config.identity_backbone else moved

    def _find(self, name: str) -> int:
        if name not in self.position:
            raise DataError(
                f"no space {name!r} here; choose one of {', '.join(self.names)}"
            )
        return self.position[name]


# ---- the discriminators


class Discriminator(nn.Module):
    """S discriminators: rows `(S, B, d)` to logits `(S, B)`, high where they look fake.

    Linear, then `depth - 2` times SiLU, linear, LayerNorm, then SiLU and a linear layer
    to one number. With an ensemble of M per seed, each trained alone, the logits are
    `(S, M B)`. No row's logit depends on another row.
    """

    def __init__(
        self, width_in: int, config: AdversarialConfig, seeds: int,
        generator: torch.Generator, ensemble_size: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.seeds, self.ensemble_size = seeds, ensemble_size
        copies, width = seeds * ensemble_size, config.hidden_dim
        layers: list[nn.Module] = [SeedLinear(copies, width_in, width, generator)]
        for _ in range(config.depth - 2):
            linear = SeedLinear(copies, width, width, generator)
            layers += [nn.SiLU(), linear, SeedLayerNorm(copies, width)]
        layers += [nn.SiLU(), SeedLinear(copies, width, 1, generator)]
        self.layers = nn.Sequential(*layers)

    def forward(self, rows: Tensor) -> Tensor:
        if self.ensemble_size > 1:
            rows = rows.repeat_interleave(self.ensemble_size, dim=0)
        return at_least_float32(self.layers(rows)).view(self.seeds, -1)

    def logits(self, *groups: Tensor) -> tuple[Tensor, ...]:
        """The logits of several `(S, B, d)`, in one pass: a large product is faster."""
        if len(groups) == 1:
            return (self(groups[0]),)
        sizes = [rows.shape[1] for rows in groups]
        logits = self(torch.cat(groups, dim=1))
        logits = logits.view(self.seeds, self.ensemble_size, -1)
        return tuple(part.flatten(1) for part in logits.split(sizes, dim=-1))


class SpectralFilter(nn.Module):
    r"""Spectral reweighting of the discriminators' inputs: rows `(S, B, d)` to unit
    rows $\mathrm{unit}(x\, P \sigma^f P^\top Q \lambda^g)$.

    The columns of P, `(d, d)` per seed, are singular vectors of the initial map and
    $\sigma$ its singular values, largest 1; Q are the principal axes of the space
    before whitening, $\lambda$ the standard deviations along them, largest 1. f is the
    singular-value exponent, g the variance exponent.
    """

    basis: Tensor  # P
    singular_values: Tensor
    principal_axes: Tensor  # Q
    std: Tensor
    matrix: Tensor  # their product, (S, d, d)

    def __init__(self, seeds: int, width: int) -> None:
        super().__init__()
        one, eye = torch.ones(seeds, 1, width), torch.eye(width).repeat(seeds, 1, 1)
        self.register_buffer("basis", eye)
        self.register_buffer("singular_values", one)
        self.register_buffer("principal_axes", eye.clone())
        self.register_buffer("std", one.clone())
        self.register_buffer("matrix", eye.clone(), persistent=False)

    def set_basis(self, basis: Tensor, values: Tensor, whitening: Tensor) -> None:
        r"""Take P `(S, d, r)`, its singular values `(S, r)`, and the space's whitening
        `(d, d)`, of eigenvalues $1 / \lambda$; directions outside P are filtered out.
        """
        self.basis.zero_()[..., : basis.shape[-1]] = basis
        self.singular_values.zero_()[..., : values.shape[-1]] = values[:, None]
        inverse, axes = torch.linalg.eigh(whitening.to(self.basis.dtype))
        self.principal_axes[:], self.std[:] = axes, inverse.min() / inverse

    def set_exponents(self, singular_value: float, variance: float) -> None:
        """Set f and g for all rows that follow."""
        sharp = self.basis * self.singular_values**singular_value
        shared = sharp @ (self.basis.mT @ self.principal_axes)
        self.matrix = shared * self.std**variance

    def forward(self, rows: Tensor) -> Tensor:
        # The kernels of filtered rows need float32, also under autocast.
        return F.normalize(at_least_float32(rows @ self.matrix), dim=-1)


# ---- all together


class Networks(nn.Module):
    """The translator `nets` and its discriminators.

    `output_discriminators[i]` sees rows of the space `output_spaces[i]`, and
    `latent_discriminators[i]` tells latents of `latent_spaces[i]` from the others':
    every space, the last one, or none. Both lists are empty for a game without
    discriminators, and where the adversarial weight is 0. All weights are drawn from
    `generator`, on the CPU.
    """

    def __init__(
        self, widths: dict[str, int], preset: Preset, seeds: int,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config, loss = preset.adversarial, preset.loss
        self.nets = Nets(widths, preset.net, seeds, generator)
        names = self.nets.names
        latent = {"both": names, "one": names[-1:], "none": ()}[self.config.latent]
        self.output_spaces = names if loss.adv_weight else ()
        self.latent_spaces = latent if loss.latent_adv_weight else ()
        exponents = self.config.singular_value_exponent, self.config.variance_exponent
        filtered = any(map(any, exponents))
        self.filters = nn.ModuleList(
            SpectralFilter(seeds, width) for width in widths.values() if filtered
        )
        trained = GAMES[self.config.game].d_loss is not None
        size, args = self.config.ensemble_size, (self.config, seeds, generator)
        self.output_discriminators = nn.ModuleList(
            Discriminator(widths[name], *args, size)
            for name in (self.output_spaces if trained else ())
        )
        self.latent_discriminators = nn.ModuleList(
            Discriminator(self.nets.latent_dim, *args)
            for _ in (self.latent_spaces if trained else ())
        )

    def discriminators(self) -> list[Discriminator]:
        """All of them, those of outputs first."""
        both = *self.output_discriminators, *self.latent_discriminators
        return [cast(Discriminator, one) for one in both]

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """The second optimiser's; the first one's are `nets.parameters()`."""
        return [p for one in self.discriminators() for p in one.parameters()]

    def init_from_map(
        self, source: str, target: str, maps: Tensor,
        whitenings: dict[str, Tensor | None],
    ) -> None:  # fmt: skip
        """Start the nets from `maps` `(S, d_s, d_t)`. With spectral filters: from their
        rotation; singular values and whitenings `(d, d)` go into the filters."""
        if not self.filters:
            self.nets.init_from_map(source, target, maps)
            return
        u, s, vh = torch.linalg.svd(maps.double())
        r = s.shape[-1]
        self.nets.init_from_map(source, target, u[..., :r] @ vh[..., :r, :])
        for name, axes in (source, u), (target, vh.mT):
            one, whitening = self.filter_of(name), whitenings[name]
            if one is not None and whitening is not None:
                one.set_basis(axes[..., :r], s / s[:, :1], whitening)
        self.set_progress(0.0)

    def set_progress(self, done: float) -> None:
        """Set the filters' exponents for when a fraction `done` of the run is over."""
        c = self.config
        ends = c.singular_value_exponent, c.variance_exponent
        exponents = [first + (last - first) * done for first, last in ends]
        for one in self.filters:
            cast(SpectralFilter, one).set_exponents(*exponents)

    def filter_of(self, name: str) -> SpectralFilter | None:
        """The filter before the discriminators of a space's rows, if there is one."""
        if not self.filters:
            return None
        return cast(SpectralFilter, self.filters[self.nets.position[name]])

    def filtered(self, name: str, rows: Tensor) -> Tensor:
        """Rows `(S, B, d)` of a space as its discriminators see them."""
        one = self.filter_of(name)
        return rows if one is None else one(rows)


def _padded(weight: Tensor, latent_dim: int) -> Tensor:
    # (S, d_s, d_t) -> (S, d_s, Z): [W, N], N the directions of the source that W loses.
    seeds, d_s, d_t = weight.shape
    wide = weight.new_zeros(seeds, d_s, latent_dim)
    for out, w in zip(wide, weight, strict=True):
        u, s, _ = torch.linalg.svd(w)
        rank = int((s > s[0] * TINY).sum())
        out[:, :d_t] = w * (math.sqrt(rank) / s.norm())
        lost = u[:, rank : rank + latent_dim - d_t]
        out[:, d_t : d_t + lost.shape[1]] = lost
    return wide
