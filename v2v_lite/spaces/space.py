"""A space: the vectors of one encoder, and where they come from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import DataError, atomic
from .rows import check_rows, check_texts, text_ids, texts_sha256

FORMAT = "v2v-space-1"
OFF_UNIT = 1e-3  # how far a row's length may be from one before it is refused


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
    mean: Tensor | None = None
    ids: Tensor | None = None

    def __post_init__(self) -> None:
        rows = check_rows(self.vectors, self.name, unit_rows=False).detach()
        off = (torch.linalg.vector_norm(rows, dim=1) - 1).abs()
        if off.max() > OFF_UNIT:
            raise DataError(
                f"{self.name}: row {int(off.argmax())} is not of length one; "
                "Space.of(x) scales rows of any length"
            )
        mean = mean_of(rows) if self.mean is None else self.mean.detach().float()
        ids = None if self.ids is None else self.ids.to(torch.int64)
        if mean.shape != (rows.shape[1],) or not mean.isfinite().all():
            raise DataError(
                f"{self.name}: mean of shape {tuple(mean.shape)}, "
                f"but ({rows.shape[1]},) finite numbers are needed"
            )
        if ids is not None and ids.shape != (rows.shape[0],):
            raise DataError(
                f"{self.name}: ids of shape {tuple(ids.shape)} for {rows.shape[0]} rows"
            )
        for key, value in (("vectors", rows), ("mean", mean), ("ids", ids)):
            object.__setattr__(self, key, value)  # the one way to set a frozen field

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
    def name(self) -> str:
        """The encoder's name."""
        return self.provenance.encoder

    def __repr__(self) -> str:
        return f"Space({self.name!r}, n={self.n}, d={self.d})"

    @classmethod
    def of(
        cls,
        x: Tensor | np.ndarray | Sequence,
        encoder: str = "unknown",
        texts: Sequence[str] | None = None,
        mean: Tensor | None = None,
        ids: Tensor | None = None,
        **provenance: str,
    ) -> Space:
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
        return cls(rows, Provenance(encoder=encoder, **provenance), mean, ids)

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
        return replace(self, vectors=rows, ids=ids)

    def to(self, device: torch.device | str) -> Space:
        """The same space on another device (ids stay where they are)."""
        return replace(self, vectors=self.vectors.to(device), mean=self.mean.to(device))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one .safetensors file atomically; provenance goes into its metadata."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise DataError(f"{path}: spaces are saved as .safetensors; rename it")
        tensors = {"vectors": self.vectors, "mean": self.mean}
        if self.ids is not None:
            tensors["ids"] = self.ids
        about = {"format": FORMAT, **asdict(self.provenance)}
        with atomic(path) as temporary:
            write_tensors(temporary, tensors, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Space:
        """Read a space, int8 codes, or somebody's own rows (.safetensors or .npy).

        A .safetensors file without our metadata must hold one 2-D tensor, or one named
        "vectors"; its encoder is "unknown". Raises DataError naming the file when it is
        missing, cut short, or holds something else.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path}: there is no such file")
        if path.suffix not in (".npy", ".safetensors"):
            raise DataError(f"{path}: only .safetensors and .npy are read; convert it")
        if path.suffix == ".npy":
            tensors, about = {"vectors": _read_npy(path)}, {}
        else:
            tensors, about = read_tensors(path)
        if "codes" in tensors:
            from .quantised import decode  # quantised imports this module

            return decode(path, tensors, about)
        ours = about.get("format") == FORMAT
        extra = {k: tensors.get(k) for k in ("mean", "ids")} if ours else {}
        rows = check_rows(_the_table(path, tensors), str(path))
        return cls(rows, provenance_of(about), **extra)

    @staticmethod
    def concat(spaces: Iterable[Space]) -> Space:
        """All rows under one another; the mean is that of the means, weighted by rows.

        Raises DataError when the spaces come from different encoders.
        """
        spaces = list(spaces)
        if not spaces:
            raise DataError("concat: no space was given")
        names = sorted({f"{s.name} ({s.d}-d)" for s in spaces})
        if len(names) > 1:
            raise DataError(
                f"concat: {', '.join(names)} are different spaces; their coordinates "
                "have nothing in common, so translate one into the other first"
            )
        means = torch.stack([s.mean for s in spaces])
        weights = means.new_tensor([s.n for s in spaces])
        mean = (weights / weights.sum()) @ means
        known = all(s.ids is not None for s in spaces)
        ids = torch.cat([s.ids for s in spaces]) if known else None
        about = spaces[0].provenance
        if any(s.provenance.texts_sha256 != about.texts_sha256 for s in spaces):
            about = replace(about, texts_sha256="")
        return Space(torch.cat([s.vectors for s in spaces]), about, mean, ids)


def mean_of(rows: Tensor) -> Tensor:
    """`(d,)` mean of rows, summed in float64 so that it does not depend on n."""
    return rows.mean(dim=0, dtype=torch.float64).float()


def provenance_of(about: dict) -> Provenance:
    """The provenance within a file's metadata; unknown keys are passed over."""
    known = {f.name for f in fields(Provenance)}
    return Provenance(**{k: str(v) for k, v in about.items() if k in known})


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict) -> None:
    """Write tensors and, as one JSON entry, metadata: same content, same bytes."""
    ready = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    # One metadata key only: safetensors does not fix the order of several.
    text = json.dumps(about, sort_keys=True, ensure_ascii=False)
    path.touch()
    mode = path.stat().st_mode
    save_file(ready, str(path), metadata={"v2v": text})
    path.chmod(mode)  # safetensors makes files that their owner alone may read


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """All tensors of a .safetensors file and our metadata ({} when it is not ours)."""
    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("v2v", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, about
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a whole .safetensors file ({error}); it is cut short or "
            "altered, so copy or make it again"
        ) from error


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path}: not a whole .npy file of numbers ({error}); save it again with "
            "numpy.save(path, rows)"
        ) from error


def _the_table(path: Path, tensors: dict[str, Tensor]) -> Tensor:
    if "vectors" in tensors:
        return tensors["vectors"]
    tables = [key for key, value in tensors.items() if value.ndim == 2]
    if len(tables) != 1:
        raise DataError(
            f"{path}: {len(tables)} tables among {sorted(tensors)}; "
            "name the rows 'vectors'"
        )
    return tensors[tables[0]]
