"""What can go wrong with files, in one place: saves, parsers, headers, names.

A save goes to a temporary file beside its target and takes the target's name in one
step, so that an interrupted save (Ctrl-C, a full disk, a killed process) leaves the old
file whole. What a parser raises becomes one `DataError` that names the file, the cause
and the mend. Headers are checked against a small schema before they are used, and names
that come out of files are cleaned (`safe_name`) or refused (`safe_child`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import reprlib
import stat
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

__all__ = [
    "ConfigError", "DataError", "Schema", "V2VError", "atomic", "check_file",
    "check_header", "first_line", "is_nonempty_text", "is_plain_text", "parse_json",
    "parsing", "read_header", "read_json", "read_tensors", "safe_child", "safe_name",
    "sha256_of", "write_json", "write_tensors",
]  # fmt: skip

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
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
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
    unique = f".v2v-{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    temporary = path.with_name(unique)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(".v2v-*.tmp"):
            # One may be gone meanwhile, or not be named as ours are.
            with suppress(OSError, ValueError, OverflowError):
                if _is_stale(old):
                    old.unlink()
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError, UnicodeError) as error:
        cause = _cause(error) or first_line(error).replace(str(temporary), str(path))
        raise DataError(f"{path}: cannot be written: {cause}") from error
    finally:  # KeyboardInterrupt too: no litter after Ctrl-C
        with suppress(OSError):
            temporary.unlink()


def _is_stale(path: Path) -> bool:
    host, pid = path.name.split("-")[1:3]
    if host == _HOST and os.name != "nt":  # there signal 0 would end the process
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
    return time.time() - path.stat().st_mtime > STALE_SECONDS


def _flush_to_disk(path: Path) -> None:
    # Without this a power cut after the rename can leave the new name on empty content.
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as indented UTF-8 JSON, atomically.

    Raises DataError for what JSON cannot hold (NaN and infinities included: other
    readers reject Python's spelling of them).
    """
    try:
        text = json.dumps(obj, indent=1, ensure_ascii=False, allow_nan=False)
        content = f"{text}\n".encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be written as JSON ({first_line(error)}); "
            "turn tensors and arrays into lists or numbers, and NaN into null"
        ) from error
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: dict
) -> None:
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


def _canonical(header: dict) -> str:
    return json.dumps(header, sort_keys=True, ensure_ascii=False)


def _digest(tensors: Mapping[str, Tensor], header: dict) -> str:
    digest = hashlib.sha256(_canonical(header).encode())
    for key in sorted(tensors):
        x = tensors[key]
        digest.update(f"{key} {x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# ---- reading


@contextmanager
def parsing(
    path: str | os.PathLike[str], what: str = "a readable file", mend: str = REPAIR
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


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its name, of at most 200 characters."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    text = error.strerror if isinstance(error, OSError) else None
    line = ((text or str(error)).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else f"{line[:200]}..."


def check_file(path: str | os.PathLike[str]) -> Path:
    """`path` if a plain file is there; DataError for none, a folder, loop or pipe."""
    path = Path(path)
    with parsing(path, "a path"):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: a pipe or device; save it as a file first")
    return path


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with parsing(path), open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def parse_json(text: str, where: str | os.PathLike[str], mend: str = REPAIR) -> Any:
    """The object that JSON `text` spells; DataError about `where` when it is none."""
    with parsing(where, "valid JSON", mend):
        return json.loads(text)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; DataError when it is missing or damaged."""
    with parsing(path, "valid JSON"):
        text = Path(path).read_text(encoding="utf-8-sig")
    return parse_json(text, path)


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict]:
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


def read_header(path: str | os.PathLike[str], schema: Schema) -> dict[str, Any]:
    """The table in a JSON file, checked against a schema (see `check_header`)."""
    return check_header(read_json(path), schema, path)


# ---- headers


def is_plain_text(value: Any) -> bool:
    """At most 1,000 characters, none of them a control: it may reach a terminal."""
    return isinstance(value, str) and value.isprintable() and len(value) <= 1000


def is_nonempty_text(value: Any) -> bool:
    """A text that is more than space."""
    return isinstance(value, str) and bool(value.strip())


# Key -> a type, a test, the one text that it must be, or the schema of a table within.
Schema = Mapping[str, Any]


def check_header(
    found: Any, schema: Schema, where: str | os.PathLike[str], mend: str = REPAIR
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
                raise DataError(
                    f"{where}: {name} {shown(value)}, but this version reads {rule!r}; "
                    "make it again, or install the version that wrote it"
                )
        elif name not in found:
            if name == key:
                raise DataError(f"{where}: no {name!r}; {mend}")
        elif isinstance(rule, Mapping):
            check_header(value, rule, f"{where}, {name}", mend)
        elif not _fits(value, rule):
            needed = rule.__name__.removeprefix("is_").replace("_", " ")
            raise DataError(
                f"{where}: {name} is {shown(value)}, but {needed} is needed; {mend}"
            )
    return found


def _fits(value: Any, rule: type | Callable[[Any], bool]) -> bool:
    if isinstance(rule, type):
        return type(value) is rule or (rule is float and type(value) is int)
    return rule(value)


# ---- names that come out of files


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


def safe_child(
    folder: str | os.PathLike[str], name: Any, where: str | os.PathLike[str] = ""
) -> Path:
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
            lead = f"{where}: " if str(where) else ""
            raise DataError(
                f"{lead}{reprlib.repr(name)} is not a path below the folder: plain "
                "names with slashes between them are needed"
            )
    return Path(folder, *parts)
