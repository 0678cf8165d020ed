"""Checkpoints that are whole or absent: every state of a run, in safetensors and JSON.

A checkpoint is a folder `step-000001000` of two files, made under a temporary name and
renamed when both are on the disk. `state.json` names the SHA-256 of the tensors, so a
file that was cut short or altered is found out. The two newest are kept: a damaged
newest one is passed over for the one before.
"""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from ..spaces.files import DataError, read_json, sha256_of, write_json
from ..spaces.headers import read_tensors, write_tensors

FORMAT = "v2v-checkpoint-1"
TENSORS, ABOUT = "state.safetensors", "state.json"
BETWEEN = "/"  # of the names on the way to a tensor; state_dict has the dots


def save(folder: str | os.PathLike[str], step: int, tree: dict, about: dict) -> Path:
    """Write the checkpoint of `step` into `folder` and return its path.

    `tree` holds tensors in nested dicts, `about` whatever JSON can hold. The checkpoint
    before stays beside it, older ones go. Raises DataError when it cannot be written (a
    full disk); those before are then as they were.
    """
    folder = Path(folder)
    path = folder / f"step-{step:09d}"
    temporary = folder / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        temporary.mkdir(parents=True)
        write_tensors(temporary / TENSORS, flat(tree), {})
        _to_disk(temporary / TENSORS)
        digest = sha256_of(temporary / TENSORS)
        head = {"format": FORMAT, "step": step, "sha256": digest}
        write_json(temporary / ABOUT, head | about)
        if path.exists():  # a damaged one that was passed over
            shutil.rmtree(path)
        os.replace(temporary, path)
        _to_disk(folder)
    except (OSError, SafetensorError) as error:
        kept = ", ".join(p.name for p in checkpoints(folder)) or "none"
        raise DataError(
            f"{path} could not be written ({error}); whole checkpoints: {kept}; "
            "free some space, then resume"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _drop_all_but(path)
    return path


def load(folder: str | os.PathLike[str]) -> tuple[dict, dict]:
    """The tree and the `about` of the newest whole checkpoint in `folder`.

    Warns of each damaged one that it passes over. Raises DataError when there is no
    whole one, or the newest is of another format.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            return _read(path)
        except _Damaged as error:
            warnings.warn(
                f"{path} is damaged ({error}); taking the one before", stacklevel=2
            )
    seen = f"all {len(found)} are damaged" if found else "there are none"
    raise DataError(f"{folder}: no whole checkpoint, {seen}; train anew")


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints in `folder`, oldest first; whether whole is not looked at."""
    return sorted(p for p in Path(folder).glob("step-*") if p.is_dir())


def flat(tree: dict, prefix: str = "") -> dict[str, Tensor]:
    """Nested dicts of tensors as one dict, names joined by a slash.

    >>> import torch
    >>> flat({"nets": {"a": torch.ones(1)}, "adam": {"0": {"step": torch.ones(())}}})
    {'nets/a': tensor([1.]), 'adam/0/step': tensor(1.)}
    """
    out = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{key}{BETWEEN}")
        else:
            out[f"{prefix}{key}"] = value
    return out


def nested(tensors: dict[str, Tensor]) -> dict:
    """What `flat` made flat."""
    tree: dict = {}
    for name, value in tensors.items():
        *way, last = name.split(BETWEEN)
        here = tree
        for key in way:
            here = here.setdefault(key, {})
        here[last] = value
    return tree


class _Damaged(Exception):
    pass


def _read(path: Path) -> tuple[dict, dict]:
    try:
        about = read_json(path / ABOUT)
        found = about.get("format") if isinstance(about, dict) else None
        if found == FORMAT and sha256_of(path / TENSORS) != about["sha256"]:
            raise _Damaged(f"{TENSORS} is cut short or altered")
        tensors = read_tensors(path / TENSORS)[0] if found == FORMAT else {}
    except (OSError, DataError) as error:
        raise _Damaged(str(error)) from error
    if found != FORMAT:
        raise DataError(
            f"{path}: format {found!r}, but this version reads {FORMAT!r}; resume "
            "with the version that wrote it, or train anew"
        )
    return nested(tensors), about


def _to_disk(path: Path) -> None:
    # Without this a power cut after the rename can leave the name on empty content.
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _drop_all_but(newest: Path) -> None:
    # Later steps than the newest are damaged ones that a resumed run passed over.
    older = [p for p in checkpoints(newest.parent) if p < newest]
    for path in checkpoints(newest.parent):
        if path not in (newest, *older[-1:]):
            shutil.rmtree(path, ignore_errors=True)
    for path in newest.parent.glob(".step-*.tmp"):  # of a killed process
        shutil.rmtree(path, ignore_errors=True)
