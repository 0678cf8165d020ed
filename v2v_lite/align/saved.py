"""The folder that a translator is saved in: its files, and what is checked on reading.

weights.safetensors holds the tensors and, as metadata, the header; model.json repeats
the header for people. Nothing in either is trusted before it is checked.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..spaces.files import DataError, atomic, read_json, write_json
from ..spaces.space import read_tensors, write_tensors

__all__ = ["DIAGNOSIS", "FORMAT", "HEADER", "WEIGHTS", "check_tensors", "read", "write"]

FORMAT = "v2v-translator-1"
HEADER, WEIGHTS, DIAGNOSIS = "model.json", "weights.safetensors", "diagnosis.json"
AGAIN = "it is altered, or of another version: fit and save the translator again"
# Fields and their types; those with a default may be missing in files of old versions.
FIELDS: dict[str, type] = {
    "method": str, "source": str, "target": str, "widths": list, "sha256": str,
    "seed": int, "history": list,
}  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "source": "unknown", "target": "unknown", "seed": 0, "history": []
}  # fmt: skip


def write(folder: Path, tensors: dict[str, Tensor], header: dict) -> None:
    """Write both files; a diagnosis of an earlier model in the folder is removed.

    The weights' file takes its name in one step and comes first, so that an interrupted
    save leaves a whole model, the old one or the new.
    """
    header = {"format": FORMAT, **header, "sha256": _digest(tensors)}
    (folder / DIAGNOSIS).unlink(missing_ok=True)
    with atomic(folder / WEIGHTS) as temporary:
        write_tensors(temporary, tensors, header)
    write_json(folder / HEADER, header)


def read(folder: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the checked header of a folder; DataError if anything is off."""
    _checked(read_json(folder / HEADER), folder)
    if not (folder / WEIGHTS).is_file():
        raise DataError(f"{folder / WEIGHTS}: there is no such file; save again")
    tensors, about = read_tensors(folder / WEIGHTS)
    header = _checked(about, folder)
    if header["sha256"] != _digest(tensors):
        raise DataError(f"{folder / WEIGHTS}: altered since it was saved; save again")
    return tensors, header


def check_tensors(
    tensors: dict[str, Tensor],
    layout: dict[str, str],
    widths: tuple[int, int],
    where: Path,
) -> None:
    """DataError unless all tensors are finite and those of `layout` have its shapes.

    A letter stands for a dimension: s and t the two widths, others any size, the same
    throughout.
    """
    for key, tensor in tensors.items():
        if tensor.is_complex() or not tensor.isfinite().all():
            raise DataError(f"{where}: {key!r} holds numbers that are not finite reals")
    sizes = dict(zip("st", widths, strict=True))
    for key, letters in layout.items():
        if key not in tensors:
            raise DataError(f"{where}: no tensor {key!r}; {AGAIN}")
        found = tensors[key]
        free = zip(letters, found.shape, strict=False)
        want = tuple(sizes.setdefault(letter, size) for letter, size in free)
        whole = found.ndim == len(letters) and tuple(found.shape) == want
        if not whole or (letters and not found.is_floating_point()):
            raise DataError(
                f"{where}: {key!r} is {found.dtype} of shape {tuple(found.shape)}, "
                f"which does not fit widths {widths}; {AGAIN}"
            )


def _checked(header: Any, folder: Path) -> dict:
    found = header.get("format") if isinstance(header, dict) else None
    if found != FORMAT:
        raise DataError(
            f"{folder}: format {found!r}, but this version reads {FORMAT!r}; "
            "fit and save the translator again, or install the version that wrote it"
        )
    header = DEFAULTS | header
    for key, kind in FIELDS.items():
        value = header.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            name = kind.__name__
            raise DataError(f"{folder}: {key!r} is {value!r}, not a {name}; {AGAIN}")
    widths = header["widths"]
    if [type(width) for width in widths] != [int, int] or min(widths) < 2:
        raise DataError(f"{folder}: widths {widths!r}, not two numbers; {AGAIN}")
    return header


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        data = tensors[key].detach().cpu().contiguous().flatten()
        digest.update(data.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
