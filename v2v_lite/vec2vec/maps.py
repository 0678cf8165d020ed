r"""Initial maps: how they are found without a pair, and as adapters' weights.

Between whitened spaces a right map is nearly a rotation, and an unpaired method finds
more than that: the singular values of its map $M = U \sigma V^\top$ say how far each
direction is shared. The nets start from the rotation $UV^\top$, the discriminators see
rows filtered by $\sigma$ (`nets.SpectralFilter`), and translations can be scaled by it
(`result.output_matrices`).

A grown map (`align.grow`) is of a few leading axes, and filters made of it would show
the discriminators nothing else. So one phase of self-learning from it comes first.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from ..align.anchors import find_anchors
from ..align.linalg import whitening
from ..align.selflearn import PHASES, SelfLearn, SelfLearnConfig
from ..spaces.rows import unit
from ..spaces.space import Space
from .config import Preset

Maps: TypeAlias = dict[tuple[str, str], Tensor]  # (source, target) -> (S, d_s, d_t)
Whitenings: TypeAlias = dict[str, Tensor | None]  # of each space, (d, d)
TINY = 1e-6  # a singular value below this fraction of the largest is float32's noise


def initial_maps(
    spaces: dict[str, Space], whitenings: Whitenings, preset: Preset,
    seeds: tuple[int, ...], progress: bool = False,
) -> Maps:  # fmt: skip
    """Maps `(S, d_s, d_t)` from each space to the last, between rows as the nets see
    them; none if `preset.init` is random. They are found on the CPU, one per seed."""
    if preset.init == "random":
        return {}
    *sources, target = spaces
    maps, known = {}, spaces[target].to("cpu")
    for name in sources:
        sides = spaces[name].to("cpu"), known, whitenings[name]
        found = [_find(*sides, preset, seed, progress) for seed in seeds]
        maps[name, target] = torch.stack(found)
    return maps


def _find(
    source: Space, target: Space, white: Tensor | None, preset: Preset, seed: int,
    progress: bool,
) -> Tensor:  # fmt: skip
    config = SelfLearnConfig()
    config = replace(config, anchors=replace(config.anchors, n_runs=preset.anchor_runs))
    if preset.init == "anchors" and white is not None:
        x, y = (unit(one.vectors - one.mean) for one in (source, target))
        both = [whitening(z, preset.whitening_rows / len(z)) for z in (x, y)]
        generator = torch.Generator().manual_seed(seed)
        anchors, draws = config.anchors, range(preset.anchor_draws)
        drawn = [find_anchors(x, y, anchors, generator, *both).cross() for _ in draws]
        return max(drawn, key=lambda cross: torch.linalg.matrix_norm(cross, "nuc"))
    if preset.init == "anchors":
        config = replace(config, phases=())
    if preset.init == "grown":
        config = replace(config, start="grown", phases=PHASES[:1], n_init=1)
    weight = SelfLearn(config).fit(source, target, seed=seed, progress=progress).weight
    # Undo self-learning's own whitening of the source if the nets' rows have one.
    return weight if white is None else torch.linalg.solve(white, weight)


def adapter_weights(maps: Tensor, latent_dim: int) -> tuple[Tensor, ...]:
    r"""Weights of linear adapters (A_s, B_s, A_t, B_t) with which nets begin as x W.

    Of W, `(S, d_s, d_t)`, scaled to singular values of root mean square 1, which no
    translation notices. The latent, `latent_dim` >= d_t, holds the target's coordinates
    and in spare ones, as far as they reach, what of the source W maps to zero: with $N$
    an orthonormal basis of that part,

        A_s = [W, N],  B_s = pinv(A_s),  A_t = [I, 0],  B_t = transpose(A_t).
    """
    seeds, d_s, d_t = maps.shape
    into = maps.new_zeros(seeds, d_s, latent_dim)
    for out, w in zip(into, maps, strict=True):
        u, s, _ = torch.linalg.svd(w)
        rank = int((s > s[0] * TINY).sum())
        out[:, :d_t] = w * (math.sqrt(rank) / s.norm())
        lost = u[:, rank : rank + latent_dim - d_t]
        out[:, d_t : d_t + lost.shape[1]] = lost
    back = torch.linalg.pinv(into, rtol=TINY)
    identity = torch.eye(d_t, latent_dim).expand(seeds, -1, -1)
    return into, back, identity, identity.mT
