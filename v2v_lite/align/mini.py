r"""mini-vec2vec, the peer: anchors matched by a quadratic assignment, then refinement.

The algorithm of Dar, "mini-vec2vec: Scaling Universal Geometry Alignment with Linear
Transformations" (arXiv 2510.02348), written from its description, with the sizes that
the paper prints. Rows are centred on their own training mean and brought to length one.

1. Anchors, 30 times: a sample of rows a side, k-means into 20, centroids matched by
   $\max_P \mathrm{tr}(K_A P K_B P^\top)$ (K: cosines between centroids of one side).
2. Read-out: a row's relative representation is its cosines to all matched anchors; its
   pseudo-target the mean of the 50 rows of B nearest in it; Procrustes.
3. Refine 1, 100 times: pseudo-targets from the 50 nearest rows of B to a mapped sample.
4. Refine 2: k-means into 500 on A, on B from the mapped centroids, Procrustes on those.

SciPy solves the assignment, as published; all else is matrix products.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ..spaces.files import DataError
from ..spaces.rows import unit
from .base import LinearTranslator, Stage, procrustes
from .clusters import kmeans
from .registry import register


@dataclass(frozen=True)
class MiniConfig:
    """Sizes of mini-vec2vec; the defaults are the paper's, but for `batch`.

    `runs` clusterings of `sample` rows into `clusters`, each matched from `starts`
    random permutations; `neighbours` averaged into a pseudo-target; `refine` rounds on
    `batch` rows, each blended half and half with the map so far; `fine_clusters` in
    refine 2. The description leaves `batch` open: 1,000 takes half the time in refine 1
    and gives up .02 of top-1 (MiniLM to Granite, 16,384 rows a side, pool 4,096).
    """

    runs: int = 30
    sample: int = 10_000
    clusters: int = 20
    starts: int = 30
    neighbours: int = 50
    refine: int = 100
    batch: int = 2_000
    fine_clusters: int = 500
    blend: float = 0.5

    def __post_init__(self) -> None:
        for key, low in (("runs", 1), ("sample", 2), ("clusters", 2), ("starts", 1),
                         ("neighbours", 1), ("refine", 0), ("batch", 2),
                         ("fine_clusters", 2)):  # fmt: skip
            if getattr(self, key) < low:
                raise DataError(
                    f"{key} = {getattr(self, key)}; at least {low} is needed"
                )
        if not 0 <= self.blend < 1:
            raise DataError(f"blend = {self.blend}; a share of the old map below 1")


@register
class MiniVec2Vec(LinearTranslator):
    """mini-vec2vec (arXiv 2510.02348): linear, unpaired; W = blends of rotations."""

    name = "mini"

    def __init__(self, config: MiniConfig | None = None) -> None:
        super().__init__()
        self.config = config or MiniConfig()

    def _learn(
        self, x: Tensor, y: Tensor, seed: int, progress: bool
    ) -> tuple[Tensor, Sequence[Stage]]:
        from tqdm.auto import tqdm

        c, generator = self.config, torch.Generator().manual_seed(seed)
        bar = tqdm(total=c.runs + c.refine + 2, desc="mini", disable=not progress)
        clock, stages = _Clock(), []
        with bar:
            anchors_a, anchors_b, reached = _anchors(x, y, c, generator, bar)
            stages.append(clock.stage("anchors", reached))
            weight, reached = _read_out(x, y, anchors_a, anchors_b, c, generator)
            bar.update()
            stages.append(clock.stage("read-out", reached))
            if c.refine:
                weight, reached = _refine(x, y, weight, c, generator, bar)
                stages.append(clock.stage("refine 1", reached))
            weight, reached = _refine_clusters(x, y, weight, c, generator)
            bar.update()
            stages.append(clock.stage("refine 2", reached))
        return weight, stages


class _Clock:
    def __init__(self) -> None:
        self.last = time.perf_counter()

    def stage(self, name: str, objective: float) -> Stage:
        before, self.last = self.last, time.perf_counter()
        return Stage(name, objective, self.last - before)


def _anchors(
    x: Tensor, y: Tensor, c: MiniConfig, generator: torch.Generator, bar
) -> tuple[Tensor, Tensor, float]:
    # All runs' matched centroids, (runs * clusters, d) a side, and the mean objective,
    # as a share of the largest that kernels of these norms could reach.
    a, b, reached = [], [], 0.0
    for _ in range(c.runs):
        means = [
            unit(kmeans(_sample(z, c.sample, generator), c.clusters,
                        generator=generator).centroids)
            for z in (x, y)
        ]  # fmt: skip
        kernels = [m @ m.T for m in means]
        order, objective = match_two_opt(*kernels, c.starts, generator)
        a.append(means[0])
        b.append(means[1][order])
        reached += objective / (kernels[0].norm() * kernels[1].norm()).item()
        bar.update()
    return torch.cat(a), torch.cat(b), reached / c.runs


def match_two_opt(
    kernel_a: Tensor, kernel_b: Tensor, starts: int, generator: torch.Generator
) -> tuple[Tensor, float]:
    r"""Best of `starts` 2-opt searches for $\max_P \mathrm{tr}(K_A P K_B P^\top)$.

    Returns the order of B's rows that matches A's, `(c,)`, and the objective.
    """
    import numpy as np
    from scipy.optimize import quadratic_assignment

    a, b = kernel_a.double().cpu().numpy(), kernel_b.double().cpu().numpy()
    seed = int(torch.randint(2**31, (1,), generator=generator))
    options = {"maximize": True, "rng": np.random.default_rng(seed)}
    found = [
        quadratic_assignment(a, b, method="2opt", options=options)
        for _ in range(starts)
    ]
    best = max(found, key=lambda result: result.fun)
    return torch.as_tensor(best.col_ind, device=kernel_b.device), float(best.fun)


def _read_out(
    x: Tensor,
    y: Tensor,
    anchors_a: Tensor,
    anchors_b: Tensor,
    c: MiniConfig,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    rows, pool = _sample(x, c.sample, generator), _sample(y, c.sample, generator)
    relative = unit(rows @ anchors_a.T), unit(pool @ anchors_b.T)
    return _procrustes_on_pseudo_pairs(rows, *relative, pool, c)


def _refine(
    x: Tensor, y: Tensor, weight: Tensor, c: MiniConfig, generator: torch.Generator, bar
) -> tuple[Tensor, float]:
    reached = 0.0
    for _ in range(c.refine):
        rows = _sample(x, c.batch, generator)
        new, reached = _procrustes_on_pseudo_pairs(rows, unit(rows @ weight), y, y, c)
        weight = c.blend * weight + (1 - c.blend) * new
        bar.update()
    return weight, reached


def _procrustes_on_pseudo_pairs(
    rows: Tensor, queries: Tensor, keys: Tensor, pool: Tensor, c: MiniConfig
) -> tuple[Tensor, float]:
    # W and how near the mapped rows come to their pseudo-targets on average.
    k = min(c.neighbours, pool.shape[0])
    parts = []
    for block in queries.split(1024):
        nearest = (block @ keys.T).topk(k, dim=1, sorted=False).indices
        # embedding_bag averages the rows without first copying all of them
        parts.append(unit(embedding_bag(nearest, pool, mode="mean")))
    targets = torch.cat(parts)
    weight = procrustes(rows, targets)
    return weight, (unit(rows @ weight) * targets).sum(dim=1).mean().item()


def _refine_clusters(
    x: Tensor, y: Tensor, weight: Tensor, c: MiniConfig, generator: torch.Generator
) -> tuple[Tensor, float]:
    # A tenth of the rows where they are few: a centroid of one row averages nothing.
    n_clusters = max(min(c.fine_clusters, x.shape[0] // 10, y.shape[0] // 10), 2)
    a = kmeans(x, n_clusters, generator=generator).centroids
    b = kmeans(y, n_clusters, generator=generator, init=a @ weight).centroids
    a, b = unit(a), unit(b)
    new = procrustes(a, b)
    reached = (unit(a @ new) * b).sum(dim=1).mean().item()
    return c.blend * weight + (1 - c.blend) * new, reached


def _sample(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    if x.shape[0] <= size:
        return x
    return x[torch.randperm(x.shape[0], generator=generator)[:size].to(x.device)]
