"""What can go wrong with files, in one place: saves and parsers.

A save goes to a temporary file beside its target and takes the target's name in one
step, so that an interrupted save (Ctrl-C, a full disk, a killed process) leaves the old
file whole. What a parser raises becomes one `DataError` that names the file, the cause
and the mend. `headers` checks what a file says before it is used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import stat
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError

AnyPath: TypeAlias = str | os.PathLike[str]

REPAIR = "it is cut short or altered, so copy or make it again"
STALE_SECONDS = 86_400  # when another machine's temporary counts as left behind
NAME_BYTES = 255  # the longest name that common file systems take

# What the system says, and what to do about it; errors come as numbers or as text.
_ELSEWHERE = "choose another path"
_CAUSES = {
    errno.ENOENT: "there is no such file",
    errno.EISDIR: "it is a folder, and a file is needed",
    errno.ELOOP: "it is a link that leads back to itself; remove the link",
    errno.ENAMETOOLONG: f"the name is too long; use one of under {NAME_BYTES} bytes",
    errno.ENOSPC: f"the disk is full; free some space or {_ELSEWHERE}",
    errno.EDQUOT: f"the disk quota is used up; free some space or {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
}
for _number in (errno.EACCES, errno.EPERM):
    _CAUSES[_number] = f"permission denied; change its permissions or {_ELSEWHERE}"
for _number in (errno.ENOTDIR, errno.EEXIST):
    _CAUSES[_number] = f"a file stands where a folder is needed; {_ELSEWHERE}"
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"


class V2VError(ValueError):
    """Base of the errors that users can mend; the message says how."""


class DataError(V2VError):
    """Input data that cannot be used; the message names what is wrong and the mend."""


class ConfigError(DataError):
    """Settings that cannot be used. A DataError until version 0.3, so that old `except`
    clauses still hold."""


# ---- writing


@contextmanager
def atomic(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` at the end.

    Leaving the block by an exception deletes the temporary file and leaves `path` as it
    was. The folder is made when it is missing. The rename is atomic because both names
    lie in one folder, hence on one file system. Temporaries that killed processes left
    in the folder are removed. Raises DataError, which names `path`, when it cannot be
    written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    if not path.name:
        raise DataError(f"{str(path)!r} is not the name of a file")
    # Not made of the target's name, which may be as long as names can be.
    mark = f"{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary = path.with_name(f".v2v-{mark}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(".v2v-*.tmp"):
            # One may be gone meanwhile, or not be named as ours are.
            with suppress(OSError, ValueError, OverflowError):
                if _is_stale(old, old.name):
                    old.unlink()
        yield temporary
        # Without this a power cut after the rename can leave it on empty content.
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError, UnicodeError) as error:
        cause = _cause(error) or first_line(error).replace(str(temporary), str(path))
        raise DataError(f"{path}: cannot be written: {cause}") from error
    finally:  # KeyboardInterrupt too: no litter after Ctrl-C
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def locked(folder: AnyPath) -> Iterator[None]:
    """Hold a folder: another process that asks for it meanwhile gets a DataError.

    The lock is a file in it that names this process. One that a killed process left is
    taken over. A folder that is made for the lock and stays empty goes again.
    """
    folder, mark = Path(folder), f"-{_HOST}-{os.getpid()}"
    lock, fresh = folder / ".v2v-lock", not folder.exists()
    with parsing(folder, "a folder to write in"):
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError, ValueError):
            if _is_stale(lock, lock.read_text()):
                lock.unlink()
        try:
            with open(lock, "x") as file:
                file.write(mark)
        except FileExistsError:
            fact = "another process is writing there; wait for it, or choose another"
            raise DataError(f"{folder}: {fact} (if none runs, delete {lock})") from None
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
            if fresh:
                folder.rmdir()  # which refuses where there is anything


def _is_stale(path: Path, mark: str) -> bool:
    host, pid = mark.split("-")[1:3]
    if host == _HOST and os.name != "nt":  # there signal 0 would end the process
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
    return time.time() - path.stat().st_mtime > STALE_SECONDS


def write_json(path: AnyPath, obj: Any) -> None:
    """Write `obj` as indented UTF-8 JSON, atomically.

    Raises DataError for what JSON cannot hold (NaN and infinities included: other
    readers reject Python's spelling of them).
    """
    try:
        text = json.dumps(obj, indent=1, ensure_ascii=False, allow_nan=False)
        content = f"{text}\n".encode()
    except (TypeError, ValueError, RecursionError) as error:
        fact = f"{path}: cannot be written as JSON ({first_line(error)})"
        mend = "turn tensors and arrays into lists or numbers, and NaN into null"
        raise DataError(f"{fact}; {mend}") from error
    with atomic(path) as temporary:
        temporary.write_bytes(content)


# ---- reading


@contextmanager
def parsing(
    path: AnyPath, what: str = "a readable file", mend: str = REPAIR
) -> Iterator[None]:
    """Turn whatever a parser raises within the block into one DataError about `path`.

    What damaged bytes make a parser raise is wider than any list, so every exception
    counts; keep the block to the parser's call. Our own only get the path put before
    them where they do not name it. The message tells a missing
    file, a folder, a loop of links, an unreadable file and one beyond the memory apart;
    anything else is said to be not `what`, with the parser's words and the `mend`.
    """
    try:
        yield
    except V2VError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:
        cause = _cause(error) or f"not {what} ({first_line(error)}); {mend}"
        raise DataError(f"{path}: {cause}") from error


def _cause(error: Exception) -> str | None:
    if isinstance(error, MemoryError):
        return "it needs more memory than there is; give fewer rows or free memory"
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, SafetensorError):  # its errors of the system are text
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else None
    if number is None and re.search(r"\d+ requested and \d+ written", str(error)):
        number = errno.ENOSPC  # numpy's words for a write that fell short
    return _CAUSES.get(number) if number is not None else None


def pick(options: Mapping[str, Any], key: str, what: str) -> Any:
    """`options[key]`; DataError that lists the keys when there is no such `what`."""
    if key not in options:
        raise DataError(f"no {what} {key!r}; there is {', '.join(options)}")
    return options[key]


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its name, of at most 200 characters."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    text = error.strerror if isinstance(error, OSError) else None
    line = ((text or str(error)).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else f"{line[:200]}..."


def check_file(path: AnyPath) -> Path:
    """`path` if a plain file is there; DataError for none, a folder, loop or pipe."""
    path = Path(path)
    with parsing(path, "a path"):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: a pipe or device; save it as a file first")
    return path


def sha256_of(path: AnyPath) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with parsing(path), open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def parse_json(text: str, where: AnyPath, mend: str = REPAIR) -> Any:
    """The object that JSON `text` spells; DataError about `where` when it is none."""
    with parsing(where, "valid JSON", mend):
        return json.loads(text)


def read_json(path: AnyPath) -> Any:
    """Read a JSON file; DataError when it is missing or damaged."""
    with parsing(path, "valid JSON"):
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
