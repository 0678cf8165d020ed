"""What all commands share: two flags, where results and remarks go, device and rows.

Nothing here or in the commands' modules imports torch at the top: `v2v --help` answers
at once. A command is a frozen dataclass; tyro makes its options from the fields.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..spaces import Space


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command; `run` does it and returns the exit code (None is 0)."""

    json: bool = False
    """Print the result as JSON, for machines."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int | None:
        raise NotImplementedError

    def give(self, result: dict, lines: Sequence[str]) -> None:
        """The result to stdout: JSON with --json, else the lines."""
        text = json.dumps(plain(result), indent=1, ensure_ascii=False)
        print(text if self.json else "\n".join(lines))


def say(text: str) -> None:
    """A remark for the person at the terminal, on stderr."""
    print(text, file=sys.stderr)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinities become null, floats are short."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def rows_of(name: str, part: str = "all") -> Space:
    """A bundled space (`part` of it) or a file's, checked."""
    from ..spaces import NAMES, load, resolve

    return load(name, part) if name in NAMES else resolve(name)


def two_sides(
    source: str, target: str, n_train: int | None
) -> tuple[Space, Space, Space, Space]:
    """The rows to align, of disjoint texts as far as anybody can tell.

    Two bundled names are split by `splits.unpaired`. Otherwise rows are used whole, and
    refused when their ids say that a text stands on both sides. Returns the rows to fit
    on, source and target, and rows of both that are held back for the diagnosis.
    """
    from ..spaces import NAMES, DataError, check_disjoint, hold_out, unpaired

    if n_train is not None and n_train < 1:
        raise DataError(f"n_train = {n_train}, but at least 1 row a side is needed")
    if source in NAMES and target in NAMES:
        split = unpaired(rows_of(source), rows_of(target), n_train=n_train)
        say(
            f"{source} and {target} are bundled vectors of the same texts: "
            f"{split.source.n:,} go to the source and {split.target.n:,} others to the "
            "target; the 4,096 evaluation texts to neither"
        )
        return split.source, split.target, *split.unseen()
    sides = rows_of(source, "train"), rows_of(target, "train")
    if all(side.ids is not None for side in sides):
        check_disjoint(*sides)
    else:
        say("no ids on one side: nobody can check that the texts are disjoint")
    if n_train is not None:
        sides = tuple(side.take(slice(n_train)) for side in sides)
    (source, unseen_s), (target, unseen_t) = (hold_out(side) for side in sides)
    return source, target, unseen_s, unseen_t


def write_rows(out: Path, space: Space) -> None:
    """Save a space as .safetensors, or its bare rows as .npy, atomically."""
    space.save(out)


def on_device(space: Space, device: str) -> Space:
    """The space on `device`; "auto" is the GPU when there is one."""
    import torch

    from ..spaces import DataError

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return space.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise DataError(f"device {device!r}: {why}; use --device cpu") from error


def check_free(folder: Path, marker: str) -> None:
    """Refuse early what would fail late: a file where a folder is to be made."""
    from ..spaces import DataError

    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: a file has this name; {marker} needs a folder")
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise DataError(f"{folder}: {parent} may not be written to; choose another")


def keep_pages() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc.

    A training step frees and takes the same buffers again and again. Given back to the
    system each time, they return as fresh pages, which cost some 4 % of a CPU step.
    """
    if sys.platform != "linux":
        return
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**30)
