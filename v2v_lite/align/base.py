"""The interface of every method: fit on two sets of rows, translate any row.

Centring is part of a translator: its means are those of the training rows, so that a
row alone translates as it does within a batch.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections import UserDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast

import torch
from torch import Tensor

from ..measure.neighbors import Rows as Rows
from ..spaces.files import ConfigError, DataError, parsing
from ..spaces.rows import check_not_degenerate, check_rows, unit
from ..spaces.space import Space
from . import saved
from .profile import LAYOUT, Profile

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from typing_extensions import Self


class Methods(UserDict[str, "type[Translator] | str"]):
    """Method name -> class. Subclasses of Translator with a `name` enter by themselves.

    A method of a floor above is entered as its module, imported when it is asked for.

    >>> METHODS["procrustes"].paired
    True
    >>> METHODS["telepathy"]
    Traceback (most recent call last):
        ...
    v2v_lite.spaces.files.DataError: no method 'telepathy'; there are ...
    """

    def __getitem__(self, name: str) -> type[Translator]:
        if name not in self.data:
            raise DataError(f"no method {name!r}; there are {', '.join(self)}")
        if isinstance(module := self.data[name], str):
            import_module(module, __package__)  # which enters the class
        return cast("type[Translator]", self.data[name])


METHODS = Methods(vec2vec="..vec2vec.translator")


@dataclass(frozen=True)
class Stage:
    """One step of a fit: its name, the objective it reached, and its time."""

    name: str
    objective: float
    seconds: float
    detail: dict = field(default_factory=dict)


Stages: TypeAlias = Sequence[Stage]


class Clock:
    """Times the stages of a fit: each lasts from the stage before, or the start."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def stage(self, name: str, objective: float, **detail: Any) -> Stage:
        """The stage that ends now."""
        before, self.last = self.last, time.perf_counter()
        return Stage(name, objective, self.last - before, detail)


class Translator(ABC):
    """From the rows of one encoder to the space of another.

    A method implements `_fit` (learn from two checked spaces, return the stages) and
    `_translate` (checked rows to rows). `layout` names the tensors that are saved, each
    an attribute, and their shapes: a letter for each dimension, s and t the widths of
    source and target, other letters any size, no letter a number. A class with a `name`
    of its own is known to `METHODS` and `Translator.load`. After `fit`, `history` holds
    the stages, `source_name` and `target_name` the encoders.
    """

    name: ClassVar[str]
    paired: ClassVar[bool] = False
    min_rows: ClassVar[int] = 1
    layout: ClassVar[dict[str, str]] = {}
    renamed: ClassVar[dict[str, str]] = {}  # tensors' names in older files -> now

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" in cls.__dict__:
            METHODS[cls.name] = cls

    def __init__(self) -> None:
        self.history: tuple[Stage, ...] = ()
        self.source_name = self.target_name = "unknown"
        self.widths: tuple[int, int] | None = None
        self.profile: Profile | None = None
        self.seed = 0

    def fit(
        self, source: Rows, target: Rows, *, seed: int = 0, progress: bool = False
    ) -> Self:
        """Learn from `(n, d_s)` and `(m, d_t)` rows; returns itself.

        The rows are of disjoint texts, or, where the class says `paired`, row i of both
        is one text. A Space brings its training mean, other rows are centred by their
        own. Raises DataError for bad rows, too few, mostly equal ones, or pairs of
        unequal number.
        """
        source, target = as_space(source, "source"), as_space(target, "target")
        for side, space in (("source", source), ("target", target)):
            if space.n < self.min_rows:
                need = f"{self.name} needs {self.min_rows}; give more rows"
                fact = f"{side} has {space.n} rows, but {need}"
                raise DataError(f"{fact} or choose another method")
            if space.n > 2:
                check_not_degenerate(space.vectors, side)
        if self.paired and source.n != target.n:
            fact = f"source has {source.n} rows and target {target.n}"
            mend = "row i of both must be one text"
            raise DataError(f"{self.name} learns from pairs, but {fact}; {mend}")
        target = target.to(source.vectors.device)
        try:
            self.history = tuple(self._fit(source, target, seed, progress))
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            fact = f"{self.name}: a decomposition failed ({error})"
            mend = "the rows vary in too few directions: drop repeats, or give more"
            raise DataError(f"{fact}; {mend}") from error
        self._describe(source, target, seed)
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
                fact = f"this {self.name} translates from {self.source_name}"
                mend = f"fit one for {x.name}"
                raise DataError(f"rows of {x.name} were given, but {fact}; {mend}")
        rows = x.vectors if isinstance(x, Space) else check_rows(x)
        if rows.shape[1] != self.widths[0]:
            fitted = f"{self.widths[0]}-d rows of {self.source_name}"
            fact = f"this {self.name} was fitted on {fitted}"
            raise DataError(f"rows are {rows.shape[1]}-d, but {fact}")
        with torch.no_grad():
            return self._translate(rows)

    def doubt(self, x: Rows) -> str | None:
        """Why rows `(n, d_s)` seem not to be of the encoder that was fitted, or None.

        Judged by 20 rows and more; what `profile` knows of the fitted rows is saved.
        """
        return self.profile.doubt(as_space(x, "rows").vectors) if self.profile else None

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write weights.safetensors and model.json into `folder` (see `saved`)."""
        if self.widths is None:
            raise DataError(f"{self.name} is not fitted yet; there is nothing to save")
        header = {
            "method": self.name, "source": self.source_name, "target": self.target_name,
            "widths": list(self.widths), "seed": self.seed,
            "history": [asdict(stage) for stage in self.history],
        }  # fmt: skip
        known = self.profile.tensors() if self.profile else {}
        saved.write(Path(folder), {**self._state(), **known}, header)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """The translator that `save` wrote; of any method if called on Translator.

        Raises DataError when a file is missing, damaged or of another format version,
        or when it is another method than the class that `load` was called on.
        """
        tensors, header = saved.read(Path(folder))
        kind = METHODS[header["method"]]
        if not issubclass(kind, cls):
            raise DataError(f"{folder} holds a {kind.name}, not a {cls.name}")
        tensors = {kind.renamed.get(key, key): t for key, t in tensors.items()}
        model, widths = kind(), tuple(header["widths"])
        layout = kind.layout | (LAYOUT if LAYOUT.keys() & tensors.keys() else {})
        saved.check_tensors(tensors, layout, widths, Path(folder) / saved.WEIGHTS)
        model.profile = Profile.restored(tensors)
        model.source_name, model.target_name = header["source"], header["target"]
        model.widths, model.seed = widths, header["seed"]
        with parsing(folder, f"what a {kind.name} saves", saved.AGAIN):
            model._restore(tensors)
            model.history = tuple(Stage(**stage) for stage in header["history"])
        return model

    @abstractmethod
    def _fit(
        self, source: Space, target: Space, seed: int, progress: bool
    ) -> Stages: ...

    @abstractmethod
    def _translate(self, rows: Tensor) -> Tensor: ...

    def _state(self) -> dict[str, Tensor]:
        return {key: torch.as_tensor(getattr(self, key)) for key in self.layout}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        for key, shape in self.layout.items():
            setattr(self, key, tensors[key] if shape else tensors[key].item())

    def _describe(self, source: Space, target: Space, seed: int) -> None:
        self.source_name, self.target_name = source.name, target.name
        self.widths, self.seed = (source.d, target.d), seed
        self.profile = Profile.of(source.vectors)


def as_space(x: Rows, name: str) -> Space:
    """`x` if it is a Space, else a Space of unknown encoder; DataError if bad."""
    return x if isinstance(x, Space) else Space(check_rows(x, name))


def centred(space: Rows) -> tuple[Tensor, Tensor]:
    """Unit rows around the training mean, `(n, d)`, and that mean `(d,)`."""
    space = as_space(space, "rows")
    return unit(space.vectors - space.mean), space.mean


def check_minima(config: DataclassInstance, **minima: float) -> None:
    """ConfigError naming the first field of `config` that is below its minimum.

    Fields of whole numbers must be at least 1 where `minima` says nothing else.
    """
    counts = {field.name: 1 for field in fields(config) if field.type in ("int", int)}
    for key, minimum in (counts | minima).items():
        value = getattr(config, key)
        if not value >= minimum:
            raise ConfigError(f"{key} = {value}; at least {minimum} is needed")
