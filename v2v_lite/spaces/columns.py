"""Rows in tables of other kinds: a column of lists, or a field of each line of JSON.

Parquet, Arrow files and streams, folders that `datasets` saved, and JSON lines. A list
that is missing becomes a row of NaN, so that it is named, or dropped, as a bad row.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .files import DataError, parsing
from .tables import BLOCK, Table, checked_table, spans
from .texts import read_lines, read_records

ROWS_NAMES = "vectors", "embeddings", "embedding", "emb", "vector"
ID_NAMES, SCALE_NAMES = ("id", "ids", "_id"), ("scale", "scales")


def chosen(path: Path, name: str, tables: list[str], every: list[str]) -> str:
    # The part called `name`, or the only one that can be meant.
    if name:
        if name not in every:
            raise DataError(f"{path}: no {name!r} in it; there are {sorted(every)}")
        return name
    if "vectors" in every:
        return "vectors"
    known = [one for one in ROWS_NAMES if one in tables] or tables
    if len(known) == 1:
        return known[0]
    found = f"{len(tables)} tables among {sorted(every)}"
    raise DataError(f"{path}: {found}; name the rows 'vectors', or give {path}:NAME")


def beside(names: tuple[str, ...], parts: Mapping[str, Any], chosen: str) -> Any:
    found = [parts[one] for one in names if one in parts and one != chosen]
    return found[0] if found else None


def needed(module: str, package: str, path: Path) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        fact = f"{path}: {package} is not installed, which reads this kind of file"
        raise DataError(f"{fact}; `pip install {package}`, or save .npy") from error


def parquet(path: Path, name: str) -> Table:
    parquet = needed("pyarrow.parquet", "pyarrow", path)
    with parsing(path, "a whole .parquet file"):
        # Pages as they are needed: a group of rows may be the whole file.
        file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        schema, n = file.schema_arrow, file.metadata.num_rows
    return _column(path, name, schema, n, lambda c: file.iter_batches(BLOCK, columns=c))


def arrow(path: Path, name: str) -> Table:
    arrow = needed("pyarrow", "pyarrow", path)

    def batches() -> Iterator[Any]:
        with arrow.memory_map(str(path)) as file:
            try:
                whole = arrow.ipc.open_file(file)
                yield from map(whole.get_batch, range(whole.num_record_batches))
            except arrow.ArrowInvalid:  # a stream, as `datasets` writes
                file.seek(0)
                yield from arrow.ipc.open_stream(file)

    def some(columns: list[str]) -> Iterator[Any]:
        for batch in batches():
            part = batch.select(columns)
            yield from (part.slice(s.start, BLOCK) for s in spans(batch.num_rows))

    with parsing(path, "a whole Arrow file"):
        every = [(batch.schema, batch.num_rows) for batch in batches()]
        schema = every[0][0]
    return _column(path, name, schema, sum(n for _, n in every), some)


def dataset(path: Path, name: str) -> Table:
    datasets = needed("datasets", "datasets", path)
    with parsing(path, "a folder that datasets saved"):
        found = datasets.load_from_disk(str(path)).with_format("arrow")
        schema = found.features.arrow_schema

    def batches(columns: list[str]) -> Iterator[Any]:
        part = found.select_columns(columns)
        return (part[span] for span in spans(len(found)))

    return _column(path, name, schema, len(found), batches)


def _column(
    path: Path, name: str, schema: Any, n: int,
    batches: Callable[[list[str]], Iterator[Any]],
) -> Table:  # fmt: skip
    # A column of lists, of any of Arrow's kinds, with the ids and scales beside it.
    from pyarrow import types

    def is_list(kind: Any) -> bool:
        kinds = types.is_list, types.is_large_list, types.is_fixed_size_list
        numbers = types.is_floating, types.is_integer
        return any(k(kind) for k in kinds) and any(k(kind.value_type) for k in numbers)

    tables = [one.name for one in schema if is_list(one.type)]
    key = chosen(path, name, tables, tables)
    others = {one: one for one in schema.names}
    ids, scale = (beside(names, others, key) for names in (ID_NAMES, SCALE_NAMES))
    columns = [key, scale] if scale else [key]

    def arrays() -> Iterator[np.ndarray]:
        start = 0
        for batch in batches(columns):
            rows = _rows_of(batch[key], d, path, start)
            if scale:
                rows *= np.asarray(batch[scale], np.float32)[:, None]
            start += len(rows)
            yield rows

    with parsing(path, "a file with a column of rows"):  # as long as the first there is
        firsts = (len(one) for b in batches([key]) for one in b[key].drop_null()[:1])
        d = next(firsts, 0)
        known = [x for b in batches([ids]) for x in b[ids].to_pylist()] if ids else None
    return checked_table(str(path), (n, d), np.float32, arrays, known)


def _rows_of(column: Any, d: int, path: Path, start: int) -> np.ndarray:
    # Rows (b, d), those that are missing NaN; DataError for one of another length.
    import pyarrow.compute as compute

    lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
    there = ~np.isnan(lengths.astype(np.float64))
    wrong = np.flatnonzero(there & (lengths != d))
    if len(wrong):
        fact = f"row {start + wrong[0]} holds {int(lengths[wrong[0]])} numbers, not {d}"
        raise DataError(f"{path}: {fact}; give all rows one length")
    rows = np.full((len(lengths), d), np.nan, np.float32)
    flat = compute.list_flatten(column).to_numpy(zero_copy_only=False)
    rows[there] = flat.reshape(there.sum(), d)
    return rows


def jsonl(path: Path, name: str) -> Table:
    mend = 'lines must be like {"embedding": [...]}'
    records = partial(read_records, path, {}, mend)
    n = sum(1 for _ in read_lines(path))
    if not n:
        raise DataError(f"{path}: the file is empty; {mend}")
    first = next(records())[1]
    tables = [k for k, v in first.items() if isinstance(v, list)]
    key = chosen(path, name, tables, [*first])
    d = len(first[key]) if isinstance(first[key], list) else 0

    def row(number: int, record: dict) -> list:
        found = record.get(key)
        found = [np.nan] * d if found is None else found
        if not isinstance(found, list) or len(found) != d:
            said = f"{len(found)} numbers" if isinstance(found, list) else repr(found)
            fact = f"{key!r} holds {said[:60]}, but {d} numbers are needed"
            raise DataError(f"{path}, line {number}: {fact}")
        return found

    def arrays() -> Iterator[np.ndarray]:
        every = records()
        while some := [row(*one) for one in islice(every, BLOCK)]:
            with parsing(path, "rows of numbers"):
                yield np.array(some)

    names = [one for one in ID_NAMES if one in first]
    ids = [one.get(names[0]) for _, one in records()] if names else None
    return checked_table(str(path), (n, d), np.float64, arrays, ids)
