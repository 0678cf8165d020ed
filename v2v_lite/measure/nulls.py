r"""Permutation tests: a similarity beside what rows paired at random would reach.

Biased CKA of two wide random clouds is near 1, the mutual k-NN of two small samples is
far from 0: a raw value says little without n, k and its null. The null here keeps both
clouds and shuffles only which row of the one goes with which of the other, so it holds
for any width, spectrum and hubs (arXiv 2602.14486). It assumes that rows are
exchangeable: not two frames of one film, nor two halves of one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Generator, Tensor
from tqdm.auto import tqdm

from ..spaces.files import DataError
from ..spaces.space import Space
from ..spaces.splits import check_same_texts
from .neighbors import Rows, as_unit_rows

Gen: TypeAlias = Generator | None
Order: TypeAlias = Tensor | None  # a permutation (n,) of rows; None: as they are


@dataclass(frozen=True)
class Similarity:
    r"""A measure's value on n pairs, and its null.

    `k` is the neighbourhood (None for global measures); `chance` the exact mean over
    all permutations, where a formula has it. Over the drawn permutations: `null_mean`,
    `null_sd`, the p-value $(1 + \#\{\text{null} \ge \text{value}\}) / (P + 1)$, and
    `calibrated` = (value - null_mean) / (best - null_mean): 0 by chance, 1 when equal.
    The last four are None without permutations. Distances count downwards, to best 0.
    """

    name: str
    value: float
    n: int
    k: int | None = None
    chance: float | None = None
    null_mean: float | None = None
    null_sd: float | None = None
    p: float | None = None
    calibrated: float | None = None

    def line(self) -> str:
        """One line for people, n and k included.

        >>> Similarity("mutual_knn", 0.25, 1000, 10, chance=0.01001).line()
        'mutual_knn 0.250 (n 1,000, k 10, chance 0.010)'
        """
        parts = [f"n {self.n:,}"]
        if self.k is not None:
            parts.append(f"k {self.k}")
        if self.chance is not None:
            parts.append(f"chance {self.chance:.3f}")
        if self.p is not None:
            parts.append(f"null {self.null_mean:.3f} ± {self.null_sd:.3f}")
            parts.append(f"calibrated {self.calibrated:.3f}, p {self.p:.3g}")
        return f"{self.name} {self.value:.3f} ({', '.join(parts)})"


Features = TypeVar("Features")
Value: TypeAlias = Callable[[Features, Features, Order], float]
Chance: TypeAlias = Callable[[Features, Features], float]


@dataclass(frozen=True, eq=False)
class Measure(Generic[Features]):
    """A measure in two halves, so that a null repeats only the cheap one.

    `features(rows, k)` is all that one side contributes, computed once; `value(a, b,
    order)` compares the features of two sides, b's rows taken in `order` `(n,)` (None:
    as they are). `chance` is the exact mean of `value` over all orders, `local` says
    that k counts, and `best` is the value of two equal sides.
    """

    features: Callable[..., Features]
    value: Value[Features]
    chance: Chance[Features] | None = None
    local: bool = False
    best: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.value.__doc__)

    @property
    def name(self) -> str:
        """The name, that of the function that compares."""
        return self.value.__name__

    def __call__(
        self, a: Rows, b: Rows, k: int = 10, permutations: int = 0,
        generator: Gen = None, **options: float,
    ) -> Similarity:  # fmt: skip
        """The measure of paired rows `(n, d_a)` and `(n, d_b)`, with its null.

        `options` are those of `features`. Raises DataError as `compare` does.
        """
        measure = self
        if options:
            measure = replace(self, features=partial(self.features, **options))
        return evaluate([measure], a, b, k, permutations, generator)[0]


def measure(
    features: Callable[..., Features], chance: Chance[Features] | None = None,
    local: bool = False, best: float = 1.0,
) -> Callable[[Value[Features]], Measure[Features]]:  # fmt: skip
    """Decorator that makes a measure of the function that compares features."""
    return lambda value: Measure(features, value, chance, local, best)


def evaluate(
    measures: Sequence[Measure], a: Rows, b: Rows, k: int, permutations: int,
    generator: Gen, progress: bool = False,
) -> tuple[Similarity, ...]:  # fmt: skip
    """Several measures of one pair of sides; what they share is computed once."""
    if permutations < 0:
        raise DataError(f"permutations = {permutations}; 0 leaves the null out")
    if permutations and generator is None:
        mend = "generator=torch.Generator().manual_seed(0)"
        raise DataError(f"{permutations} permutations need a generator: {mend}")
    x, y = _pair(a, b, k)
    n, sides, found = len(x), {}, []
    total = len(measures) * (permutations + 1)
    with tqdm(total=total, desc="similarity", disable=not progress) as bar:
        for measure in measures:
            if measure.features not in sides:
                sides[measure.features] = measure.features(x, k), measure.features(y, k)
            both = sides[measure.features]
            value = measure.value(*both, None)
            bar.update()
            null = torch.empty(permutations, dtype=torch.float64)
            for i in range(permutations):
                null[i] = measure.value(*both, torch.randperm(n, generator=generator))
                bar.update()
            chance = None if measure.chance is None else measure.chance(*both)
            head = (measure.name, value, n, k if measure.local else None, chance)
            found.append(Similarity(*head, *_calibrated(null, value, measure.best)))
    return tuple(found)


def _pair(a: Rows, b: Rows, k: int) -> tuple[Tensor, Tensor]:
    x, y = (as_unit_rows(z, s, scale=False).detach() for z, s in ((a, "a"), (b, "b")))
    for name, rows in ("a", x), ("b", y):
        if torch.equal(rows.amax(dim=0), rows.amin(dim=0)):
            raise DataError(f"{name}: all rows are alike; nothing lies near or far")
    n, mend = len(x), "row i of both must be one text, and 4 are needed"
    if len(y) != n or n < 4:
        raise DataError(f"a has {n} rows and b {len(y)}; {mend}")
    if not 1 <= k <= n - 1:
        raise DataError(f"k = {k}, but {n} rows have 1 to {n - 1} neighbours")
    if isinstance(a, Space) and isinstance(b, Space):
        check_same_texts(a, b)
    return x, y.to(x.device)


def _calibrated(null: Tensor, value: float, best: float) -> tuple:
    if not len(null):
        return ()
    mean, sd = null.mean().item(), null.std(correction=0).item()
    beaten = null >= value if best else null <= value
    p = (1 + beaten.sum().item()) / (1 + len(null))
    # Where chance is already the best (k = n - 1, say), nothing above it can be shown.
    room = best - mean
    return mean, sd, p, (value - mean) / room if abs(room) > 1e-12 else 0.0
