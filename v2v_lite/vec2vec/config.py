"""Configurations: what is trained and how, as frozen dataclasses.

The three that the book compares are in `presets`. One is changed by
`dataclasses.replace`, from the command line by an option for each field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from ..spaces.files import ConfigError
from .losses import GAMES, VSP

# Limits of numbers, by the names of their fields; others must be 0 or more.
AT_LEAST = {
    "hidden_dim": 1, "adapter_depth": 1, "backbone_depth": 1, "depth": 2,
    "ensemble_size": 1, "steps": 1, "batch_size": 2, "anchor_runs": 2,
    "anchor_draws": 1, "log_every": 1, "eval_every": 1, "checkpoint_every": 1,
    "grad_accumulation": 1,
}  # fmt: skip
BELOW_ONE = "dropout", "ema_decay", "momentum", "betas"
POSITIVE = "lr", "d_lr", "d_eps", "slow_lr_scale"


class _Checked:
    """What all configurations check: choices, and the limits of numbers."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value, low = getattr(self, name), AT_LEAST.get(name, 0)
            if get_origin(hint) is Literal:
                self._one_of(name, get_args(hint))
            elif isinstance(value, int | float | tuple):
                numbers = value if isinstance(value, tuple) else (value, value)
                fine = len(numbers) == 2 and min(numbers) >= low
                kind = "give two numbers of" if value is numbers else "it must be"
                self._require(name, fine, f"{kind} {low} or more")
                self._require(name, value or name not in POSITIVE, "it must be above 0")
                below = max(numbers) < 1 or name not in BELOW_ONE
                self._require(name, below, "it must lie in [0, 1)")
        self._check()

    def _check(self) -> None:
        """Raise for values that do not go together."""

    def _require(self, name: str, fine: object, mend: str) -> None:
        if not fine:
            value = f"{type(self).__name__}.{name} = {getattr(self, name)!r}"
            raise ConfigError(f"{value}; {mend}")

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
    # Normalisation in the middle blocks: batch (RELEASED), layer (PAPER) or none.
    norm: Literal["batch", "layer", "none"] = "batch"
    # Dropout probability, in all blocks but the first.
    dropout: float = 0.1
    # Residual connection around every block, zero-padded or cut to the block's width.
    residual: bool = True
    # Adapters are one linear layer each.
    linear_adapters: bool = False
    # The backbone is z + MLP(z) with the MLP's last layer zero: it starts as identity.
    identity_backbone: bool = False
    # Batch norm's gains begin at N(1, std^2) and its biases at N(0, std^2).
    norm_init_std: float = 0.0


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
    # Weight of the distance between a known pair's translation and its partner; without
    # known pairs it has no effect.
    paired_weight: float = 1.0

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
    # Rows of each space per step; one alone has no Gram matrix and no variance.
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
    # Random weights, or linear adapters from the map of this unpaired method; grown is
    # the grown game and the first phase of self-learning from it.
    init: Literal["random", "anchors", "grown", "selflearn"] = "random"
    # k-means runs behind the anchors of the initial map.
    anchor_runs: int = 30
    # Sets of anchors to draw; the one whose rows covary most (nuclear norm) is taken.
    anchor_draws: int = 1
    # Scale of directions in translations of whitened rows: root of the target's
    # standard deviation, or how far the initial map shares each direction.
    output_transform: Literal["variance", "shared"] = "variance"
    # How far an unsupervised score must exceed that of a given initial map to replace
    # it: the best of many noisy scores would beat it by chance (chapter 13).
    min_delta: float = 0.02

    def _check(self) -> None:
        given, net, a = self.init != "random", self.net, self.adversarial
        filtered = any((*a.singular_value_exponent, *a.variance_exponent))
        linear = net.linear_adapters and net.identity_backbone
        mend = "an initial map needs net.linear_adapters and net.identity_backbone"
        self._require("init", linear or not given, mend)
        mend = f"{self.init} finds maps of centred rows"
        self._require("centred", self.centred or not given, mend)
        fine = self.centred or not self.whitening_rows
        self._require("whitening_rows", fine, "whitening needs centred rows")
        mend = "adversarial.*_exponent need an initial map between whitened rows"
        self._require("init", not filtered or (given and self.whitening_rows), mend)
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
