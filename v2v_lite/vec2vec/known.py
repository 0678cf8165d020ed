r"""A few known pairs in a training of two spaces: in its start, and in every step.

With P pairs of rows $(x_k, y_k)$, as the nets see them, the translator's losses gain

$$ L_{paired} = \frac{1}{2P} \sum_k d(F_{12}(x_k), y_k) + d(F_{21}(y_k), x_k) , $$

d the distance of the reconstruction loss, and a start from anchors or from the grown
game is joined with the pairs' cross moment, as in self-learning (`align.few_pairs`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..align.few_pairs import start_with
from ..spaces.files import DataError
from ..spaces.space import Space
from .config import LossConfig, Preset
from .losses import reconstruction
from .maps import Maps
from .nets import Nets

Known = dict[str, Tensor]


def check_pairs(spaces: Mapping[str, Space], pairs: Mapping[str, Space]) -> None:
    """Raise DataError unless `pairs` hold as many rows of either of two spaces."""
    both = [[(k, s.d) for k, s in one.items()] for one in (spaces, pairs)]
    sizes = [space.n for space in pairs.values()]
    if pairs and (both[0] != both[1] or len(sizes) != 2 or sizes[0] != sizes[1]):
        fact = f"pairs are {dict(pairs)}, the spaces {dict(spaces)}"
        raise DataError(f"{fact}; give equally many rows of two spaces, by their names")


def known_at(rows: Known, step: int, size: int, seeds: int) -> Known:
    """The pairs `{name: (S, P, d)}` of a step, `size` of the `rows` or all, in turn."""
    n = max((len(x) for x in rows.values()), default=0)
    some = torch.arange(step * size, (step + 1) * size) % n if n > size else slice(None)
    return {name: x[some].expand(seeds, -1, -1) for name, x in rows.items()}


def start_from_pairs(maps: Maps, rows: Known, preset: Preset) -> Maps:
    """Initial maps from anchors, or grown, joined with what the pairs say."""
    if not rows or preset.init not in ("anchors", "grown"):
        return maps
    x, y = (side.cpu() for side in rows.values())
    return {
        pair: torch.stack([start_with(one, x.T @ y, len(x)) for one in found])
        for pair, found in maps.items()
    }


def with_pairs(
    found: dict[str, Tensor], nets: Nets, known: Known, config: LossConfig
) -> dict[str, Tensor]:
    """The translator's losses `{name: (S,)}` with "paired", and a total that has it."""
    (one, x), (two, y) = known.items()
    forth = reconstruction(nets.translate(one, two, x), y, config.mse_sum)
    back = reconstruction(nets.translate(two, one, y), x, config.mse_sum)
    paired = (forth + back) / 2
    total = found["generator"] + config.paired_weight * paired
    return found | {"paired": paired, "generator": total}
