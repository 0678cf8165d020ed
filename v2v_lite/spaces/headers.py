"""What files say of themselves: headers, tensors with one, names of other files.

A header is checked against a small schema before it is used. A name that comes out of a
file is cleaned (`safe_name`) or refused (`safe_child`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import reprlib
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import (
    NAME_BYTES,
    REPAIR,
    AnyPath,
    DataError,
    check_file,
    parsing,
    read_json,
)


def is_plain_text(value: Any) -> bool:
    """At most 1,000 characters, none of them a control: it may reach a terminal."""
    return isinstance(value, str) and value.isprintable() and len(value) <= 1000


def is_nonempty_text(value: Any) -> bool:
    """A text that is more than space."""
    return isinstance(value, str) and bool(value.strip())


# Key -> a type, a test, the one text that it must be, or the schema of a table within.
Schema = Mapping[str, Any]


def check_header(
    found: Any, schema: Schema, where: AnyPath, mend: str = REPAIR
) -> dict[str, Any]:
    """`found` as a dict that fits a schema; DataError about `where` when it does not.

    A schema gives for each key a type (`int` refuses true and false, `float` takes
    whole numbers too), a test whose name says what is needed, the text that the value
    must equal (a format line), or the schema of a table within. Keys that end in "?"
    may be absent; keys beyond the schema are passed over.

    >>> check_header({"n": 3}, {"n": int, "seed?": int}, "a.json")
    {'n': 3}
    >>> check_header({"n": "3"}, {"n": int}, "a.json", "make it again")
    Traceback (most recent call last):
        ...
    v2v_lite.spaces.files.DataError: a.json: n is '3', but int is needed; make it again
    """
    shown = reprlib.repr
    if not isinstance(found, dict):
        raise DataError(f"{where}: {shown(found)} is no table of names; {mend}")
    for key, rule in schema.items():
        name = key.rstrip("?")
        value = found.get(name)
        if isinstance(rule, str):
            if value != rule:
                fact = f"{name} {shown(value)}, but this version reads {rule!r}"
                other = "make it again, or install the version that wrote it"
                raise DataError(f"{where}: {fact}; {other}")
        elif name not in found:
            if name == key:
                raise DataError(f"{where}: no {name!r}; {mend}")
        elif isinstance(rule, Mapping):
            check_header(value, rule, f"{where}, {name}", mend)
        elif not _fits(value, rule):
            needed = rule.__name__.removeprefix("is_").replace("_", " ")
            fact = f"{name} is {shown(value)}, but {needed} is needed"
            raise DataError(f"{where}: {fact}; {mend}")
    return found


def _fits(value: Any, rule: type | Callable[[Any], bool]) -> bool:
    if isinstance(rule, type):
        return type(value) is rule or (rule is float and type(value) is int)
    return rule(value)


def read_header(path: AnyPath, schema: Schema) -> dict[str, Any]:
    """The table in a JSON file, checked against a schema (see `check_header`)."""
    return check_header(read_json(part_of(path)), schema, path)


def part_of(path: AnyPath) -> Path:
    """`path`; DataError when its folder is there and lacks this file."""
    path = Path(path)
    if path.parent.is_dir() and not os.path.lexists(path):
        fact = f"{path.parent}: the folder has no {path.name}"
        raise DataError(f"{fact}; copy all of it again, or make it anew")
    return path


def write_tensors(path: AnyPath, tensors: Mapping[str, Tensor], header: dict) -> None:
    """Write tensors and, as one JSON entry, a header: same content, same bytes.

    A header that is not empty gets a "digest", which covers it and the tensors, so that
    `read_tensors` notices a change in either. Not atomic by itself; see `atomic`.
    """
    path = Path(path)
    ready = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    if header:
        header = {**header, "digest": _digest(ready, header)}
    path.touch()
    mode = path.stat().st_mode
    # One metadata key only: safetensors does not fix the order of several.
    save_file(ready, str(path), metadata={"v2v": _canonical(header)})
    path.chmod(mode)  # safetensors makes files that their owner alone may read


def read_tensors(path: AnyPath) -> tuple[dict[str, Tensor], dict]:
    """All tensors of a .safetensors file and our header ({} when it is not ours).

    Raises DataError when the file is missing, damaged, or does not fit its digest.
    """
    path = check_file(path)
    with parsing(path, "a whole .safetensors file"):
        with safe_open(str(path), framework="pt") as file:
            found = json.loads((file.metadata() or {}).get("v2v", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    header = check_header(found, {}, path)
    digest = header.pop("digest", None)
    if digest is not None and digest != _digest(tensors, header):
        raise DataError(f"{path}: altered since it was saved; copy or make it again")
    return tensors, header


def write_rows(
    path: AnyPath, blocks: Iterable[Tensor], shape: tuple[int, int],
    ids: Tensor | None, header: dict, mean: Tensor | None = None,
) -> None:  # fmt: skip
    """As `write_tensors`: "vectors" `(n, d)` float32 by blocks, their mean, and ids."""
    entries = {"vectors": ("F32", shape), "mean": ("F32", shape[1:])}
    if ids is not None:
        entries = {"ids": ("I64", shape[:1]), **entries}

    def head(digest: str) -> bytes:
        about: dict[str, Any] = {"v2v": _canonical({**header, "digest": digest})}
        about, at = {"__metadata__": about}, 0
        for key, (kind, size) in entries.items():
            end = at + math.prod(size) * (8 if kind == "I64" else 4)
            about[key] = {"dtype": kind, "shape": size, "data_offsets": [at, end]}
            at = end
        text = json.dumps(about, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text

    total = torch.zeros(shape[1], dtype=torch.float64)
    digest = hashlib.sha256(_canonical(header).encode())
    with open(path, "wb+") as file:
        file.write(head("0" * 64))
        if ids is not None:
            file.write(ids.cpu().contiguous().numpy().data)
            _add(digest, "ids", ids.cpu())
        start = file.tell()
        for rows in blocks:
            total += rows.sum(dim=0, dtype=torch.float64).cpu()
            file.write(rows.cpu().contiguous().numpy().data)
        end = file.tell()
        mean = (total / max(shape[0], 1)).float() if mean is None else mean.cpu()
        file.write(mean.contiguous().numpy().data)
        _add(digest, "mean", mean)
        digest.update(f"vectors torch.float32 {shape}".encode())
        file.seek(start)
        while left := min(end - file.tell(), 1 << 20):
            digest.update(file.read(left))
        file.seek(0)
        file.write(head(digest.hexdigest()))


def _canonical(header: dict) -> str:
    return json.dumps(header, sort_keys=True, ensure_ascii=False)


def _digest(tensors: Mapping[str, Tensor], header: dict) -> str:
    digest = hashlib.sha256(_canonical(header).encode())
    for key in sorted(tensors):
        _add(digest, key, tensors[key])
    return digest.hexdigest()


def _add(digest: Any, key: str, x: Tensor) -> None:
    digest.update(f"{key} {x.dtype} {tuple(x.shape)}".encode())
    digest.update(x.reshape(-1).view(torch.uint8).numpy().data)


def safe_name(name: str) -> str:
    """`name`, of an encoder say, as one part of a file's name on any system.

    For output files that are named after something in a file, which may hold anything:
    slashes become two dashes (a hub name stays readable), other characters than
    letters, digits and ``_ . + = @ -`` become "_", dots and dashes at the ends go, and
    beyond 100 bytes the rest is a fingerprint. Never empty, never a path.

    >>> safe_name("BAAI/bge-small"), safe_name("/../../x")
    ('BAAI--bge-small', 'x')
    """
    clean = re.sub(r"[^\w.+=@-]", "_", str(name).replace("/", "--")).strip(".-")
    if len(clean.encode()) > 100:
        mark = hashlib.sha256(clean.encode()).hexdigest()[:8]
        clean = f"{clean.encode()[:90].decode(errors='ignore')}-{mark}"
    return clean or "unnamed"


def safe_child(folder: AnyPath, name: Any, where: AnyPath) -> Path:
    """`folder / name` for a relative path that a file names; DataError for others.

    Refused: absolute paths, parts that begin with a dot (".." among them), backslashes,
    colons, control characters, names that are too long. `where` is the file that holds
    the name.
    """
    parts = name.split("/") if isinstance(name, str) else [""]
    for part in parts:
        plain = part.isprintable() and not re.search(r"[\\:]", part)
        long = len(part.encode("utf-8", "replace")) > NAME_BYTES
        if not part or part.startswith(".") or not plain or long:
            fact = f"{reprlib.repr(name)} is not a path below the folder"
            needed = "plain names with slashes between them are needed"
            raise DataError(f"{where}: {fact}: {needed}")
    return Path(folder, *parts)
