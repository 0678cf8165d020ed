"""From the words on the command line to a command, and from errors to exit codes.

0 done · 1 `doctor` found something broken, or `gate` says no · 2 the input cannot be
used, said in one line · 130 interrupted.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from itertools import takewhile
from typing import Annotated, Any, Union

import tyro
from tyro.conf import subcommand

from .align import Align, Diagnose, Score, Translate
from .attack import Attack, Defend
from .base import Command, UsageError, echo, emit, safe_streams
from .data import Data, Encode
from .demo import Demo
from .doctor import Doctor, advice
from .gate import Gate
from .rehearse import Rehearse

ABOUT = "Translate embeddings between encoders without a single pair."
TYRO: Any = {"prog": "v2v", "description": ABOUT,
             "config": (tyro.conf.OmitSubcommandPrefixes,)}  # fmt: skip
# And `train`, whose class is imported, with torch, where it is asked for.
COMMANDS = (Demo, Align, Translate, Score, Diagnose, Rehearse, Gate, Attack, Defend,
            Encode, Data, Doctor)  # fmt: skip
NAMES = {kind.__name__.lower() for kind in COMMANDS}
NAMES |= {"train", "attributes", "inversion", "show", "make"}
OLD_WORDS = {"bench": "`make bench NAME=...`, in a checkout",
             "--rivals": "--other-seeds"}  # fmt: skip
# What torch says of a full memory, and what then lowers a command's need.
NO_MEMORY = "out of memory|can't allocate memory|not enough memory"
LESS = dict.fromkeys(("align", "diagnose"), "give fewer rows by --n-train")
LESS |= {"train": "lower --optim.batch-size, or --n-train, or give fewer --seeds",
         "rehearse": "give fewer --rows", "score": "draw fewer by --pool"}  # fmt: skip
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
            line = _in_one_line(error, words[0] if words else "")
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
    words = ["--help" if word == "--help-all" else word for word in words]
    try:
        with redirect_stderr(box):
            found = tyro.cli(kinds, args=words, **TYRO)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_explained(box.getvalue(), words)) from None
    return getattr(found, "command", found)


def _commands(words: Sequence[str]) -> Any:
    train: Any = Annotated[Command, subcommand("train", description=TRAIN)]
    if list(words[:1]) == ["train"]:
        from .train import Brief, Train, defaults

        train = Annotated[Train, subcommand("train", default=defaults(words[1:]))]
        if {"-h", "--help"} & {*words}:
            train = Annotated[Brief, subcommand("train")]
    kinds = (*COMMANDS[:2], train, *COMMANDS[2:])
    return Union[kinds]  # noqa: UP007 (`|` joins no tuple)


def _explained(box: str, words: Sequence[str]) -> str:
    """tyro's box of several lines as one line, or what became of an old word."""
    for word in words:
        if word in OLD_WORDS:
            return f"{word} is now {OLD_WORDS[word]}"
    plain = re.sub(r"\x1b\[[\d;]*m|[│╰╯]|\(required\)", "", box)
    body = plain.partition("\n")[2]  # after the title
    text, *rest = [part for part in re.split("[─-]{3,}", body) if part.strip()]
    text = " ".join(text.split()).rstrip(".")
    made_up = r"Error parsing \S*__\S*: |\bcommand\."  # names that tyro gives
    text = re.sub(made_up, "", text)
    near = re.search(r"^\s*(--[\w.-]+)", "\n".join(rest), re.MULTILINE)
    if "Unrecognized" in text and near:
        text += f"; perhaps {near[1]}"
    named = [*takewhile(lambda word: word in NAMES, words)]
    return f"{text}; see `{' '.join(['v2v', *named])} --help`"


def _in_one_line(error: Exception, name: str = "") -> str | None:
    """The line for an error that the input or the machine caused, None for our own.

    `name` is the command's.
    """
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
    if isinstance(error, MemoryError) or re.search(NO_MEMORY, text):
        size = re.search(r"allocate ([\d.]+) ?(bytes|[KMGT]i?B)", text)
        need = f": {_readable(*size.groups())} more are needed at once" if size else ""
        return f"out of memory{need}; {LESS.get(name, 'give fewer rows')}"
    return None


def _readable(number: str, unit: str) -> str:
    return f"{float(number) / 2**30:.1f} GiB" if unit == "bytes" else f"{number} {unit}"
