"""The folder that a translator is saved in: its files, and what is checked on reading.

weights.safetensors holds the tensors and, as metadata, the header; model.json repeats
the header for people. Nothing in either is trusted before it is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..spaces import headers
from ..spaces.files import DataError, atomic, write_json
from ..spaces.headers import is_plain_text

FORMAT = "v2v-translator-1"
HEADER, WEIGHTS, DIAGNOSIS = "model.json", "weights.safetensors", "diagnosis.json"
AGAIN = "it is altered, or of another version: fit and save the translator again"


def is_two_widths(value: Any) -> bool:
    """A list of two whole numbers, at least 2 each."""
    whole = isinstance(value, list) and [type(width) for width in value] == [int, int]
    return whole and min(value) >= 2


SCHEMA = {
    "format": FORMAT, "method": str, "widths": is_two_widths, "source?": is_plain_text,
    "target?": is_plain_text, "seed?": int, "history?": list,
}  # fmt: skip


def write(folder: Path, tensors: dict[str, Tensor], header: dict) -> None:
    """Write both files; a diagnosis of an earlier model in the folder is removed.

    The weights' file takes its name in one step and comes first, so that an interrupted
    save leaves a whole model, the old one or the new.
    """
    header = {"format": FORMAT, **header}
    with atomic(folder / WEIGHTS) as temporary:
        headers.write_tensors(temporary, tensors, header)
        (folder / DIAGNOSIS).unlink(missing_ok=True)
    write_json(folder / HEADER, header)


def read(folder: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the checked header of a folder; DataError if anything is off.

    Fields that older versions did not write get their defaults.
    """
    headers.read_header(folder / HEADER, SCHEMA)
    tensors, about = headers.read_tensors(headers.part_of(folder / WEIGHTS))
    about = headers.check_header(about, SCHEMA, folder / WEIGHTS, AGAIN)
    defaults = {"source": "unknown", "target": "unknown", "seed": 0, "history": []}
    return tensors, defaults | about


def check_tensors(
    tensors: Mapping[str, Tensor], layout: Mapping[str, str], widths: tuple[int, int],
    where: Path,
) -> None:  # fmt: skip
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
            kind = f"{found.dtype} of shape {tuple(found.shape)}"
            raise DataError(f"{where}: {key!r} is {kind}, not for {widths}; {AGAIN}")
