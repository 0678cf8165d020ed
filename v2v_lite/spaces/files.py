"""Files that are never half written, and the error every bad input ends in.

A save goes to a temporary file beside its target and takes the target's name in one
step, so that an interrupted save (Ctrl-C, a full disk, a killed process) leaves the old
file whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class V2VError(ValueError):
    """What cannot be done; the message names what is wrong and how to mend it."""


class DataError(V2VError):
    """Input that cannot be used."""


class ConfigError(DataError):
    """Settings that cannot be used."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` at the end.

    Leaving the block by an exception deletes the temporary file and leaves `path` as it
    was. The folder is made when it is missing. The rename is atomic because both names
    lie in one folder, hence on one file system.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    except BaseException:  # KeyboardInterrupt too: no litter after Ctrl-C
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _flush_to_disk(path: Path) -> None:
    # Without this a power cut after the rename can leave the new name on empty content.
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as indented UTF-8 JSON, atomically.

    Raises DataError for what JSON cannot hold (NaN and infinities included: other
    readers reject Python's spelling of them).
    """
    try:
        text = json.dumps(obj, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be written as JSON ({error}); "
            "turn tensors and arrays into lists or numbers, and NaN into null"
        ) from error
    with atomic(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; DataError when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not valid JSON ({error}); the file is cut short or altered, "
            "restore it from where it came"
        ) from error
