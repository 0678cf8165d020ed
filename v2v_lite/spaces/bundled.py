"""The vectors that come with the book: real encoders on the same sentences."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from .files import AnyPath, DataError, check_file, pick, sha256_of
from .formats import READERS, is_rows_file, open_table
from .headers import Schema, check_header, is_plain_text, read_header, safe_child
from .space import PROVENANCE, Space
from .tables import Table, spans

MANIFEST, MANIFEST_FORMAT = "manifest.json", "v2v-data-1"
NAMES = ("minilm", "granite", "arctic", "wordllama")
TRAIN_ROWS = 32768
EVAL_ROWS = 4096


def is_block_of_rows(value: Any) -> bool:
    """[first, end] with first < end."""
    pair = isinstance(value, list)
    return pair and [int, int] == [type(v) for v in value] and 0 <= value[0] < value[1]


# What entries of a manifest hold: of a file, a space, a set.
FILE: Schema = {"file": str, "bytes": int, "sha256": str}
SPACE = {**FILE, "encoder": is_plain_text, "licence": is_plain_text, "d": int}
SET: dict[str, Any] = dict.fromkeys(("train", "eval", "labels?"), is_block_of_rows)
SET |= dict.fromkeys(("ids", "documents?", "labels_file?"), FILE)
SET |= {"texts": is_plain_text, "licence": is_plain_text, "rows": int, "spaces": dict}


def data_folder() -> Path:
    """The folder with `manifest.json`: $V2V_DATA, the checkout's, or the wheel's.

    The first of these that is set or exists; raises DataError when there is none.
    """
    chosen = os.environ.get("V2V_DATA")
    package = Path(__file__).resolve().parents[1]
    places = [Path(chosen)] if chosen else [package.parent / "data", package / "_data"]
    for place in places:
        if (place / MANIFEST).is_file():
            return place
    mend = "set V2V_DATA to a folder that has one, or reinstall the package"
    raise DataError(f"no {MANIFEST} in {' or '.join(map(str, places))}; {mend}")


def load(
    name: str, part: str = "all", dataset: str = "wiki", folder: AnyPath | None = None
) -> Space:
    """The space `name` of a set, verified: rows "all", "train" or "eval".

    Sets of documents have a fourth part, "labels": their labels' descriptions, which
    are not among "all".
    Size and SHA-256 of its files are compared with the manifest (once a process for
    unchanged files). The mean is that of the training rows whatever the part. `folder`
    is that of another manifest, such as `make_set` writes. Raises DataError for unknown
    names (listing the known) and for files that are missing, cut short or altered.

    >>> load("minilm", "eval")
    Space('minilm', n=4096, d=384)
    """
    place = data_folder() if folder is None else Path(folder)
    entry = pick(read_manifest(place), dataset, "set")
    blocks = {key: entry[key] for key in ("train", "eval", "labels") if key in entry}
    blocks["all"] = [entry["train"][0], entry["eval"][1]]
    first, last = pick(blocks, part, f"part of {dataset}")
    described = pick(entry["spaces"], name, "space")
    verify(place, entry["ids"])
    space = Space.load(verify(place, described))
    if last > space.n:
        where = f"{place / MANIFEST}: {dataset}'s {part} rows"
        raise DataError(f"{where} end at {last}, but {name} has {space.n} rows")
    return space.take(slice(first, last))


def read_manifest(folder: AnyPath) -> dict[str, dict]:
    """The sets that a folder's manifest describes, by name, every entry checked.

    Raises DataError when the manifest is missing, damaged or incomplete.
    """
    path = Path(folder) / MANIFEST
    sets = read_header(path, {"format": MANIFEST_FORMAT, "sets": dict})["sets"]
    for name, entry in sets.items():
        check_header({"set": name}, {"set": is_plain_text}, path)
        check_header(entry, SET, f"{path}, set {name}")
        for short, described in entry["spaces"].items():
            check_header({"space": short}, {"space": is_plain_text}, path)
            check_header(described, SPACE, f"{path}, set {name}, space {short}")
    return sets


def resolve(name_or_path: AnyPath, part: str = "all", drop_bad: bool = False) -> Space:
    """A space by bundled name (`part` of it), or from a file (see `Space.load`).

    Raises DataError listing the bundled names when it is neither.
    """
    return Space.of_table(resolve_table(name_or_path, part), None, drop_bad)


def resolve_table(name_or_path: AnyPath, part: str = "all") -> Table:
    """The same rows, unread where they are in a file."""
    if (name := str(name_or_path)) in NAMES:
        space = load(name, part)
        return Table(
            name, (space.n, space.d),
            lambda: (space.vectors[span] for span in spans(space.n)),
            ids=space.ids, header=asdict(space.provenance), mean=space.mean, exact=True,
        )  # fmt: skip
    if is_rows_file(name_or_path):
        return open_table(name_or_path, PROVENANCE)
    if os.path.lexists(name_or_path):
        check_file(name_or_path)  # a folder or a loop of links says so
    kinds = f"a bundled space ({', '.join(NAMES)}) nor a file of rows"
    raise DataError(f"{name_or_path}: neither {kinds} ({' '.join(READERS)})")


def verify(folder: Path, described: dict) -> Path:
    """The path of a file of `folder` that the manifest describes, checked.

    Raises DataError unless it lies below the folder and has the size in bytes and the
    SHA-256 that the manifest tells.
    """
    path = safe_child(folder, described["file"], folder / MANIFEST)
    size, sha256 = described["bytes"], described["sha256"]
    name = "/".join(path.parts[-3:])
    mend = f"restore it (`git checkout -- {name}`), reinstall, or make the set again"
    if not path.is_file():
        raise DataError(f"{path}: the file is missing; {mend}")
    found = path.stat()
    if found.st_size != size:
        sizes = f"{found.st_size} bytes, expected {size}"
        raise DataError(f"{path}: cut short or altered: {sizes}; {mend}")
    actual = _sha256_once(str(path), found.st_mtime_ns, size)
    if actual != sha256:
        raise DataError(f"{path}: altered: SHA-256 {actual}, expected {sha256}; {mend}")
    return path


@lru_cache(maxsize=64)
def _sha256_once(path: str, mtime_ns: int, size: int) -> str:
    # The time and size are part of the key: a file that changes is read again.
    return sha256_of(path)
