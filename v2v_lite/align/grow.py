r"""The game grown from two axes: adversarial alignment from scratch, without anchors.

In all dimensions at once a random start never arrives: the search fails, not the game's
loss. In the plane of the two leading principal axes every rotation and reflection can
be looked at, and the lowest loss is the truth. So the search begins there and carries
its answer up: a stage adds axes to every map W `(k, k)` that it keeps, tries the new
block both as rotation and as reflection, plays the game from each, and keeps those of
the lowest loss (chapter 12).

The density game of orthogonal maps is one loss for both directions,

$$ L(W) = -\mathrm{mean}_i \log \sum_j k(x_i W, y_j) - \mathrm{mean}_j \log \sum_i
k(x_i W, y_j), \qquad k(a, b) = e^{-\lVert a - b \rVert^2 / 2 h^2} , $$

up to constants: $\lVert x W - y \rVert = \lVert x - y W^\top \rVert$. Rows are scaled
by one factor a side, so that both have the variance 1 in the axes at hand. A step goes
along the orthogonal group, $C - W C^\top W$ with C the direction in which the loss
falls: what it leaves out of C would only stretch W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor
from tqdm.auto import tqdm

from ..spaces.files import ConfigError, DataError
from .base import check_minima
from .linalg import leading_axes, orthogonalised, random_orthogonal, sample_rows

# Of maps (b, k, k) and rows (n, k), (m, k): where the loss falls, (b, k, k).
Direction: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
# Makes the direction of one stage, of its rows (n, k), (m, k) and number of maps.
Judge: TypeAlias = Callable[[Tensor, Tensor, int, Generator], Direction]


@dataclass(frozen=True)
class GrowConfig:
    """The stages of a growing game, and what is tried and kept in each.

    `axes` are the numbers of leading principal axes. In the plane `n_angles` rotations
    and as many reflections are compared; later each map kept has `n_children` (half
    beyond 16 axes; two where one axis is added). All train for `n_steps` steps on
    `batch_size` rows a side, of size `lr` falling by a cosine, half as large beyond 8
    axes. The squared kernel width $h^2$ is `bandwidth` times the mean squared distance
    of two rows. Maps are compared by the loss on `score_rows` rows, and the `beam_size`
    lowest are kept (half from 16 axes, a quarter at the last) that differ from one
    another by more than `min_distance`: the squared difference as a share of the
    variance. Constants were set on MiniLM to Granite, seed 0.
    """

    axes: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24)
    n_angles: int = 36
    n_children: int = 6
    n_steps: int = 50
    batch_size: int = 384
    lr: float = 0.1
    bandwidth: float = 0.05
    score_rows: int = 1024
    beam_size: int = 8
    min_distance: float = 0.15

    def __post_init__(self) -> None:
        check_minima(
            self, lr=1e-6, bandwidth=1e-3, batch_size=2, score_rows=2, n_children=2,
            min_distance=0,
        )  # fmt: skip
        rising = all(a < b for a, b in zip(self.axes, self.axes[1:], strict=False))
        if not rising or self.axes[:1] != (2,):
            mend = "give rising numbers that begin at 2"
            raise ConfigError(f"axes = {self.axes}; {mend}")


@dataclass(frozen=True, eq=False)
class Grown:
    """What was grown: principal axes `(d_s, k)` and `(d_t, k)`, the orthogonal maps
    `(b, k, k)` between coordinates in them, lowest loss first, the losses `(b,)`, and
    the history of stages, each (k, its best map, its losses)."""

    source_axes: Tensor
    target_axes: Tensor
    maps: Tensor
    losses: Tensor
    history: tuple[tuple[int, Tensor, Tensor], ...] = ()

    def map(self, number: int = 0) -> Tensor:
        """The map `(d_s, d_t)` of the `number`-th hypothesis, of rank k."""
        return self.source_axes @ self.maps[number] @ self.target_axes.T


def grow(
    x: Tensor, y: Tensor, config: GrowConfig, generator: Generator,
    bar: tqdm | None = None, judge: Judge | None = None,
) -> Grown:  # fmt: skip
    """Grow orthogonal maps from centred rows `(n, d_s)` to `(m, d_t)`, without a pair.

    `judge` makes what the maps play against in a stage: kernel densities by default,
    trained discriminators in `vec2vec.grow`. Maps are always compared by the density
    loss. Raises DataError for rows of fewer dimensions than the first stage's two.
    """
    bar = tqdm(disable=True) if bar is None else bar
    narrow = min(x.shape[1], y.shape[1])
    stages = [k for k in config.axes if k <= narrow]
    if not stages:
        raise DataError(f"growing begins in two axes, but rows are {narrow}-d")
    axes_x, axes_y = (leading_axes(z, stages[-1]) for z in (x, y))
    x, y = x @ axes_x, y @ axes_y
    densities = partial(density_direction, bandwidth=config.bandwidth)
    maps, history = plane_maps(config.n_angles).to(x), []
    for k in stages:
        rows = _leading(x, k), _leading(y, k)
        maps = _widened(maps, k, config, generator)
        if k == 2:
            maps, _ = _best(maps, *rows, config, config.beam_size, generator)
        direction = judge(*rows, len(maps), generator) if judge else densities
        maps = _played(maps, *rows, config, direction, generator, bar)
        size = config.beam_size // (4 if k == stages[-1] else 2 if k > 14 else 1)
        maps, losses = _best(maps, *rows, config, max(size, 1), generator)
        history.append((k, maps[0], losses))
        bar.set_postfix(axes=k, loss=f"{losses[0]:.3f}")
    return Grown(axes_x, axes_y, maps, losses, tuple(history))


def plane_maps(n_angles: int) -> Tensor:
    """Rotations of the plane by equal angles, then as many reflections,
    `(2 n_angles, 2, 2)`."""
    angles = torch.arange(n_angles) * (2 * math.pi / n_angles)
    c, s = angles.cos(), angles.sin()
    rotations = torch.stack([c, s, -s, c], dim=1).view(-1, 2, 2)
    return torch.cat([rotations, rotations * torch.tensor([[1.0], [-1.0]])])


def density_loss(maps: Tensor, x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    r"""The game's loss `(b,)` of maps `(b, k, k)` on rows `(n, k)`, `(m, k)`.

    L(W) of the module's text with means in the place of sums, and $h^2$ `bandwidth`
    times the mean squared distance of two rows, twice the variance.
    """
    found = [
        -logs.logsumexp(dim=2).mean(dim=1) - logs.logsumexp(dim=1).mean(dim=1)
        for logs in _log_kernels(maps, x, y, bandwidth)
    ]
    return torch.cat(found) + math.log(len(x) * len(y))


def density_direction(maps: Tensor, x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    r"""Where the density loss falls, $C = X^\top A Y$ `(b, k, k)`.

    With K the kernel, $A = K \odot (1 / (n K 1) + 1 / (m K^\top 1))$. C is minus the
    gradient times h^2, but for a part S W with S symmetric, which would only stretch W.
    """
    ones, found = y.new_ones(len(y), 1), []
    for logs in _log_kernels(maps, x, y, bandwidth):
        kernel = logs.exp_()
        columns = len(y) * kernel.sum(dim=1).clamp_min(1e-30)[:, :, None]
        right = torch.cat([(y / columns), (y.expand(len(kernel), -1, -1))], dim=2)
        pulled = kernel @ torch.cat([right, ones.expand(len(kernel), -1, -1)], dim=2)
        by_columns, by_rows, rows = pulled.split((y.shape[1], y.shape[1], 1), dim=2)
        found.append(x.T @ (by_columns + by_rows / (len(x) * rows.clamp_min(1e-30))))
    return torch.cat(found)


def _log_kernels(
    maps: Tensor, x: Tensor, y: Tensor, bandwidth: float
) -> Iterator[Tensor]:
    # -|x W - y|^2 / 2 h^2, (2, n, m) at a time, which fits a cache. |x W| = |x|: with
    # -|x|^2 / 2 h^2 and 1 as two further coordinates it is one matrix product.
    a, b = (z.square().sum(dim=1, keepdim=True) for z in (x, y))
    width = bandwidth * (a.mean() + b.mean())
    right = torch.cat([y / width, torch.ones_like(b), b / (-2 * width)], dim=1).T
    left = torch.cat([a / (-2 * width), torch.ones_like(a)], dim=1)
    for some in maps.split(2):
        moved = torch.cat([x @ some, left.expand(len(some), -1, -1)], dim=2)
        yield moved @ right


def _leading(z: Tensor, k: int) -> Tensor:
    # The first k coordinates, scaled to a variance of 1 in all.
    return z[:, :k] / z[:, :k].square().sum(dim=1).mean().sqrt()


def _widened(maps: Tensor, k: int, config: GrowConfig, generator: Generator) -> Tensor:
    # The children diag(W, Q) of every map W; Q is random, of either determinant.
    if not (new := k - maps.shape[1]):
        return maps
    number = config.n_children if k <= 16 else config.n_children // 2
    children = []
    for w in maps:
        for child in range(2 if new == 1 else number):
            sign: Literal[1, -1] = 1 if child % 2 == 0 else -1
            q = random_orthogonal(new, generator=generator, determinant=sign)
            children.append(torch.block_diag(w, q.to(w)))
    return torch.stack(children)


def _played(
    maps: Tensor, x: Tensor, y: Tensor, config: GrowConfig, direction: Direction,
    generator: Generator, bar: tqdm,
) -> Tensor:  # fmt: skip
    # Muon's steps along the group, with its momentum, all maps side by side.
    lr = config.lr * (1 if maps.shape[1] <= 8 else 0.5)
    momentum = torch.zeros_like(maps)
    for step in range(config.n_steps):
        some = [sample_rows(z, config.batch_size, generator) for z in (x, y)]
        c = direction(maps, *some)
        along = c - maps @ c.mT @ maps
        along /= along.norm(dim=(1, 2), keepdim=True).clamp_min(1e-30)
        momentum = 0.9 * momentum + 0.1 * along
        rate = lr * (1 + math.cos(math.pi * step / config.n_steps)) / 2
        maps = maps + rate * orthogonalised(0.9 * momentum + 0.1 * along)
        for _ in range(2):  # back to the group
            maps = 1.5 * maps - 0.5 * maps @ (maps.mT @ maps)
        bar.update()
    return maps


def _best(
    maps: Tensor, x: Tensor, y: Tensor, config: GrowConfig, number: int,
    generator: Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    # The `number` lowest losses of maps that are not nearly one of those taken before.
    x, y = (sample_rows(z, config.score_rows, generator) for z in (x, y))
    losses = density_loss(maps, x, y, config.bandwidth)
    variance, taken = x.square().mean(dim=0), list[int]()
    for i in losses.argsort().tolist():
        gaps = (maps[taken] - maps[i]).square().sum(dim=2) @ variance
        if len(taken) < number and (gaps > config.min_distance * variance.sum()).all():
            taken.append(i)
    return maps[taken], losses[taken]
