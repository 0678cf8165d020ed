r"""Self-learning: from coarse anchors to a precise map, without a pair.

Ours. Both sides are whitened, x -> x C_x^{-1/2}, so that nothing is left to learn but
a rotation, and how much each direction is shared. A round (chapter 6) has three steps.

1. *Project* on the shared directions: $\phi(x) = \mathrm{unit}(x U \sigma^p)$ and
   $\psi(y) = \mathrm{unit}(y V \sigma^p)$ with the singular values $\sigma$ of the last
   round. A direction in which the two sides agree counts, one that is noise does not.
2. *Match* softly: the entropic transport plan P between a random batch of each side
   under the cost $-\phi(x)\cdot\psi(y)$ (Sinkhorn). No row's partner is there, but its
   neighbourhood is; and every row is used equally often, so that there are no hubs.
3. *Learn*: $C = X^\top P Y$, averaged with the rounds before, and its SVD
   $U \sigma V^\top$ is the new map. Over *fresh* batches the accidents of each cancel,
   while mutual nearest neighbours soon confirm their own mistakes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Generator, Tensor
from tqdm.auto import tqdm

from ..spaces.files import ConfigError
from ..spaces.rows import unit
from ..spaces.space import Space
from .anchors import AnchorConfig, find_anchors
from .base import Clock, Rows, Stages, as_space, check_minima
from .few_pairs import Pairs, check_pairs, pair_moment, start_with
from .grow import GrowConfig, grow
from .linalg import sample_rows, whitening
from .linear import Fronts, Learned, LinearTranslator
from .nuisance import without_nuisance
from .sinkhorn import reduced_precision_matmul, scalings


@dataclass(frozen=True)
class Phase:
    """`n_iter` rounds: rows a side in a batch, the plan's temperature, the exponent p
    of the singular values, and the decay of the moving average of cross moments."""

    n_iter: int
    batch_size: int
    temperature: float
    singular_value_exponent: float
    ema_decay: float

    def __post_init__(self) -> None:
        check_minima(self, n_iter=0, batch_size=2, temperature=1e-6)
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay = {self.ema_decay} must be in [0, 1)")


PHASES = (
    Phase(15, 2048, temperature=0.05, singular_value_exponent=1.0, ema_decay=0.3),
    Phase(20, 4096, temperature=0.04, singular_value_exponent=0.6, ema_decay=0.3),
    Phase(10, 8192, temperature=0.03, singular_value_exponent=0.5, ema_decay=0.3),
    Phase(8, 16384, temperature=0.035, singular_value_exponent=0.4, ema_decay=0.3),
)
COMPARED = 3  # phases before runs are compared: early objectives favour wrong ones, too
STARTS = {"anchors": ("anchors",), "grown": ("grown",), "best": ("anchors", "grown")}


@dataclass(frozen=True)
class SelfLearnConfig:
    """Where to start, the phases of self-learning, the shrinkage of the whitening, the
    Sinkhorn iterations of a plan, the number of initialisations, and whether leading
    axes that only one side has are looked for (`nuisance`) and left out: with two or
    more phases, of a fit without them and one with them the higher objective is kept.

    `start` is from "anchors", from the "grown" game (`align.grow`), or from each and
    the "best" kept. A start may lead into a map that is wrong in part and stays so. So
    three phases run from `n_init` starts of a kind (one, if there is one phase), and
    what phases remain continue the run of the highest objective, which needs no pair.

    A side's covariance is shrunk as if `shrinkage_rows` rows of equal variance in all
    directions had been seen beside its own n: with a smaller ridge, shrinkage_rows / n
    of the mean variance, the whitening amplifies what the two samples do not share. A
    plan of the last phase takes 4 bytes for each pair of rows, 1.1 GB. Constants were
    set while watching scores on MiniLM to Granite, Arctic and MiniLM to WordLlama and
    back, on the experiments' evaluation texts and, for the last phase and `n_init`,
    their splits of seeds 0 to 4; no fit sees a pair.
    """

    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    phases: tuple[Phase, ...] = PHASES
    shrinkage_rows: float = 12_000
    sinkhorn_iters: int = 6
    n_init: int = 2
    start: Literal["anchors", "grown", "best"] = "anchors"
    grow: GrowConfig = field(default_factory=GrowConfig)
    drop_nuisance: bool = True

    def __post_init__(self) -> None:
        check_minima(self, sinkhorn_iters=1, n_init=1, shrinkage_rows=1e-6)
        if self.start not in STARTS:
            raise ConfigError(f"start = {self.start!r}; choose {', '.join(STARTS)}")


@dataclass(frozen=True, eq=False)
class SharedSubspace:
    """Shared directions of whitened spaces, u `(d_s, r)` and v `(d_t, r)`, and how
    strongly they are shared: singular values s `(r,)`, falling."""

    u: Tensor
    s: Tensor
    v: Tensor

    @classmethod
    def of(cls, cross: Tensor) -> SharedSubspace:
        """From a cross moment `(d_s, d_t)`, by its SVD."""
        u, s, vh = torch.linalg.svd(cross, full_matrices=False)
        return cls(u, s, vh.T)

    def weights(self, exponent: float) -> Tensor:
        """Weights `(r,)` of the directions, (s / s_1)^exponent."""
        return (self.s / self.s[0]) ** exponent

    def features(self, x: Tensor, y: Tensor, exponent: float) -> tuple[Tensor, Tensor]:
        """Unit features `(n, r)`, `(m, r)` of whitened rows, directions weighted."""
        weight = self.weights(exponent)
        return unit(x @ self.u * weight), unit(y @ self.v * weight)


class SelfLearn(LinearTranslator):
    """A start, then self-learning by transport between fresh batches; linear."""

    name = "selflearn"
    narrows = True

    def __init__(self, config: SelfLearnConfig | None = None) -> None:
        super().__init__()
        self.config = config or SelfLearnConfig()
        self._pairs = check_pairs(None, 0, 0)
        self._without: dict[str, tuple[int, ...]] = {}

    def fit(
        self, source: Rows, target: Rows, *, seed: int = 0, progress: bool = False,
        pairs: Pairs | None = None,
    ) -> SelfLearn:  # fmt: skip
        """Learn from unpaired rows, and from `pairs` (i, j) where some are known.

        Row i[k] of the source `(n, d_s)` and row j[k] of the target `(m, d_t)` are of
        one text (`few_pairs`). Else as `Translator.fit`.
        """
        source, target = as_space(source, "source"), as_space(target, "target")
        self._pairs = check_pairs(pairs, source.n, target.n)
        return super().fit(source, target, seed=seed, progress=progress)

    def _fronts(self, x: Tensor, y: Tensor, seed: int) -> Fronts:
        fronts, self._without = super()._fronts(x, y, seed), {}
        if self.config.drop_nuisance:
            fronts, (i, j) = without_nuisance(x, y, fronts, seed)
            self._without = {"source_without": i, "target_without": j} if i or j else {}
        return fronts

    def _fit(self, source: Space, target: Space, seed: int, progress: bool) -> Stages:
        phases = self.config.phases
        stages = super()._fit(source, target, seed, progress)
        if not self._without or len(phases) < 2:  # too early to compare
            return stages
        whole = SelfLearn(replace(self.config, drop_nuisance=False))
        whole._pairs, compared = self._pairs, min(COMPARED, len(phases))
        others = whole._fit(source, target, seed, progress)
        if others[compared].objective > stages[compared].objective:
            self._without, self.weight, stages = {}, whole.weight, others
        return stages

    def _learn(self, x: Tensor, y: Tensor, seed: int, progress: bool) -> Learned:
        c, generator = self.config, Generator().manual_seed(seed)
        early, rest = c.phases[:COMPARED], c.phases[COMPARED:]
        starts = STARTS[c.start] * (c.n_init if len(c.phases) > 1 else 1)
        iters = {
            "anchors": c.anchors.vote_rounds + 1,
            "grown": c.grow.n_steps * sum(k <= x.shape[1] for k in c.grow.axes),
        }
        total = sum(iters[start] + sum(p.n_iter for p in early) for start in starts)
        total += sum(p.n_iter for p in rest)
        white_x, white_y = (whitening(z, c.shrinkage_rows / len(z)) for z in (x, y))
        u, v = x @ white_x, y @ white_y
        moment, n_pairs = pair_moment(u, v, self._pairs)
        with tqdm(total=total, desc=self.name, disable=not progress) as bar:
            settings, runs = (c.sinkhorn_iters, generator, bar, moment), []
            for start in starts:
                clock, sides = Clock(), (x, y, white_x, white_y)
                shared, objective, detail = self._start(start, *sides, generator, bar)
                if moment is not None:
                    cross = (shared.u * shared.s) @ shared.v.T
                    shared = SharedSubspace.of(start_with(cross, moment, n_pairs))
                stages = [clock.stage(start, objective, **detail, **self._without)]
                for k, phase in enumerate(early, 1):
                    shared, objective = self_learn(u, v, shared, phase, *settings)
                    stages.append(clock.stage(f"self-learn {k}", objective))
                runs.append((objective, shared, stages))
            _, shared, stages = max(runs, key=lambda run: run[0])
            for k, phase in enumerate(rest, len(early) + 1):
                clock = Clock()
                shared, objective = self_learn(u, v, shared, phase, *settings)
                stages.append(clock.stage(f"self-learn {k}", objective))
        if not c.phases:
            return translation_matrix(white_x, shared), stages
        strengths = disattenuated_strengths(u, v, shared, c.phases[-1], *settings[:2])
        return translation_matrix(white_x, shared, strengths), stages

    def _start(
        self, start: str, x: Tensor, y: Tensor, white_x: Tensor, white_y: Tensor,
        generator: Generator, bar: tqdm,
    ) -> tuple[SharedSubspace, float, dict[str, float]]:  # fmt: skip
        # Shared directions of whitened rows, an objective, and what else is known.
        c = self.config
        if start == "grown":
            grown = grow(x, y, c.grow, generator, bar)
            u, v = grown.source_axes @ grown.maps[0], grown.target_axes
            loss = grown.losses[0].item()
            return SharedSubspace(u, torch.ones_like(u[0]), v), -loss, {}
        found = find_anchors(x, y, c.anchors, generator, white_x, white_y, bar)
        shared = SharedSubspace.of(found.cross())
        return shared, found.agreement, {"kernels": found.objective}


def self_learn(
    x: Tensor, y: Tensor, shared: SharedSubspace, phase: Phase, sinkhorn_iters: int,
    generator: Generator, bar: tqdm | None = None, moment: Tensor | None = None,
) -> tuple[SharedSubspace, float]:  # fmt: skip
    """Rounds of project, match, learn on whitened rows `(n, d_s)` and `(m, d_t)`.

    `moment` `(d_s, d_t)` is added to each round's cross moment (`few_pairs`). Returns
    shared directions and the last round's objective, a mean cosine, tr(P' phi psi').
    """
    bar = tqdm(disable=True) if bar is None else bar
    average: Tensor | None = None
    b: Tensor | None = None
    objective = 0.0
    # One plan's memory for all rounds: fresh pages cost as much as a matrix product.
    kernel = x.new_empty(*(min(phase.batch_size, len(z)) for z in (x, y)))
    for number in range(phase.n_iter):
        rows_x, rows_y = (sample_rows(z, phase.batch_size, generator) for z in (x, y))
        phi, psi = shared.features(rows_x, rows_y, phase.singular_value_exponent)
        with reduced_precision_matmul():
            torch.mm(phi / phase.temperature, psi.T, out=kernel).exp_()
        # The same rows every round: the last round's scaling is nearly this one's.
        known = b if rows_x is x and rows_y is y else None
        a, b = scalings(kernel, sinkhorn_iters if known is None else 2, known)
        with reduced_precision_matmul():
            cross = (rows_x * a[:, None]).T @ (kernel @ (rows_y * b[:, None]))
            if number == phase.n_iter - 1:
                pulled = kernel @ (psi * b[:, None])
                objective = (phi * a[:, None] * pulled).sum().item()
        cross = cross if moment is None else cross + moment
        cross /= cross.norm()
        if average is not None:
            cross = phase.ema_decay * average + (1 - phase.ema_decay) * cross
        average = cross
        shared = SharedSubspace.of(cross)
        bar.update()
    return shared, objective


def disattenuated_strengths(
    x: Tensor, y: Tensor, shared: SharedSubspace, phase: Phase, sinkhorn_iters: int,
    generator: Generator,
) -> Tensor:  # fmt: skip
    r"""How strongly each direction is shared `(r,)`, corrected for what plans lose.

    A plan joins neighbours, not pairs, and so every $\sigma$ comes out too small, most
    where neighbours differ. How much is lost shows within one side, where the truth is
    1: $r_x$ is what a plan among the rows of x (none with itself) finds. As with two
    noisy measurements (Spearman 1904, the correction for attenuation) the strength is
    $\sigma / \sqrt{r_x r_y}$, here with largest 1.
    """
    weight = shared.weights(phase.singular_value_exponent)
    lost = torch.ones_like(shared.s)
    for z, axes in (x, shared.u), (y, shared.v):
        rows = sample_rows(z, phase.batch_size, generator) @ axes
        phi = unit(rows * weight)
        with reduced_precision_matmul():
            kernel = (phi / phase.temperature @ phi.T).exp_().fill_diagonal_(0)
        a, b = scalings(kernel, sinkhorn_iters)
        with reduced_precision_matmul():
            pulled = kernel @ (rows * b[:, None])
        kept = (rows * a[:, None] * pulled).sum(dim=0)
        lost = lost * kept.clamp_min(0.01 * kept.max())  # noise keeps nothing
    strengths = shared.s / lost.sqrt()
    return strengths / strengths.max()


def translation_matrix(
    white_x: Tensor, shared: SharedSubspace, strengths: Tensor | None = None
) -> Tensor:
    r"""The map to the target's coordinates, $W = C_x^{-1/2}\, U \rho V^\top$.

    $\rho$ is `strengths`, where known, else $\sigma^{0.3}$, which gives weak directions
    back some of what anchors and plans take from them. The target's whitening is not
    undone (`paired.Whitened`, more certain of its map, undoes half): its few large
    directions would dominate. Ranks are better so, at some cost in cosine.
    """
    rho = shared.s**0.3 if strengths is None else strengths
    return white_x @ (shared.u * rho) @ shared.v.T
