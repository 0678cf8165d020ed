r"""Permutation tests: a similarity beside what rows paired at random would reach.

Biased CKA of two wide random clouds is near 1, the mutual k-NN of two small samples is
far from 0: a raw value says little without n, k and its null. The null here keeps both
clouds and shuffles only which row of the one goes with which of the other, so it holds
for any width, spectrum and hubs (arXiv 2602.14486). It assumes that rows are
exchangeable: not two frames of one film, nor two halves of one sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from ..spaces.files import DataError
from ..spaces.rows import name_rows
from ..spaces.space import Space

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = [
    "Measure", "Similarity", "check_null", "check_same_texts", "permutation_test",
]  # fmt: skip


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


@dataclass(frozen=True)
class Measure:
    """A measure in two halves, so that a null repeats only the cheap one.

    `features(rows, k)` is all that one side contributes, computed once; `value(a, b,
    order)` compares two sides, b's rows taken in `order` `(n,)` (None: as they are).
    `chance` is the exact mean of `value` over all orders, `local` says that k counts,
    and `best` is the value of two equal sides.
    """

    name: str
    features: Callable[[Tensor, int], Any]
    value: Callable[[Any, Any, Tensor | None], float]
    chance: Callable[[Any, Any], float] | None = None
    local: bool = False
    best: float = 1.0


def permutation_test(
    measure: Measure,
    a: Any,
    b: Any,
    n: int,
    k: int,
    permutations: int = 0,
    generator: Generator | None = None,
    bar: tqdm | None = None,
) -> Similarity:
    """A measure's value for the features of two sides, with its permutation null.

    Raises DataError for a negative number of permutations, or some without a generator.
    """
    check_null(permutations, generator)
    value = measure.value(a, b, None)
    null = torch.empty(permutations, dtype=torch.float64)
    for i in range(permutations):
        null[i] = measure.value(a, b, torch.randperm(n, generator=generator))
        if bar is not None:
            bar.update()
    chance = None if measure.chance is None else measure.chance(a, b)
    head = (measure.name, value, n, k if measure.local else None, chance)
    return Similarity(*head, *_calibrated(null, value, measure.best))


def check_null(permutations: int, generator: Generator | None) -> None:
    """DataError unless this number of permutations can be drawn."""
    if permutations < 0:
        raise DataError(f"permutations = {permutations}; 0 leaves the null out")
    if permutations and generator is None:
        raise DataError(
            f"{permutations} permutations need a generator: "
            "generator=Generator().manual_seed(0)"
        )


def check_same_texts(a: object, b: object) -> None:
    """DataError when two spaces say that their rows are of different texts.

    Ids decide row by row where both sides have them, else the SHA-256 of all texts.
    """
    if not (isinstance(a, Space) and isinstance(b, Space)):
        return
    if a.ids is not None and b.ids is not None:
        wrong = (a.ids.cpu() != b.ids.cpu()).nonzero().flatten().tolist()
        if wrong:
            raise DataError(
                f"{name_rows(wrong)[0]} of {a.name} and {b.name}: different texts by "
                "their ids; row i of both must be one text"
            )
        return
    one, other = (space.provenance.texts_sha256 for space in (a, b))
    if one and other and one != other:
        raise DataError(
            f"{a.name} and {b.name}: the texts' SHA-256 differ ({one[:8]}…, "
            f"{other[:8]}…); row i of both must be one text"
        )


def _calibrated(null: Tensor, value: float, best: float) -> tuple:
    if not len(null):
        return ()
    mean, sd = null.mean().item(), null.std(correction=0).item()
    beaten = null >= value if best else null <= value
    p = (1 + beaten.sum().item()) / (1 + len(null))
    # Where chance is already the best (k = n - 1, say), nothing above it can be shown.
    room = best - mean
    return mean, sd, p, (value - mean) / room if abs(room) > 1e-12 else 0.0
