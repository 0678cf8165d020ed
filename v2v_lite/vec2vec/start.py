r"""What the nets see of a space, and the map between two spaces that they start from.

Rows go in as they are, or centred, or whitened, $\mathrm{unit}(x - \mu)\, C^{-1/2}$
with a prior (chapter 6), and made unit again. Between whitened spaces a right map is
nearly a rotation, and a map found there has a second use: the singular values
of $M = U \sigma V^\top$ say how far each direction is shared. The nets start from the
rotation $UV^\top$, the judges look through $\sigma$ (`adversary.Glasses`), and a
translation can be read out by it (`read_out`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..align import SelfLearn, SelfLearnConfig, whitening
from ..align.anchors import find_anchors
from ..align.linalg import power
from ..spaces.rows import unit
from ..spaces.space import Space
from .adversary import Glasses
from .presets import Preset


@dataclass(frozen=True, eq=False)
class View:
    """How the nets see rows of a space: less `mean` `(d,)`, unit, times `white`
    `(d, d)`, unit again; either may be None."""

    mean: Tensor | None = None
    white: Tensor | None = None

    @classmethod
    def of(cls, space: Space, preset: Preset) -> View:
        """The view of a training space that a preset asks for."""
        if not preset.centred:
            return cls()
        if not preset.whitened:
            return cls(space.mean)
        x = unit(space.vectors - space.mean)
        return cls(space.mean, whitening(x, preset.whitened / space.n))

    def rows(self, x: Tensor) -> Tensor:
        """Rows `(n, d)` as the nets see them."""
        if self.mean is None:
            return x
        x = unit(x - self.mean.to(x.device))
        return x if self.white is None else unit(x @ self.white.to(x.device))


def start_maps(
    spaces: dict[str, Space],
    views: dict[str, View],
    preset: Preset,
    seeds: tuple[int, ...],
    progress: bool,
) -> dict[tuple[str, str], Tensor]:
    """Maps `(S, d_s, d_t)` from each space to the last, between rows as seen; none for
    a random start. They are found on the CPU, one for each seed."""
    if preset.start == "random":
        return {}
    *sources, target = spaces
    maps, known = {}, spaces[target].to("cpu")
    for name in sources:
        sides = spaces[name].to("cpu"), known, views[name]
        found = [_found(*sides, preset, seed, progress) for seed in seeds]
        maps[name, target] = torch.stack(found)
    return maps


def read_out(
    view: View, preset: Preset, glasses: Glasses | None, k: int
) -> Tensor | None:
    r"""What whitened translations are multiplied by, `(d, d)`; None without whitening.

    "variance": $C_t^{1/4}$, half of what whitening took from each direction, as in
    `paired.Whitened`; undone whole, the largest few would have the say.
    "shared": $V \rho V^\top$, as much as the start's map of seed k shares of it. With
    self-learning's $\rho$ the start is then self-learning's own map, strengths and all.
    """
    if view.white is None:
        return None
    if preset.read_out == "variance" or glasses is None:
        return power(view.white.double(), -0.5, 0.0).float()
    axes = glasses.axes[k].double()
    return ((axes * glasses.strength[k].double()) @ axes.mT).float()


def _found(
    source: Space, target: Space, view: View, preset: Preset, seed: int, progress: bool
) -> Tensor:
    config = SelfLearnConfig()
    config = replace(config, anchors=replace(config.anchors, n_runs=preset.anchor_runs))
    if preset.start == "anchors" and view.white is not None:
        x, y = (unit(one.vectors - one.mean) for one in (source, target))
        whites = [whitening(z, preset.whitened / len(z)) for z in (x, y)]
        generator = torch.Generator().manual_seed(seed)
        drawn = [
            find_anchors(x, y, config.anchors, generator, *whites).cross()
            for _ in range(preset.anchor_draws)
        ]
        return max(drawn, key=lambda cross: torch.linalg.matrix_norm(cross, "nuc"))
    if preset.start == "anchors":
        config = replace(config, phases=())
    weight = SelfLearn(config).fit(source, target, seed=seed, progress=progress).weight
    # Its own whitening of the source is undone, if the nets' rows have one already.
    return weight if view.white is None else torch.linalg.solve(view.white, weight)
