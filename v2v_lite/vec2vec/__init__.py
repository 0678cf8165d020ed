"""vec2vec: adapters around a shared backbone, trained against adversaries, unpaired.

A module is imported when a name of it is first asked for. To add one: a line in
`_HOMES`.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "presets": (
        "GameConfig",
        "LossConfig",
        "NetConfig",
        "OptimConfig",
        "PRESETS",
        "PRINTED",
        "Preset",
        "RELEASED",
        "SOUND",
    ),
    "nets": ("Nets", "SeedBatchNorm", "SeedLinear"),
    "losses": (
        "cycle",
        "density",
        "gram",
        "mmd",
        "reconstruction",
        "vsp_printed",
        "vsp_released",
        "vsp_sound",
    ),
    "optim": ("Muon", "orthogonalised"),
    "adversary": (
        "Discriminator",
        "Glasses",
        "SeedLayerNorm",
        "d_loss",
        "frozen",
        "g_loss",
        "gradient_penalty",
    ),
    "step": (
        "Flow",
        "Players",
        "discriminator_losses",
        "forward",
        "generator_losses",
        "step_losses",
    ),
}
_HOMES |= {
    "machine": ("Interrupted", "Loop"),
    "run": ("Diverged",),
    "trainer": ("Trained", "train"),
    "translator": ("Vec2Vec",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
