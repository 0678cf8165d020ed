r"""The trainings of the nonlinear experiment: nets that may bend, from a linear start.

Every training starts exactly as self-learning's full map and goes on from there, in
both directions at once. What may bend differs by arm:

    linear      nothing: the adapters' matrices alone learn
    backbone    the latent: z + MLP(z), shared by both spaces
    adapters    each space's input: x A_s + MLP_s(x), a residual network per space

Hidden layers see rows times the root of their width: of unit rows, SiLU would see
numbers near zero alone, where it is nearly a straight line.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from v2v_lite.align.diagnosis import diagnose
from v2v_lite.measure import score
from v2v_lite.spaces import Space, Split, unit
from v2v_lite.teaching.comparison import rows_with, short, space_of
from v2v_lite.vec2vec import Nets, Preset, Trainer, losses
from v2v_lite.vec2vec.layers import stack
from v2v_lite.vec2vec.optim import build_optimisers, set_learning_rates
from v2v_lite.vec2vec.result import SpaceStats

from .starts import Start, sides_of
from .store import Task
from .vec2vec import REFINE

ARMS = ("linear", "backbone", "adapters")
PAIRS = "pairs"  # in the place of a game: the reference that sees pairs
SHARP = 0.05  # temperature of the loss with pairs
KEYS = ("top1", "rank", "centred_cosine")


class Bent(nn.Module):
    """x A + MLP(x) per seed: an adapter's matrix, and a hidden layer that starts at 0.

    Rows `(S, ..., B, d)`; `curve` is one block of `layers.stack`.
    """

    def __init__(self, straight: nn.Module, curve: nn.Module) -> None:
        super().__init__()
        self.straight, self.curve = straight, curve

    def forward(self, x: Tensor) -> Tensor:
        return self.straight(x) + self.curve(x)


@dataclass(frozen=True)
class Trial(Task):
    """One training from a kept start, evaluated in both directions on its way."""

    DATASETS: ClassVar = ("wiki",)
    start: Start
    arm: str
    game: str  # one of the library's, or PAIRS
    lr: float  # Muon's, of the input adapters' matrices
    slow: float  # all else learns by Adam at this factor of it
    steps: int
    n_evals: int
    batch: int
    hidden: int

    @property
    def preset(self) -> Preset:
        """REFINE with this trial's game and rates, and with the reconstruction on."""
        trained = self.game == "least_squares"
        a = replace(
            REFINE.adversarial, hidden_dim=256, depth=3,
            game=self.game if trained else "density", r1=0.05 if trained else 0.0,
        )  # fmt: skip
        optim = replace(
            REFINE.optim, steps=self.steps, batch_size=self.batch, ema_decay=0.95,
            lr=self.lr, slow_lr_scale=self.slow, d_lr=1e-3, d_eps=1e-8,
        )  # fmt: skip
        loss = replace(REFINE.loss, reconstruction_weight=1.0)
        net = replace(REFINE.net, hidden_dim=self.hidden)
        return replace(REFINE, net=net, adversarial=a, loss=loss, optim=optim)

    def run(self, work: Path) -> dict:
        clock = time.process_time()
        (a, b), held, split = sides_of(self.start)
        names = self.start.a, self.start.b
        white = SpaceStats.of(a, self.preset).whitening
        maps = torch.linalg.solve(white, self.start.map(work))[None]
        trainer = Trainer(
            dict(zip(names, (a, b), strict=True)), self.preset, device="cpu",
            seeds=(self.start.seed,), initial_maps={names: maps},
        )  # fmt: skip
        bend(trainer, self.arm, self.hidden)
        unseen = dict(zip(names, held, strict=True))
        pool = dict(zip(names, (split.eval_source, split.eval_target), strict=True))
        curve: list[dict] = [evaluate(trainer, unseen, pool)]
        pairs = pairs_of(trainer, split) if self.game == PAIRS else {}
        draw = torch.Generator().manual_seed(self.start.seed)
        for step in range(1, self.steps + 1):
            found = paired_step(trainer, pairs, draw) if pairs else trainer.step()
            if step % (self.steps // self.n_evals) == 0:
                terms = {k: short(v.item()) for k, v in found.items()}
                curve.append(evaluate(trainer, unseen, pool) | {"losses": terms})
        return {"curve": curve, "seconds": round(time.process_time() - clock, 1)}


def bend(trainer: Trainer, arm: str, hidden: int) -> None:
    """Give the trainer's nets what may bend in this arm; they translate as before."""
    state = trainer.state
    nets = state.networks.nets
    curves = [nets.backbone]
    if arm == "adapters":
        g, curves = torch.Generator().manual_seed(state.seeds[0]), []
        for i, d in enumerate(nets.widths.values()):
            shape = d, hidden, nets.latent_dim
            curves.append(stack(1, shape, 1, nets.config, g, zero=True))
            nets.inputs[i] = Bent(nets.inputs[i], curves[-1])
    nets.backbone.requires_grad_(arm == "backbone")
    with torch.no_grad():
        for curve in curves:
            weight = curve[0].linear.weight
            weight.mul_(math.sqrt(weight.shape[1]))
    optimisers = build_optimisers(state.networks, state.preset.optim)
    if arm == "adapters":  # hidden layers learn with the slow group, by Adam
        first, rest = optimisers["nets"].param_groups
        inner = [w for curve in curves for w in curve.parameters() if w.shape[1] > 1]
        known = {id(w) for w in inner}
        first["params"] = [w for w in first["params"] if id(w) not in known]
        rest["params"] += inner
    state.optimisers = optimisers
    prepare = trainer.accelerator.prepare
    trainer.optimisers = {name: prepare(one) for name, one in optimisers.items()}
    state.ema = copy.deepcopy(nets).requires_grad_(False)


def pairs_of(trainer: Trainer, split: Split) -> dict[str, tuple[Tensor, Tensor]]:
    """Rows of all training texts, both sides': as the nets see them, and centred."""
    both, found = torch.cat([split.source.known_ids, split.target.known_ids]), {}
    for name, stats in trainer.stats.items():
        rows = rows_with(space_of(name, "train"), both).vectors
        found[name] = stats.transform(rows), unit(rows - stats.mean)
    return found


def paired_step(
    trainer: Trainer, pairs: dict[str, tuple[Tensor, Tensor]], draw: torch.Generator
) -> dict[str, Tensor]:
    """A step with pairs, both ways: each translation has to find its own target among
    those of the batch (a cross-entropy of cosines)."""
    state, optim = trainer.state, trainer.preset.optim
    set_learning_rates(trainer.optimisers, optim, state.step)
    names, found = list(pairs), {}
    n = len(pairs[names[0]][0])
    rows = torch.randint(n, (optim.batch_size,), generator=draw)
    for source, target in (names, names[::-1]):
        seen, true = pairs[source][0][rows], pairs[target][1][rows]
        made = direction(state.networks.nets, trainer.stats, (source, target), seen)
        own = torch.arange(len(rows))
        loss = F.cross_entropy(made @ true.T / SHARP, own)
        found[f"{source} to {target}"] = loss
    optimiser = trainer.optimisers["nets"]
    optimiser.zero_grad()
    torch.stack([*found.values()]).sum().backward()
    optimiser.step()
    state.step += 1
    state.update_ema()
    return found


def direction(
    nets: Nets, stats: dict[str, SpaceStats], pair: tuple[str, str], seen: Tensor
) -> Tensor:
    """Centred unit translations `(n, d_t)` of rows `(n, d_s)` as the nets see them."""
    made, matrix = nets.translate(*pair, seen[None])[0], stats[pair[1]].output_matrix
    return made if matrix is None else unit(made @ matrix[0])


def translate(trainer: Trainer, pair: tuple[str, str], space: Space) -> Tensor:
    """Translations `(n, d_t)` of a space by the trainer's nets."""
    source, target = (trainer.stats[name] for name in pair)
    seen = source.transform(space.vectors)
    made = direction(trainer.nets, trainer.stats, pair, seen)
    return unit(target.mean + target.radius * made)


@torch.no_grad()
def evaluate(
    trainer: Trainer, unseen: dict[str, Space], pool: dict[str, Space]
) -> dict[str, dict[str, float]]:
    """Each direction's numbers on the pool, and two that need no pair: the density
    game's loss and the score, on rows that no step sees; and its curvature."""
    found, (one, two) = {}, pool
    for pair in ((one, two), (two, one)):
        source, target = pair
        made = translate(trainer, pair, pool[source])
        numbers = score(made, pool[target])
        row = {key: short(getattr(numbers, key).mean) for key in KEYS}

        def map_(space: Space, pair: tuple[str, str] = pair) -> Tensor:
            return translate(trainer, pair, space)

        row["density"] = short(density_loss(trainer, pair, unseen))
        row["score"] = short(diagnose(map_, unseen[source], unseen[target]).score)
        bend = curvature(pool[source], made, trainer.stats[target].mean)
        found[f"{source} to {target}"] = row | {"curvature": short(bend)}
    return found


def density_loss(
    trainer: Trainer, pair: tuple[str, str], unseen: dict[str, Space]
) -> float:
    """What the density game would have a translation minimise, on unseen rows."""
    networks, stats = trainer.state.networks, trainer.stats
    x, y = (stats[name].transform(unseen[name].vectors)[None] for name in pair)
    made = networks.filtered(pair[1], trainer.nets.translate(*pair, x))
    real = networks.filtered(pair[1], y)
    return losses.density(made, real, REFINE.adversarial.temperature).item()


def curvature(source: Space, made: Tensor, mean: Tensor) -> float:
    """How far translations are from the best linear map of centred rows, fitted on one
    half of them: 1 - mean cosine on the other half. A linear map has about 0."""
    x, f = unit(source.vectors - source.mean), unit(made - mean)
    half = len(x) // 2
    ridge = 1e-3 * half / x.shape[1] * torch.eye(x.shape[1])
    weight = torch.linalg.solve(x[:half].T @ x[:half] + ridge, x[:half].T @ f[:half])
    return 1 - (unit(x[half:] @ weight) * f[half:]).sum(1).mean().item()
