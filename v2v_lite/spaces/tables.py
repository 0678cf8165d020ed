"""Rows in a file, read a block at a time, so that memory holds what is asked for alone.

`formats` makes a `Table` of a file of any known kind. What can be wrong with its rows
is found in one pass (`Table.usable`), which names all bad rows at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from .files import DataError, parsing
from .rows import (
    as_tensor,
    check_not_packed,
    check_shape,
    faults,
    name_rows,
    refuse,
    said_of_lengths,
    scaled,
)
from .texts import text_ids

BLOCK = 4096
FEW = 0.1  # bad rows beyond this share are not dropped: something else is wrong


class RowsWarning(UserWarning):
    """Rows that can be used, but may not be what their owner thinks."""


@dataclass(frozen=True, eq=False)
class Table:
    """`(n, d)` rows of any length in a file, and what the file says of them.

    `chunks()` gives them anew, in their order, as arrays or tensors of any real type.
    `ids` are `(n,)` int64 or None, `labels` what they were in the file if that was
    text. `header` is that of a file of ours, whose `mean` `(d,)` is then known; rows of
    an `exact` table have length one and are not scaled again.
    """

    path: str
    shape: tuple[int, int]
    chunks: Callable[[], Iterator[Any]]
    ids: Tensor | None = None
    labels: list[str] | None = None
    header: dict[str, Any] = field(default_factory=dict)
    mean: Tensor | None = None
    exact: bool = False

    @property
    def name(self) -> str:
        """The encoder's name, "unknown" where the file does not tell."""
        return self.header.get("encoder", "unknown")

    def blocks(self, index: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Row numbers `(b,)` and their rows `(b, d)`, float32, as the file has them.

        `index` `(m,)` are the numbers wanted, rising (default: all).
        """
        start, chunks = 0, iter(self.chunks())
        while True:
            with parsing(self.path, mend="make it again"):
                chunk = next(chunks, None)
                if chunk is None:
                    return
                end = start + len(chunk)
                numbers = torch.arange(start, end)
                if index is not None:
                    first, last = torch.searchsorted(index, torch.tensor([start, end]))
                    numbers = index[first:last]
                    at = numbers - start
                    chunk = chunk[at if isinstance(chunk, Tensor) else at.numpy()]
                rows = as_tensor(chunk, self.path).float()
            if len(rows):
                yield numbers, rows
            start = end

    def usable(self, index: Tensor | None = None, drop_bad: bool = False) -> Tensor:
        """The numbers, rising, of those rows of `index` that can be used.

        Rows that cannot (NaN, infinite, all zero) are named all at once by a DataError,
        or, with `drop_bad`, by a RowsWarning and left out. Lengths that are not one are
        remarked on, packed bits refused.
        """
        wanted = torch.arange(self.shape[0]) if index is None else index
        bad: dict[str, list[int]] = {}
        # Made once: what is kept of each block would lie between blocks in memory, and
        # keep it from being used again.
        good = torch.ones(len(wanted), dtype=torch.bool)
        lengths = torch.empty(len(wanted))
        at = 0
        for numbers, rows in self.blocks(index):
            if not at and not self.exact:
                check_not_packed(rows, self.path)
            here = slice(at, at + len(rows))
            torch.linalg.vector_norm(rows, dim=1, out=lengths[here])
            for what, some in faults(rows).items():
                good[here][some] = False
                bad.setdefault(what, []).extend(numbers[some].tolist())
            at = here.stop
        found, lengths = wanted[good], lengths[good]
        if bad:
            total = sum(map(len, bad.values()))
            many = total > FEW * (total + len(found))
            if many or not drop_bad:
                mend = "drop or encode again"
                refuse(self.path, bad, mend if many else f"{mend}, or use --drop-bad")
            every = sorted(i for rows in bad.values() for i in rows)
            self._warn(f"left out {len(every)}: {self.named(every)}")
        if not self.exact and len(found):
            said = said_of_lengths(lengths)
            if said and not self.header:
                self._warn(said)
        return found

    def named(self, index: Sequence[int]) -> str:
        """The rows in words, with their ids where there are any."""
        if self.labels:
            ids: list = [self.labels[i] for i in index]
        else:
            ids = [] if self.ids is None else self.ids[list(index)].tolist()
        rows = name_rows(index, shown=20)
        return f"{rows} (ids {', '.join(map(str, ids[:20]))})" if ids else rows

    def fill(self, index: Tensor) -> Tensor:
        """The rows `index`, rising and usable, at length one: `(m, d)` float32.

        Raises DataError when they are more than the memory holds.
        """
        n, d = len(index), self.shape[1]
        try:
            out = torch.empty(n, d)
        except (RuntimeError, MemoryError) as error:
            need = f"{n:,} rows of {d} take {4e-9 * n * d:.1f} GB, more than there is"
            raise DataError(f"{self.path}: {need}; draw fewer by --n-train") from error
        at = 0
        for _, rows in self.blocks(index):
            out[at : at + len(rows)] = rows if self.exact else scaled(rows)
            at += len(rows)
        return out

    def _warn(self, text: str) -> None:
        warnings.warn(f"{self.path}: {text}", RowsWarning, stacklevel=3)


def checked_table(
    path: str, shape: Sequence[int], dtype: Any, chunks: Callable[[], Iterator[Any]],
    ids: Any = None, **more: Any,
) -> Table:  # fmt: skip
    """A Table, once its type and shape are those of rows; DataError if not.

    `ids` may be whole numbers or texts, one a row; anything else is left out.
    """
    empty = torch.empty(0, dtype=dtype) if isinstance(dtype, torch.dtype) else None
    as_tensor(np.empty(0, dtype) if empty is None else empty, path)
    check_shape(SimpleNamespace(ndim=len(shape), shape=tuple(shape)), path)
    size = int(shape[0]), int(shape[1])
    return Table(path, size, chunks, **_known_ids(ids, size[0]), **more)


def _known_ids(ids: Any, n: int) -> dict[str, Any]:
    if ids is None or len(ids) != n:
        return {}
    if not isinstance(ids, Tensor):
        if all(isinstance(one, str) for one in ids):
            return {"ids": text_ids(ids), "labels": list(ids)}
        array = np.asarray(ids)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            return {}
        ids = torch.from_numpy(array.astype(np.int64))
    whole = ids.ndim == 1 and not ids.is_floating_point() and not ids.is_complex()
    return {"ids": ids.to(torch.int64)} if whole else {}


def draw(n: int, size: int | None, generator: Generator) -> Tensor | None:
    """`size` of the numbers below n at random, rising; None when that would be all."""
    if size is None or size >= n:
        return None
    return torch.randperm(n, generator=generator)[:size].sort().values


def spans(n: int, block: int = BLOCK) -> Iterator[slice]:
    """Slices of at most `block` that cover `range(n)`."""
    return (slice(i, min(i + block, n)) for i in range(0, n, block))
