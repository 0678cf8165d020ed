r"""All networks: the translator, its discriminators, and the filters before them.

The translator is adapters around one backbone, $F_{s \to t} = B_t \circ T \circ A_s$,
with the reconstruction $R_s = B_s \circ T \circ A_s$ (arXiv 2505.12540, section 3;
chapter 7). S seeds train as one module of the layers in `layers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ..spaces.files import DataError
from .config import AdversarialConfig, NetConfig, Preset
from .layers import SeedLayerNorm, SeedLinear, stack
from .losses import GAMES, at_least_float32
from .maps import Whitenings, adapter_weights

# ---- the translator


class Nets(nn.Module):
    """S translators between two spaces or more, given as `{name: dimension}`.

    Weights are drawn from `generator` (on the CPU; then `.to(device)`). Raises
    DataError for fewer than two spaces, unknown names, or rows of another shape.
    """

    def __init__(
        self, widths: dict[str, int], config: NetConfig, seeds: int,
        generator: Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        if len(widths) < 2 or min(widths.values()) < 1 or seeds < 1:
            given = f"widths = {widths}, seeds = {seeds}"
            raise DataError(f"{given}; give two spaces or more, one seed or more")
        self.widths, self.config, self.seeds = dict(widths), config, seeds
        self.names = tuple(widths)  # in their order; the last is the known space
        self.latent_dim = z = config.latent_dim or max(widths.values())

        def adapter(d_in: int, d_out: int) -> nn.Module:
            if config.linear_adapters:
                return SeedLinear(seeds, d_in, d_out, generator)
            shape = d_in, config.hidden_dim, d_out
            return stack(seeds, shape, config.adapter_depth, config, generator)

        # By position, not by name: a module's name must not hold a dot.
        self.inputs = nn.ModuleList(adapter(d, z) for d in widths.values())
        self.outputs = nn.ModuleList(adapter(z, d) for d in widths.values())
        self.backbone = stack(
            seeds, (z, config.hidden_dim, z), config.backbone_depth, config, generator,
            zero=config.identity_backbone,
        )  # fmt: skip

    def encode(self, name: str, x: Tensor) -> Tensor:
        """Latents T(A(x)) `(S, B, Z)` of unit rows `(S, B, d)`; not normalised."""
        return self.encode_all([(name, x)])[:, 0]

    def encode_all(self, rows: Sequence[tuple[str, Tensor]]) -> Tensor:
        """Latents `(S, G, B, Z)` of G batches (name, `(S, B, d)`): T runs once."""
        z = torch.stack([self._adapt(*one) for one in rows], dim=1)
        moved = self.backbone(z)
        return z + moved if self.config.identity_backbone else moved

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
        """Set the linear adapters of a pair so that translating begins as x W.

        W is `(d_s, d_t)`, or `(S, d_s, d_t)` with one map per seed; the weights are
        those of `maps.adapter_weights`. With the backbone at its identity start
        translate(source, target, x) is exactly unit(x W), translate(target, source, y)
        is unit(y pinv(W)), and reconstruct is the identity for the target, and for the
        source if Z >= d_t + d_s - rank(W). Several sources of one target may be set in
        turn. Raises DataError unless adapters are linear, the backbone starts as
        identity and Z >= d_t.
        """
        if not (self.config.linear_adapters and self.config.identity_backbone):
            fact = "only nets of linear_adapters and identity_backbone start from a map"
            raise DataError(f"{fact}; set both in NetConfig")
        i, j = self._find(source), self._find(target)
        shape = self.widths[source], self.widths[target]
        if weight.shape[-2:] != shape or self.latent_dim < shape[1]:
            fact = f"W is {tuple(weight.shape)} and the latent {self.latent_dim} wide"
            mend = f"from {source} to {target} W must be {shape}, the latent >="
            raise DataError(f"{fact}; {mend} {shape[1]}")
        weight = weight.double().expand(self.seeds, -1, -1)
        layers = self.inputs[i], self.outputs[i], self.inputs[j], self.outputs[j]
        values = adapter_weights(weight, self.latent_dim)
        for layer, value in zip(layers, values, strict=True):
            linear = cast(SeedLinear, layer)
            linear.weight.copy_(value)
            linear.bias.zero_()

    def _adapt(self, name: str, x: Tensor) -> Tensor:
        i = self._find(name)
        if x.ndim != 3 or x.shape[::2] != (self.seeds, self.widths[name]):
            shape = f"({self.seeds}, B, {self.widths[name]})"
            given = f"rows of {name} have shape {tuple(x.shape)}"
            raise DataError(f"{given}; give (S, B, d) = {shape}")
        return self.inputs[i](x)

    def _find(self, name: str) -> int:
        if name not in self.names:
            known = ", ".join(self.names)
            raise DataError(f"no space {name!r} here; choose one of {known}")
        return self.names.index(name)


# ---- the discriminators


class Discriminator(nn.Module):
    """S discriminators: rows `(S, B, d)` to logits `(S, B)`, high where they look fake.

    Linear, then `depth - 2` times SiLU, linear, LayerNorm, then SiLU and a linear layer
    to one number. With an ensemble of M per seed, each trained alone, the logits are
    `(S, M B)`. No row's logit depends on another row.
    """

    def __init__(
        self, width_in: int, config: AdversarialConfig, seeds: int,
        generator: Generator, ensemble_size: int = 1,
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
        for matrix, scales in ("basis", "singular_values"), ("principal_axes", "std"):
            self.register_buffer(matrix, eye.clone())
            self.register_buffer(scales, one.clone())
        self.register_buffer("matrix", eye, persistent=False)

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
        self, widths: dict[str, int], preset: Preset, seeds: int, generator: Generator
    ) -> None:
        super().__init__()
        self.config = a = preset.adversarial
        self.nets = Nets(widths, preset.net, seeds, generator)
        names = self.nets.names
        latent = {"both": names, "one": names[-1:], "none": ()}[a.latent]
        self.output_spaces = names if preset.loss.adv_weight else ()
        self.latent_spaces = latent if preset.loss.latent_adv_weight else ()
        filtered = any((*a.singular_value_exponent, *a.variance_exponent))
        self.filters = nn.ModuleList(
            SpectralFilter(seeds, width) for width in widths.values() if filtered
        )
        trained = GAMES[a.game].d_loss is not None

        def discriminators(dims: list[int], ensemble_size: int) -> nn.ModuleList:
            args = a, seeds, generator, ensemble_size
            return nn.ModuleList(Discriminator(d, *args) for d in dims if trained)

        outputs = [widths[name] for name in self.output_spaces]
        latents = [self.nets.latent_dim for _ in self.latent_spaces]
        self.output_discriminators = discriminators(outputs, a.ensemble_size)
        self.latent_discriminators = discriminators(latents, 1)

    def discriminators(self) -> list[Discriminator]:
        """All of them, those of outputs first."""
        both = *self.output_discriminators, *self.latent_discriminators
        return [cast(Discriminator, one) for one in both]

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """The second optimiser's; the first one's are `nets.parameters()`."""
        return [p for one in self.discriminators() for p in one.parameters()]

    def init_from_map(
        self, source: str, target: str, maps: Tensor, whitenings: Whitenings
    ) -> None:
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
        ends = self.config.singular_value_exponent, self.config.variance_exponent
        exponents = [first + (last - first) * done for first, last in ends]
        for one in self.filters:
            cast(SpectralFilter, one).set_exponents(*exponents)

    def filter_of(self, name: str) -> SpectralFilter | None:
        """The filter before the discriminators of a space's rows, if there is one."""
        if not self.filters:
            return None
        return cast(SpectralFilter, self.filters[self.nets.names.index(name)])

    def filtered(self, name: str, rows: Tensor) -> Tensor:
        """Rows `(S, B, d)` of a space as its discriminators see them."""
        one = self.filter_of(name)
        return rows if one is None else one(rows)
