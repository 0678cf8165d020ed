"""Rows of vectors: checked, brought to length one, decoded from int8."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from .files import DataError, parsing

__all__ = [
    "as_tensor", "check_not_degenerate", "check_rows", "check_shape", "dequantise",
    "name_rows", "repeats", "unit",
]  # fmt: skip

SHOWN = 5  # bad rows that an error names before it only counts


def unit(x: Tensor) -> Tensor:
    r"""Rows of `x` scaled to length one, float32: $x_i / \lVert x_i \rVert$.

    `x` is `(n, d)` (or `(..., d)`); a zero row stays zero. Differentiable.

    >>> unit(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    return normalize(x.float(), dim=-1, eps=1e-30)


def dequantise(codes: Tensor, scale: Tensor) -> Tensor:
    r"""Rows `(n, d)` float32 from codes and scales: $\hat x_{ij} = c_{ij} s_j$.

    They are not scaled to length one; `unit` does that.
    """
    return codes.float() * scale


def check_rows(
    x: Tensor | np.ndarray | Sequence,
    name: str = "rows",
    min_rows: int = 1,
    unit_rows: bool = True,
) -> Tensor:
    """`x` as a float32 tensor `(n, d)` on its own device, of unit rows by default.

    `name` is what errors call the rows. With `unit_rows=False` lengths stay as they
    are. Raises DataError when `x` is not numeric or not `(n, d)` with d >= 2, has fewer
    than `min_rows` rows, or when rows hold NaN or infinities or are all zero: it names
    them.

    >>> check_rows([[3, 4]])
    tensor([[0.6000, 0.8000]])
    >>> check_rows([[1.0, 0.0], [0.0, 0.0]])
    Traceback (most recent call last):
        ...
    v2v_lite.spaces.files.DataError: rows: row 1: all zeros; drop or encode again
    """
    rows = as_tensor(x, name)
    check_shape(rows, name, min_rows)
    rows = rows.float()
    largest = rows.detach().abs().amax(dim=1)  # NaN and infinity survive amax
    _refuse(name, torch.isnan(largest), "NaN")
    _refuse(name, torch.isinf(largest), "an infinite value (or one beyond float32)")
    _refuse(name, largest == 0, "all zeros")
    if not unit_rows:
        return rows
    # Dividing by the largest entry first keeps rows of length 1e-30 or 1e30 exact.
    return unit(rows / largest[:, None])


def as_tensor(x: Tensor | np.ndarray | Sequence, name: str = "rows") -> Tensor:
    """`x` as a dense tensor of real numbers, copied unless it is one; or DataError."""
    if not isinstance(x, Tensor):
        with parsing(name, "a table of numbers", "give every row the same length"):
            array = np.asarray(x)
        if array.dtype.kind not in "fiu":
            mend = "np.stack" if array.dtype == object else "astype(float)"
            raise DataError(
                f"{name}: entries of type {array.dtype} are not numbers; "
                f"give floats, shape (n, d), as {mend} makes them"
            )
        # A float32 copy is all that is kept. Wider types pass through float64, as
        # torch lacks some of numpy's integers.
        single = array.dtype.itemsize <= 4 and array.dtype.kind == "f"
        x = torch.from_numpy(np.array(array, dtype="f4" if single else "f8"))
    if x.layout != torch.strided or x.is_quantized:
        raise DataError(f"{name}: a sparse or quantised tensor; use x.to_dense()")
    if x.dtype == torch.bool or x.dtype.is_complex:
        raise DataError(f"{name}: entries of type {x.dtype} are not real numbers")
    return x


def check_shape(rows: Tensor, name: str, min_rows: int = 1) -> None:
    """Raise DataError unless `rows` is `(n, d)` with d >= 2 and n >= `min_rows`."""
    if rows.ndim != 2:
        mend = "; one row alone is x[None, :]" if rows.ndim == 1 else ""
        shape = tuple(rows.shape)
        raise DataError(f"{name}: shape {shape}, but (n, d) is needed{mend}")
    n, d = rows.shape
    if d < 2:
        raise DataError(f"{name}: d = {d}, but a space needs at least 2 dimensions")
    if n < min_rows:
        raise DataError(f"{name}: {n} rows, but at least {min_rows} are needed")


def _refuse(name: str, bad: Tensor, what: str) -> None:
    if bad.any():
        rows = name_rows(bad.nonzero().flatten().tolist())
        raise DataError(f"{name}: {rows}: {what}; drop or encode again")


def name_rows(index: Sequence[int]) -> str:
    """The first few of the rows in words.

    >>> name_rows([4]), name_rows(range(9))
    ('row 4', 'rows 0, 1, 2, 3, 4 and 4 more')
    """
    if len(index) == 1:
        return f"row {index[0]}"
    more = f" and {len(index) - SHOWN} more" if len(index) > SHOWN else ""
    return "rows " + ", ".join(str(i) for i in index[:SHOWN]) + more


def check_not_degenerate(
    rows: Tensor, name: str = "rows", distinct: float = 0.5, sample: int = 1024
) -> None:
    """Raise DataError when unit rows `(n, d)` hold too little for any fit.

    That is when all are the same but for rounding, fewer than the fraction `distinct`
    of them differ, or, centred, they lie on one line (by the rank of the first `sample`
    different ones). To be called where a fit begins.
    """
    x = rows.detach().cpu().float()
    again = repeats(x)
    n = len(x) - len(again)
    if (x - x[:1]).abs().max() < 1e-6:
        raise DataError(f"{name}: all {len(x)} rows are the same; encode other texts")
    if n < distinct * len(x):
        raise DataError(f"{name}: only {n} of {len(x)} rows differ; drop repeats")
    keep = torch.ones(len(x), dtype=torch.bool)
    keep[again] = False
    some = x[keep][:sample]
    if torch.linalg.matrix_rank(some - some.mean(0)) < 2:
        raise DataError(f"{name}: the rows lie on one line; encode more varied texts")


def repeats(values: Tensor | np.ndarray) -> list[int]:
    """Indices of values `(n,)`, or rows `(n, d)`, that are equal to an earlier one.

    >>> repeats(torch.tensor([3, 1, 3, 3]))
    [2, 3]
    """
    array = np.ascontiguousarray(values)
    if array.ndim == 2:  # a row's bytes as one value: np.unique by rows is slow
        array = array.view(np.dtype((np.void, array.strides[0]))).ravel()
    _, first = np.unique(array, return_index=True)
    again = np.ones(len(array), dtype=bool)
    again[first] = False
    return np.flatnonzero(again).tolist()
