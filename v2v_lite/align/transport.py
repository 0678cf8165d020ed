r"""Optimal transport as a translator, over POT: a plan P between rows, not a map.

A plan `(n, m)` says how much of source row i goes to target row j; all rows weigh the
same. It translates by barycentric projection, $T(x_i) = \sum_j P_{ij} y_j / \sum_j
P_{ij}$. What it minimises:

- **Hungarian, EMD, Sinkhorn**: $\langle P, C \rangle$ with $C_{ij} = 1 - \cos(x_i,
  y_j)$ *across* the spaces. Between two encoders' coordinates that cosine says nothing
  (the narrower side is filled up with zeros), so these find nothing, at a high cosine:
  the plan only answers with real target rows, or with their mean. `through` gives the
  cost a meaning: a fitted translator that takes the source rows over first.
- **Gromov-Wasserstein** (`gromov`) compares distances within either side instead, and
  is truly unpaired.

The paper's baseline is *oracle-aided* (arXiv 2505.12540, section 5): both sides are
encodings of the same texts, their order alone unknown, and of all solvers the truth
picks the best. For that, fit on the evaluation pool, at most `rows` of it, shuffled.

A new row has no line in P. It gets the mean of the translations of the `neighbours`
nearest training rows (cosine, centred), weighted by inverse squared distance: a
training row keeps its own translation, and a row between two gets one between.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..measure.neighbors import topk
from ..spaces.files import DataError
from ..spaces.rows import unit
from ..spaces.space import Space
from .base import Stage, Translator, centred
from .registry import register

SOFT = 1e-5  # squared distance below which two rows count as one: float32 cosines


@dataclass(frozen=True)
class TransportConfig:
    """`rows` a side that are matched (drawn where there are more; a plan takes 8 bytes
    for each pair, and its time grows with their cube), `epsilon`, the temperature of
    entropic plans in standard deviations of the cost (Sinkhorn) or mean squared
    distances (Gromov-Wasserstein), the `neighbours` that answer for a new row, and from
    how many `starts` a method descends that is not convex (Gromov-Wasserstein)."""

    rows: int = 2048
    epsilon: float = 0.1
    neighbours: int = 8
    starts: int = 2

    def __post_init__(self) -> None:
        if self.rows < 2 or min(self.neighbours, self.starts) < 1:
            raise DataError(f"{self}: rows must be >= 2, neighbours and starts >= 1")
        if not self.epsilon > 0:
            raise DataError(
                f"epsilon = {self.epsilon}; a temperature above 0 is needed"
            )


class PlanTranslator(Translator):
    """A translator by transport plan; a method implements `_plan`."""

    min_rows = 2
    defaults: ClassVar[TransportConfig] = TransportConfig()

    source_mean: Tensor  # (d_s,)
    rows: Tensor  # (n, d_s) centred unit rows of the source that have a translation
    images: Tensor  # (n, d_t) and those translations
    neighbours: int

    def __init__(self, config: TransportConfig | None = None) -> None:
        super().__init__()
        self.config = config or self.defaults

    @abstractmethod
    def _plan(
        self, source: Space, target: Space, generator: torch.Generator, bar
    ) -> tuple[np.ndarray, float]:
        """The plan `(n, m)` and what it reached."""

    def _fit(
        self, source: Space, target: Space, seed: int, progress: bool
    ) -> Sequence[Stage]:
        from tqdm.auto import tqdm

        clock, generator = time.perf_counter(), torch.Generator().manual_seed(seed)
        with tqdm(desc=self.name, disable=not progress) as bar:
            a, b = (_draw(s, self.config.rows, generator) for s in (source, target))
            plan, objective = self._plan(a, b, generator, bar)
        plan = torch.as_tensor(plan, dtype=torch.float32, device=b.vectors.device)
        mass = plan.sum(dim=1)
        kept = mass > 0  # an assignment leaves rows out where the source has more
        rows, self.source_mean = centred(a)
        self.rows = rows[kept]
        self.images = (plan @ b.vectors)[kept] / mass[kept, None]
        self.neighbours = self.config.neighbours
        seconds = time.perf_counter() - clock
        return [Stage(self.name, objective, seconds, {"rows": [a.n, b.n]})]

    def _translate(self, rows: Tensor) -> Tensor:
        mean, known, images = (
            z.to(rows.device) for z in (self.source_mean, self.rows, self.images)
        )
        cosine, near = topk(_safe(rows - mean), known, min(self.neighbours, len(known)))
        weight = 1 / ((2 - 2 * cosine).clamp_min(0) + SOFT)
        return unit(torch.einsum("nk,nkd->nd", weight, images[near]))

    def _state(self) -> dict[str, Tensor]:
        return {
            "source_mean": self.source_mean,
            "rows": self.rows,
            "images": self.images,
            "neighbours": torch.tensor(self.neighbours),
        }

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        self.source_mean, self.rows = tensors["source_mean"], tensors["rows"]
        self.images, self.neighbours = tensors["images"], int(tensors["neighbours"])


class CrossTranslator(PlanTranslator):
    """Transport under cosines across the spaces; a method implements `_solve`.

    `through`, a fitted translator of the same pair, takes the source rows over before
    they are compared; it is not needed, nor saved, after the fit.
    """

    def __init__(
        self, config: TransportConfig | None = None, through: Translator | None = None
    ) -> None:
        super().__init__(config)
        self.through = through

    @abstractmethod
    def _solve(self, cost: np.ndarray) -> np.ndarray: ...

    def _plan(
        self, source: Space, target: Space, generator: torch.Generator, bar
    ) -> tuple[np.ndarray, float]:
        x, y = source.vectors, target.vectors
        if self.through is not None:
            x = self.through.translate(source)
            if x.shape[1] != y.shape[1]:
                raise DataError(
                    f"through leads to {x.shape[1]} dimensions, but the target has "
                    f"{y.shape[1]}; fit it on this pair"
                )
        width = max(x.shape[1], y.shape[1])
        x, y = (pad(z, (0, width - z.shape[1])).double() for z in (x, y))
        cost = (1 - x @ y.T).cpu().numpy()
        plan = self._solve(cost)
        bar.update()
        return plan, 1 - float((plan * cost).sum() / plan.sum())


@register
class Hungarian(CrossTranslator):
    """One to one: the assignment of least cost (Kuhn 1955; SciPy's solver)."""

    name = "hungarian"

    def _solve(self, cost: np.ndarray) -> np.ndarray:
        from scipy.optimize import linear_sum_assignment

        plan = np.zeros_like(cost)
        plan[linear_sum_assignment(cost)] = 1 / min(cost.shape)
        return plan


@register
class EarthMover(CrossTranslator):
    """The exact plan of least cost; for equal numbers of rows an assignment too."""

    name = "emd"

    def _solve(self, cost: np.ndarray) -> np.ndarray:
        import ot

        return ot.emd(*uniform(cost.shape), cost, numItermax=10_000_000)


@register
class Sinkhorn(CrossTranslator):
    r"""The plan of least $\langle P, C \rangle - \epsilon H(P)$ (Cuturi 2013): softer
    with epsilon, until all rows go to the mean."""

    name = "sinkhorn"

    def _solve(self, cost: np.ndarray) -> np.ndarray:
        spread = cost.std()
        cost = (cost - cost.min()) / (spread if spread > 0 else 1.0)
        return sinkhorn(cost, self.config.epsilon, 1000)


def _draw(space: Space, rows: int, generator: torch.Generator) -> Space:
    if space.n <= rows:
        return space
    kept = torch.randperm(space.n, generator=generator)[:rows]
    return space.take(kept)


def uniform(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Equal weights of n and of m rows."""
    n, m = shape
    return np.full(n, 1 / n), np.full(m, 1 / m)


def sinkhorn(cost: np.ndarray, epsilon: float, steps: int) -> np.ndarray:
    """The entropic plan of a cost `(n, m)` between equal weights, stabilised."""
    import ot

    # A constant added to a row or column changes no plan. Less their minima, every row
    # and column has an entry at 0, and none underflows however cold.
    cost = cost - cost.min(axis=1, keepdims=True)
    cost -= cost.min(axis=0, keepdims=True)
    return ot.sinkhorn(
        *uniform(cost.shape), cost, epsilon, method="sinkhorn_stabilized",
        numItermax=steps, stopThr=1e-7, warn=False,
    )  # fmt: skip


def _safe(rows: Tensor) -> Tensor:
    # The mean itself, as a row, has no direction, which topk refuses: any will do.
    return torch.where(rows.abs().amax(dim=1, keepdim=True) > 0, rows, rows + 1)
