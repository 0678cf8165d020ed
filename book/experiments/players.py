"""Deep nets and trained judges that play between two sides in a few principal axes.

Every net begins at random weights, between sides that were turned at random: nothing
knows the axes, nor the determinant of the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from v2v_lite.align import procrustes, random_orthogonal
from v2v_lite.align.linalg import principal_axes
from v2v_lite.measure.retrieval import TIE
from v2v_lite.spaces import unit
from v2v_lite.teaching.comparison import split_of
from v2v_lite.vec2vec import Networks, Preset, losses
from v2v_lite.vec2vec.config import (
    AdversarialConfig,
    LossConfig,
    NetConfig,
    OptimConfig,
)
from v2v_lite.vec2vec.optim import build_optimisers, set_learning_rates
from v2v_lite.vec2vec.step import (
    ForwardOutput,
    Losses,
    discriminator_losses,
    forward,
    generator_losses,
)

SIDES = ("source", "target")
WORLDS = {"copy": ("minilm", "minilm"), "real": ("minilm", "granite")}
TEMPERATURE = 0.05  # of the density loss that chooses among nets
#: All six losses on, least-squares judges, one learning rate for every part.
DEEP = Preset(
    "deep",
    NetConfig(16, 32, adapter_depth=1, backbone_depth=2, norm="none", dropout=0.0),
    AdversarialConfig(hidden_dim=48, depth=3, r1=0.1),
    LossConfig(cycle_weight=1.0, cycle_stop_gradient=False, vsp="self", vsp_weight=1.0,
               vsp_rows=48, latent_adv_weight=0.1),
    OptimConfig(lr=8e-3, d_lr=8e-3, d_eps=1e-8, betas=(0.5, 0.99), batch_size=96,
                schedule="cosine", warmup_steps=10),
)  # fmt: skip
DRAWS = 256  # turns that the score chooses among
# What a pass computes when only the judges learn from it.
JUDGED = replace(DEEP.loss, reconstruction_weight=0.0, vsp_reconstruction_weight=0.0,
                 cycle_weight=0.0, vsp_weight=0.0)  # fmt: skip


# ---- the worlds


@lru_cache(maxsize=4)
def rows_of(name: str) -> tuple[tuple[Tensor, Tensor], ...]:
    """Training rows and evaluation rows of both sides, on all axes of their side."""
    split, found = split_of(*WORLDS[name], 16_384, 0), []
    for train, held in (
        (split.source, split.eval_source),
        (split.target, split.eval_target),
    ):
        x, z = (unit(space.vectors - train.mean) for space in (train, held))
        axes = principal_axes((x.T @ x).double()).float()
        found.append((x @ axes, z @ axes))
    return tuple(found)


def world(name: str, axes: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """The first axes of both sides, the mean squared length 1; rows keep their own
    lengths."""
    found = []
    for train, held in rows_of(name):
        scale = train[:, :axes].square().sum(1).mean().sqrt()
        found.append((train[:, :axes] / scale, held[:, :axes] / scale))
    return tuple(found)


def lifted(rows: Tensor) -> Tensor:
    """Unit rows `(..., k + 1)` of rows `(..., k)` of any length: unit((x, 1)).

    The nets give unit rows; with a coordinate more these keep the length of x."""
    return F.normalize(F.pad(rows, (0, 1), value=1.0), dim=-1)


def rank(found: Tensor, true: Tensor) -> Tensor:
    """Mean rank of the true row among all, by cosine; `(S,)`."""
    own = (found * true).sum(-1, keepdim=True) - TIE
    return torch.stack([
        (f @ y.T >= o).sum(-1).float().mean()
        for f, y, o in zip(found, true.expand_as(found), own, strict=True)
    ])  # fmt: skip


# ---- nets that play


class Players:
    """Deep nets and their judges, each between sides that were turned at random.

    Turns are uniform over the orthogonal matrices, half of them reflections. `seen` is
    how many axes are shown; the others are 0.
    """

    def __init__(
        self, name: str, axes: int, nets: int, pool: int, seed: int = 0,
        preset: Preset = DEEP,
    ) -> None:  # fmt: skip
        self.g, self.axes, self.seen = Generator().manual_seed(seed), axes, axes
        self.preset, self.size = preset, nets
        (x, held_x), (y, held_y) = world(name, axes)
        self.train, self.held = (x, y), (held_x[:pool], held_y[:pool])
        self.others = held_x[pool:], held_y[pool:]  # for the paired reference alone
        latent = max(preset.net.latent_dim, axes + 8)
        width = max(preset.net.hidden_dim, axes // 2)
        net = replace(preset.net, latent_dim=latent, hidden_dim=width)
        widths = dict.fromkeys(SIDES, axes + 1)
        self.networks = Networks(widths, replace(preset, net=net), nets, self.g)
        self.turns = [self.draw(0, axes) for _ in SIDES]
        self.optimisers = build_optimisers(self.networks, preset.optim)

    def draw(self, low: int, high: int) -> Tensor:
        """A turn of the axes from `low` to `high` per net, of either determinant."""
        turns = torch.eye(self.axes).repeat(self.size, 1, 1)
        for turn in turns:
            turn[low:high, low:high] = random_orthogonal(high - low, generator=self.g)
        return turns

    def rows(self, rows: Tensor, side: int) -> Tensor:
        """Rows `(n, k)` or `(S, n, k)` as the nets see them, `(S, n, k + 1)`."""
        shown = rows * (torch.arange(self.axes) < self.seen)
        return lifted(shown.expand(self.size, -1, -1) @ self.turns[side])

    def batch(self) -> dict[str, Tensor]:
        """Rows of both sides, of unrelated texts."""
        size = self.size, self.preset.optim.batch_size
        drawn = [x[torch.randint(len(x), size, generator=self.g)] for x in self.train]
        return {side: self.rows(drawn[i], i) for i, side in enumerate(SIDES)}

    def step(self) -> dict[str, Tensor]:
        """Two updates of the judges and one of the nets; the losses `{name: (S,)}`."""
        nets, preset = self.networks.nets, self.preset
        with torch.no_grad():
            seen = forward(nets, self.batch(), JUDGED)
        self._update("discriminators", seen, discriminator_losses)
        output = forward(nets, self.batch(), preset.loss)
        found = self._update("discriminators", output, discriminator_losses)
        found |= self._update("nets", output, generator_losses)
        return {k: v.detach() for k, v in found.items()}

    def play(self, steps: int) -> list[dict[str, Tensor]]:
        """Some steps, rates rising for ten and then falling by a cosine to 0."""
        course, optim = [], replace(self.preset.optim, steps=steps)
        for step in range(steps):
            set_learning_rates(self.optimisers, optim, step)
            course.append(self.step())
        return course

    def _update(
        self, which: str, output: ForwardOutput, losses_of: Callable[..., Losses]
    ) -> Losses:
        found = losses_of(self.networks, output, self.preset)
        total = "generator" if which == "nets" else "discriminator"
        found[total].sum().backward()
        self.optimisers[which].step()
        self.networks.zero_grad()
        return found

    # ---- what chooses, without pairs

    @torch.no_grad()
    def score(self, rows: int = 512, parts: int = 6) -> Tensor:
        """The density loss in both directions, lower is better: the mean over `parts`
        of so many training rows a side. It compares clouds, and sees no pair."""
        nets, total = self.networks.nets, torch.zeros(self.size)
        for part in range(parts):
            drawn = slice(part * rows, (part + 1) * rows)
            x, y = (self.rows(z[drawn], i) for i, z in enumerate(self.train))
            there, back = nets.translate(*SIDES, x), nets.translate(*SIDES[::-1], y)
            for made, real in (there, y), (back, x):
                total += losses.density(made, real, TEMPERATURE) / parts
        return total

    @torch.no_grad()
    def best(self, per_seed: int, keep: int, apart: float = 0.08) -> Tensor:
        """Each seed's best nets by `score`, `(seeds, keep)`, distinct ones first: their
        translations differ by more than `apart` of their mean square."""
        score, made = self.score(), self.translations(self.train[0][-256:])
        kept = []
        for first in range(0, self.size, per_seed):
            order = (score[first : first + per_seed].argsort() + first).tolist()
            chosen: list[int] = []
            for net in order:
                gaps = [(made[net] - made[k]).square().sum(-1).mean() for k in chosen]
                if all(gap > apart for gap in gaps):
                    chosen.append(net)
            chosen += [net for net in order if net not in chosen]
            kept.append(chosen[:keep])
        return torch.tensor(kept)

    # ---- copies

    @torch.no_grad()
    def take(self, nets: Tensor) -> None:
        """Go on with copies of these nets, their judges, moments and turns."""
        for optimiser in self.optimisers.values():
            for weight, state in optimiser.state.items():
                weight.data = weight.data[nets].clone()
                for key in ("exp_avg", "exp_avg_sq"):
                    state[key] = state[key][nets].clone()
        self.turns, self.size = [turn[nets] for turn in self.turns], len(nets)
        for module in (self.networks.nets, *self.networks.discriminators()):
            module.seeds = self.size

    # ---- what pairs say; to report

    def translations(self, rows: Tensor) -> Tensor:
        """Translations of source rows `(n, k)` in the axes of the target, unit."""
        with torch.no_grad():
            made = self.networks.nets.translate(*SIDES, self.rows(rows, 0))
        return torch.cat([made[..., :-1] @ self.turns[1].mT, made[..., -1:]], dim=-1)

    def shown(self, rows: Tensor) -> Tensor:
        return lifted(rows * (torch.arange(self.axes) < self.seen))

    def paired(self) -> tuple[float, Tensor]:
        """Rank of the rotation fitted with other pairs, and the rotation."""
        k = self.seen
        turn = procrustes(*(rows[:, :k] for rows in self.others))
        x, y = (rows[:, :k] for rows in self.held)
        return rank(lifted(x @ turn)[None], lifted(y)).item(), turn

    def ranks(self) -> Tensor:
        return rank(self.translations(self.held[0]), self.shown(self.held[1]))

    def same_part(self, turn: Tensor) -> Tensor:
        """Whether the nets' best linear fits have the sign of det(turn); `(S,)`."""
        k = self.seen
        x, made = self.held[0][:, :k], self.translations(self.held[0])[..., :k]
        fits = torch.linalg.pinv(x) @ made
        return torch.det(fits).sign() == torch.det(turn).sign()

    def nonlinearity(self) -> Tensor:
        """Share of the translations' mean square that no linear map gives; `(S,)`.

        A rotation of the axes is linear between lifted rows and would have 0."""
        x, made = self.shown(self.held[0]), self.translations(self.held[0])
        rest = made - x @ (torch.linalg.pinv(x) @ made)
        return rest.square().sum(-1).mean(-1)


# ---- restarts


@torch.no_grad()
def spread(players: Players, kept: Tensor, axes: int, copies: int) -> None:
    """Go on in so many axes with `copies` of each kept net, `(seeds, keep)`.

    New axes are turned at random, one of two copies with each determinant. Where there
    are none, each net goes on as it is, beside copies with the newer half of the axes
    turned: the best by the score of `DRAWS` untrained turns.
    """
    old, flat = players.seen, kept.flatten()
    players.seen = axes
    if axes > old:
        players.take(flat.repeat_interleave(copies))
        turns = players.draw(old, axes)
        wanted = torch.ones(len(turns)).view(-1, 2)
        wanted[:, 1] = -1  # of two neighbours one is a rotation, one a reflection
        turns[:, old] *= (torch.det(turns) * wanted.flatten()).sign()[:, None]
        players.turns[0] = turns @ players.turns[0]
        return
    players.take(flat)
    base, drawn, scores = players.turns[0], [torch.eye(players.axes)], []
    drawn = [drawn[0].expand_as(base)]
    for _ in range(DRAWS if copies > 1 else 0):
        drawn.append(players.draw(axes // 2, axes))
        players.turns[0] = drawn[-1] @ base
        scores.append(players.score(384, 1))
    order = torch.zeros(1, len(flat), dtype=torch.long)
    if scores:
        chosen = torch.stack(scores).argsort(0)[: copies - 1] + 1
        order = torch.cat([order, chosen])
    turned = torch.stack(drawn)[order, torch.arange(len(flat))] @ base
    players.turns[0] = base
    players.take(torch.arange(len(flat)).repeat_interleave(copies))
    players.turns[0] = turned.transpose(0, 1).flatten(0, 1)
