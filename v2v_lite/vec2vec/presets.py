"""Three presets, their names, and how one is read back from a file.

PAPER is the text of arXiv 2505.12540, RELEASED what its authors' code trains, OURS what
works without luck (chapter 11, with a table of all that differs). The paper states no
sizes, weights, rates or steps: PAPER weighs each loss by 1 and has the rest, and the
form of the game in which the translator's gradient does not vanish, from RELEASED.
PAPER plays the vanilla game and RELEASED least squares, each with discriminators.
**OURS has no discriminator**: its density game writes the optimal one down
(`losses.density`), so a change to a discriminator's loss has no effect on it unless
`adversarial.game` is changed too. OURS is also nearly linear: its adapters are
matrices, and its backbone, the only non-linear part, learns at 1e-5 of the rate. It
begins with a grown map (chapter 12). Batches are large and steps few, because
the density game estimates densities from the batch. `init="anchors"` is the
start of chapter 11, which begins lower and needs more steps.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar
from warnings import warn

from ..spaces.files import ConfigError, read_json
from .config import AdversarialConfig, LossConfig, NetConfig, OptimConfig, Preset

Config = TypeVar("Config")

RELEASED = Preset(
    "released", net=NetConfig(norm_init_std=0.02), optim=OptimConfig(precision="fp16")
)

PAPER = Preset(
    "paper",
    net=NetConfig(norm="layer"),
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
        variance_exponent=(1.4, 1.2), latent="none",
    ),
    loss=LossConfig(
        reconstruction_weight=0.0, cycle_weight=1.0, cycle_stop_gradient=False,
        vsp="self", vsp_weight=1.0, vsp_reconstruction_weight=0.0, vsp_rows=512,
        latent_adv_weight=0.0,
    ),
    optim=OptimConfig(
        optimizer="muon", lr=0.3, slow_lr_scale=1e-5, betas=(0.5, 0.99),
        warmup_steps=20, batch_size=2048, steps=400, schedule="cosine",
        ema_decay=0.99, precision="bf16", matmul_precision="medium",
    ),
    centred=True,
    whitening_rows=12_000,
    init="grown",
    anchor_runs=6,
    anchor_draws=4,
)  # fmt: skip

PRESETS = {preset.name: preset for preset in (PAPER, RELEASED, OURS)}

# What version 0.1 called fields and values; for files and callers of that version.
OLD = read_json(Path(__file__).with_name("old_names.json"))
OLD_PRESETS, OLD_FIELDS = OLD["presets"], OLD["fields"]


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
        value = OLD["values"].get(f"{name}={value}", value)
        if name not in defaults:
            known = f"{', '.join(defaults)}. Use the version of v2v_lite that wrote it"
            raise ConfigError(f"{title} has no field {name!r}; known are {known}")
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
        return numbers and all(map(_like, value, default))
    return type(value) in ((int, float) if type(default) is float else (type(default),))
