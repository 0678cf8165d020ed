"""Files of rows as other people's tools write them, each opened as a `Table`.

    .npy .npz .safetensors .pt .pth   arrays and tensors, one of several by its name
    .parquet .arrow .feather, folder  a column of lists (`datasets.save_to_disk` too)
    .jsonl .jsonl.gz                  a field of each line
    .fvecs .bvecs                     the benchmarks of nearest neighbours
    .faiss .index                     an index, when faiss is installed

A part is named after a colon, as in `store.parquet:embedding`. Nothing in a file is
executed: no pickle is opened. Numbers that stand beside int8 rows as `scale` or
`scales`, one in all, one a dimension or one a row, multiply them; `id`, `ids` or `_id`
beside rows go along. What libraries other than torch and numpy read is imported here,
where it is used.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from . import columns
from .columns import ID_NAMES, SCALE_NAMES, beside, chosen, needed
from .files import AnyPath, DataError, check_file, parsing
from .headers import check_header, read_tensors
from .rows import dequantise, unit
from .tables import Table, checked_table, spans

FORMAT = "v2v-space-1"
CODES_FORMAT = "v2v-int8-1"  # int8 codes, one scale a dimension; see `quantised`
IDS = "ids.safetensors"  # beside files of codes


def open_table(path: AnyPath, schema: Mapping[str, Any] | None = None) -> Table:
    """The rows in a file, unread but for its header; DataError when there are none.

    `path` may end in a colon and the name of a tensor, column or field. `schema` is for
    headers of files of ours, beyond their format.
    """
    file, name = split_name(str(path))
    reader = _reader(file)
    if reader is None:
        raise DataError(f"{file}: only {', '.join(READERS)} are read; convert it")
    if reader is not columns.dataset:
        check_file(file)
    options = {"schema": schema or {}} if reader is _safetensors else {}
    return reader(file, name, **options)


def is_rows_file(path: AnyPath) -> bool:
    """Whether the name is one of a file, or a folder of `datasets`, with rows."""
    return _reader(split_name(str(path))[0]) is not None


def split_name(path: str) -> tuple[Path, str]:
    """A path and the name of the part of it, "" for none.

    >>> split_name("a.npz:left")[1], split_name("C:/a.npy")[1]
    ('left', '')
    """
    file, colon, name = path.rpartition(":")
    return (Path(file), name) if colon and _reader(Path(file)) else (Path(path), "")


def _reader(path: Path) -> Callable[..., Table] | None:
    stem = path.stem if path.suffix.lower() == ".gz" else path.name
    if (suffix := Path(stem).suffix.lower()) in READERS:
        return READERS[suffix]
    return columns.dataset if (path / "state.json").is_file() else None


# ---- arrays and tensors


def _npy(path: Path, name: str) -> Table:
    mend = "save it again with numpy.save(path, rows)"
    # Mapped, not read: a header that claims more rows than the file has costs nothing,
    # and nothing in the file is ever unpickled. Each block maps anew, or all the pages
    # that were ever read would count as this process's memory.
    mapped = partial(np.lib.format.open_memmap, path, mode="r")
    with parsing(path, "a whole .npy file of numbers", mend):
        rows = mapped()
        if rows.offset + rows.nbytes != path.stat().st_size:
            raise ValueError(f"its header tells of {rows.shape} {rows.dtype}")
    if rows.dtype.str[1:] != "V2":
        return _array(path, rows.shape, rows.dtype, lambda span: mapped()[span])

    def bf16(span: slice) -> Tensor:  # as numpy writes the bfloat16 of ml_dtypes
        codes = mapped()[span].view(np.int16).copy()
        return torch.from_numpy(codes).view(torch.bfloat16)

    return _array(path, rows.shape, torch.bfloat16, bf16)


def _array(
    path: Path, shape: tuple[int, ...], dtype: Any, at: Callable[[slice], Any],
    ids: Any = None, scale: Any = None, **more: Any,
) -> Table:  # fmt: skip
    # A table of what can be sliced; scale multiplies int8 rows.
    if scale is not None and len(shape) == 2 and dtype in (torch.int8, np.dtype("i1")):
        at = _scaled(path, shape, at, torch.as_tensor(scale).float())
    name, n = str(path), shape[0] if shape else 0
    return checked_table(name, shape, dtype, lambda: map(at, spans(n)), ids, **more)


def _scaled(
    path: Path, shape: tuple[int, ...], at: Callable[[slice], Any], scale: Tensor
) -> Callable[[slice], Tensor]:
    if scale.numel() not in (1, *shape):
        fact = f"a scale of shape {tuple(scale.shape)} for rows {shape}"
        raise DataError(f"{path}: {fact}; one, one a dimension or a row is needed")
    flat, a_row = scale.flatten(), scale.numel() == shape[0]

    def scaled(span: slice) -> Tensor:
        return torch.as_tensor(at(span)).float() * (flat[span, None] if a_row else flat)

    return scaled


def _several(path: Path, name: str, parts: Mapping[str, Any]) -> Table:
    # One of several arrays in memory, with the ids and the scale beside it.
    arrays = {k: v for k, v in parts.items() if isinstance(v, (np.ndarray, Tensor))}
    tables = [key for key, value in arrays.items() if value.ndim == 2]
    key = chosen(path, name, tables, list(arrays))
    x = arrays[key]
    x = x.detach() if isinstance(x, Tensor) else x
    ids, scale = (beside(names, parts, key) for names in (ID_NAMES, SCALE_NAMES))
    return _array(path, tuple(x.shape), x.dtype, lambda s: x[s], ids, scale)


def _npz(path: Path, name: str) -> Table:
    mend = "save it again with numpy.savez(path, vectors=rows)"
    with parsing(path, "a whole .npz file of numbers", mend):
        with np.load(path, allow_pickle=False) as file:
            try:
                parts = {key: file[key] for key in file.files}
            except ValueError as error:  # numpy's own words advise to allow pickles
                raise ValueError("objects, cut short or altered") from error
    return _several(path, name, parts)


def _pt(path: Path, name: str) -> Table:
    mend = "save it again with torch.save({'vectors': rows}, path)"
    with parsing(path, "a .pt file of tensors alone", mend):
        read = partial(torch.load, path, map_location="cpu", weights_only=True)
        try:
            try:
                found = read(mmap=True)
            except RuntimeError:  # the format before torch 1.6 cannot be mapped
                found = read()
        except pickle.UnpicklingError as error:  # whose words advise to unpickle it
            raise ValueError("it holds more than tensors, or is cut short") from error
    parts = found if isinstance(found, dict) else {"vectors": found}
    return _several(path, name, {str(key): value for key, value in parts.items()})


def _safetensors(path: Path, name: str, schema: Mapping[str, Any]) -> Table:
    tensors, header = read_tensors(path)
    if header or "codes" in tensors:
        form = {"format": CODES_FORMAT if "codes" in tensors else FORMAT}
        check_header(header, form | {**schema}, path)
    if "codes" in tensors:
        return _codes(path, tensors, header)
    key = chosen(path, name, [k for k in tensors if tensors[k].ndim == 2], [*tensors])
    known = {"header": header, "mean": tensors.get("mean")}
    if not header:  # somebody's own; a "mean" there may be anything
        names = {"ids": ID_NAMES, "scale": SCALE_NAMES}
        known = {kind: beside(one, tensors, key) for kind, one in names.items()}
    shape, dtype = tuple(tensors[key].shape), tensors[key].dtype

    def at(span: slice) -> Tensor:  # mapped anew, as in `_npy`
        with safe_open(str(path), framework="pt") as file:
            return file.get_slice(key)[span]

    table = _array(path, shape, dtype, at, **known)
    # Ids of ours are checked by Space, and not left out when they do not fit.
    return replace(table, ids=tensors.get("ids")) if header else table


def _codes(path: Path, tensors: dict[str, Tensor], header: dict) -> Table:
    # The rows of int8 codes, and their ids from the file beside.
    codes, scale = tensors["codes"], tensors.get("scale")
    fits = scale is not None and scale.shape == codes.shape[1:]
    if scale is None or not fits or codes.dtype != torch.int8 or codes.ndim != 2:
        raise DataError(f"{path}: int8 codes (n, d) and a scale (d,) are needed")
    if "mean" not in tensors:
        raise DataError(f"{path}: no mean of the training rows; make the set again")
    beside = path.parent / IDS
    ids = read_tensors(beside)[0].get("ids") if beside.is_file() else None
    table = _array(
        path, tuple(codes.shape), codes.dtype,
        lambda span: unit(dequantise(codes[span], scale)),
        header=header, mean=tensors["mean"], exact=True,
    )  # fmt: skip
    return replace(table, ids=ids)


# ---- indexes


def _vecs(path: Path, name: str, dtype: str) -> Table:
    size = np.dtype(dtype).itemsize
    with parsing(path, f"a whole {path.suffix} file"):
        d = int(np.fromfile(path, "<i4", 1)[0])
        n, rest = divmod(path.stat().st_size, 4 + d * size)
        if d < 1 or rest:
            raise ValueError(f"rows of {d} entries do not fill it")

    def at(span: slice) -> np.ndarray:
        raw = np.memmap(path, np.uint8, "r", shape=(n, 4 + d * size))[span]
        if (np.ascontiguousarray(raw[:, :4]).view("<i4") != d).any():
            raise DataError(f"{path}: rows of several lengths; give all one length")
        return np.ascontiguousarray(raw[:, 4:]).view(dtype)

    return _array(path, (n, d), np.dtype(dtype), at)


def _faiss(path: Path, name: str) -> Table:
    faiss = needed("faiss", "faiss-cpu", path)
    with parsing(path, "an index that faiss reads"):
        owner, ids = faiss.read_index(str(path)), None
        index = owner
        if hasattr(owner, "id_map"):
            ids = faiss.vector_to_array(owner.id_map)
            index = faiss.downcast_index(owner.index)
        if hasattr(index, "make_direct_map"):
            index.make_direct_map()

    def at(span: slice) -> np.ndarray:
        assert owner is not None  # which goes, and its memory with it, when unnamed
        return index.reconstruct_n(span.start, span.stop - span.start)

    return _array(path, (index.ntotal, index.d), np.dtype("f4"), at, ids)


READERS: dict[str, Callable[..., Table]] = {
    ".npy": _npy, ".npz": _npz, ".safetensors": _safetensors,
    ".parquet": columns.parquet, ".arrow": columns.arrow, ".feather": columns.arrow,
    ".jsonl": columns.jsonl,
    ".pt": _pt, ".pth": _pt, ".fvecs": partial(_vecs, dtype="<f4"),
    ".bvecs": partial(_vecs, dtype="u1"), ".faiss": _faiss, ".index": _faiss,
}  # fmt: skip
