"""Configurations: what is trained and how, as frozen dataclasses, and three presets.

PAPER is the text of arXiv 2505.12540, RELEASED what its authors' code trains, OURS what
works without luck (chapter 11). PAPER plays the vanilla game and RELEASED least
squares, each with discriminators. **OURS has no discriminator**: its density game
writes the optimal one down (`losses.density`), so a change to a discriminator's loss
has no effect on it unless `adversarial.game` is changed too. OURS is also nearly
linear: its adapters are matrices, and its backbone, the only non-linear part, learns at
1e-5 of the learning rate.

A preset is changed by `dataclasses.replace`, from the command line by an option for
each field. `from_dict` reads one back from JSON, under old field names too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints
from warnings import warn

from ..spaces.files import ConfigError
from .losses import GAMES, VSP

__all__ = [
    "OURS", "PAPER", "PRESETS", "RELEASED", "AdversarialConfig", "LossConfig",
    "NetConfig", "OptimConfig", "Preset", "TrainerConfig", "from_dict", "preset_named",
]  # fmt: skip

Config = TypeVar("Config")


class _Checked:
    """What all configurations check: choices, and numbers that are not negative."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value, choices = getattr(self, name), get_args(hint)
            if get_origin(hint) is Literal:
                self._one_of(name, choices)
            elif isinstance(value, int | float):
                self._require(name, value >= 0, "it must be 0 or more")
            elif isinstance(value, tuple):
                fine = len(value) == 2 and min(value) >= 0
                self._require(name, fine, "give two numbers of 0 or more")
        self._check()

    def _check(self) -> None: ...

    def _require(self, name: str, fine: object, mend: str) -> None:
        if not fine:
            value = f"{type(self).__name__}.{name} = {getattr(self, name)!r}"
            raise ConfigError(f"{value}; {mend}")

    def _at_least(self, low: int, *names: str) -> None:
        for name in names:
            fine = getattr(self, name) >= low
            self._require(name, fine, f"it must be {low} or more")

    def _fraction(self, *names: str) -> None:
        for name in names:
            self._require(name, 0 <= getattr(self, name) < 1, "it must lie in [0, 1)")

    def _one_of(self, name: str, known: Iterable[str]) -> None:
        fine = getattr(self, name) in known
        self._require(name, fine, f"choose one of {', '.join(known)}")


@dataclass(frozen=True)
class NetConfig(_Checked):
    """The translator: an input and an output adapter per space, and one backbone."""

    # Dimension Z of the latent space; 0 takes the dimension of the widest space.
    latent_dim: int = 1024
    # Dimension of the hidden layers.
    hidden_dim: int = 1024
    # Blocks of an adapter; the last block has two linear layers.
    adapter_depth: int = 3
    # Blocks of the backbone; the last block has two linear layers.
    backbone_depth: int = 4
    # Normalisation in the middle blocks.
    norm: Literal["batch", "none"] = "batch"
    # Dropout probability, in all blocks but the first.
    dropout: float = 0.1
    # Residual connection around every block, zero-padded or cut to the block's width.
    residual: bool = True
    # Adapters are one linear layer each.
    linear_adapters: bool = False
    # The backbone is z + MLP(z) with the MLP's last layer zero: it starts as identity.
    identity_backbone: bool = False

    def _check(self) -> None:
        self._at_least(1, "hidden_dim", "adapter_depth", "backbone_depth")
        self._fraction("dropout")


@dataclass(frozen=True)
class AdversarialConfig(_Checked):
    """The adversarial losses and the discriminators."""

    # Adversarial loss, by its name in losses.GAMES: least_squares (RELEASED), vanilla
    # (PAPER), relativistic and hinge train discriminators; density (OURS) and mmd have
    # no discriminator.
    game: str = "least_squares"
    # Kernel temperature of the density game.
    temperature: float = 0.06
    # Discriminators see shared direction k scaled by sigma_k^e, sigma being the
    # singular values of the initial map; e goes from the first number to the second.
    singular_value_exponent: tuple[float, float] = (0.0, 0.0)
    # Then principal component k of their space scaled by its standard deviation^e (0:
    # whitened rows, 1: the rows before whitening), from the first e to the second.
    variance_exponent: tuple[float, float] = (0.0, 0.0)
    # Distance of the discriminators' labels from 0 and 1.
    label_smoothing: float = 0.0
    # Dimension of a discriminator's hidden layers.
    hidden_dim: int = 1024
    # Linear layers of a discriminator.
    depth: int = 5
    # Discriminators per space for its rows; their mean loss counts.
    ensemble_size: int = 1
    # Latents that play: each space's against the others' (both), the others' against
    # the last space's (one), or none.
    latent: Literal["both", "one", "none"] = "one"
    # Weight of the R1 gradient penalty, (r1 / 2) E |grad D|^2 at real rows.
    r1: float = 0.0
    # Weight of the R2 gradient penalty, the same at fake rows.
    r2: float = 0.0

    def _check(self) -> None:
        self._one_of("game", GAMES)
        self._at_least(1, "hidden_dim", "ensemble_size")
        self._at_least(2, "depth")
        cold = "kernels underflow below 0.03; it must be 0.03 or more"
        self._require("temperature", self.temperature >= 0.03, cold)
        smooth, labels = self.label_smoothing, GAMES[self.game].label_smoothing
        self._require("label_smoothing", smooth < 0.5, "it must lie in [0, 0.5)")
        mend = f"the game {self.game!r} has no labels; set it to 0"
        self._require("label_smoothing", not smooth or labels, mend)


@dataclass(frozen=True)
class LossConfig(_Checked):
    """Weights and forms of the translator's losses; a weight of 0 skips the work."""

    # Weight of the distance between a row and its reconstruction.
    reconstruction_weight: float = 1.0
    # Weight of the distance between a row and its round trip.
    cycle_weight: float = 10.0
    # Stop the gradient before the second half of a round trip.
    cycle_stop_gradient: bool = True
    # Form of vector space preservation, by its name in losses.VSP: paper, released or
    # self (see there for what each compares).
    vsp: str = "released"
    # Weight of vector space preservation.
    vsp_weight: float = 10.0
    # Weight of vector space preservation between rows and reconstructions.
    vsp_reconstruction_weight: float = 1.0
    # Rows of a batch that vector space preservation compares; 0 takes all.
    vsp_rows: int = 0
    # Weight of the adversarial loss on translations.
    adv_weight: float = 1.0
    # Weight of the adversarial loss on latents.
    latent_adv_weight: float = 1.0
    # Squared distances summed over spaces (the paper); otherwise mean 1 - cosine.
    mse_sum: bool = False
    # Length of Gaussian noise on the networks' inputs; targets stay clean.
    input_noise: float = 0.0

    def _check(self) -> None:
        self._one_of("vsp", VSP)
        self._require("vsp_rows", self.vsp_rows != 1, "one row has no inner products")


@dataclass(frozen=True)
class OptimConfig(_Checked):
    """Optimisers, learning rates, batches and precision."""

    # The translator's optimiser: Adam, or Muon for the input adapters' matrices.
    optimizer: Literal["adam", "muon"] = "adam"
    # Learning rate of the translator.
    lr: float = 2e-5
    # Momentum of Muon.
    momentum: float = 0.9
    # Factor on lr for backbone, output adapters and, with Muon, biases.
    slow_lr_scale: float = 1.0
    # Adam's decay rates, for translator and discriminators.
    betas: tuple[float, float] = (0.5, 0.999)
    # Learning rate of the discriminators.
    d_lr: float = 1e-5
    # Adam's epsilon for the discriminators; the translator has 1e-8.
    d_eps: float = 6.25e-10
    # Steps over which both learning rates rise from 0.
    warmup_steps: int = 2000
    # Rows of each space per step.
    batch_size: int = 256
    # Steps; by default ten epochs of a million rows.
    steps: int = 39_062
    # Learning rate after the warm-up; cosine falls to 0.
    schedule: Literal["constant", "cosine"] = "constant"
    # Largest norm of each seed's translator gradient; 0 does not clip.
    grad_clip: float = 0.0
    # Decay of the translator's exponential moving average; 0 keeps none.
    ema_decay: float = 0.0
    # Mixed precision on a GPU, as Accelerate names it.
    precision: Literal["no", "fp16", "bf16"] = "no"
    # Precision of float32 matrix products; medium may round inputs to bfloat16 or TF32.
    matmul_precision: Literal["highest", "medium"] = "highest"

    def _check(self) -> None:
        for name in ("lr", "d_lr", "d_eps", "slow_lr_scale"):
            self._require(name, getattr(self, name) > 0, "it must be above 0")
        self._require("betas", max(self.betas) < 1, "give two numbers in [0, 1)")
        self._fraction("ema_decay", "momentum")
        self._at_least(1, "steps")
        self._at_least(2, "batch_size")  # one row has no Gram matrix and no variance


@dataclass(frozen=True)
class Preset(_Checked):
    """A full training configuration: networks, losses, optimisers, initialisation."""

    # Name in results and checkpoints.
    name: str = "custom"
    # Layers of the translator.
    net: NetConfig = NetConfig()
    # Adversarial loss and discriminators.
    adversarial: AdversarialConfig = AdversarialConfig()
    # Weights and forms of the translator's losses.
    loss: LossConfig = LossConfig()
    # Optimisers, learning rates, batches and precision.
    optim: OptimConfig = OptimConfig()
    # Centre rows by their space's training mean and normalise them again.
    centred: bool = False
    # Whiten rows too, shrunk as if this many rows of equal variance had been seen; 0
    # does not whiten.
    whitening_rows: float = 0.0
    # Random weights, or linear adapters from the map of this unpaired method.
    init: Literal["random", "anchors", "selflearn"] = "random"
    # k-means runs behind the anchors of the initial map.
    anchor_runs: int = 30
    # Sets of anchors to draw; the one whose rows covary most (nuclear norm) is taken.
    anchor_draws: int = 1
    # Scale of directions in translations of whitened rows: root of the target's
    # standard deviation, or how far the initial map shares each direction.
    output_transform: Literal["variance", "shared"] = "variance"
    # How far an unsupervised score must exceed that of a given initial map to replace
    # it: the best of many noisy scores would beat it by chance (chapter 12).
    min_delta: float = 0.02

    def _check(self) -> None:
        given, net, a = self.init != "random", self.net, self.adversarial
        fine: object = not given or (net.linear_adapters and net.identity_backbone)
        mend = "an initial map needs net.linear_adapters and net.identity_backbone"
        self._require("init", fine, mend)
        mend = f"{self.init} finds maps of centred rows"
        self._require("centred", not given or self.centred, mend)
        fine = not self.whitening_rows or self.centred
        self._require("whitening_rows", fine, "whitening needs centred rows")
        self._at_least(2, "anchor_runs")
        self._at_least(1, "anchor_draws")
        filtered = any(a.singular_value_exponent) or any(a.variance_exponent)
        fine = not filtered or (given and self.whitening_rows)
        mend = "adversarial.*_exponent need an initial map between whitened rows"
        self._require("init", fine, mend)
        fine = filtered or self.output_transform == "variance"
        mend = "singular values are kept only where an adversarial.*_exponent is set"
        self._require("output_transform", fine, mend)


@dataclass(frozen=True)
class TrainerConfig(_Checked):
    """Trainer settings that do not change the model: intervals, memory, logs."""

    # Steps between two readings of the losses.
    log_every: int = 50
    # Steps between two unsupervised evaluations.
    eval_every: int = 500
    # Steps between two checkpoints.
    checkpoint_every: int = 500
    # Stop early after this many evaluations without improvement; 0 never stops.
    patience: int = 0
    # Micro-batches into which each process splits its rows, to save memory.
    grad_accumulation: int = 1
    # Compile the networks with torch.compile.
    compile: bool = False
    # Write TensorBoard logs into the run's folder.
    tensorboard: bool = False

    def _check(self) -> None:
        every = "log_every", "eval_every", "checkpoint_every", "grad_accumulation"
        self._at_least(1, *every)


RELEASED = Preset("released", optim=OptimConfig(precision="fp16"))

PAPER = Preset(
    "paper",
    adversarial=AdversarialConfig(game="vanilla", latent="both"),
    loss=LossConfig(
        cycle_weight=1.0, cycle_stop_gradient=False, mse_sum=True, vsp="paper",
        vsp_weight=1.0, vsp_reconstruction_weight=0.0,
    ),
    optim=OptimConfig(precision="fp16"),
)  # fmt: skip

# The density game has no discriminator. The reconstruction loss is off because with
# slow output adapters it would pin the weights to the initial map. The backbone learns
# so slowly (slow_lr_scale) that the translator is in effect linear.
OURS = Preset(
    "ours",
    net=NetConfig(
        latent_dim=0, hidden_dim=256, backbone_depth=1, norm="none", dropout=0.0,
        linear_adapters=True, identity_backbone=True,
    ),
    adversarial=AdversarialConfig(
        game="density", temperature=0.05, singular_value_exponent=(0.2, 0.0),
        variance_exponent=(1.4, 0.5), latent="none",
    ),
    loss=LossConfig(
        reconstruction_weight=0.0, cycle_weight=1.0, cycle_stop_gradient=False,
        vsp="self", vsp_weight=1.0, vsp_reconstruction_weight=0.0, vsp_rows=512,
        latent_adv_weight=0.0,
    ),
    optim=OptimConfig(
        optimizer="muon", lr=0.3, slow_lr_scale=1e-5, betas=(0.5, 0.99),
        warmup_steps=20, batch_size=1024, steps=2000, schedule="cosine",
        ema_decay=0.99, precision="bf16", matmul_precision="medium",
    ),
    centred=True,
    whitening_rows=12_000,
    init="anchors",
    anchor_runs=6,
    anchor_draws=4,
)  # fmt: skip

PRESETS = {preset.name: preset for preset in (PAPER, RELEASED, OURS)}

# What version 0.1 called fields and values; for files and callers of that version.
OLD_PRESETS = {"printed": "paper", "sound": "ours"}
OLD_FIELDS = {
    "accumulate": "grad_accumulation", "batch": "batch_size", "clip": "grad_clip",
    "coarse": "matmul_precision", "cycle": "cycle_weight",
    "cycle_detached": "cycle_stop_gradient", "ema": "ema_decay",
    "evaluate_every": "eval_every", "focus": "singular_value_exponent",
    "game": "adversarial", "kind": "game", "latent": "latent_dim",
    "latent_game": "latent_adv_weight", "margin": "min_delta",
    "members": "ensemble_size", "noise": "input_noise", "output_game": "adv_weight",
    "read_out": "output_transform", "reconstruction": "reconstruction_weight",
    "rule": "optimizer", "save_every": "checkpoint_every", "slow": "slow_lr_scale",
    "smoothing": "label_smoothing", "spread": "variance_exponent",
    "squared": "mse_sum", "start": "init", "vsp_reconstruction":
    "vsp_reconstruction_weight", "warmup": "warmup_steps", "whitened":
    "whitening_rows", "width": "hidden_dim", "zero_backbone": "identity_backbone",
}  # fmt: skip
OLD_VALUES = {
    "vsp=printed": "paper", "vsp=sound": "self", "name=printed": "paper",
    "name=sound": "ours", "matmul_precision=False": "highest",
    "matmul_precision=True": "medium",
}  # fmt: skip


def preset_named(name: str) -> Preset:
    """The preset of that name; ConfigError lists the known ones.

    The names of version 0.1, "printed" and "sound", still work, with a warning.
    """
    if name in OLD_PRESETS:
        new = OLD_PRESETS[name]
        warn(f"preset {name!r} is now {new!r}", DeprecationWarning, stacklevel=2)
        name = new
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]


def from_dict(kind: type[Config], values: Any) -> Config:
    """A configuration from what `dataclasses.asdict` and JSON made of it.

    Names of version 0.1 are translated, and fields that are missing get their default.
    Raises ConfigError for an unknown field or a value of another type.

    >>> from_dict(NetConfig, {"width": 64}).hidden_dim
    64
    """
    title = kind.__name__
    if not isinstance(values, dict):
        raise ConfigError(f"{title} = {values!r}; give its fields as a JSON object")
    defaults = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    ready: dict[str, Any] = {}
    for name, value in values.items():
        name = name if name in defaults else OLD_FIELDS.get(name, name)
        value = OLD_VALUES.get(f"{name}={value}", value)
        if name not in defaults:
            raise ConfigError(
                f"{title} has no field {name!r}; known are {', '.join(defaults)}. Use "
                "the version of v2v_lite that wrote it"
            )
        default = defaults[name]
        if is_dataclass(default):
            ready[name] = from_dict(type(default), value)
        elif _like(value, default):
            ready[name] = tuple(value) if isinstance(value, list) else value
        else:
            raise ConfigError(f"{title}.{name} = {value!r}; give one like {default!r}")
    return kind(**ready)


def _like(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        numbers = isinstance(value, list | tuple) and len(value) == len(default)
        return numbers and all(_like(v, d) for v, d in zip(value, default, strict=True))
    if isinstance(default, float):
        return type(value) in (int, float)
    return type(value) is type(default)
