"""A space: the vectors of one encoder, and where they come from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .files import AnyPath, DataError, atomic, check_file, parsing
from .headers import check_header, is_plain_text, read_tensors, write_tensors
from .rows import as_tensor, check_rows, check_shape, dequantise, unit
from .texts import check_texts, text_ids, texts_sha256

__all__ = ["Provenance", "Space", "mean_of"]

FORMAT = "v2v-space-1"
CODES_FORMAT = "v2v-int8-1"  # int8 codes, one scale a dimension; see `quantised`
SUFFIXES = (".safetensors", ".npy")
IDS = "ids.safetensors"  # beside files of codes
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
    `vectors`); `ids` is `(n,)` int64, one fingerprint for each text, or None. For
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
        `about` for its field `texts` (what the texts are).
        """
        rows = check_rows(x, encoder)
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
            rows = self.vectors[index]
            ids = None if self.ids is None else self.ids.to(self.vectors.device)[index]
        except IndexError as error:
            raise DataError(f"{self.name}: {error} ({self.n} rows)") from error
        check_shape(rows, self.name)  # no row, or an index that is no list of rows
        return self._derived(vectors=rows, ids=ids)

    def with_mean(self, mean: Tensor | None = None) -> Space:
        """The same rows with another training mean `(d,)`, by default their own."""
        return self._derived(mean=self._checked_mean(mean))

    def to(self, device: torch.device | str) -> Space:
        """The same space on another device (ids stay where they are)."""
        vectors, mean = self.vectors.to(device), self.mean.to(device)
        return self._derived(vectors=vectors, mean=mean)

    def save(self, path: AnyPath) -> None:
        """Write one file atomically: all as .safetensors, or as .npy the rows alone."""
        path, suffix = Path(path), Path(path).suffix.lower()
        if suffix not in SUFFIXES:
            raise DataError(f"{path}: rows are saved as .safetensors or .npy files")
        tensors = {"vectors": self.vectors, "mean": self.mean}
        if self.ids is not None:
            tensors["ids"] = self.ids
        with atomic(path) as temporary:
            if suffix == ".safetensors":
                header = {"format": FORMAT, **asdict(self.provenance)}
                write_tensors(temporary, tensors, header)
            else:  # by way of memory: numpy's own write passes over a full disk
                content = io.BytesIO()
                np.save(content, self.vectors.cpu().numpy())
                temporary.write_bytes(content.getbuffer())

    @classmethod
    def load(cls, path: AnyPath) -> Space:
        """Read a space, int8 codes, or somebody's own rows (.safetensors or .npy).

        A .safetensors file without our metadata must hold one 2-D tensor, or one named
        "vectors"; its encoder is "unknown". Raises DataError naming the file when it is
        missing, cut short, or holds something else.
        """
        path = check_file(path)
        tensors, header = _read(path)
        coded = "codes" in tensors
        if header or coded:
            form = {"format": CODES_FORMAT if coded else FORMAT}
            check_header(header, form | _PROVENANCE, path)
        else:  # somebody's own; a "mean" or "ids" there may be anything
            tensors = {"vectors": _the_table(path, tensors)}
        known = (f.name for f in fields(Provenance))
        about = Provenance(**{key: header[key] for key in known if key in header})
        with parsing(path):  # the file is named, also when memory does not suffice
            if coded:
                rows, ids = _decoded(path, tensors)
            else:
                rows, ids = check_rows(_the_table(path, tensors)), tensors.get("ids")
            return cls(rows, about, ids=ids).with_mean(tensors.get("mean"))


def mean_of(rows: Tensor) -> Tensor:
    """`(d,)` mean of rows, summed in float64 so that it does not depend on n."""
    return rows.mean(dim=0, dtype=torch.float64).float()


# The encoder's name ends up in names of files and on terminals; the rest is prose.
_PROVENANCE: dict[str, Any] = {f"{f.name}?": str for f in fields(Provenance)}
_PROVENANCE["encoder?"] = is_plain_text


def _read(path: Path) -> tuple[dict[str, Tensor], dict]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: only {' and '.join(SUFFIXES)} are read; convert it")
    if suffix == ".safetensors":
        return read_tensors(path)
    mend = "save it again with numpy.save(path, rows)"
    # Mapped, not read: a header that claims more rows than the file has costs nothing,
    # and nothing in the file is ever unpickled.
    with parsing(path, "a whole .npy file of numbers", mend):
        rows = np.lib.format.open_memmap(path, mode="r")
        if rows.offset + rows.nbytes != path.stat().st_size:
            raise ValueError(f"its header tells of {rows.shape} {rows.dtype}")
        return {"vectors": as_tensor(rows)}, {}


def _decoded(path: Path, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    # The rows of int8 codes, and their ids from the file beside.
    codes, scale = tensors["codes"], tensors.get("scale")
    fits = scale is not None and scale.shape == codes.shape[1:]
    if scale is None or not fits or codes.dtype != torch.int8 or codes.ndim != 2:
        raise DataError(f"{path}: int8 codes (n, d) and a scale (d,) are needed")
    if "mean" not in tensors:
        raise DataError(f"{path}: no mean of the training rows; make the set again")
    beside = path.parent / IDS
    ids = read_tensors(beside)[0].get("ids") if beside.is_file() else None
    return unit(dequantise(codes, scale)), ids


def _the_table(path: Path, tensors: dict[str, Tensor]) -> Tensor:
    if "vectors" in tensors:
        return tensors["vectors"]
    tables = [key for key, value in tensors.items() if value.ndim == 2]
    if len(tables) != 1:
        found = f"{len(tables)} tables among {sorted(tensors)}"
        raise DataError(f"{path}: {found}; name the rows 'vectors'")
    return tensors[tables[0]]
