"""`v2v bench ablations`: what each loss is worth, with enough seeds to tell.

The world is small, so that a row of the table (one configuration, sixteen seeds as one
program) costs about a minute of one core: two encoders' rows on their own first
principal axes. A seed has its own coarse start, weights and batches, and keeps them in
every row: within a seed, rows differ by the configuration alone.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ..align import METHODS
from ..align.anchors import AnchorConfig
from ..align.selflearn import SelfLearn, SelfLearnConfig
from ..measure import Score, score
from ..spaces import EVAL_ROWS, Space
from ..spaces.rows import unit
from ..vec2vec.machine import Loop
from ..vec2vec.presets import GameConfig, LossConfig, NetConfig, OptimConfig, Preset
from ..vec2vec.run import Run
from ..vec2vec.trainer import step
from .pool import Store, run_all
from .results import DATASETS, MADE_BY, code_hash, data_hash
from .table import rows_with, short, space_of, split_of

NAMES = ("top1", "rank")
CONFIDENT = 1.959964  # standard deviations within which a normal number lies, 95 of 100
FULL = Preset(
    "reduced",
    NetConfig(0, 48, 1, 2, "none", 0.0, True, True, True),
    GameConfig(width=64, depth=3, latent="both"),
    LossConfig(
        cycle=2.0, cycle_detached=False, vsp="sound", vsp_weight=1.0,
        vsp_reconstruction=0.0,
    ),
    OptimConfig(lr=3e-3, d_lr=3e-3, d_eps=1e-8, warmup=50, batch=96, steps=1500),
    centred=True,
    start="anchors",
)  # fmt: skip
#: A row of the table: the losses that it changes.
ROWS: dict[str, dict] = {
    "full": {},
    "no VSP": {"vsp_weight": 0.0},
    "no cycle": {"cycle": 0.0},
    "no reconstruction": {"reconstruction": 0.0},
    "no latent game": {"latent_game": 0.0},
    "no output game": {"output_game": 0.0},
    "no game": {"output_game": 0.0, "latent_game": 0.0},
    "printed VSP": {"vsp": "printed"},
}


@dataclass(frozen=True)
class World:
    """The reduced world, and how coarse a start its few anchors give."""

    source: str = "minilm"
    target: str = "granite"
    axes: int = 16
    n_train: int = 16_384
    seeds: int = 16
    anchors: AnchorConfig = AnchorConfig(
        n_runs=4, sample_size=4000, n_clusters=32, n_init=100
    )
    steps: int = FULL.optim.steps
    looks: int = 5  # times at which the pool is scored, after the start
    least: float = 0.5  # success: this share of the paired reference's top-1


QUICK = World(n_train=2000, seeds=2, steps=20, looks=1)


@dataclass(frozen=True)
class Row:
    """A row of the table, all seeds at once."""

    name: str
    world: World

    @property
    def key(self) -> str:
        return f"{self.name}-{self.world}"

    @property
    def code(self) -> str:
        return code_hash(MADE_BY["ablations"]) + data_hash(DATASETS["ablations"])

    def run(self, work: Path) -> dict:
        w, begun = self.world, time.process_time()
        sides, pool, maps, _ = ready(w)
        optim = replace(FULL.optim, steps=w.steps)
        loss = replace(FULL.loss, **ROWS[self.name])
        run = Started(maps, sides, replace(FULL, loss=loss, optim=optim))
        curve = {0: scores(run, pool)}
        for number in range(1, w.steps + 1):
            step(run)
            if number % (w.steps // w.looks) == 0:
                curve[number] = scores(run, pool)
        return {"curve": curve, "seconds": time.process_time() - begun}


class Started(Run):
    """A run whose nets start from maps that are at hand."""

    def __init__(self, maps: Tensor, sides: dict[str, Space], preset: Preset) -> None:
        super().__init__(sides, sides, preset, Loop(), None, "cpu", None)
        self.maps = maps
        self.begin(tuple(range(len(maps))), None, False)

    def _maps(self, seeds: tuple[int, ...], bars: bool) -> dict:
        return {self.pairs[0]: self.maps}


@lru_cache(maxsize=1)
def ready(w: World) -> tuple[dict[str, Space], tuple[Space, Space], Tensor, dict]:
    """The reduced sides by name, the pool of pairs, a coarse map a seed, and what
    Procrustes reaches with the pairs of all training texts."""
    split = split_of(w.source, w.target, w.n_train, 0)
    both = torch.cat([split.source.ids, split.target.ids])
    known = [rows_with(space_of(name, "train"), both) for name in (w.source, w.target)]
    a, pool_a, pairs_a = on_axes(w.axes, split.source, split.eval_source, known[0])
    b, pool_b, pairs_b = on_axes(w.axes, split.target, split.eval_target, known[1])
    config = SelfLearnConfig(anchors=w.anchors, phases=())
    maps = [SelfLearn(config).fit(a, b, seed=s).weight for s in range(w.seeds)]
    best = METHODS["procrustes"]().fit(pairs_a, pairs_b)
    reference = told(score(best.translate(pool_a), pool_b))
    return {w.source: a, w.target: b}, (pool_a, pool_b), torch.stack(maps), reference


def on_axes(axes: int, train: Space, *others: Space) -> list[Space]:
    """Rows of all on the first principal axes of `train`, centred by its mean."""
    centred = [unit(space.vectors - train.mean) for space in (train, *others)]
    spread = (centred[0].T @ centred[0]).double()
    main = torch.linalg.eigh(spread).eigenvectors.flip(1)[:, :axes].float()
    return [Space.of(rows @ main, encoder=train.name) for rows in centred]


def scores(run: Run, pool: tuple[Space, Space]) -> list[dict]:
    """Top-1 and mean rank of each seed's nets on the pool of pairs."""
    pair, nets = run.pairs[0], run.state.model
    models = [run.translator(nets, k, *pair) for k in range(len(run.state.seeds))]
    return [told(score(model.translate(pool[0]), pool[1])) for model in models]


def told(found: Score) -> dict:
    """What of a score is kept."""
    return {name: short(getattr(found, name).mean) for name in NAMES}


def run(world: World, work: Path, progress: bool = True) -> dict:
    """Measure all rows, or those that `work` lacks; the table."""
    store = Store(work / "ablations.json")
    rows = {name: Row(name, world) for name in ROWS}
    run_all([*rows.values()], store, 0, "ablations", progress)
    reference = ready(world)[3]
    bar = world.least * reference["top1"]
    made = [row_of(name, store.get(row), bar) for name, row in rows.items()]
    full = made[0]["won"]
    for row in made:  # the same seed, the same start: who won where the other lost
        both = list(zip(full, row["won"], strict=True))
        row["only full"] = both.count((True, False))
        row["only this"] = both.count((False, True))
    about = asdict(world) | {"pool": EVAL_ROWS, "preset": asdict(FULL)}
    return {"world": about, "paired": reference, "bar": short(bar), "rows": made}


def row_of(name: str, found: dict, bar: float) -> dict:
    """A row of the table: how many seeds end at `bar` or above, with its interval."""
    curve = {int(at): runs for at, runs in found["curve"].items()}
    start, end = curve[0], curve[max(curve)]
    won = [run["top1"] >= bar for run in end]
    low, high = wilson(sum(won), len(won))
    medians = [
        {"step": at, **{k: short(statistics.median(r[k] for r in runs)) for k in NAMES}}
        for at, runs in curve.items()
    ]
    return {
        "name": name, "changes": ROWS[name], "successes": sum(won), "seeds": len(won),
        "interval": [short(low), short(high)], "won": won, "start": start, "end": end,
        "curve": medians, "seconds": short(found["seconds"]),
    }  # fmt: skip


def wilson(wins: int, runs: int) -> tuple[float, float]:
    r"""The 95 % interval of a rate that gave `wins` of `runs` (Wilson 1927).

    $\frac{p + z^2/2n \pm z \sqrt{p(1-p)/n + z^2/4n^2}}{1 + z^2/n}$, p = wins / runs.

    >>> [round(x, 2) for x in wilson(3, 15)]
    [0.07, 0.45]
    """
    p, z2 = wins / runs, CONFIDENT**2
    middle = p + z2 / (2 * runs)
    wide = CONFIDENT * (p * (1 - p) / runs + z2 / (4 * runs**2)) ** 0.5
    return (middle - wide) / (1 + z2 / runs), (middle + wide) / (1 + z2 / runs)
