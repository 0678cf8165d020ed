"""What all commands share: flags, the rows they read and write, folders, the device.

Neither this nor the commands' modules import torch at the top, so that `v2v --help`
answers at once. A command is a frozen dataclass whose fields tyro makes into options.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from .streams import Result, echo

if TYPE_CHECKING:
    from ..spaces import Space

__all__ = [
    "DIAGNOSIS", "ROWS", "Command", "Flag", "Folder", "Number", "OptionalPath", "Part",
    "Source", "Target", "Text", "Vectors", "ensure_writable", "identity", "load_pair",
    "load_space", "refuse_other_pair", "save_rows", "to_device",
]  # fmt: skip

DIAGNOSIS = "diagnosis.json"
ROWS = ".safetensors or .npy"  # the formats of files of rows
Part = Literal["all", "train", "eval"]
Flag = Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")]
# Optional values: their help says itself what happens without them.
Number = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
Text = Annotated[str | None, arg(metavar="STR", help_behavior_hint="")]
# Positional arguments.
Source = Annotated[str, Positional, arg(metavar="SOURCE")]
Target = Annotated[str, Positional, arg(metavar="TARGET")]
Vectors = Annotated[str, Positional, arg(metavar="VECTORS")]
Folder = Annotated[Path, Positional, arg(metavar="FOLDER")]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command; `run` does its work and returns the result."""

    json: Flag = False
    """Print the result as JSON."""
    debug: Flag = False
    """Show the traceback of an error."""

    def run(self) -> Result:
        raise NotImplementedError


def load_space(name: str, part: str = "all") -> Space:
    """A bundled space (`part` of it) or a file's, checked."""
    from ..spaces import NAMES, load, resolve

    return load(name, part) if name in NAMES else resolve(name)


def load_pair(
    source: str, target: str, n_train: int | None
) -> tuple[Space, Space, Space, Space]:
    """The rows to align, of disjoint texts as far as anybody can tell.

    Two bundled names are split by `splits.unpaired`. Otherwise rows are used whole, and
    refused when their ids say that both sides hold the same text. Returns the rows to
    fit on, source and target, and rows of both that are held back for the diagnosis.
    """
    from ..spaces import NAMES, DataError, check_disjoint, hold_out, unpaired

    if n_train is not None and n_train < 1:
        raise DataError(f"n_train = {n_train}, but at least 1 row a side is needed")
    if source in NAMES and target in NAMES:
        split = unpaired(load_space(source), load_space(target), n_train=n_train)
        echo(
            f"{source} and {target} are bundled vectors of the same texts: "
            f"{split.source.n:,} go to the source and {split.target.n:,} others to the "
            "target; the 4,096 evaluation texts to neither"
        )
        unseen = split.unseen()
        return split.source, split.target, unseen[0], unseen[1]
    one, two = load_space(source, "train"), load_space(target, "train")
    if one.ids is not None and two.ids is not None:
        check_disjoint(one, two)
    else:
        echo("no ids on one side: whether the texts are disjoint cannot be checked")
    if n_train is not None:
        one, two = one.take(slice(n_train)), two.take(slice(n_train))
    (fit_one, unseen_one), (fit_two, unseen_two) = hold_out(one), hold_out(two)
    return fit_one, fit_two, unseen_one, unseen_two


def save_rows(out: Path, space: Space) -> None:
    """Save a space as .safetensors, or its bare rows as .npy, atomically."""
    import numpy as np

    from ..spaces import atomic

    if out.suffix == ".safetensors":
        return space.save(out)
    with atomic(out) as temporary, open(temporary, "wb") as file:
        np.save(file, space.vectors.cpu().numpy())


def to_device(space: Space, device: str) -> Space:
    """The space on `device`; "auto" is the GPU when there is one."""
    import torch

    from ..spaces import DataError

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return space.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        if "device string" in str(error):
            raise DataError(f"no device {device!r}; give cpu, cuda or auto") from error
        why = str(error).splitlines()[0]
        raise DataError(f"device {device!r}: {why}; give --device cpu") from error


def ensure_writable(
    out: Path, *inputs: str | Path | None, ending: str | None = None
) -> None:
    """Refuse before the work what would fail after it, or would overwrite an input.

    `out` is a file with one of the endings that `ending` names, or else a folder.
    """
    from ..spaces import DataError

    kind, other = ("file", "folder") if ending else ("folder", "file")
    if ending and (not out.suffix or out.suffix not in ending):
        raise DataError(f"{out}: its name must end in {ending}; rename it")
    if out.exists() and out.is_dir() == bool(ending):
        raise DataError(f"{out}: a {other} has this name; give another {kind} as --out")
    for path in inputs:
        if path is not None and Path(path).resolve() == out.resolve():
            raise DataError(f"{out}: that is the input; give another {kind} as --out")
    parent = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise DataError(f"{out}: {parent} may not be written to; give another --out")


def identity(space: Space, name: str) -> str:
    """Which space the rows are of: their encoder, or the file if that is unknown."""
    return str(Path(name).resolve()) if space.name == "unknown" else space.name


def refuse_other_pair(folder: Path, pair: list[str], force: bool) -> None:
    """Keep the results that `folder` holds of another pair of spaces."""
    from ..spaces import DataError, read_json

    if force or not (folder / "model.json").exists():
        return
    kept = read_json(folder / "model.json")
    there = [kept.get("source"), kept.get("target")]
    if (folder / DIAGNOSIS).exists():
        there = read_json(folder / DIAGNOSIS).get("pair", there)
    if there != pair and "unknown" not in there:
        raise DataError(
            f"{folder} holds a translator from {there[0]} to {there[1]}; give another "
            "--out, or overwrite it with --force"
        )
