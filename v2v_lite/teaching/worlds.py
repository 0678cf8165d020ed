r"""Small training problems of real vectors, for chapters 8 to 13 and the experiments.

Two bundled spaces, each centred and cut to its own leading principal axes, so that
1,500 steps of training are a matter of seconds. Training starts from anchors, found
without a pair: a rotation that is right only coarsely.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..align import AnchorConfig, SelfLearn, SelfLearnConfig, polar, procrustes
from ..align.linalg import principal_axes
from ..align.paired import Whitened
from ..measure.retrieval import TIE
from ..spaces import Space, load, unit, unpaired
from ..vec2vec import Nets, Networks, Preset, train_step
from ..vec2vec.config import AdversarialConfig, LossConfig, NetConfig, OptimConfig

SIDES = ("source", "target")
STEPS = 1500
#: The ablations' training and its coarse initial maps, on 16 axes (chapter 13).
REDUCED = Preset(
    "reduced",
    NetConfig(0, 48, 1, 2, "none", 0.0, True, True, True),
    AdversarialConfig(hidden_dim=64, depth=3, latent="both"),
    LossConfig(cycle_weight=2.0, cycle_stop_gradient=False, vsp="self", vsp_weight=1.0,
               vsp_reconstruction_weight=0.0),
    OptimConfig(lr=3e-3, d_lr=3e-3, d_eps=1e-8, warmup_steps=50, batch_size=96,
                steps=STEPS),
    centred=True,
    init="anchors",
)  # fmt: skip
FEW_ANCHORS = AnchorConfig(n_runs=4, sample_size=4000, n_clusters=32, n_init=100)


@dataclass(frozen=True, eq=False)
class SmallProblem:
    """Unit rows `(n, d)` of disjoint texts to train on; pairs `(pool, d)` per side to
    evaluate on, and other pairs to fit references on."""

    source: Tensor
    target: Tensor
    pairs: tuple[Tensor, Tensor]
    others: tuple[Tensor, Tensor]


def small_problem(
    source: str = "minilm", target: str = "granite", d: int = 32, pool: int = 1024
) -> SmallProblem:
    """Two bundled spaces, each centred and on the main axes of its training rows."""
    split = unpaired(load(source), load(target), seed=0)

    def cut(train: Space, held: Space) -> tuple[Tensor, Tensor]:
        x, z = (unit(s.vectors - train.mean) for s in (train, held))
        axes = principal_axes(x.T @ x)[:, :d]
        return unit(x @ axes), unit(z @ axes)

    x, held_x = cut(split.source, split.eval_source)
    y, held_y = cut(split.target, split.eval_target)
    pairs, others = (held_x[:pool], held_y[:pool]), (held_x[pool:], held_y[pool:])
    return SmallProblem(x, y, pairs, others)


def on_axes(axes: int, train: Space, *others: Space) -> list[Space]:
    """Rows of all on the first principal axes of `train`, centred by its mean."""
    centred = [unit(space.vectors - train.mean) for space in (train, *others)]
    second_moments = (centred[0].T @ centred[0]).double()
    main = principal_axes(second_moments)[:, :axes].float()
    return [Space.of(rows @ main, encoder=train.name) for rows in centred]


def coarse_maps(problem: SmallProblem, seeds: int) -> Tensor:
    """A rotation per seed `(S, d, d)`: the polar factor of the anchors' map."""
    few = AnchorConfig(
        n_runs=12, sample_size=3000, n_clusters=24, n_init=60, vote_rounds=2
    )
    model = SelfLearn(SelfLearnConfig(anchors=few, phases=()))
    x, y = problem.source, problem.target
    return torch.stack([polar(model.fit(x, y, seed=k).weight) for k in range(seeds)])


def small_preset(**weights: Any) -> Preset:
    """An adversarial loss alone, other losses off but for those set in `weights`."""
    off = ("reconstruction", "cycle", "vsp", "vsp_reconstruction", "latent_adv")
    loss: dict[str, Any] = {f"{name}_weight": 0.0 for name in off}
    loss |= {"cycle_stop_gradient": False} | weights
    return Preset(
        "small",
        NetConfig(0, 64, backbone_depth=2, norm="none", dropout=0.0,
                  linear_adapters=True, identity_backbone=True),
        AdversarialConfig(hidden_dim=64, depth=3, latent="none"),
        LossConfig(**loss),
        OptimConfig(lr=2e-3, d_lr=2e-3, batch_size=64, warmup_steps=0, steps=STEPS),
    )  # fmt: skip


def train_small(
    problem: SmallProblem, maps: Tensor, preset: Preset, steps: int, every: int,
    seed: int = 0,
) -> Iterator[tuple[int, Nets]]:  # fmt: skip
    """Train from initial `maps` (S, d, d); gives (step, nets) at 0 and each `every`."""
    g = torch.Generator().manual_seed(seed)
    sides = dict(zip(SIDES, (problem.source, problem.target), strict=True))
    widths = {name: rows.shape[1] for name, rows in sides.items()}
    networks, o = Networks(widths, preset, len(maps), g), preset.optim
    networks.nets.init_from_map(*SIDES, maps)
    optimisers = {"nets": torch.optim.Adam(networks.nets.parameters(), o.lr, o.betas)}
    if weights := networks.discriminator_parameters():
        optimisers["discriminators"] = torch.optim.Adam(weights, o.d_lr, o.betas)
    yield 0, networks.nets
    for step in range(1, steps + 1):
        size = len(maps), o.batch_size
        batch = {
            name: rows[torch.randint(len(rows), size, generator=g)]
            for name, rows in sides.items()
        }
        train_step(networks, optimisers, batch, preset)
        if step % every == 0:
            yield step, networks.nets


@torch.no_grad()
def metrics(problem: SmallProblem, nets: Nets) -> dict[str, Tensor]:
    r"""Numbers of each seed, `(S,)`; ranks and top-1 come from pairs, to evaluate only.

    Those of `translation_metrics`, and "cycle", the mean $1 - \cos(F_2(F_1(x)), x)$.
    """
    x, y = problem.pairs
    x = x.expand(nets.seeds, -1, -1)
    f = nets.translate(*SIDES, x)  # (S, pool, d)
    back = nets.translate(*SIDES[::-1], f)
    return translation_metrics(f, x, y) | {"cycle": 1 - (back * x).sum(-1).mean(-1)}


def translation_metrics(f: Tensor, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    r"""Numbers of translations `(S, n, d_t)` of x `(S, n, d_s)` against y `(n, d_t)`.

    "effective_rank" is $1 / \mathrm{tr}\, C^2$ of the translations' second moments
    (trace 1), "cosine_std" the standard deviation of their cosines, and "vsp" the mean
    $|XX^\top - F(X)F(X)^\top|$.
    """
    gram, own = f @ f.mT, (f * y).sum(-1, keepdim=True)
    ranks = (f @ y.T >= own - TIE).sum(-1).float()  # the true one counts itself
    off = ~torch.eye(f.shape[1], dtype=torch.bool)
    return {
        "rank": ranks.mean(1),
        "top1": (ranks == 1).float().mean(1),
        "effective_rank": 1 / gram.square().mean((1, 2)),
        "cosine_std": gram[:, off].std(1),
        "vsp": (x @ x.mT - gram).abs().mean((1, 2)),
    }


def references(problem: SmallProblem) -> dict[str, dict[str, float]]:
    """The same numbers of maps fitted with pairs, on `others`, and of baselines."""
    x, y = problem.pairs
    noise = torch.randn(len(x.T), len(x.T), generator=torch.Generator().manual_seed(0))
    maps = {
        "a random rotation": torch.linalg.qr(noise).Q,
        "paired Procrustes": procrustes(*problem.others),
        "paired whitened": Whitened()._map(*problem.others),
    }
    rows = {name: unit(x @ w) for name, w in maps.items()}
    rows["the true targets"] = y
    found = {name: translation_metrics(f[None], x[None], y) for name, f in rows.items()}
    return {name: {k: v.item() for k, v in row.items()} for name, row in found.items()}
