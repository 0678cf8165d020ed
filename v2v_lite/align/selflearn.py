r"""Self-learning: from coarse anchors to a precise map, without a pair.

Ours. Both sides are whitened, x -> x C_x^{-1/2}, so that nothing is left to learn but
a rotation, and how much each direction is shared. A round (chapter 6) has three steps.

1. *Look* through the shared directions only: rows become features
   $\phi(x) = \mathrm{unit}(x U \sigma^p)$, $\psi(y) = \mathrm{unit}(y V \sigma^p)$ with
   the singular values $\sigma$ of the last round. A direction in which the two sides
   agree counts, one that is still noise does not.
2. *Match* softly: the entropic transport plan P between a random batch of each side
   under the cost $-\phi(x)\cdot\psi(y)$ (Sinkhorn). No row's partner is there, but its
   neighbourhood is; and every row is used equally often, which no nearest neighbour
   search ensures (hubs).
3. *Learn*: $C = X^\top P Y$, averaged with the rounds before, and its SVD
   $U \sigma V^\top$ is the new map.

Mutual nearest neighbours stall, because the neighbours of disjoint texts are not pairs
and the map soon confirms its own mistakes. The average over plans of *fresh* batches
keeps what all of them say, and the batches' own accidents cancel.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..spaces.files import DataError
from ..spaces.rows import unit
from .anchors import AnchorConfig, find_anchors
from .base import LinearTranslator, Stage
from .paired import power
from .registry import register
from .sinkhorn import coarse_products, scalings


@dataclass(frozen=True)
class Phase:
    """`rounds` rounds alike: `batch` rows a side, temperature, the exponent p of the
    singular values (`focus`), and the share of the average that a round leaves."""

    rounds: int
    batch: int
    temperature: float
    focus: float
    keep: float

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.batch < 2:
            raise DataError(f"{self}: rounds must be >= 0 and batch >= 2")
        if self.temperature <= 0 or not 0 <= self.keep < 1:
            raise DataError(f"{self}: temperature must be > 0 and keep in [0, 1)")


PHASES = (
    Phase(rounds=15, batch=2048, temperature=0.05, focus=1.0, keep=0.3),
    Phase(rounds=20, batch=4096, temperature=0.04, focus=0.6, keep=0.3),
    Phase(rounds=10, batch=8192, temperature=0.03, focus=0.5, keep=0.3),
    Phase(rounds=8, batch=16384, temperature=0.035, focus=0.4, keep=0.3),
)


@dataclass(frozen=True)
class SelfLearnConfig:
    """Anchors, the phases of self-learning, the prior of the whitening, the Sinkhorn
    steps of a plan, and how many starts are tried.

    Anchors sometimes lead into a map that is wrong in part and stays so. So all phases
    but the last run from `tries` anchors, and the last goes on from the try whose
    objective, which needs no pair, is highest.

    A side's covariance is shrunk as if `prior_rows` rows of equal variance in all
    directions had been seen beside its own n: the ridge is prior_rows / n of the mean
    variance. It matters most of all: with less, the whitening blows up directions that
    the two samples do not share. A plan of the last phase takes 4 bytes for each pair
    of rows, 1.1 GB. The constants were set while watching scores on MiniLM to Granite,
    Arctic and MiniLM to WordLlama and back, on the evaluation texts and, for
    the last phase and the tries, its splits of seeds 0 to 4; no fit sees a pair.
    """

    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    phases: tuple[Phase, ...] = PHASES
    prior_rows: float = 12_000
    sinkhorn: int = 6
    tries: int = 2

    def __post_init__(self) -> None:
        if self.prior_rows <= 0 or self.sinkhorn < 1 or self.tries < 1:
            raise DataError(
                f"prior_rows = {self.prior_rows} must be > 0, "
                f"sinkhorn = {self.sinkhorn} and tries = {self.tries} >= 1"
            )


@dataclass(frozen=True, eq=False)
class Shared:
    """Shared directions of two whitened spaces: u `(d_s, r)`, v `(d_t, r)`, and how
    strongly they are shared, s `(r,)`, falling."""

    u: Tensor
    s: Tensor
    v: Tensor

    @classmethod
    def of(cls, cross: Tensor) -> Shared:
        """From a cross moment `(d_s, d_t)`, by its SVD."""
        u, s, vh = torch.linalg.svd(cross, full_matrices=False)
        return cls(u, s, vh.T)

    def features(self, x: Tensor, y: Tensor, focus: float) -> tuple[Tensor, Tensor]:
        """Unit features of whitened rows, directions weighted by s^focus."""
        weight = (self.s / self.s[0]) ** focus
        return unit(x @ self.u * weight), unit(y @ self.v * weight)


@register
class SelfLearn(LinearTranslator):
    """Anchors, then self-learning by transport between fresh batches; linear."""

    name = "selflearn"

    def __init__(self, config: SelfLearnConfig | None = None) -> None:
        super().__init__()
        self.config = config or SelfLearnConfig()

    def _learn(
        self, x: Tensor, y: Tensor, seed: int, progress: bool
    ) -> tuple[Tensor, Sequence[Stage]]:
        from tqdm.auto import tqdm

        c, generator = self.config, torch.Generator().manual_seed(seed)
        *early, last = c.phases or (None,)
        tries = c.tries if early else 1
        once = c.anchors.rounds + 1 + sum(phase.rounds for phase in early)
        total = tries * once + (last.rounds if last else 0)
        whites = [whitening(z, c.prior_rows / len(z)) for z in (x, y)]
        white = x @ whites[0], y @ whites[1]
        with tqdm(total=total, desc=self.name, disable=not progress) as bar:

            def learn(shared: Shared, phase: Phase, name: str) -> Shared:
                clock = time.perf_counter()
                shared, objective = self_learn(
                    *white, shared, phase, c.sinkhorn, generator, bar
                )
                stages.append(Stage(name, objective, time.perf_counter() - clock))
                return shared

            found = []
            for _ in range(tries):
                clock, stages = time.perf_counter(), []
                anchors = find_anchors(x, y, c.anchors, generator, *whites, bar)
                shared = Shared.of(anchors.cross())
                seconds = time.perf_counter() - clock
                detail = {"kernels": anchors.objective}
                stages.append(Stage("anchors", anchors.agreement, seconds, detail))
                for number, phase in enumerate(early, 1):
                    shared = learn(shared, phase, f"self-learn {number}")
                found.append((stages[-1].objective, shared, stages))
            _, shared, stages = max(found, key=lambda one: one[0])
            if last is None:
                return translation(whites[0], shared), stages
            shared = learn(shared, last, f"self-learn {len(c.phases)}")
        strength = unattenuated(*white, shared, last, c.sinkhorn, generator)
        return translation(whites[0], shared, strength), stages


def self_learn(
    x: Tensor,
    y: Tensor,
    shared: Shared,
    phase: Phase,
    sinkhorn: int,
    generator: torch.Generator,
    bar=None,
) -> tuple[Shared, float]:
    """Rounds of look, match, learn on whitened rows `(n, d_s)` and `(m, d_t)`.

    Returns the new shared directions and the objective: the mean over the last round's
    plan of the features' cosine, tr(P' phi psi').
    """
    average, objective, b = None, 0.0, None
    # One plan's memory for all rounds: fresh pages cost as much as a matrix product.
    kernel = x.new_empty(min(phase.batch, len(x)), min(phase.batch, len(y)))
    for number in range(phase.rounds):
        rows_x, rows_y = (_draw(z, phase.batch, generator) for z in (x, y))
        phi, psi = shared.features(rows_x, rows_y, phase.focus)
        with coarse_products():
            torch.mm(phi / phase.temperature, psi.T, out=kernel).exp_()
        # The same rows every round: the last round's scaling is nearly this one's.
        known = b if rows_x is x and rows_y is y else None
        a, b = scalings(kernel, sinkhorn if known is None else 2, known)
        with coarse_products():
            cross = (rows_x * a[:, None]).T @ (kernel @ (rows_y * b[:, None]))
            if number == phase.rounds - 1:
                pulled = kernel @ (psi * b[:, None])
                objective = (phi * a[:, None] * pulled).sum().item()
        cross /= cross.norm()
        if average is not None:
            cross = phase.keep * average + (1 - phase.keep) * cross
        average = cross
        shared = Shared.of(cross)
        if bar is not None:
            bar.update()
    return shared, objective


def whitening(x: Tensor, ridge: float) -> Tensor:
    """C^{-1/2} `(d, d)` of centred rows, `ridge` of the mean variance added."""
    return power(x.T @ x / x.shape[0], -0.5, ridge)


def unattenuated(
    x: Tensor,
    y: Tensor,
    shared: Shared,
    phase: Phase,
    sinkhorn: int,
    generator: torch.Generator,
) -> Tensor:
    r"""How strongly each direction is shared `(r,)`, corrected for what plans lose.

    A plan joins neighbours, not pairs, and so every $\sigma$ comes out too small, most
    in directions in which neighbours differ. How much is lost shows within one side,
    where the truth is 1: $r_x$ is what a plan among the rows of x (none with itself)
    finds in a direction. As with two noisy measurements (Spearman 1904, the correction
    for attenuation) the strength is $\sigma / \sqrt{r_x r_y}$, here with largest 1.
    """
    weight = (shared.s / shared.s[0]) ** phase.focus
    lost = 1.0
    for z, axes in (x, shared.u), (y, shared.v):
        rows = _draw(z, phase.batch, generator) @ axes
        phi = unit(rows * weight)
        with coarse_products():
            kernel = (phi / phase.temperature @ phi.T).exp_().fill_diagonal_(0)
        a, b = scalings(kernel, sinkhorn)
        with coarse_products():
            pulled = kernel @ (rows * b[:, None])
        kept = (rows * a[:, None] * pulled).sum(dim=0)
        lost = lost * kept.clamp_min(0.01 * kept.max())  # noise keeps nothing
    strength = shared.s / lost.sqrt()
    return strength / strength.max()


def translation(
    white_x: Tensor, shared: Shared, strength: Tensor | None = None
) -> Tensor:
    r"""The map to the target's coordinates, $W = C_x^{-1/2}\, U \rho V^\top$.

    $\rho$ is `strength`, where known, else $\sigma^{0.3}$, which gives weak directions
    back some of the weight that anchors and plans take from them. The target's own
    whitening is not undone: that would give its few large directions the say, and a map
    learned without pairs is less sure than `paired.Whitened`, which undoes half. It
    ranks better so, at some cost in cosine.
    """
    rho = shared.s**0.3 if strength is None else strength
    return white_x @ (shared.u * rho) @ shared.v.T


def _draw(z: Tensor, size: int, generator: torch.Generator) -> Tensor:
    if size >= z.shape[0]:
        return z
    return z[torch.randperm(z.shape[0], generator=generator)[:size].to(z.device)]
