"""What all commands share: options, the rows they read and write, folders, the device.

Neither this nor the commands' modules import torch at the top, so that `v2v --help`
answers at once: `v2v_lite` itself imports its folders when they are first used. A
command is a frozen dataclass whose fields, and the comments above them, tyro makes into
options.
"""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO, TypeVar, cast

from tyro.conf import FlagCreatePairsOff, Positional, arg

T = TypeVar("T")
Part = Literal["all", "train", "eval"]
Device = Literal["auto", "cpu", "cuda"]
Flag = Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")]
# Optional values: their help says itself what happens without them.
Int = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Float = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
Text = Annotated[str | None, arg(metavar="STR", help_behavior_hint="")]
TwoFiles = Annotated[tuple[str, str] | None, arg(metavar="SOURCE_ROWS TARGET_ROWS",
                                                 help_behavior_hint="")]  # fmt: skip
# Positional arguments.
Source = Annotated[str, Positional, arg(metavar="SOURCE")]
Target = Annotated[str, Positional, arg(metavar="TARGET")]
Vectors = Annotated[str, Positional, arg(metavar="VECTORS")]
Texts = Annotated[Path, Positional, arg(metavar="TEXTS")]
Folder = Annotated[Path, Positional, arg(metavar="FOLDER")]

ROWS = ".safetensors or .npy"  # the formats of files of rows


class UsageError(Exception):
    """Words or values that no command can use; the message says why."""


@dataclass(frozen=True)
class Result:
    """A command's outcome: `data` for machines, `lines` for people, the exit code."""

    data: dict[str, Any]
    lines: Sequence[str]
    code: int = 0


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command; `run` does its work and returns the result."""

    # Print the result as JSON.
    json: Flag = False
    # Show the traceback of an error.
    debug: Flag = False

    def run(self) -> Result:
        raise NotImplementedError


def at_least_one(**values: int | None) -> None:
    """Refuse a number below 1; None passes."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise UsageError(f"{name} = {value}, but at least 1 is needed")


# ---- devices and folders


def on_device(device: Device, work: Callable[[str], T]) -> T:
    """`work` on "cuda" or "cpu"; "auto" is the GPU when there is one.

    Where "auto" took a GPU and its memory was too small, once more on the CPU.
    """
    import torch

    gpu = torch.cuda.is_available()
    if device == "cuda" and not gpu:
        raise UsageError("device 'cuda': torch finds no GPU here; use --device cpu")
    if gpu and device != "cpu":
        try:
            return work("cuda")
        except RuntimeError as error:
            if device == "cuda" or "out of memory" not in str(error):
                raise
        echo("the GPU's memory is too small for this; again on the CPU")
    return work("cpu")


def file_of(word: str | Path) -> Path:
    """The file of FILE, or of FILE:NAME."""
    from ..spaces.formats import split_name

    return split_name(str(word))[0]


def checked_out(
    out: Path, *inputs: str | Path | None, ending: str | None = None
) -> Path:
    """`out`, refused before the work if it would fail after it or overwrite an input.

    It is a file with one of the endings that `ending` names, or else a folder.
    """
    kind, other = ("file", "folder") if ending else ("folder", "file")
    real, exists = os.path.realpath, os.path.exists  # which never raise
    parent = next(p for p in (out, *out.absolute().parents) if exists(p))
    if ending and (not out.suffix or out.suffix not in ending):
        why = f"its name must end in {ending}"
    elif any(path and real(file_of(path)) == real(out) for path in inputs):
        why = "that is the input"
    elif exists(out) and os.path.isdir(out) == bool(ending):
        why = f"a {other} has this name"
    elif not os.access(parent, os.W_OK):
        why = f"{parent} may not be written to"
    else:
        return out
    raise UsageError(f"{out}: {why}; give another {kind} as --out")


# ---- standard streams that may be closed, missing, narrow, or no terminal


def echo(text: str) -> None:
    """Write a remark to stderr."""
    print(text, file=sys.stderr, flush=True)


def emit(result: Result, stream: TextIO, as_json: bool) -> None:
    """Write a result to `stream`: as JSON in ASCII, or its lines."""
    text = json.dumps(to_jsonable(result.data), indent=1) if as_json else ""
    print(text or "\n".join(result.lines), file=stream, flush=True)


def to_jsonable(value: Any) -> Any:
    """`value` in JSON's terms: NaN and infinities become null, floats have 6 digits."""
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def interactive() -> bool:
    """Whether stderr is a terminal; elsewhere progress bars would fill a log."""
    with suppress(AttributeError, ValueError):  # missing or closed
        return sys.stderr.isatty()
    return False


@contextmanager
def safe_streams() -> Iterator[TextIO]:
    """Yield stdout; inside, writing to stderr never fails, and `print` goes there."""
    given, before = sys.stderr, warnings.formatwarning
    # What is opened here takes a closed stream's descriptor; else files of ours would.
    out = sys.stdout or open(os.devnull, "w", encoding="utf-8")
    err = given or open(os.devnull, "w", encoding="utf-8")
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_, **__: f"v2v: warning: {message}\n"
    sys.stderr = cast(TextIO, _Tolerant(err))
    try:
        with redirect_stdout(sys.stderr):
            yield out
    finally:
        sys.stderr, warnings.formatwarning = given, before
        try:
            out.flush()
        except (OSError, ValueError):  # let Python's own flush at the end succeed
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


class _Tolerant:
    # A text stream whose reader may have left.
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
