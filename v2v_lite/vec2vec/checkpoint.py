"""Checkpoints that are whole or absent: the full state of a training, one file each.

`step-000001000.safetensors` holds every tensor and, as its header, the rest. It is made
under a temporary name and renamed when it is on the disk; a digest of its content finds
out a file that was cut short or altered. The two newest are kept: a damaged newest one
is passed over for the one before.

Why not Accelerate's `save_state`: it writes in place, deletes the oldest before the new
one is whole, checks nothing when it loads, and pickles optimisers and generators.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from ..spaces.files import DataError, atomic, parse_json
from ..spaces.headers import check_header, read_tensors, write_tensors

FORMAT = "v2v-checkpoint-3"
OTHER_VERSION = "resume with the version of v2v_lite that wrote it, or train anew"
BETWEEN = "/"  # between the names on the way to a tensor; state_dict has the dots


def save(folder: str | os.PathLike[str], step: int, tree: dict, header: dict) -> Path:
    """Write the checkpoint of `step` into `folder` and return its path.

    `tree` holds tensors in nested dicts, `header` whatever JSON can hold. The
    checkpoint before stays beside it, older ones go. Raises DataError when it cannot be
    written (a full disk); those before are then as they were.
    """
    path = Path(folder, f"step-{step:09d}.safetensors")
    try:
        with atomic(path) as temporary:
            # As text, because the header of a file is sorted and order matters here.
            text = json.dumps({"step": step} | header)
            head = {"format": FORMAT, "state": text}
            write_tensors(temporary, flat(tree), head)
    except DataError as error:
        kept = ", ".join(p.name for p in checkpoints(folder)) or "none"
        raise DataError(f"{error}; whole checkpoints: {kept}") from error
    # Later steps than the newest are damaged ones that a resumed run passed over.
    older = [p for p in checkpoints(folder) if p < path]
    for old in checkpoints(folder):
        if old not in (path, *older[-1:]):
            old.unlink(missing_ok=True)
    return path


def load(
    folder: str | os.PathLike[str], schema: dict[str, Any] | None = None
) -> tuple[dict, dict]:
    """The tree and the header of the newest whole checkpoint in `folder`.

    `schema` says which keys a header must have, and of which types. Warns of each
    damaged checkpoint that it passes over. Raises DataError when there is no whole one,
    or the newest is of another format.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            tensors, head = read_tensors(path)
            kind = head.get("format", FORMAT)
            if kind == FORMAT:
                header = parse_json(head.get("state", ""), path)
                check_header(header, {"step": int} | (schema or {}), path)
                return nested(tensors), header
        except DataError as error:
            warnings.warn(f"{error}; taking the one before", stacklevel=2)
            continue
        both = f"{path}: format {kind!r}, but this version reads {FORMAT!r}"
        raise DataError(f"{both}; {OTHER_VERSION}")
    if [*Path(folder).glob("step-*/state.json")]:
        raise DataError(f"{folder}: checkpoints of v2v_lite 0.1; {OTHER_VERSION}")
    seen = f"all {len(found)} are damaged" if found else "there are none"
    raise DataError(f"{folder}: no whole checkpoint, {seen}; train anew")


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints in `folder`, oldest first, whole or not."""
    return sorted(Path(folder).glob("step-*.safetensors"))


def flat(tree: dict[str, Any], between: str = BETWEEN) -> dict[str, Any]:
    """Nested dicts as one dict, names joined by a slash.

    >>> import torch
    >>> flat({"nets": {"a": torch.ones(1)}, "adam": {"0": {"step": torch.ones(())}}})
    {'nets/a': tensor([1.]), 'adam/0/step': tensor(1.)}
    """
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            inner = flat(value, between)
            out |= {f"{key}{between}{name}": x for name, x in inner.items()}
        else:
            out[key] = value
    return out


def nested(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The inverse of `flat`."""
    tree: dict[str, Any] = {}
    for name, value in tensors.items():
        *way, last = name.split(BETWEEN)
        here = tree
        for key in way:
            here = here.setdefault(key, {})
        here[last] = value
    return tree
