"""From the words on the command line to a command, and from errors to exit codes.

0 done · 1 `doctor` found something broken · 2 the input cannot be used, said in one
line · 130 interrupted.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from itertools import dropwhile, takewhile
from typing import Annotated, Any, Union

import tyro
from tyro.conf import subcommand

from .align import Align, Diagnose, Score, Translate
from .attack import Attack, Defend
from .base import Command, UsageError
from .data import Data, Encode
from .demo import Demo
from .doctor import Doctor
from .packages import advice
from .streams import echo, emit, safe_streams

__all__ = ["main", "parse"]

ABOUT = "Translate embeddings between encoders without a single pair."
KINDS = Demo, Align, Translate, Score, Diagnose, Attack, Defend, Encode, Data, Doctor
# And `train`, whose class is imported, with torch, where it is asked for.
COMMANDS: dict[str, Any] = {kind.__name__.lower(): kind for kind in KINDS}
NAMES = {*COMMANDS, "train", "attributes", "inversion", "show", "make"}
OLD_WORDS = {"bench": "`make bench NAME=...`, in a checkout",
             "--rivals": "--other-seeds"}  # fmt: skip
TRAIN = "Train vec2vec between two spaces without any pair."


def main(argv: Sequence[str] | None = None) -> int:
    """Run `v2v` with `argv` (default: the process's) and return the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    with safe_streams() as out:
        try:
            with redirect_stdout(out):
                command = parse(words)
            result = command.run()
            emit(result, out, command.json)
            return result.code
        except SystemExit:  # --help
            return 0
        except KeyboardInterrupt as stop:  # a training says what it saved
            echo(f"v2v: {str(stop) or 'interrupted; files are whole or absent'}")
            return 130
        except BrokenPipeError:  # `v2v ... | head` has seen enough
            return 0
        except Exception as error:
            line = _in_one_line(error)
            if line is None or "--debug" in words:
                raise
            echo(f"v2v: {line}")
            return 2


def parse(words: Sequence[str]) -> Command:
    """The command that the words mean; UsageError for wrong ones, SystemExit for help.

    >>> parse(["align", "minilm", "granite", "--seeds", "3"]).seeds
    3
    """
    if "" in words or any(re.fullmatch("--[^=]+=", word) for word in words):
        raise UsageError("one of the words is empty (an unset variable of the shell?)")
    box, kinds = io.StringIO(), _commands(words)
    try:
        with redirect_stderr(box):
            found = tyro.cli(
                kinds,
                prog="v2v",
                description=ABOUT,
                args=words,
                config=(tyro.conf.OmitSubcommandPrefixes,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_explained(box.getvalue(), words)) from None
    return getattr(found, "command", found)


def _commands(words: Sequence[str]) -> Any:
    train: Any = Annotated[Command, subcommand("train", description=TRAIN)]
    if list(words[:1]) == ["train"]:
        from .train import Train, defaults

        train = Annotated[Train, subcommand("train", default=defaults(words[1:]))]
    kinds: list[Any] = [
        Annotated[kind, subcommand(name)] for name, kind in COMMANDS.items()
    ]
    kinds.insert(2, train)
    return Union[tuple(kinds)]  # noqa: UP007 (`|` joins no list)


def _explained(box: str, words: Sequence[str]) -> str:
    """tyro's box of several lines as one line, or what became of an old word."""
    for word in words:
        if now := _new_word(words[0], word):
            return f"{word.partition('=')[0]} is now {now}"
    rows = [re.sub(r"\x1b\[[\d;]*m", "", row).strip(" │") for row in box.splitlines()]
    start = dropwhile(_is_rule, rows[1:])  # after the title
    text = " ".join(takewhile(lambda row: not _is_rule(row), start))
    text = re.sub(r"Error parsing \S*__\S*: ", "", text)  # a name that tyro made up
    near = [row for row in rows if row.startswith("--") and not _is_rule(row)]
    if "Unrecognized" in text and near:
        text += f"; perhaps {near[0].split()[0].rstrip(',')}"
    named = [*takewhile(lambda word: word in NAMES, words)]
    text = " ".join(text.replace("(required)", "").split()).rstrip(".")
    return f"{text}; see `{' '.join(['v2v', *named])} --help`"


def _new_word(command: str, word: str) -> str | None:
    if command == "train" and word.startswith("--"):
        from .train import renamed

        return renamed(word)
    if command == "defend":
        from ..privacy.defences import RENAMED

        return RENAMED.get(word)
    return OLD_WORDS.get(word)


def _is_rule(row: str) -> bool:
    return not row.strip("─-╭╮╰╯ ")


def _in_one_line(error: Exception) -> str | None:
    """The line for an error that the input or the machine caused, None for our own."""
    from ..spaces.files import DataError

    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (DataError, UsageError)):
        return text
    if isinstance(error, ModuleNotFoundError):
        name = error.name or "v2v_lite"
        ours = name.startswith("v2v_lite")  # of ours none may be missing
        return None if ours else f"{text}; `{advice(name)}` brings it"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else text
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return "out of memory; give fewer rows, for example by --n-train"
    return None
