"""vec2vec: adapters around a shared backbone, trained against adversaries, unpaired.

Read `config` (what can be set), `step` (one update, whole) and `losses`; `train` runs
it all, and `Vec2Vec` is the method as a `Translator`.
"""

from ..align.linalg import orthogonalised
from . import losses
from .config import (
    AdversarialConfig,
    LossConfig,
    NetConfig,
    OptimConfig,
    Preset,
    TrainerConfig,
)
from .distributed import Interrupted
from .layers import SeedLinear
from .losses import GAMES, VSP, Game, VspForm, d_loss, g_loss, gradient_penalty
from .nets import Discriminator, Nets, Networks, SpectralFilter
from .optim import Muon
from .presets import OURS, PAPER, PRESETS, RELEASED, preset_named
from .result import PairTranslator, TrainResult
from .state import TrainingDiverged
from .step import (
    Engine,
    ForwardOutput,
    discriminator_losses,
    forward,
    frozen,
    generator_losses,
    step_losses,
    train_step,
)
from .trainer import Trainer, train
from .translator import Vec2Vec

__all__ = [
    "GAMES", "OURS", "PAPER", "PRESETS", "RELEASED", "VSP", "AdversarialConfig",
    "Discriminator", "Engine", "ForwardOutput", "Game", "Interrupted", "LossConfig",
    "Muon", "NetConfig", "Nets", "Networks", "OptimConfig", "PairTranslator", "Preset",
    "SeedLinear", "SpectralFilter", "TrainResult", "Trainer", "TrainerConfig",
    "TrainingDiverged", "Vec2Vec", "VspForm", "d_loss", "discriminator_losses",
    "forward", "frozen", "g_loss", "generator_losses", "gradient_penalty", "losses",
    "orthogonalised", "preset_named", "step_losses", "train", "train_step",
]  # fmt: skip


def __getattr__(name: str) -> Preset:
    if name in ("PRINTED", "SOUND"):  # of version 0.1
        return preset_named(name.lower())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
