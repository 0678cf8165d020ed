r"""Leading axes that one side has and the other lacks, found without a pair.

A direction that has nothing to do with meaning, such as the length of the text, may
hold a seventh of one encoder's variance; some stores have had their leading directions
removed. Then clusters and leading axes of the two sides no longer correspond, and every
start without pairs goes wrong. A hypothesis h is that one of the five leading axes of
one side is best left out, or several from the first. Two looks tell whether it holds.

1. The *spectra*: shares of variance of encoders on like texts fall alike from axis to
   axis, and an axis too many shifts them against one another. The mismatch
   $D(h) = \frac18 \sum_{i<8} |\log \lambda^x_i(h) / \lambda^y_i(h)|$ costs nothing.
   Where it is large, the five hypotheses of the least are looked at again.
2. The *geometry*: how well the cosines between clusters of the one side match those of
   the other (`Anchors.objective`), which must rise by more than GAIN.

A shift of topics can look like such an axis. So `SelfLearn` makes a fit that leaves the
axes out and one that does not, and keeps that of the higher objective.

The bars were set on MiniLM to Granite, Arctic and WordLlama; of the bundled encoders as
they are no pair passes them.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Generator, Tensor

from .anchors import AnchorConfig, find_anchors
from .linalg import sample_rows
from .linear import Fronts, through

# Numbers of the axes that are left out of the source, of the target.
Dropped: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

LEADING, COMPARED, TRIED = 5, 8, 5
MISMATCH, GAIN = 0.15, 0.025
LEAST_ROWS, ROWS = 1000, 4096
QUICK = AnchorConfig(n_runs=8, n_clusters=24, n_init=60, vote_rounds=0)


def without_nuisance(
    x: Tensor, y: Tensor, fronts: Fronts, seed: int
) -> tuple[Fronts, Dropped]:
    """Fronts of unit centred rows `(n, d_s)`, `(m, d_t)` that leave nuisance axes out.

    `fronts` are what the rows are seen through already. Also which axes they are, of
    the principal ones of what is seen: mostly none; none of under 1,000 rows a side.
    """
    g, reached = Generator().manual_seed(seed), dict[Dropped, float]()
    seen = [through(front, z) for z, front in zip((x, y), fronts, strict=True)]
    both = [torch.linalg.eigh(z.T @ z / len(z)) for z in seen]
    spectra, axes = zip(*both, strict=True)
    some = [sample_rows(z, ROWS, g) for z in seen]

    def cleared(h: Dropped) -> list[Tensor]:
        gone = [a.flip(1)[:, list(which)] for a, which in zip(axes, h, strict=True)]
        return [torch.eye(len(a)).to(a) - a @ a.T for a in gone]

    few = min(len(x), len(y)) < LEAST_ROWS
    for h in [] if few else hypotheses(*(values.flip(0) for values in spectra)):
        a, b = (through(part, z) for z, part in zip(some, cleared(h), strict=True))
        white = (torch.eye(z.shape[1]).to(z) for z in (a, b))
        g.manual_seed(seed)
        reached[h] = find_anchors(a, b, QUICK, g, *white).objective
    best = max(reached, key=lambda h: reached[h], default=((), ()))
    if best == ((), ()) or reached[best] <= reached[(), ()] + GAIN:
        return fronts, ((), ())
    first, second = (
        part if front is None else front @ part
        for front, part in zip(fronts, cleared(best), strict=True)
    )
    return (first, second), best


def hypotheses(one: Tensor, other: Tensor) -> list[Dropped]:
    """What falling variances `(d_s,)`, `(d_t,)` suggest, and that nothing is wrong;
    empty where they fall alike."""
    narrow = min(len(one), len(other))
    if narrow < LEADING + COMPARED or mismatch(one, other) <= MISMATCH:
        return []
    sets: list[tuple[int, ...]] = [(i,) for i in range(LEADING)]
    sets += [tuple(range(k)) for k in range(2, LEADING + 1)]
    found: dict[Dropped, float] = {}
    for axes in sets:
        kept = [[i for i in range(len(v)) if i not in axes] for v in (one, other)]
        found[axes, ()] = mismatch(one[kept[0]], other)
        found[(), axes] = mismatch(one, other[kept[1]])
    return [((), ()), *sorted(found, key=lambda h: found[h])[:TRIED]]


def mismatch(one: Tensor, other: Tensor) -> float:
    """D of falling variances `(d_s,)` and `(d_t,)`."""
    logs = [(v / v.sum())[:COMPARED].clamp_min(1e-9).log() for v in (one, other)]
    return (logs[0] - logs[1]).abs().mean().item()
