"""Rows of vectors: checked, brought to length one, decoded from int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from .files import DataError, parsing

SHOWN = 5  # bad rows that an error names before it only counts
NEAR_EQUAL = 1e-4  # rows of length one that are no further apart count as one


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
    refuse(name, faults(rows))
    return scaled(rows) if unit_rows else rows


def scaled(rows: Tensor) -> Tensor:
    """Rows without faults at length one, those of length 1e-30 or 1e30 too."""
    # Dividing by the largest entry first keeps them exact.
    return unit(rows / rows.detach().abs().amax(dim=1)[:, None])


def faults(rows: Tensor) -> dict[str, list[int]]:
    """Which of float32 rows `(n, d)` cannot be used: {what is wrong: their indices}."""
    # NaN and infinity survive this norm, which makes no copy of the rows.
    largest = torch.linalg.vector_norm(rows.detach(), ord=float("inf"), dim=1)
    bad = {
        "NaN": largest.isnan(),
        "an infinite value (or one beyond float32)": largest.isinf(),
        "all zeros": largest == 0,
    }
    return {what: i.nonzero().flatten().tolist() for what, i in bad.items() if i.any()}


def refuse(
    name: str, found: Mapping[str, Sequence[int]], mend: str = "drop or encode again"
) -> None:
    """DataError that names all rows with `faults`, when there are any."""
    if found:
        said = [f"{name_rows(rows)}: {what}" for what, rows in found.items()]
        raise DataError(f"{name}: {', '.join(said)}; {mend}")


def as_tensor(x: Tensor | np.ndarray | Sequence, name: str = "rows") -> Tensor:
    """`x` as a dense tensor of real numbers, copied unless it is one; or DataError.

    `x` may be a list, an array of objects or a column of a table whose rows are lists,
    arrays or tensors; a row that is missing (None) becomes NaN.
    """
    if not isinstance(x, Tensor):
        with parsing(name, "a table of numbers", "give every row the same length"):
            x = _stacked(x)
    if not isinstance(x, Tensor):
        if x.dtype.kind not in "fiu":
            mend = "np.stack" if x.dtype == object else "astype(float)"
            fact = f"{name}: entries of type {x.dtype} are not numbers"
            raise DataError(f"{fact}; give floats, shape (n, d), as {mend} makes them")
        # A float32 copy is all that is kept. Wider types pass through float64, as
        # torch lacks some of numpy's integers.
        single = x.dtype.itemsize <= 4 and x.dtype.kind == "f"
        x = torch.from_numpy(np.array(x, dtype="f4" if single else "f8"))
    if x.layout != torch.strided or x.is_quantized:
        raise DataError(f"{name}: a sparse or quantised tensor; use x.to_dense()")
    if x.dtype == torch.bool or x.dtype.is_complex:
        raise DataError(f"{name}: entries of type {x.dtype} are not real numbers")
    return x


def _stacked(x: np.ndarray | Sequence) -> Tensor | np.ndarray:
    # Rows one by one where numpy cannot tell that they are a table.
    if isinstance(x, np.ndarray) and x.dtype != object:
        return x
    rows = list(x)
    if any(isinstance(row, Tensor) for row in rows):  # which numpy may refuse
        array = np.empty(len(rows), object)
        for i, row in enumerate(rows):
            array[i] = row
    else:
        array = np.asarray(x if hasattr(x, "__array__") else rows)
    if array.dtype != object or array.ndim != 1 or not len(array):
        return array
    here = [row is not None and np.ndim(row) > 0 for row in array]
    if not any(here):
        return array
    known = [row for row, one in zip(array, here, strict=True) if one]
    if isinstance(known[0], Tensor):
        found: Any = torch.stack([row.detach().cpu() for row in known])
    else:
        found = np.stack([np.asarray(row) for row in known])
    if len(known) == len(array):
        return found
    whole = torch.full((len(array), *found.shape[1:]), torch.nan)
    whole[torch.tensor(here)] = as_tensor(found).float()
    return whole


def check_shape(rows: Any, name: str, min_rows: int = 1) -> None:
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


def check_not_packed(rows: Tensor, name: str = "rows", sample: int = 1024) -> None:
    """DataError for rows of bits, eight in a number, as `np.packbits` leaves them.

    They are whole numbers that fill the range of a byte. Coordinates rounded to a byte
    do so, too, but pile up in the middle (a column's kurtosis is about 3, and 1.8 where
    all values are equally frequent), and their lowest bit is a coin's.
    """
    x = rows[:sample].detach().float()
    low, high = x.min().item(), x.max().item()
    byte = (low >= 0 and 200 < high < 256) or (-129 < low < -100 and 100 < high < 128)
    if len(x) < 20 or not byte or not torch.equal(x, x.round()):
        return
    z = x - x.mean(dim=0)
    kurtosis = (z**4).mean(dim=0) / (z**2).mean(dim=0).clamp_min(1e-9) ** 2
    bias = (x.remainder(2).mean(dim=0) - 0.5).abs()
    if kurtosis.median() < 2.1 or bias.median() > 0.15:
        array = "x" if low >= 0 else '(x + 128).astype("u1")'
        fact = f"whole numbers of {low:.0f} to {high:.0f}, as bits packed"
        mend = f"into bytes are; give np.unpackbits({array}, axis=1) * 2.0 - 1"
        raise DataError(f"{name}: {fact} {mend}")


def said_of_lengths(lengths: Tensor, near: float = 0.02) -> str | None:
    """A remark on rows whose lengths `(n,)` are not one, or None: scaling hides it."""
    low, middle, high = lengths.min(), lengths.median(), lengths.max()
    if not len(lengths) or (1 - near <= low and high <= 1 + near):
        return None
    said = f"lengths {low:.3g} to {high:.3g} (median {middle:.3g}) become 1"
    if abs(middle - 1) < 0.1:
        return f"{said}, but nearly were: cut, or saved in another order of memory?"
    return f"{said}: only directions count here"


def name_rows(index: Sequence[int], shown: int = SHOWN) -> str:
    """The first few of the rows in words.

    >>> name_rows([4]), name_rows(range(9))
    ('row 4', 'rows 0, 1, 2, 3, 4 and 4 more')
    """
    if len(index) == 1:
        return f"row {index[0]}"
    more = f" and {len(index) - shown} more" if len(index) > shown else ""
    return "rows " + ", ".join(str(i) for i in index[:shown]) + more


def check_not_degenerate(
    rows: Tensor, name: str = "rows", distinct: float = 0.5, sample: int = 1024
) -> None:
    """Raise DataError when unit rows `(n, d)` hold too little for any fit.

    That is when all are the same but for rounding, fewer than the fraction `distinct`
    of them differ (exactly, or within a `sample` by more than NEAR_EQUAL), or, centred,
    they lie on one line (by the rank of the first `sample` different ones). To be
    called where a fit begins.
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
    some = x[:: max(len(x) // sample, 1)].double()
    near = (some @ some.T > 1 - NEAR_EQUAL**2 / 2).tril(-1).any(dim=1).sum().item()
    if len(some) - near < distinct * len(some):
        found = f"{len(some) - near} of {len(some)} rows differ by more than rounding"
        raise DataError(f"{name}: only {found}; drop repeats")


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
