r"""Trained discriminators as judges of the grown game (`align.grow`).

Kernel densities write the best judge down; here networks have to learn it, as in the
GAN of chapter 8. Every hypothesis W `(k, k)` has two judges of its own: $D_y$ tells x W
from rows y, and $D_x$ tells y W^T from rows x. They are drawn anew at each stage, learn
for a few steps before every step of W, and say where their game's loss falls:

$$ C = -\nabla_W \left[ \mathrm{mean}_i\, g(D_y(x_i W)) + \mathrm{mean}_j\, g(D_x(y_j
W^\top)) \right] . $$

They see rows scaled to a mean square of 1 a coordinate, or their first layer would be
nearly linear where axes are many. The judges of all hypotheses train as one program of
the layers in `layers`, and no number passes from one hypothesis to another.

    grown = grow(x, y, JUDGED, generator, judge=trained_judges(JudgeConfig()))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor, nn

from ..align.base import check_minima
from ..align.grow import GrowConfig, Judge
from ..align.linalg import sample_rows
from ..spaces.files import ConfigError
from .config import NetConfig
from .layers import stack
from .losses import GAMES, d_loss, g_loss, gradient_penalty
from .step import frozen

# A growth that trained judges can afford: fewer hypotheses and rows. Judges lag behind
# the maps, so there are twice the steps of half the size.
JUDGED = GrowConfig(n_children=4, n_steps=100, batch_size=256, lr=0.05, beam_size=6)
# No norm: a judge lives for a stage, and R1 keeps it smooth.
PLAIN = NetConfig(norm="none", dropout=0.0, residual=False)


@dataclass(frozen=True)
class JudgeConfig:
    """What judges are and how they learn.

    A judge has `depth` linear layers with SiLU between, `hidden_dim` wide. It minimises
    the loss of `game`, one of `losses.GAMES` with a discriminator, and every
    `r1_every`-th step the gradient penalty R1 of weight `r1`, as many times as large;
    by Adam of rate `lr`, `n_steps` steps on `batch_size` rows a side before each step
    of the maps, and `n_warmup` more before the first, which a judge that knows nothing
    would lead astray. Constants were set on MiniLM to Granite, seed 0.
    """

    hidden_dim: int = 64
    depth: int = 3
    game: str = "least_squares"
    r1: float = 0.05
    r1_every: int = 3
    lr: float = 6e-3
    n_steps: int = 4
    n_warmup: int = 30
    batch_size: int = 48

    def __post_init__(self) -> None:
        check_minima(self, depth=2, batch_size=2, lr=1e-9, r1=0, n_warmup=0)
        known = [name for name, game in GAMES.items() if game.d_loss is not None]
        if self.game not in known:
            fact = f"game = {self.game!r} has no discriminator to train"
            raise ConfigError(f"{fact}; choose one of {', '.join(known)}")


def trained_judges(config: JudgeConfig) -> Judge:
    """What `grow` takes as `judge`: discriminators that train beside the maps."""
    return partial(_Judges, config)


def judge_direction(
    judges: nn.Module, maps: Tensor, x: Tensor, y: Tensor, game: str
) -> Tensor:
    """C of the module's text `(b, k, k)`, for maps `(b, k, k)` and rows `(n, k)`,
    `(m, k)`. `judges` takes rows `(2 b, B, k)` to logits `(2 b, B, 1)`: the first b are
    those among y, the others those among x."""
    maps = maps.detach().requires_grad_()
    with torch.enable_grad(), frozen(judges):
        real, fake = _sides(maps, x, y)
        opposed = judges(real)[..., 0] if GAMES[game].needs_real else None
        loss = g_loss(game, judges(fake)[..., 0], opposed)
        return -torch.autograd.grad(loss.sum(), maps)[0]


class _Judges:
    # The judges of one stage, their optimiser and the rows they learn from.

    def __init__(
        self, config: JudgeConfig, x: Tensor, y: Tensor, number: int,
        generator: Generator,
    ) -> None:  # fmt: skip
        widths = x.shape[1], config.hidden_dim, 1
        depth, self.config, self.steps = config.depth - 1, config, 0
        self.nets = stack(2 * number, widths, depth, PLAIN, generator).to(x)
        self.adam = torch.optim.Adam(self.nets.parameters(), config.lr)
        self.scale, self.generator = 1 / y.square().mean().sqrt(), generator
        self.x, self.y = x * self.scale, y * self.scale

    def __call__(self, maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
        first = 0 if self.steps else self.config.n_warmup
        for _ in range(first + self.config.n_steps):
            self.learn(maps)
        x, y = x * self.scale, y * self.scale
        return judge_direction(self.nets, maps, x, y, self.config.game)

    @torch.enable_grad()
    def learn(self, maps: Tensor) -> None:
        """One step of all judges on fresh rows, the same for every hypothesis."""
        c, size = self.config, self.config.batch_size
        rows = (sample_rows(z, size, self.generator) for z in (self.x, self.y))
        real, fake = _sides(maps.detach(), *rows)
        logits = self.nets(torch.cat([real, fake], dim=1))[..., 0]
        loss = d_loss(c.game, *logits.split(real.shape[1], dim=1)).sum()
        if c.r1 and self.steps % c.r1_every == 0:
            weight = c.r1 * c.r1_every
            loss = loss + gradient_penalty(self.nets, real, weight).sum()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self.steps += 1


def _sides(maps: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    # Real and fake rows (2 b, B, k): y and x W for the first b, x and y W^T for others.
    n, b = min(len(x), len(y)), len(maps)
    x, y = x[:n], y[:n]
    real = torch.cat([y.expand(b, -1, -1), x.expand(b, -1, -1)])
    return real, torch.cat([x @ maps, y @ maps.mT])
