r"""`v2v bench losses`: what each loss does for the game, over seeds, in a small world.

The small world is made of real vectors: each of two bundled spaces, centred and cut to
its own 32 largest axes, so that a game of 1,500 steps is a matter of seconds. It starts
from anchors, found without a pair: a rotation that is right only coarsely. Chapters 9
and 10 play it live, for a shorter time and with fewer seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ..align import AnchorConfig, SelfLearn, SelfLearnConfig, polar, procrustes
from ..align.paired import Whitened
from ..measure.retrieval import TIE
from ..spaces import Space, load, unit, unpaired
from ..vec2vec import (
    GameConfig,
    LossConfig,
    NetConfig,
    Nets,
    OptimConfig,
    Players,
    Preset,
    discriminator_losses,
    forward,
    generator_losses,
)
from .pool import Store, run_all
from .results import DATASETS, MADE_BY, code_hash, data_hash

WAYS = ("source", "target")
STEPS, EVERY, SEEDS = 1500, 150, 6


@dataclass(frozen=True, eq=False)
class World:
    """Unit rows `(n, d)` to play on, of disjoint texts; pairs to look at, `(pool, d)` a
    side, and others, to fit references on."""

    source: Tensor
    target: Tensor
    pairs: tuple[Tensor, Tensor]
    others: tuple[Tensor, Tensor]


def small_world(
    source: str = "minilm", target: str = "granite", d: int = 32, pool: int = 1024
) -> World:
    """Two bundled spaces, each centred and on the main axes of its training rows."""
    split = unpaired(load(source), load(target), seed=0)

    def cut(train: Space, held: Space) -> tuple[Tensor, Tensor]:
        x, z = (unit(s.vectors - train.mean) for s in (train, held))
        axes = torch.linalg.eigh(x.T @ x).eigenvectors.flip(1)[:, :d]
        return unit(x @ axes), unit(z @ axes)

    x, held_x = cut(split.source, split.eval_source)
    y, held_y = cut(split.target, split.eval_target)
    pairs, others = (held_x[:pool], held_y[:pool]), (held_x[pool:], held_y[pool:])
    return World(x, y, pairs, others)


def coarse_starts(world: World, seeds: int) -> Tensor:
    """A rotation a seed `(S, d, d)`: the polar factor of the unpaired anchors' map."""
    few = AnchorConfig(
        n_runs=12, sample_size=3000, n_clusters=24, n_init=60, vote_rounds=2
    )
    model = SelfLearn(SelfLearnConfig(anchors=few, phases=()))
    sides = world.source, world.target
    return torch.stack([polar(model.fit(*sides, seed=k).weight) for k in range(seeds)])


def small(**weights: object) -> Preset:
    """SOUND's kind of game in small, its losses off but for the game and `weights`."""
    off = {"reconstruction": 0.0, "cycle": 0.0, "vsp_weight": 0.0, "latent_game": 0.0}
    loss = off | {"vsp_reconstruction": 0.0, "cycle_detached": False} | weights
    return Preset(
        "small",
        NetConfig(0, 64, backbone_depth=2, norm="none", dropout=0.0,
                  linear_adapters=True, zero_backbone=True),
        GameConfig(width=64, depth=3, latent="none"),
        LossConfig(**loss),
        OptimConfig(lr=2e-3, d_lr=2e-3, batch=64, warmup=0, steps=STEPS),
    )  # fmt: skip


def play(
    world: World, starts: Tensor, preset: Preset, steps: int, every: int, seed: int = 0
) -> Iterator[tuple[int, Nets]]:
    """Train from `starts` (S, d, d); gives (step, nets) at 0 and after each `every`."""
    g = torch.Generator().manual_seed(seed)
    sides = dict(zip(WAYS, (world.source, world.target), strict=True))
    widths = {name: rows.shape[1] for name, rows in sides.items()}
    players, o = Players(widths, preset, len(starts), g), preset.optim
    players.nets.start_from(*WAYS, starts)
    judges = players.discriminators()
    ours = torch.optim.Adam(players.nets.parameters(), o.lr, o.betas)
    theirs = torch.optim.Adam(judges, o.d_lr, o.betas) if judges else None
    yield 0, players.nets
    for step in range(1, steps + 1):
        size = len(starts), o.batch
        batch = {
            name: rows[torch.randint(len(rows), size, generator=g)]
            for name, rows in sides.items()
        }
        flow = forward(players.nets, batch, preset.loss)
        if theirs:
            judged = discriminator_losses(players, flow, preset)
            _update(theirs, judged["discriminator"])
        _update(ours, generator_losses(players, flow, preset)["generator"])
        if step % every == 0:
            yield step, players.nets


def _update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    loss.sum().backward()
    optimiser.step()
    optimiser.zero_grad()


@torch.no_grad()
def look(world: World, nets: Nets) -> dict[str, Tensor]:
    r"""Numbers of each seed, `(S,)`; ranks and top-1 by the pairs, for looking only.

    "effective_rank" is $1 / \mathrm{tr}\, C^2$ of the translations' second moments
    (trace 1), "spread" the standard deviation of their cosines, "vsp" the mean
    $|XX^\top - F(X)F(X)^\top|$ and "cycle" the mean $1 - \cos(F_2(F_1(x)), x)$.
    """
    x, y = world.pairs
    x = x.expand(nets.seeds, -1, -1)
    f = nets.translate(*WAYS, x)  # (S, pool, d)
    return measured(f, x, y) | {
        "cycle": 1 - (nets.translate(*WAYS[::-1], f) * x).sum(-1).mean(-1)
    }


def measured(f: Tensor, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Numbers of translations `(S, n, d_t)` of x `(S, n, d_s)` against y `(n, d_t)`."""
    gram, own = f @ f.mT, (f * y).sum(-1, keepdim=True)
    ranks = (f @ y.T >= own - TIE).sum(-1).float()  # the true one counts itself
    off = ~torch.eye(f.shape[1], dtype=torch.bool)
    return {
        "rank": ranks.mean(1),
        "top1": (ranks == 1).float().mean(1),
        "effective_rank": 1 / gram.square().mean((1, 2)),
        "spread": gram[:, off].std(1),
        "vsp": (x @ x.mT - gram).abs().mean((1, 2)),
    }


def references(world: World) -> dict[str, dict]:
    """The same numbers of paired maps, fitted on `others`, and of floors."""
    x, y = world.pairs
    turn = torch.linalg.qr(_noise(x.shape[1], x.shape[1])).Q
    maps = {
        "a random rotation": turn,
        "paired Procrustes": procrustes(*world.others),
        "paired whitened": Whitened()._map(*world.others),
    }
    rows = {name: unit(x @ w) for name, w in maps.items()}
    rows["the true targets"] = y
    found = {name: measured(f[None], x[None], y) for name, f in rows.items()}
    return {name: {k: v.item() for k, v in row.items()} for name, row in found.items()}


def _noise(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Case:
    """One choice of losses, played over seeds."""

    name: str
    weights: tuple[tuple[str, object], ...]
    steps: int = STEPS
    every: int = EVERY
    seeds: int = SEEDS

    @property
    def key(self) -> str:
        return f"{self.name}-{self.steps}-{self.every}-{self.seeds}"

    @property
    def code(self) -> str:
        return code_hash(MADE_BY["losses"]) + data_hash(DATASETS["losses"])

    def run(self, work: Path) -> dict:
        world, starts = _setting(self.seeds)
        preset = small(**dict(self.weights))
        game = play(world, starts, preset, self.steps, self.every)
        seen = [(step, look(world, nets)) for step, nets in game]
        table = {k: [numbers[k].tolist() for _, numbers in seen] for k in seen[0][1]}
        return {"weights": dict(self.weights), "steps": [s for s, _ in seen]} | table


@lru_cache(maxsize=1)
def _setting(seeds: int) -> tuple[World, Tensor]:
    world = small_world()
    return world, coarse_starts(world, seeds)


def cases(**sizes: int) -> list[Case]:
    """The book's: cycle and its forms, then forms and weights of VSP beside a cycle."""
    cycle = {"cycle": 2.0}
    table: dict[str, dict] = {
        "game": {},
        "game, cycle": cycle,
        "game, detached cycle": cycle | {"cycle_detached": True},
        "game, VSP": {"vsp": "sound", "vsp_weight": 1.0},
        "cycle, VSP": cycle | {"vsp": "sound", "vsp_weight": 1.0, "output_game": 0.0},
    }
    forms = {"sound": (1, 0.3, 3, 10), "printed": (10, 30), "released": (10,)}
    for form, weights in forms.items():
        for w in weights:
            table[f"{form} {w:g}"] = cycle | {"vsp": form, "vsp_weight": float(w)}
    return [Case(name, tuple(row.items()), **sizes) for name, row in table.items()]


def run(tasks: list[Case], work: Path, jobs: int = 2, progress: bool = True) -> dict:
    """Play what `work` lacks, and give the table."""
    store = Store(work / "losses.json")
    run_all(tasks, store, jobs, "losses", progress)
    return {
        "world": {"source": "minilm", "target": "granite", "d": 32, "pool": 1024},
        "preset": asdict(small()),
        "references": references(small_world()),
        "cases": {task.name: store.get(task) for task in tasks},
    }
