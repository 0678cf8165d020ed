"""What all commands share: options, the rows they read and write, folders, the device.

Neither this nor the commands' modules import torch at the top, so that `v2v --help`
answers at once: `v2v_lite` itself imports its folders when they are first used. A
command is a frozen dataclass whose fields, and the comments above them, tyro makes into
options.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

import v2v_lite as v2v

from .streams import Result, echo

if TYPE_CHECKING:
    from ..spaces import Space

__all__ = ["Command", "UsageError", "ensure_writable", "load_pair", "load_space"]

Part = Literal["all", "train", "eval"]
Flag = Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")]
# Optional values: their help says itself what happens without them.
Int = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Float = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
Text = Annotated[str | None, arg(metavar="STR", help_behavior_hint="")]
# Positional arguments.
Source = Annotated[str, Positional, arg(metavar="SOURCE")]
Target = Annotated[str, Positional, arg(metavar="TARGET")]
Vectors = Annotated[str, Positional, arg(metavar="VECTORS")]
Texts = Annotated[Path, Positional, arg(metavar="TEXTS")]
Folder = Annotated[Path, Positional, arg(metavar="FOLDER")]

DIAGNOSIS = "diagnosis.json"
ROWS = ".safetensors or .npy"  # the formats of files of rows


class UsageError(Exception):
    """Words or values that no command can use; the message says why."""


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


def load_space(name: str, part: str = "all") -> Space:
    """A bundled space (`part` of it) or a file's, checked."""
    bundled = name in v2v.spaces.NAMES
    return v2v.spaces.load(name, part) if bundled else v2v.spaces.resolve(name)


def load_pair(source: str, target: str, n_train: int | None) -> list[Space]:
    """The rows to align, of disjoint texts as far as anybody can tell.

    Two bundled names are split by `splits.unpaired`. Otherwise rows are used whole, and
    refused when their ids say that both sides hold the same text. Returns the rows to
    fit on, source and target, and rows of both that are held back for the diagnosis.
    """
    at_least_one(n_train=n_train)
    if {source, target} <= set(v2v.spaces.NAMES):
        both = load_space(source), load_space(target)
        split = v2v.spaces.unpaired(*both, n_train=n_train)
        echo(
            f"{source} and {target} are bundled vectors of the same texts: "
            f"{split.source.n:,} go to the source and {split.target.n:,} others to the "
            "target; the 4,096 evaluation texts to neither"
        )
        return [split.source, split.target, *split.unseen()]
    sides = [load_space(source, "train"), load_space(target, "train")]
    if all(side.ids is not None for side in sides):
        v2v.spaces.check_disjoint(*sides)
    else:
        echo("no ids on one side: whether the texts are disjoint cannot be checked")
    if n_train is not None:
        sides = [side.take(slice(n_train)) for side in sides]
    (one, unseen_one), (two, unseen_two) = map(v2v.spaces.hold_out, sides)
    return [one, two, unseen_one, unseen_two]


def to_device(space: Space, device: str) -> Space:
    """The space on `device`; "auto" is the GPU when there is one."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return space.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0].partition(" device type at start")[0]
        raise UsageError(f"device {device!r}: {why}; use --device cpu") from error


def ensure_writable(
    out: Path, *inputs: str | Path | None, ending: str | None = None
) -> None:
    """Refuse before the work what would fail after it, or would overwrite an input.

    `out` is a file with one of the endings that `ending` names, or else a folder.
    """
    kind, other = ("file", "folder") if ending else ("folder", "file")
    why, real, exists = "", os.path.realpath, os.path.exists  # none of them raises
    if ending and (not out.suffix or out.suffix not in ending):
        why = f"its name must end in {ending}"
    elif any(path and real(path) == real(out) for path in inputs):
        why = "that is the input"
    elif exists(out) and os.path.isdir(out) == bool(ending):
        why = f"a {other} has this name"
    parent = next(p for p in (out, *out.absolute().parents) if exists(p))
    if not why and not os.access(parent, os.W_OK):
        why = f"{parent} may not be written to"
    if why:
        raise UsageError(f"{out}: {why}; give another {kind} as --out")


def identities(spaces: Sequence[Space], names: Sequence[str]) -> list[str]:
    """Which spaces rows are of: their encoders, or the files where that is unknown."""
    pairs = zip(spaces, names, strict=True)
    return [str(Path(n).resolve()) if s.name == "unknown" else s.name for s, n in pairs]


def keep_results(folder: Path, pair: list[str], force: bool) -> None:
    """Refuse a folder with a run, or with a translator of another pair of spaces."""
    from ..vec2vec.initialise import saved_steps

    if force:
        return
    mend = "give another --out, or overwrite it with --force"
    if saved_steps(folder):
        raise UsageError(f"{folder} holds a run; go on with it by --resume, {mend}")
    if not (folder / "model.json").exists():
        return
    read, names = v2v.spaces.read_header, {"source": str, "target": str}
    there = [read(folder / "model.json", names)[name] for name in names]
    if (folder / DIAGNOSIS).exists():
        there = read(folder / DIAGNOSIS, {"pair?": list}).get("pair", there)
    if there != pair and "unknown" not in there:
        both = " to ".join(map(str, there))
        raise UsageError(f"{folder} holds a translator from {both}; {mend}")
