r"""Optimal transport as a translator, over POT: a plan P between rows, not a map.

A plan `(n, m)` says how much of source row i goes to target row j; all rows weigh the
same. It translates by barycentric projection, $T(x_i) = \sum_j P_{ij} y_j / \sum_j
P_{ij}$. What it minimises:

- **Hungarian, EMD, Sinkhorn**: $\langle P, C \rangle$ with $C_{ij} = 1 - \cos(x_i,
  y_j)$ *across* the spaces, the narrower one padded with zeros. Between two encoders'
  coordinates that cosine says nothing, so these find nothing, at a high cosine: a plan
  only answers with real target rows, or with their mean. `premap`, a fitted translator
  that maps the source rows first, gives the cost a meaning.
- **Gromov-Wasserstein** compares distances *within* either side (Mémoli 2011) and is
  truly unpaired: $\min_P \sum_{ijkl} (D^x_{ik} - D^y_{jl})^2 P_{ij} P_{kl}$ with D the
  cosine distances of a side, of any width. Quadratic in P and not convex.

The paper's baseline is *oracle-aided* (arXiv 2505.12540, section 5): both sides are
encodings of the same texts, in unknown order, and the truth picks the best of all
solvers. For that, fit on the evaluation pool, at most `sample_size` rows, shuffled.

A new row has no line in P. It gets the mean of the translations of its `n_neighbors`
nearest training rows (cosine, centred), weighted by inverse squared distance.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import pad
from tqdm.auto import tqdm

from ..measure.neighbors import check_widths, topk
from ..spaces.rows import unit
from ..spaces.space import Space
from .base import Clock, Stages, Translator, centred, check_minima
from .linalg import sample_rows

Array: TypeAlias = np.ndarray
Plan: TypeAlias = tuple[Array, float]  # a plan (n, m) and its objective
SOFT = 1e-5  # squared distance below which two rows count as one: float32 cosines


@dataclass(frozen=True)
class TransportConfig:
    """`sample_size` rows a side are matched (drawn where there are more; a plan takes 8
    bytes a pair, and its time grows with their cube); `epsilon` is the temperature of
    entropic plans in standard deviations of the cost (Sinkhorn) or mean squared
    distances (Gromov-Wasserstein, which starts `n_init` times)."""

    sample_size: int = 2048
    epsilon: float = 0.1
    n_neighbors: int = 8
    n_init: int = 2

    def __post_init__(self) -> None:
        check_minima(self, sample_size=2, n_neighbors=1, n_init=1, epsilon=1e-6)


class PlanTranslator(Translator):
    """A translator by transport plan; a method implements `_plan`."""

    min_rows = 2
    defaults: ClassVar[TransportConfig] = TransportConfig()
    layout = {"source_mean": "s", "rows": "ns", "projected": "nt", "n_neighbors": ""}
    renamed = {"images": "projected", "neighbours": "n_neighbors"}

    source_mean: Tensor  # (d_s,)
    rows: Tensor  # (n, d_s) centred unit rows of the source that have a translation
    projected: Tensor  # (n, d_t) and those translations
    n_neighbors: int

    def __init__(self, config: TransportConfig | None = None) -> None:
        super().__init__()
        self.config = config or self.defaults

    @abstractmethod
    def _plan(self, a: Space, b: Space, generator: Generator, bar: tqdm) -> Plan:
        """The plan `(n, m)` between two samples, and the objective it reached."""

    def _fit(self, source: Space, target: Space, seed: int, progress: bool) -> Stages:
        clock, generator = Clock(), Generator().manual_seed(seed)
        with tqdm(desc=self.name, disable=not progress) as bar:
            a, b = (self._sample(space, generator) for space in (source, target))
            found, objective = self._plan(a, b, generator, bar)
        plan = torch.as_tensor(found, dtype=torch.float32, device=b.vectors.device)
        mass = plan.sum(dim=1)
        kept = mass > 0  # an assignment leaves rows out where the source has more
        rows, self.source_mean = centred(a)
        self.rows = rows[kept]
        self.projected = (plan @ b.vectors)[kept] / mass[kept, None]
        self.n_neighbors = self.config.n_neighbors
        return [clock.stage(self.name, objective, rows=[a.n, b.n])]

    def _sample(self, space: Space, generator: Generator) -> Space:
        rows = torch.arange(space.n)
        return space.take(sample_rows(rows, self.config.sample_size, generator))

    def _translate(self, rows: Tensor) -> Tensor:
        mean, known, projected = (
            z.to(rows.device) for z in (self.source_mean, self.rows, self.projected)
        )
        rows = rows - mean
        # The mean itself, as a row, has no direction, which topk refuses: any will do.
        rows = rows + (rows == 0).all(dim=1, keepdim=True)
        cosine, near = topk(rows, known, min(self.n_neighbors, len(known)))
        weight = 1 / ((2 - 2 * cosine).clamp_min(0) + SOFT)
        return unit(torch.einsum("nk,nkd->nd", weight, projected[near]))


class CrossTranslator(PlanTranslator):
    """Transport under cosines across the spaces; a method implements `_solve`.

    `premap`, a fitted translator of the pair, maps the source rows first; not saved.
    """

    def __init__(
        self, config: TransportConfig | None = None, premap: Translator | None = None
    ) -> None:
        super().__init__(config)
        self.premap = premap

    @abstractmethod
    def _solve(self, cost: Array) -> Array: ...

    def _plan(self, a: Space, b: Space, generator: Generator, bar: tqdm) -> Plan:
        x, y = a.vectors, b.vectors
        if self.premap is not None:
            x = self.premap.translate(a)
            check_widths(x, y, "premap's rows", "the target's", "fit it on this pair")
        width = max(x.shape[1], y.shape[1])
        x, y = (pad(z, (0, width - z.shape[1])).double() for z in (x, y))
        cost = (1 - x @ y.T).cpu().numpy()
        plan = self._solve(cost)
        bar.update()
        return plan, 1 - float((plan * cost).sum() / plan.sum())


class Hungarian(CrossTranslator):
    """One to one: the assignment of least cost (Kuhn 1955; SciPy's solver)."""

    name = "hungarian"

    def _solve(self, cost: Array) -> Array:
        from scipy.optimize import linear_sum_assignment

        plan = np.zeros_like(cost)
        plan[linear_sum_assignment(cost)] = 1 / min(cost.shape)
        return plan


class EarthMover(CrossTranslator):
    """The exact plan of least cost; for equal numbers of rows an assignment too."""

    name = "emd"

    def _solve(self, cost: Array) -> Array:
        import ot

        return ot.emd([], [], cost, numItermax=10_000_000)  # []: equal weights


class Sinkhorn(CrossTranslator):
    r"""The plan of least $\langle P, C \rangle - \epsilon H(P)$ (Cuturi 2013): softer
    with epsilon, until all rows go to the mean."""

    name = "sinkhorn"

    def _solve(self, cost: Array) -> Array:
        cost = (cost - cost.min()) / (cost.std() or 1.0)
        return sinkhorn(cost, self.config.epsilon, 1000)


class GromovWasserstein(PlanTranslator):
    """The plan that keeps distances within either side; unpaired, any widths.

    Not convex: the lowest end of several descents, from the uniform plan, the plan
    between the rows' sorted distances (Mémoli's third lower bound, right for a rotated
    copy) and random plans. Each takes some dozens of EMDs: hence fewer rows.
    """

    name = "gw"
    defaults = TransportConfig(sample_size=1024)

    def _plan(self, a: Space, b: Space, generator: Generator, bar: tqdm) -> Plan:
        d_x, d_y = _distances(a), _distances(b)
        found = []
        for k in range(self.config.n_init):
            start = _start(k, d_x, d_y, generator)
            found.append(self._descend(d_x, d_y, start))
            bar.update()
        return min(found, key=lambda pair: pair[1])

    def _descend(self, d_x: Array, d_y: Array, start: Array | None) -> Plan:
        import ot

        plan, log = ot.gromov.gromov_wasserstein(
            d_x, d_y, symmetric=True, log=True, G0=start, max_iter=200
        )
        return plan, float(log["gw_dist"])


class EntropicGromov(GromovWasserstein):
    """Gromov-Wasserstein minus epsilon times the plan's entropy (Peyré et al. 2016).

    The entropy keeps plans soft, hence undecided, for long: with the same texts on both
    sides it often ends where the exact descent never does, in the truth (chapter 5).
    """

    name = "gw-entropic"
    defaults = TransportConfig(sample_size=512, epsilon=0.0015, n_init=4)

    N_ITER, SINKHORN_ITERS = 150, 50

    def _descend(self, d_x: Array, d_y: Array, start: Array | None) -> Plan:
        # POT's own loop (mirror descent) takes no stabilised Sinkhorn, and its plain
        # one underflows at temperatures low enough to find anything.
        from ot import unif
        from ot.gromov import gwggrad, gwloss, init_matrix

        p, q = unif(len(d_x)), unif(len(d_y))
        parts = init_matrix(d_x, d_y, p, q, "square_loss")
        plan = np.outer(p, q) if start is None else start
        for _ in range(self.N_ITER):
            cost = gwggrad(*parts, plan)
            old, plan = plan, sinkhorn(cost, self.config.epsilon, self.SINKHORN_ITERS)
            if np.abs(plan - old).sum() < 1e-4:
                break
        return plan, float(gwloss(*parts, plan))


def sinkhorn(cost: Array, epsilon: float, n_iter: int) -> Array:
    """The entropic plan of a cost `(n, m)` between equal weights, stabilised."""
    import ot

    # A constant added to a row or column changes no plan. Less their minima, every row
    # and column has an entry at 0, and none underflows however cold.
    cost = cost - cost.min(axis=1, keepdims=True)
    cost -= cost.min(axis=0, keepdims=True)
    return ot.sinkhorn(
        [], [], cost, epsilon, method="sinkhorn_stabilized", numItermax=n_iter,
        stopThr=1e-7, warn=False,
    )  # fmt: skip


def _start(k: int, d_x: Array, d_y: Array, generator: Generator) -> Array | None:
    import ot

    if k == 0:
        return None
    if k == 1:
        return ot.emd([], [], _profiles(d_x, d_y))
    noise = torch.empty(len(d_x), len(d_y), dtype=torch.float64)
    return ot.sinkhorn([], [], noise.exponential_(generator=generator).numpy(), 1.0)


def _distances(space: Space) -> Array:
    # Root mean square 1, or two encoders' different scale would be a cost of its own.
    x = centred(space)[0].double()
    distances = (1 - x @ x.T).clamp_min_(0).fill_diagonal_(0).cpu().numpy()
    return distances / np.sqrt((distances**2).mean())


def _profiles(d_x: Array, d_y: Array, points: int = 100) -> Array:
    # (n, m) squared differences of the rows' sorted distances, at equal quantiles.
    at = (np.arange(points) + 0.5) / points
    a, b = (np.quantile(d, at, axis=1).T for d in (d_x, d_y))
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.maximum(squares, 0) / points
