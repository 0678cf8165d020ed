"""Every field of every preset is an option of `v2v train`, which starts from it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

import pytest

pytest.importorskip("accelerate")
from v2v_lite.cli.app import main, parse
from v2v_lite.cli.train import renamed
from v2v_lite.vec2vec import OURS, PRESETS, Preset, TrainerConfig

WORDS = ["train", "a", "b"]


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of all leaf fields of a configuration."""
    found: dict[str, Any] = {}
    for field in fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        found |= leaves(value, f"{name}.") if is_dataclass(value) else {name: value}
    return found


def hint_of(kind: type, name: str) -> Any:
    first, _, rest = name.partition(".")
    hint = get_type_hints(kind)[first]
    return hint_of(hint, rest) if rest else hint


def other(value: Any, hint: Any) -> Any:
    """A value of the same type that is not `value`."""
    if get_args(hint) and get_origin(hint) is not tuple:
        return next(choice for choice in get_args(hint) if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return tuple(item / 2 + 0.25 for item in value)
    if isinstance(value, str):
        return value + "-x"
    return value + 1 if isinstance(value, int) else value / 2 + 0.125


def words_of(name: str, value: Any) -> list[str]:
    *path, last = name.replace("_", "-").split(".")
    if isinstance(value, bool):
        return ["--" + ".".join([*path, last if value else f"no-{last}"])]
    values = value if isinstance(value, tuple) else (value,)
    return ["--" + ".".join([*path, last]), *map(str, values)]


def test_without_options_it_is_the_preset_itself():
    assert parse(WORDS).config == OURS
    assert parse(WORDS).trainer == TrainerConfig()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_each_leaf_is_an_option_that_changes_nothing_else(preset, monkeypatch):
    words = [*WORDS, "--preset", preset.name]
    assert parse(words).config == preset
    # Any value is to pass: which values go together is not the command line's affair.
    for kind in {type(getattr(preset, f.name)) for f in fields(preset)} | {Preset}:
        if is_dataclass(kind):
            monkeypatch.setattr(kind, "__post_init__", lambda self: None)
    before = leaves(preset)
    for name, value in before.items():
        new = other(value, hint_of(Preset, name))
        after = leaves(parse([*words, *words_of(name, new)]).config)
        assert after == before | {name: new}, name


def test_each_setting_of_the_trainer_is_an_option():
    before = leaves(TrainerConfig())
    for name, value in before.items():
        new = other(value, hint_of(TrainerConfig, name))
        found = parse([*WORDS, *words_of(f"trainer.{name}", new)])
        assert leaves(found.trainer) == before | {name: new}
        assert found.config == OURS


def test_a_preset_of_another_name_is_still_the_presets_type():
    config = parse([*WORDS, "--name", "mine", "--preset=released"]).config
    assert config == replace(PRESETS["released"], name="mine")


@pytest.mark.parametrize("old, new", [("sound", "ours"), ("printed", "paper")])
def test_old_presets_say_what_they_are_now(old, new, capsys):
    assert parse([*WORDS, "--preset", old]).config == PRESETS[new]
    assert capsys.readouterr().err == f"preset {old} is now {new}\n"


# The options of version 0.1, by the part of the preset that they were of.
OLD = {
    "net": "latent width adapter-depth backbone-depth norm dropout residual "
    "linear-adapters zero-backbone",
    "game": "kind temperature focus spread smoothing width depth members latent r1 r2",
    "loss": "reconstruction cycle cycle-detached vsp vsp-weight vsp-reconstruction "
    "vsp-rows output-game latent-game squared noise",
    "optim": "rule lr momentum slow betas d-lr d-eps warmup batch steps schedule clip "
    "ema precision coarse",
    "loop": "log-every evaluate-every save-every patience accumulate compile "
    "tensorboard",
    "": "centred whitened start anchor-runs",
}


def test_every_old_option_is_known_or_says_what_it_is_now(capsys):
    now = {f"--{n}".replace("_", "-") for n in leaves(OURS)}
    now |= {f"--trainer.{n}".replace("_", "-") for n in leaves(TrainerConfig())}
    for part, names in OLD.items():
        for name in names.split():
            option = f"--{part}.{name}" if part else f"--{name}"
            assert renamed(option) in now or option in now, option
    for option in now:
        assert renamed(option) is None
    assert main([*WORDS, "--optim.batch", "3"]) == 2
    line = capsys.readouterr().err
    assert line == "v2v: --optim.batch is now --optim.batch-size\n"
