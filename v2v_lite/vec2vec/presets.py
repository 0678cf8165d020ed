"""What is trained and how: frozen configurations, and three presets of them.

PRINTED is the paper's text, RELEASED what its code trains, SOUND ours (chapter 11).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..spaces.files import DataError

Norm = Literal["batch", "none"]
Kind = Literal["least_squares", "vanilla", "relativistic", "hinge", "mmd", "density"]
Latent = Literal["both", "one", "none"]
Vsp = Literal["printed", "released", "sound"]
Schedule = Literal["constant", "cosine"]
Precision = Literal["no", "fp16", "bf16"]
Start = Literal["random", "anchors", "selflearn"]
Rule = Literal["adam", "muon"]
ReadOut = Literal["variance", "shared"]


def _require(owner: object, field: str, fine: bool, mend: str) -> None:
    if not fine:
        name = f"{type(owner).__name__}.{field}"
        raise DataError(f"{name} = {getattr(owner, field)!r}; {mend}")


def _at_least(owner: object, low: float, *fields: str) -> None:
    for field in fields:
        fine = getattr(owner, field) >= low
        _require(owner, field, fine, f"it must be {low} or more")


def _share(owner: object, *fields: str) -> None:
    for field in fields:
        fine = 0 <= getattr(owner, field) < 1
        _require(owner, field, fine, "it must lie in [0, 1)")


def _one_of(owner: object, field: str, choices: object) -> None:
    names = get_args(choices)
    fine = getattr(owner, field) in names
    _require(owner, field, fine, f"choose one of {', '.join(names)}")


@dataclass(frozen=True)
class NetConfig:
    """The translator: for each space an adapter in and one out, and one backbone."""

    latent: int = 1024  # width Z of the latent; 0 takes that of the widest space
    width: int = 1024  # of the hidden layers
    adapter_depth: int = 3  # blocks of an adapter; the last has two linear layers
    backbone_depth: int = 4  # blocks of the backbone, likewise
    norm: Norm = "batch"  # in the middle blocks
    dropout: float = 0.1  # share of hidden units dropped, in all blocks but the first
    residual: bool = True  # a skip around every block, padded or cut to its width
    linear_adapters: bool = False  # adapters are one linear layer each
    # The backbone is z + MLP(z), its last layer zero at first: it starts as identity.
    zero_backbone: bool = False

    def __post_init__(self) -> None:
        _at_least(self, 0, "latent")
        _at_least(self, 1, "width", "adapter_depth", "backbone_depth")
        _one_of(self, "norm", Norm)
        _share(self, "dropout")


@dataclass(frozen=True)
class GameConfig:
    """The adversarial game: its losses and its discriminators."""

    kind: Kind = "least_squares"  # the loss; mmd and density need no discriminators
    temperature: float = 0.06  # of the kernels of the density game
    # Judges weigh shared direction k by sigma_k^focus, sigma from the start's map, then
    # principal component k of their space by its standard deviation^spread (0: whitened
    # rows, 1: the rows before). From the first number to the second over the run.
    focus: tuple[float, float] = (0.0, 0.0)
    spread: tuple[float, float] = (0.0, 0.0)
    smoothing: float = 0.0  # labels stay this far from 0 and 1
    width: int = 1024  # of a discriminator's hidden layers
    depth: int = 5  # linear layers of a discriminator
    members: int = 1  # discriminators a space that judge its rows, by mean loss
    # Each space's latents against the others', the others' against the last's, or none.
    latent: Latent = "one"
    r1: float = 0.0  # weight of the gradient penalty (r1 / 2) E |grad D|^2 at real rows
    r2: float = 0.0  # the same at fake rows

    def __post_init__(self) -> None:
        _one_of(self, "kind", Kind)
        _one_of(self, "latent", Latent)
        _at_least(self, 1, "width", "members")
        cold = "colder kernels underflow; it must be 0.03 or more"
        _require(self, "temperature", self.temperature >= 0.03, cold)
        for field in ("focus", "spread"):
            ends = getattr(self, field)
            fine = len(ends) == 2 and min(ends) >= 0
            _require(self, field, fine, "give two numbers of 0 or more")
        _at_least(self, 2, "depth")
        _at_least(self, 0, "r1", "r2")
        fine = 0 <= self.smoothing < 0.5
        _require(self, "smoothing", fine, "it must lie in [0, 0.5)")
        fine = self.smoothing == 0 or self.kind in ("least_squares", "vanilla")
        _require(self, "smoothing", fine, f"{self.kind} has no labels; set it to 0")


@dataclass(frozen=True)
class LossConfig:
    """Weights and forms of the generator's losses; a weight of 0 skips the work."""

    reconstruction: float = 1.0  # weight of the distance of a row to its reconstruction
    cycle: float = 10.0  # weight of the distance of a row to its round trip
    cycle_detached: bool = True  # no gradient reaches a round trip's first half
    # Vector space preservation: of real rows by translations of others (printed), of
    # rows by their round trips (released) or by their translations (sound).
    vsp: Vsp = "released"
    vsp_weight: float = 10.0  # weight of that loss
    vsp_reconstruction: float = 1.0  # its weight between rows and reconstructions
    vsp_rows: int = 0  # rows of a batch that it compares with each other; 0 takes all
    output_game: float = 1.0  # weight of the game on translations
    latent_game: float = 1.0  # weight of the game on latents
    squared: bool = False  # squared lengths, summed over spaces; else mean 1 - cos
    noise: float = 0.0  # length of the noise on the nets' inputs; targets stay clean

    def __post_init__(self) -> None:
        _one_of(self, "vsp", Vsp)
        weights = "reconstruction", "cycle", "vsp_weight", "vsp_reconstruction"
        _at_least(self, 0, *weights, "output_game", "latent_game", "noise", "vsp_rows")
        _require(self, "vsp_rows", self.vsp_rows != 1, "one row has no inner products")


@dataclass(frozen=True)
class OptimConfig:
    """Adam on both sides, or Muon for the translator's input adapters; how long."""

    rule: Rule = "adam"  # of the translator; muon: `optim.Muon` for matrices going in
    lr: float = 2e-5  # learning rate of the translator
    momentum: float = 0.9  # of muon
    slow: float = 1.0  # share of lr for backbone, output adapters and, by muon, biases
    betas: tuple[float, float] = (0.5, 0.999)  # Adam's decay rates, of both sides
    d_lr: float = 1e-5  # learning rate of the discriminators
    d_eps: float = 6.25e-10  # Adam's epsilon for them; the translator has 1e-8
    warmup: int = 2000  # steps over which both rates rise from 0
    batch: int = 256  # rows of each space a step
    steps: int = 39_062  # by default ten epochs of a million rows, as for its stability
    schedule: Schedule = "constant"  # after the warm-up; cosine falls to 0
    clip: float = 0.0  # largest norm of the translator's gradient; 0 does not clip
    ema: float = 0.0  # decay of the translator's running mean; 0 keeps none
    precision: Precision = "no"  # mixed precision on a GPU, in Accelerate's words
    # Float32 products may round their inputs to bfloat16 or TF32, where that is fast.
    coarse: bool = False

    def __post_init__(self) -> None:
        for field in ("lr", "d_lr", "d_eps", "slow"):
            _require(self, field, getattr(self, field) > 0, "it must be above 0")
        fine = len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas)
        _require(self, "betas", fine, "give two numbers in [0, 1)")
        _at_least(self, 0, "warmup", "clip")
        _one_of(self, "rule", Rule)
        _at_least(self, 1, "steps")
        _at_least(self, 2, "batch")  # one row has no Gram matrix and no variance
        _one_of(self, "schedule", Schedule)
        _share(self, "ema", "momentum")
        _one_of(self, "precision", Precision)


@dataclass(frozen=True)
class Preset:
    """Everything that a run is, but for its data, its seeds and its machine."""

    name: str  # what results and checkpoints call it
    net: NetConfig = NetConfig()
    game: GameConfig = GameConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    centred: bool = False  # rows less their space's training mean, made unit again
    # Whitened too, as if this many rows of equal variance had been seen; 0 does not.
    whitened: float = 0.0
    start: Start = "random"  # or linear adapters from this unpaired method's map
    anchor_runs: int = 30  # clusterings behind the anchors of the start
    # Of so many sets of anchors the one whose rows covary most, by the nuclear norm.
    anchor_draws: int = 1
    # Translations of whitened rows weigh directions by the root of their standard
    # deviation in the target, or by how far the start's map shares them
    # (`start.read_out`).
    read_out: ReadOut = "variance"
    # A given start is left only for nets of an unsupervised score so much higher. The
    # best of many noisy scores would beat it by chance, and training from the full
    # alignment raises the score where it lowers top-1 (chapter 12).
    margin: float = 0.02

    def __post_init__(self) -> None:
        _one_of(self, "start", Start)
        linear = self.net.linear_adapters and self.net.zero_backbone
        mend = "a given start needs net.linear_adapters and net.zero_backbone"
        _require(self, "start", self.start == "random" or linear, mend)
        fine = self.start == "random" or self.centred
        _require(self, "centred", fine, f"{self.start} finds maps of centred rows")
        _at_least(self, 0, "whitened", "margin")
        _one_of(self, "read_out", ReadOut)
        _at_least(self, 2, "anchor_runs")
        _at_least(self, 1, "anchor_draws")
        fine = not self.whitened or self.centred
        _require(self, "whitened", fine, "whitening needs centred rows")
        seen = any(self.game.focus) or any(self.game.spread)
        fine = not seen or (self.whitened and self.start != "random")
        mend = "game.focus and game.spread need a start between whitened rows"
        _require(self, "start", bool(fine), mend)
        fine = seen or self.read_out == "variance"
        mend = "strengths are kept only where game.focus or game.spread is set"
        _require(self, "read_out", fine, mend)


RELEASED = Preset("released", optim=OptimConfig(precision="fp16"))

PRINTED = Preset(
    "printed",
    game=GameConfig(kind="vanilla", latent="both"),
    loss=LossConfig(
        cycle=1.0,
        cycle_detached=False,
        vsp="printed",
        vsp_weight=1.0,
        vsp_reconstruction=0.0,
        squared=True,
    ),
    optim=OptimConfig(precision="fp16"),
)

SOUND = Preset(
    "sound",
    net=NetConfig(
        latent=0,
        width=256,
        backbone_depth=1,
        norm="none",
        dropout=0.0,
        linear_adapters=True,
        zero_backbone=True,
    ),
    game=GameConfig(
        kind="density",
        temperature=0.05,
        focus=(0.2, 0.0),
        spread=(1.4, 0.5),
        latent="none",
    ),
    loss=LossConfig(
        reconstruction=0.0,  # the slow output adapters would hold the start fast
        cycle=1.0,
        cycle_detached=False,
        vsp="sound",
        vsp_weight=1.0,
        vsp_reconstruction=0.0,
        vsp_rows=512,
        latent_game=0.0,
    ),
    optim=OptimConfig(
        rule="muon",
        lr=0.3,
        slow=1e-5,
        betas=(0.5, 0.99),
        warmup=20,
        batch=1024,
        steps=2000,
        schedule="cosine",
        ema=0.99,
        precision="bf16",
        coarse=True,
    ),
    centred=True,
    whitened=12_000,
    start="anchors",
    anchor_runs=6,
    anchor_draws=4,
)

PRESETS = {preset.name: preset for preset in (PRINTED, RELEASED, SOUND)}
