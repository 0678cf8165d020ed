"""What each loss is worth, with enough seeds to tell.

The problem is small, so that a row of the table (one configuration, sixteen seeds as
one program) costs about a minute of one core: two encoders' rows on their own first
principal axes. A seed has its own coarse initial map, weights and batches, and keeps
them in every row: within a seed, rows differ by the configuration alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from v2v_lite.align import METHODS
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.selflearn import SelfLearn, SelfLearnConfig
from v2v_lite.measure import Score, score
from v2v_lite.spaces import EVAL_ROWS, Space
from v2v_lite.teaching.comparison import rows_with, short, space_of, split_of
from v2v_lite.teaching.worlds import FEW_ANCHORS, REDUCED, on_axes
from v2v_lite.vec2vec import Trainer

from .recheck import SIGMAS, Recheck, error_of
from .store import Store, Task
from .workers import run_all

DATASETS = ("wiki",)
PARTS = ()
NAMES = ("top1", "rank")
#: A row of the table: the losses that it changes.
ROWS: dict[str, dict] = {
    "full": {},
    "no VSP": {"vsp_weight": 0.0},
    "no cycle": {"cycle_weight": 0.0},
    "no reconstruction": {"reconstruction_weight": 0.0},
    "no latent adversary": {"latent_adv_weight": 0.0},
    "no output adversary": {"adv_weight": 0.0},
    "no adversary": {"adv_weight": 0.0, "latent_adv_weight": 0.0},
    "paper's VSP": {"vsp": "paper"},
}


@dataclass(frozen=True)
class Plan:
    """The small problem, and how coarse a map its few anchors give."""

    source: str = "minilm"
    target: str = "granite"
    axes: int = 16
    n_train: int = 16_384
    seeds: int = 16
    anchors: AnchorConfig = FEW_ANCHORS
    steps: int = REDUCED.optim.steps
    n_evals: int = 5  # of the pool, after the one of the initial maps
    success_fraction: float = 0.5  # of the paired reference's top-1


FULL = Plan()
QUICK = Plan(n_train=2000, seeds=2, steps=20, n_evals=1)


@dataclass(frozen=True)
class Row(Task):
    """A row of the table, all seeds at once."""

    DATASETS: ClassVar = DATASETS
    name: str
    plan: Plan

    def run(self, work: Path) -> dict:
        plan, begun = self.plan, time.process_time()
        sides, pool, maps, _ = fixtures(plan)
        optim = replace(REDUCED.optim, steps=plan.steps)
        loss = replace(REDUCED.loss, **ROWS[self.name])
        preset, pair = replace(REDUCED, loss=loss, optim=optim), tuple(sides)
        seeds, maps = tuple(range(len(maps))), {pair: maps}
        run = Trainer(sides, preset, seeds=seeds, initial_maps=maps, device="cpu")
        curve = {0: scores(run, pool)}
        for number in range(1, plan.steps + 1):
            run.step()
            if number % (plan.steps // plan.n_evals) == 0:
                curve[number] = scores(run, pool)
        return {"curve": curve, "seconds": time.process_time() - begun}


@lru_cache(maxsize=1)
def fixtures(plan: Plan) -> tuple[dict[str, Space], tuple[Space, Space], Tensor, dict]:
    """The reduced sides by name, the pool of pairs, a coarse map a seed, and what
    Procrustes reaches with the pairs of all training texts."""
    split = split_of(plan.source, plan.target, plan.n_train, 0)
    both = torch.cat([split.source.ids, split.target.ids])
    known = [
        rows_with(space_of(name, "train"), both) for name in (plan.source, plan.target)
    ]
    a, pool_a, pairs_a = on_axes(plan.axes, split.source, split.eval_source, known[0])
    b, pool_b, pairs_b = on_axes(plan.axes, split.target, split.eval_target, known[1])
    config = SelfLearnConfig(anchors=plan.anchors, phases=())
    maps = [SelfLearn(config).fit(a, b, seed=s).weight for s in range(plan.seeds)]
    best = METHODS["procrustes"]().fit(pairs_a, pairs_b)
    reference = kept(score(best.translate(pool_a), pool_b))
    return (
        {plan.source: a, plan.target: b},
        (pool_a, pool_b),
        torch.stack(maps),
        reference,
    )


def scores(run: Trainer, pool: tuple[Space, Space]) -> list[dict]:
    """Top-1 and mean rank of each seed's nets on the pool of pairs."""
    pair, nets = run.pairs[0], run.nets
    models = [run.translator(nets, k, *pair) for k in range(len(run.state.seeds))]
    return [kept(score(model.translate(pool[0]), pool[1])) for model in models]


def kept(found: Score) -> dict:
    """What of a score is kept."""
    return {name: short(getattr(found, name).mean) for name in NAMES}


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """Measure all rows, or those that `work` lacks; the table."""
    store = Store(work / "ablations.json")
    rows = {name: Row(name, plan) for name in ROWS}
    run_all([*rows.values()], store, 1, "ablations")
    reference = fixtures(plan)[3]
    threshold = plan.success_fraction * reference["top1"]
    made = [row_of(name, store.get(row), threshold) for name, row in rows.items()]
    full = made[0]["succeeded"]
    for row in made:  # the same seed, the same initial map
        both = list(zip(full, row["succeeded"], strict=True))
        row["only_full"] = both.count((True, False))
        row["only_this"] = both.count((False, True))
    about = asdict(plan) | {"pool": EVAL_ROWS, "preset": asdict(REDUCED)}
    table = {"problem": about, "paired": reference, "threshold": short(threshold)}
    return table | {"rows": made}, []


def row_of(name: str, found: dict, threshold: float) -> dict:
    """A row: how many seeds end at `threshold` or above, with its interval."""
    curve = {int(at): runs for at, runs in found["curve"].items()}
    start, end = curve[0], curve[max(curve)]
    succeeded = [run["top1"] >= threshold for run in end]
    low, high = wilson(sum(succeeded), len(succeeded))
    medians = [
        {"step": at, **{k: short(statistics.median(r[k] for r in runs)) for k in NAMES}}
        for at, runs in curve.items()
    ]
    return {
        "name": name, "changes": ROWS[name], "successes": sum(succeeded),
        "seeds": len(succeeded),
        "interval": [short(low), short(high)], "succeeded": succeeded,
        "initial": start, "final": end,
        "curve": medians, "seconds": short(found["seconds"]),
    }  # fmt: skip


def wilson(successes: int, runs: int) -> tuple[float, float]:
    """The 95 % interval of a rate that gave `successes` of `runs` (Wilson 1927).

    >>> [round(x, 2) for x in wilson(3, 15)]
    [0.07, 0.45]
    """
    from scipy.stats import binomtest

    found = binomtest(successes, runs).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def lines(table: dict) -> list[str]:
    """The table in words: one line per row."""
    return [
        f"{row['name']:<20} {row['successes']:>2} of {row['seeds']}, "
        f"95 % {row['interval'][0]:.2f} to {row['interval'][1]:.2f}, "
        f"median top-1 {row['curve'][-1]['top1']:.3f}"
        for row in table["rows"]
    ]


def recheck(table: dict, work: Path) -> Recheck:
    """The first row, all seeds: how many succeed, and their mean top-1."""
    stored = table["rows"][0]
    new = row_of(
        stored["name"], Row(stored["name"], FULL).run(work), table["threshold"]
    )
    rate, n = stored["successes"] / stored["seeds"], stored["seeds"]
    ends = [[run["top1"] for run in row["final"]] for row in (stored, new)]
    starts = [[run["top1"] for run in row["initial"]] for row in (stored, new)]
    return Recheck(
        f"row {stored['name']!r}, {n} seeds",
        {
            "successes": stored["successes"],
            "mean top1": statistics.mean(ends[0]),
            "initial top1": statistics.mean(starts[0]),
        },
        {
            "successes": new["successes"],
            "mean top1": statistics.mean(ends[1]),
            "initial top1": statistics.mean(starts[1]),
        },
        {
            "successes": max(SIGMAS * (n * rate * (1 - rate)) ** 0.5, 1),
            "mean top1": error_of(ends[0], 0.01),
            "initial top1": error_of(starts[0], 0.005),
        },
        "3 standard errors over the row's seeds; of the count, 3 binomial ones",
    )
