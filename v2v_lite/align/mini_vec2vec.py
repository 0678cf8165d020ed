r"""mini-vec2vec: anchors matched by a quadratic assignment, then refinement.

The algorithm of Dar, "mini-vec2vec: Scaling Universal Geometry Alignment with Linear
Transformations" (arXiv 2510.02348), written from its description, with the sizes that
the paper prints. Rows are centred on their own training mean and brought to length one.

1. Anchors, 30 times: a sample of rows a side, k-means into 20, centroids matched by
   $\max_P \mathrm{tr}(K_A P K_B P^\top)$ (K: cosines between centroids of one side).
2. Initial map: a row's relative representation is its cosines to all matched anchors;
   its pseudo-target the mean of the 50 rows of B nearest in it; Procrustes.
3. Refine 1, 100 times: pseudo-targets from the 50 nearest rows of B to a mapped sample.
4. Refine 2: k-means into 500 on A, on B from the mapped centroids, Procrustes on those.

SciPy solves the assignment, as published; all else is matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import embedding_bag
from tqdm.auto import tqdm

from ..spaces.files import ConfigError
from ..spaces.rows import unit
from .base import Clock, Stage, check_minima
from .kmeans import kmeans
from .linalg import procrustes, sample_rows
from .linear import Learned, LinearTranslator


@dataclass(frozen=True)
class MiniConfig:
    """Sizes of mini-vec2vec; the defaults are the paper's, but for `batch_size`.

    `n_runs` clusterings of `sample_size` rows into `n_clusters`, each matched from
    `n_init` random permutations; `n_neighbors` averaged into a pseudo-target;
    `refine_iters` rounds on `batch_size` rows, each blended with the map so far, which
    keeps the share `blend`; `fine_clusters` in refine 2. The paper leaves `batch_size`
    open: 1,000 takes half the time in refine 1 and gives up .02 of top-1 (MiniLM to
    Granite, 16,384 rows a side, pool 4,096).
    """

    n_runs: int = 30
    sample_size: int = 10_000
    n_clusters: int = 20
    n_init: int = 30
    n_neighbors: int = 50
    refine_iters: int = 100
    batch_size: int = 2_000
    fine_clusters: int = 500
    blend: float = 0.5

    def __post_init__(self) -> None:
        check_minima(
            self, sample_size=2, n_clusters=2, refine_iters=0, batch_size=2,
            fine_clusters=2,
        )  # fmt: skip
        if not 0 <= self.blend < 1:
            raise ConfigError(f"blend = {self.blend}; a share of the old map below 1")


class MiniVec2Vec(LinearTranslator):
    """mini-vec2vec (arXiv 2510.02348): linear, unpaired; W = blends of rotations."""

    name = "mini"
    narrows = True

    def __init__(self, config: MiniConfig | None = None) -> None:
        super().__init__()
        self.config = config or MiniConfig()

    def _learn(self, x: Tensor, y: Tensor, seed: int, progress: bool) -> Learned:
        c, generator = self.config, Generator().manual_seed(seed)
        clock, stages = Clock(), list[Stage]()
        total = c.n_runs + c.refine_iters + 2
        with tqdm(total=total, desc="mini", disable=not progress) as bar:
            anchors_a, anchors_b, reached = _anchors(x, y, c, generator, bar)
            stages.append(clock.stage("anchors", reached))
            rows, pool = (sample_rows(z, c.sample_size, generator) for z in (x, y))
            relative = unit(rows @ anchors_a.T), unit(pool @ anchors_b.T)
            weight, reached = _procrustes_on_pseudo_pairs(rows, *relative, pool, c)
            bar.update()
            stages.append(clock.stage("initial map", reached))
            for _ in range(c.refine_iters):
                rows = sample_rows(x, c.batch_size, generator)
                mapped = unit(rows @ weight)
                new, reached = _procrustes_on_pseudo_pairs(rows, mapped, y, y, c)
                weight = c.blend * weight + (1 - c.blend) * new
                bar.update()
            if c.refine_iters:
                stages.append(clock.stage("refine 1", reached))
            weight, reached = _refine_clusters(x, y, weight, c, generator)
            bar.update()
            stages.append(clock.stage("refine 2", reached))
        return weight, stages


def _anchors(
    x: Tensor, y: Tensor, c: MiniConfig, generator: Generator, bar: tqdm
) -> tuple[Tensor, Tensor, float]:
    # All runs' matched centroids, (n_runs * n_clusters, d) a side; the mean objective
    # as a share of the largest that kernels of these norms could reach.
    a, b, reached = [], [], 0.0
    for _ in range(c.n_runs):
        one, other = (_centroids(z, c, generator) for z in (x, y))
        kernels = one @ one.T, other @ other.T
        order, objective = match_two_opt(*kernels, c.n_init, generator)
        a.append(one)
        b.append(other[order])
        reached += objective / (kernels[0].norm() * kernels[1].norm()).item()
        bar.update()
    return torch.cat(a), torch.cat(b), reached / c.n_runs


def _centroids(z: Tensor, c: MiniConfig, generator: Generator) -> Tensor:
    rows = sample_rows(z, c.sample_size, generator)
    return unit(kmeans(rows, c.n_clusters, generator=generator).centroids)


def match_two_opt(
    kernel_a: Tensor, kernel_b: Tensor, n_init: int, generator: Generator
) -> tuple[Tensor, float]:
    r"""Best of `n_init` 2-opt searches for $\max_P \mathrm{tr}(K_A P K_B P^\top)$.

    Returns the order of B's rows that matches A's, `(c,)`, and the objective.
    """
    import numpy as np
    from scipy.optimize import quadratic_assignment

    a, b = kernel_a.double().cpu().numpy(), kernel_b.double().cpu().numpy()
    seed = int(torch.randint(2**31, (1,), generator=generator))
    options = {"maximize": True, "rng": np.random.default_rng(seed)}
    found = [quadratic_assignment(a, b, "2opt", options) for _ in range(n_init)]
    best = max(found, key=lambda result: result.fun)
    return torch.as_tensor(best.col_ind, device=kernel_b.device), float(best.fun)


def _procrustes_on_pseudo_pairs(
    rows: Tensor, queries: Tensor, keys: Tensor, pool: Tensor, c: MiniConfig
) -> tuple[Tensor, float]:
    # W and how near the mapped rows come to their pseudo-targets on average.
    k = min(c.n_neighbors, pool.shape[0])
    parts = []
    for block in queries.split(1024):
        nearest = (block @ keys.T).topk(k, dim=1, sorted=False).indices
        # embedding_bag averages the rows without first copying all of them
        parts.append(unit(embedding_bag(nearest, pool, mode="mean")))
    targets = torch.cat(parts)
    weight = procrustes(rows, targets)
    return weight, (unit(rows @ weight) * targets).sum(dim=1).mean().item()


def _refine_clusters(
    x: Tensor, y: Tensor, weight: Tensor, c: MiniConfig, generator: Generator
) -> tuple[Tensor, float]:
    # A tenth of the rows where they are few: a centroid of one row averages nothing.
    n_clusters = max(min(c.fine_clusters, x.shape[0] // 10, y.shape[0] // 10), 2)
    a = kmeans(x, n_clusters, generator=generator).centroids
    b = kmeans(y, n_clusters, generator=generator, init=a @ weight).centroids
    a, b = unit(a), unit(b)
    new = procrustes(a, b)
    reached = (unit(a @ new) * b).sum(dim=1).mean().item()
    return c.blend * weight + (1 - c.blend) * new, reached
