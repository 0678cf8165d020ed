"""From the words on the command line to a command, and from errors to exit codes.

0 done · 1 `doctor` found something broken · 2 the input cannot be used, said in one
line · 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields, make_dataclass
from functools import cache
from typing import Annotated, Union, get_args, get_type_hints

from .alignment import Align, Diagnose, Score, Translate
from .base import Command, say
from .demo import Demo
from .doctor import Doctor
from .inversion import Inversion
from .privacy import Attributes, Defend
from .texts import Encode, Make, Show
from .training import Train, with_options

ABOUT = "Translating embeddings between encoders without a single pair."
GROUPS = {
    "demo": Demo,
    "align": Align,
    "train": Train,
    "translate": Translate,
    "score": Score,
    "diagnose": Diagnose,
    "attack": (
        "Read stolen vectors without a pair.",
        {"attributes": Attributes, "inversion": Inversion},
    ),
    "defend": Defend,
    "encode": Encode,
    "data": ("Sets of vectors: show and make them.", {"show": Show, "make": Make}),
    "doctor": Doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `v2v` with `argv` (default: the process's) and return the exit code."""
    debug = False
    try:
        command = parse(argv)
        debug = command.debug
        code = command.run() or 0
        sys.stdout.flush()  # a reader that has left shows here, not at exit
        return code
    except KeyboardInterrupt as stop:  # a training says what it saved
        say(f"v2v: {str(stop) or 'interrupted; files are whole or absent'}")
        return 130
    except BrokenPipeError:  # `v2v ... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug or not _is_expected(error):
            raise
        say(f"v2v: {_in_one_line(error)}")
        return 2


def parse(argv: Sequence[str] | None = None) -> Command:
    """The command that the words mean; SystemExit for --help and for wrong words."""
    import tyro

    argv = sys.argv[1:] if argv is None else argv
    if list(argv[:1]) == ["bench"]:
        say("v2v: `make bench NAME=...` in a checkout measures the book's tables")
        raise SystemExit(2)
    # The options of `train` are fields of a preset that the words themselves name.
    train = {"train": with_options(argv)} if list(argv[:1]) == ["train"] else {}
    found = tyro.cli(
        _union(GROUPS | train),
        prog="v2v",
        description=ABOUT,
        args=argv,
        config=(
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.FlagCreatePairsOff,
        ),
    )
    return found if isinstance(found, Command) else found.command


def _union(table: dict):
    import tyro

    members = []
    for name, entry in table.items():
        if isinstance(entry, tuple):  # a group: a dataclass that holds a union again
            about, inner = entry
            entry = make_dataclass(name.capitalize(), [("command", _union(inner))])
            entry.__doc__ = about
            entry = tyro.conf.OmitArgPrefixes[entry]  # but `train` has net.width
        else:
            _name_positionals(entry)
        members.append(Annotated[entry, tyro.conf.subcommand(name)])
    return Union[tuple(members)]  # noqa: UP007 (`|` cannot join a list)


@cache  # its names, once given, are read again as part of the hints
def _name_positionals(command: type[Command]) -> None:
    # Fields without a default are positional. Done here, since it needs tyro's names,
    # and the commands' modules are imported without it.
    import tyro

    bare, hints = get_type_hints(command), get_type_hints(command, include_extras=True)
    for field in fields(command):
        kind = bare[field.name]
        if field.default is MISSING:
            named = tyro.conf.arg(metavar=field.name.upper())
            kind = Annotated[hints[field.name], named]
            hints[field.name] = tyro.conf.Positional[kind]
        elif field.default is None:  # the field's own words say what happens then
            one = next(a for a in get_args(kind) if a is not type(None))
            named = tyro.conf.arg(metavar=one.__name__.upper(), help_behavior_hint="")
            hints[field.name] = Annotated[kind, named]
    command.__annotations__ = hints


def _is_expected(error: Exception) -> bool:
    from ..spaces.files import DataError

    if isinstance(error, ModuleNotFoundError):  # of ours none may be missing
        return not (error.name or "").startswith("v2v_lite")
    return isinstance(error, (DataError, OSError))


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        text += "; `pip install 'v2v_lite[text]'` brings what the encoders need"
    return text
