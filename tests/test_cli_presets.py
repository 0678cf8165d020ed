"""Every field of every preset is an option of `v2v train`, which starts from it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

import pytest

pytest.importorskip("accelerate")
from v2v_lite.cli.app import parse
from v2v_lite.vec2vec.machine import Loop
from v2v_lite.vec2vec.presets import PRESETS, Preset

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
    assert parse(WORDS).config == PRESETS["sound"]
    assert parse(WORDS).loop == Loop()


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


def test_each_setting_of_the_loop_is_an_option():
    before = leaves(Loop())
    for name, value in before.items():
        new = other(value, hint_of(Loop, name))
        found = parse([*WORDS, *words_of(f"loop.{name}", new)])
        assert leaves(found.loop) == before | {name: new}
        assert found.config == PRESETS["sound"]


def test_a_preset_of_another_name_is_still_the_presets_type():
    config = parse([*WORDS, "--name", "mine", "--preset=released"]).config
    assert config == replace(PRESETS["released"], name="mine")
