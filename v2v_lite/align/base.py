"""The one interface of every method: fit on two sets of rows, translate any row.

A translator learns its centring with its map: means are those of the training rows, so
translating one row alone gives what it gives within a batch. A linear one is

    translate(x) = unit( mean_t + scale * unit((x - mean_s) W) )

where the inner unit vector is the *core*, a direction around the target's mean, and the
scale is how far the target's rows lie from that mean on average.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..spaces.files import DataError, atomic, read_json, write_json
from ..spaces.rows import check_rows, unit
from ..spaces.space import Space, read_tensors, write_tensors
from .registry import METHODS

FORMAT = "v2v-translator-1"
HEADER, WEIGHTS = "model.json", "weights.safetensors"
Rows = Space | Tensor | np.ndarray | Sequence


@dataclass(frozen=True)
class Stage:
    """One step of a fit: its name, what it reached, how long it took."""

    name: str
    objective: float
    seconds: float
    detail: dict = field(default_factory=dict)


class Translator(ABC):
    """From the rows of one encoder to the space of another.

    A method implements `_fit` (learn from two checked spaces, return the stages),
    `_translate` (checked rows to rows), `_state` and `_restore` (its tensors). After
    `fit`, `history` holds the stages and `source_name` and `target_name` the encoders.
    """

    name: ClassVar[str]
    paired: ClassVar[bool] = False
    min_rows: ClassVar[int] = 1

    def __init__(self) -> None:
        self.history: tuple[Stage, ...] = ()
        self.source_name = self.target_name = "unknown"
        self.widths: tuple[int, int] | None = None
        self.seed = 0

    def fit(
        self, source: Rows, target: Rows, *, seed: int = 0, progress: bool = False
    ) -> Translator:
        """Learn from `(n, d_s)` and `(m, d_t)` rows; returns itself.

        The rows are of disjoint texts, or, where the class says `paired`, row i of both
        is one text. A Space brings its training mean, other rows are centred by their
        own. Raises DataError for bad rows, too few, or pairs of unequal number.
        """
        source, target = as_space(source, "source"), as_space(target, "target")
        for side, space in (("source", source), ("target", target)):
            if space.n < self.min_rows:
                raise DataError(
                    f"{side} has {space.n} rows, but {self.name} needs "
                    f"{self.min_rows}; give more rows or choose another method"
                )
        if self.paired and source.n != target.n:
            raise DataError(
                f"{self.name} learns from pairs, but source has {source.n} rows and "
                f"target {target.n}; row i of both must be one text"
            )
        target = target.to(source.vectors.device)
        self.history = tuple(self._fit(source, target, seed, progress))
        self.source_name, self.target_name = source.name, target.name
        self.widths, self.seed = (source.d, target.d), seed
        return self

    def translate(self, x: Rows) -> Tensor:
        """`(n, d_s)` rows of the source to `(n, d_t)` unit rows of the target.

        Row by row as in a batch. Raises DataError before `fit`, for another encoder's
        Space (an "unknown" one passes), another width, or bad rows.
        """
        if self.widths is None:
            raise DataError(f"{self.name} is not fitted yet; call fit(source, target)")
        if isinstance(x, Space) and "unknown" not in (x.name, self.source_name):
            if x.name != self.source_name:
                raise DataError(
                    f"rows of {x.name} were given, but this {self.name} translates "
                    f"from {self.source_name}; fit one for {x.name}"
                )
        rows = x.vectors if isinstance(x, Space) else check_rows(x)
        if rows.shape[1] != self.widths[0]:
            raise DataError(
                f"rows are {rows.shape[1]}-d, but this {self.name} was fitted on "
                f"{self.widths[0]}-d rows of {self.source_name}"
            )
        with torch.no_grad():
            return self._translate(rows)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write weights.safetensors and model.json into `folder`.

        The weights' file carries the whole header too and takes its name in one step,
        so an interrupted save leaves the old model whole; model.json repeats the header
        for people and comes last.
        """
        if self.widths is None:
            raise DataError(f"{self.name} is not fitted yet; there is nothing to save")
        folder, tensors = Path(folder), self._state()
        header = {
            "format": FORMAT,
            "method": self.name,
            "source": self.source_name,
            "target": self.target_name,
            "widths": list(self.widths),
            "sha256": _digest(tensors),
            "seed": self.seed,
            "history": [asdict(stage) for stage in self.history],
        }
        with atomic(folder / WEIGHTS) as temporary:
            write_tensors(temporary, tensors, header)
        write_json(folder / HEADER, header)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Translator:
        """The translator that `save` wrote, of whatever method.

        Raises DataError when a file is missing, damaged or of another format version,
        or when it is another method than the class that `load` was called on.
        """
        folder = Path(folder)
        _check_header(folder, read_json(folder / HEADER))
        if not (folder / WEIGHTS).is_file():
            raise DataError(f"{folder / WEIGHTS}: there is no such file; save again")
        tensors, header = read_tensors(folder / WEIGHTS)
        _check_header(folder, header)
        if header["sha256"] != _digest(tensors):
            raise DataError(
                f"{folder / WEIGHTS}: altered since it was saved; save again"
            )
        kind = METHODS[header["method"]]
        if not issubclass(kind, cls):
            raise DataError(f"{folder} holds a {kind.name}, not a {cls.name}")
        model = kind()
        model._restore(tensors)
        model.source_name, model.target_name = header["source"], header["target"]
        model.widths, model.seed = tuple(header["widths"]), header["seed"]
        model.history = tuple(Stage(**stage) for stage in header["history"])
        return model

    @abstractmethod
    def _fit(
        self, source: Space, target: Space, seed: int, progress: bool
    ) -> Sequence[Stage]: ...

    @abstractmethod
    def _translate(self, rows: Tensor) -> Tensor: ...

    @abstractmethod
    def _state(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def _restore(self, tensors: dict[str, Tensor]) -> None: ...


class LinearTranslator(Translator):
    """A translator whose core is linear; a method implements `_learn` alone."""

    source_mean: Tensor  # (d_s,)
    weight: Tensor  # (d_s, d_t)
    target_mean: Tensor  # (d_t,)
    scale: float

    def core(self, x: Rows) -> Tensor:
        """The centred translation, `(n, d_t)` unit rows: unit((x - mean_s) W)."""
        rows = as_space(x, "rows").vectors
        mean, weight = self.source_mean.to(rows.device), self.weight.to(rows.device)
        return unit((rows - mean) @ weight)

    def _learn(
        self, x: Tensor, y: Tensor, seed: int, progress: bool
    ) -> tuple[Tensor, Sequence[Stage]]:
        """W `(d_s, d_t)` and stages, from unit centred rows of both sides."""
        raise NotImplementedError

    def _fit(
        self, source: Space, target: Space, seed: int, progress: bool
    ) -> Sequence[Stage]:
        (x, source_mean), (y, target_mean) = centred(source), centred(target)
        weight, stages = self._learn(x, y, seed, progress)
        # One memory layout, or a loaded copy would round its products differently.
        self.weight = weight.contiguous()
        self.source_mean, self.target_mean = source_mean, target_mean
        self.scale = (target.vectors - target_mean).norm(dim=1).mean().item()
        return stages

    def _translate(self, rows: Tensor) -> Tensor:
        return unit(self.target_mean.to(rows.device) + self.scale * self.core(rows))

    def _state(self) -> dict[str, Tensor]:
        keys = ("source_mean", "weight", "target_mean")
        return {k: getattr(self, k) for k in keys} | {"scale": torch.tensor(self.scale)}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        self.source_mean, self.weight = tensors["source_mean"], tensors["weight"]
        self.target_mean, self.scale = tensors["target_mean"], tensors["scale"].item()


def as_space(x: Rows, name: str) -> Space:
    """`x` if it is a Space, else a Space of unknown encoder; DataError if bad."""
    return x if isinstance(x, Space) else Space(check_rows(x, name))


def centred(space: Rows) -> tuple[Tensor, Tensor]:
    """Unit rows around the training mean, `(n, d)`, and that mean `(d,)`."""
    space = as_space(space, "rows")
    return unit(space.vectors - space.mean), space.mean


def procrustes(x: Tensor, y: Tensor) -> Tensor:
    r"""Semi-orthogonal W `(d_s, d_t)` that maximises $\mathrm{tr}(W^\top X^\top Y)$.

    $W = UV^\top$ of the SVD $X^\top Y = USV^\top$ (Schönemann 1966); x and y are paired
    rows `(n, d_s)` and `(n, d_t)`.
    """
    return polar(x.T @ y)


def polar(m: Tensor) -> Tensor:
    """The semi-orthogonal factor UV' of `m` `(d_s, d_t)`, its nearest one."""
    u, _, vh = torch.linalg.svd(m, full_matrices=False)
    return u @ vh


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_header(folder: Path, header: dict) -> None:
    found = header.get("format") if isinstance(header, dict) else None
    if found != FORMAT:
        raise DataError(
            f"{folder}: format {found!r}, but this version reads {FORMAT!r}; "
            "fit and save the translator again, or install the version that wrote it"
        )
