"""A space: the vectors of one encoder, and where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .files import AnyPath, DataError, atomic, parsing
from .formats import FORMAT, open_table
from .headers import is_plain_text, write_rows
from .rows import as_tensor, check_not_packed, check_rows, check_shape, scaled
from .tables import Table, spans
from .texts import check_texts, text_ids, texts_sha256

SAVED = (".safetensors", ".npy")
LARGE = 65_536  # rows, beyond which sums are made by blocks
UNIT_TOLERANCE = 1e-3  # how far a row's length may be from one before it is refused


@dataclass(frozen=True)
class Provenance:
    """Where vectors come from: encoder, its weights, the texts and their licence."""

    encoder: str = "unknown"
    weights: str = ""
    texts: str = ""
    texts_sha256: str = ""
    licence: str = ""
    note: str = ""


@dataclass(frozen=True, eq=False)
class Space:
    """`(n, d)` float32 unit rows of one encoder, their provenance and training mean.

    `mean` is `(d,)`, the mean of the rows that models may be trained on (default: of
    `vectors`); `ids` is `(n,)` int64, one fingerprint for each text, or None;
    `numbers` `(n,)` says which rows of its file these are, if they are of one. For
    vectors of any length use `Space.of`. Raises DataError for rows that are not unit,
    not finite, or of a shape that does not fit.

    >>> space = Space.of([[3.0, 4.0], [0.0, 2.0]], encoder="toy")
    >>> len(space), space.d, space.name
    (2, 2, 'toy')
    """

    vectors: Tensor
    provenance: Provenance = field(default_factory=Provenance)
    mean: Tensor = None  # type: ignore[assignment]  # never None once made
    ids: Tensor | None = None
    numbers: Tensor | None = None

    def __post_init__(self) -> None:
        rows = check_rows(self.vectors, self.name, unit_rows=False).detach()
        off = (torch.linalg.vector_norm(rows, dim=1) - 1).abs()
        if off.max() > UNIT_TOLERANCE:
            found = f"row {int(off.argmax())} is not of length one"
            raise DataError(f"{self.name}: {found}; Space.of(x) scales rows")
        ids = self.ids
        if ids is not None:
            if ids.shape != rows.shape[:1] or ids.is_floating_point():
                found = f"ids of shape {tuple(ids.shape)} for {len(rows)} rows"
                raise DataError(f"{self.name}: {found}; give each a whole number")
            ids = ids.to(torch.int64)
        self._set(vectors=rows, ids=ids)
        self._set(mean=self._checked_mean(self.mean))

    def _set(self, **values: Any) -> None:
        for key, value in values.items():  # the one way to set a frozen field
            object.__setattr__(self, key, value)

    def _derived(self, **changes: Any) -> Space:
        # What is made of a checked space by sound steps is not checked again.
        other = object.__new__(type(self))
        other._set(**{f.name: getattr(self, f.name) for f in fields(self)} | changes)
        return other

    def _checked_mean(self, mean: Tensor | None) -> Tensor:
        if mean is None:
            return mean_of(self.vectors)
        mean = mean.detach()
        real = mean.shape == (self.d,) and not mean.is_complex()
        # A mean of unit rows is no longer than they are; NaN fails here too.
        if not real or not mean.float().norm() <= 1 + UNIT_TOLERANCE:
            found = f"mean of shape {tuple(mean.shape)}"
            needed = f"({self.d},) finite numbers, a vector no longer than one"
            raise DataError(f"{self.name}: {found}, but needed are {needed}")
        return mean.float()

    def __len__(self) -> int:
        return self.n

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.vectors.shape[0]

    @property
    def d(self) -> int:
        """Number of dimensions."""
        return self.vectors.shape[1]

    @property
    def known_ids(self) -> Tensor:
        """The ids; DataError when the space has none."""
        if self.ids is None:
            mend = "make the space with Space.of(x, texts=texts)"
            raise DataError(f"{self.name}: without ids of its texts; {mend}")
        return self.ids

    @property
    def name(self) -> str:
        """The encoder's name."""
        return self.provenance.encoder

    def __repr__(self) -> str:
        return f"Space({self.name!r}, n={self.n}, d={self.d})"

    @classmethod
    def of(
        cls, x: Tensor | np.ndarray | Sequence, encoder: str = "unknown",
        texts: Sequence[str] | None = None, mean: Tensor | None = None,
        ids: Tensor | None = None, **provenance: str,
    ) -> Space:  # fmt: skip
        """A space from `(n, d)` rows of any length, scaled to length one and checked.

        `texts`, row by row, become ids and a SHA-256 and are not kept. `provenance`
        takes the fields of `Provenance`: weights, licence, note, texts_sha256, and
        `about` for its field `texts` (what the texts are). `x` may be a list of rows or
        a column of a table, too (see `rows.as_tensor`); bits packed into bytes are
        refused.
        """
        given = as_tensor(x, encoder)
        check_shape(given, encoder)
        check_not_packed(given, encoder)
        rows = check_rows(given, encoder)
        if "about" in provenance:
            provenance["texts"] = provenance.pop("about")
        if texts is not None:
            texts = check_texts(texts)
            ids = text_ids(texts)
            provenance["texts_sha256"] = texts_sha256(texts)
        about = Provenance(encoder=encoder, **provenance)
        return cls(rows, about, ids=ids).with_mean(mean)

    def take(self, index: Tensor | np.ndarray | Sequence[int] | slice) -> Space:
        """The rows `index` (integers, a mask or a slice); mean and provenance stay."""
        if not isinstance(index, (slice, Tensor)):
            index = np.asarray(index)
            # numpy calls an empty list floats; torch then refuses it as an index
            index = torch.as_tensor(index if index.size else index.astype(np.int64))
        if isinstance(index, Tensor):
            index = index.to(self.vectors.device)
        try:
            rows, device = self.vectors[index], self.vectors.device
            known = self.ids, self.numbers
            ids, numbers = (x if x is None else x.to(device)[index] for x in known)
        except IndexError as error:
            raise DataError(f"{self.name}: {error} ({self.n} rows)") from error
        check_shape(rows, self.name)  # no row, or an index that is no list of rows
        return self._derived(vectors=rows, ids=ids, numbers=numbers)

    def with_mean(self, mean: Tensor | None = None) -> Space:
        """The same rows with another training mean `(d,)`, by default their own."""
        return self._derived(mean=self._checked_mean(mean))

    def to(self, device: torch.device | str) -> Space:
        """The same space on another device (ids stay where they are)."""
        vectors, mean = self.vectors.to(device), self.mean.to(device)
        return self._derived(vectors=vectors, mean=mean)

    def save(self, path: AnyPath) -> None:
        """Write one file atomically: all as .safetensors, or as .npy the rows alone."""
        blocks, shape = [self.vectors], (self.n, self.d)
        save_blocks(path, blocks, shape, self.provenance, self.ids, self.mean)

    @classmethod
    def load(cls, path: AnyPath, drop_bad: bool = False) -> Space:
        """Read a space, int8 codes, or somebody's own rows (the kinds of `formats`).

        A file of several tables must hold one named "vectors", or `path` says which, as
        in "a.npz:left"; without our metadata its encoder is "unknown". Raises DataError
        naming the file when it is missing, cut short, or holds something else, and all
        bad rows, which `drop_bad` leaves out.
        """
        return cls.of_table(open_table(path, PROVENANCE), None, drop_bad)

    @classmethod
    def of_table(
        cls, table: Table, index: Tensor | None = None, drop_bad: bool = False
    ) -> Space:
        """The rows `index`, rising, of a table, or all; memory holds these alone."""
        with parsing(table.path):  # it is named, also when memory does not suffice
            if not table.exact:
                index = table.usable(index, drop_bad)
            elif index is None:
                index = torch.arange(table.shape[0])
            rows, ids = table.fill(index), table.ids
            if ids is not None and len(ids) == table.shape[0]:
                ids = ids[index]
            space = cls(rows, about(table), ids=ids, numbers=index)
            return space.with_mean(table.mean)


def save_blocks(
    path: AnyPath, blocks: Iterable[Tensor], shape: tuple[int, int],
    provenance: Provenance, ids: Tensor | None = None, mean: Tensor | None = None,
) -> None:  # fmt: skip
    """Write unit rows `(n, d)` as `Space.save` does, holding one block at a time.

    `shape` is that of all blocks together; `mean` `(d,)` is by default the rows' own.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SAVED:
        raise DataError(f"{path}: rows are saved as .safetensors or .npy files")
    with atomic(path) as temporary:
        if suffix == ".safetensors":
            header = {"format": FORMAT, **asdict(provenance)}
            return write_rows(temporary, blocks, shape, ids, header, mean)
        with open(temporary, "wb") as file:
            form = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, form)
            for rows in blocks:  # not by numpy, whose own write passes over a full disk
                file.write(rows.cpu().contiguous().numpy().data)


def read_blocks(table: Table, index: Tensor | None = None) -> Iterator[Space]:
    """The usable rows `index` of a table, rising, as one small space after another."""
    for numbers, rows in table.blocks(index):
        rows = rows if table.exact else scaled(rows)
        yield Space(rows, about(table), numbers=numbers)


def about(table: Table) -> Provenance:
    """The provenance that a file of ours tells."""
    known = (f.name for f in fields(Provenance))
    return Provenance(**{k: table.header[k] for k in known if k in table.header})


def mean_of(rows: Tensor) -> Tensor:
    """`(d,)` mean of rows, summed in float64 so that it does not depend on n."""
    if len(rows) <= LARGE:
        return rows.mean(dim=0, dtype=torch.float64).float()
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for span in spans(len(rows)):  # or all rows would be copied as float64
        total += rows[span].sum(dim=0, dtype=torch.float64)
    return (total / len(rows)).float()


# The encoder's name ends up in names of files and on terminals; the rest is prose.
PROVENANCE: dict[str, Any] = {f"{f.name}?": str for f in fields(Provenance)}
PROVENANCE["encoder?"] = is_plain_text
