"""What each part of OURS is worth: one part changed at a time, from the same starts.

The small problem is that of `ablations` (two encoders on their own leading axes), the
preset is OURS with a smaller batch. A seed has its own anchors, weights and batches and
keeps them in every row, whatever the row's coordinates: within a seed, rows differ by
the change alone. Five seeds are one program.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from v2v_lite.align import METHODS
from v2v_lite.align.anchors import AnchorConfig, find_anchors
from v2v_lite.align.linalg import polar, whitening
from v2v_lite.measure import score
from v2v_lite.spaces import EVAL_ROWS, Space, unit
from v2v_lite.teaching.comparison import rows_with, short, space_of, split_of
from v2v_lite.teaching.worlds import on_axes
from v2v_lite.vec2vec import Preset, Trainer

from .ablations import kept, scores
from .recheck import Recheck, error_of
from .store import Store, Task
from .vec2vec import ANCHORED
from .workers import run_all

DATASETS = ("wiki",)
PARTS = ()
FULL_ROW = "OURS"
CONFIDENCE = 0.95
NO_FILTER = {"singular_value_exponent": (0.0, 0.0), "variance_exponent": (0.0, 0.0)}
TRAINED = {"game": "least_squares", "hidden_dim": 64, "depth": 3, "r1": 0.05}
#: A row of the table: by part of the preset, the fields that it changes.
ROWS: dict[str, dict[str, dict[str, Any]]] = {
    FULL_ROW: {},
    "no game": {"loss": {"adv_weight": 0.0}},
    "least squares": {"adversarial": TRAINED},
    "least squares, lr .03": {"adversarial": TRAINED, "optim": {"lr": 0.03}},
    "least squares, Adam .003": {
        "adversarial": TRAINED, "optim": {"optimizer": "adam", "lr": 0.003}
    },
    "MMD": {"adversarial": {"game": "mmd"}},
    "MMD, weight 10": {"adversarial": {"game": "mmd"}, "loss": {"adv_weight": 10.0}},
    "Adam, lr .003": {"optim": {"optimizer": "adam", "lr": 0.003}},
    "Adam, lr .03": {"optim": {"optimizer": "adam", "lr": 0.03}},
    "no singular-value exponent": {
        "adversarial": {"singular_value_exponent": (0.0, 0.0)}
    },
    "no variance exponent": {"adversarial": {"variance_exponent": (0.0, 0.0)}},
    "no spectral filter": {"adversarial": NO_FILTER},
    "whitening prior / 10": {"": {"whitening_rows": ANCHORED.whitening_rows / 10}},
    "whitening prior x 10": {"": {"whitening_rows": ANCHORED.whitening_rows * 10}},
    "no whitening, no filter": {
        "": {"whitening_rows": 0.0}, "adversarial": NO_FILTER
    },
    "shared read-out": {"": {"output_transform": "shared"}},
    "no EMA": {"optim": {"ema_decay": 0.0}},
    "slow .01": {"optim": {"slow_lr_scale": 0.01}},
    "slow 1": {"optim": {"slow_lr_scale": 1.0}},
    "slow .01, reconstruction": {
        "optim": {"slow_lr_scale": 0.01}, "loss": {"reconstruction_weight": 1.0}
    },
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The small problem, and the anchors of its starts: as many as OURS takes."""

    source: str = "minilm"
    target: str = "granite"
    axes: int = 16
    n_train: int = 16_384
    seeds: int = 5
    anchors: AnchorConfig = AnchorConfig(n_runs=ANCHORED.anchor_runs)
    draws: int = ANCHORED.anchor_draws
    steps: int = 300
    batch: int = 256
    d_lr: float = 3e-3
    n_evals: int = 2


FULL = Plan()
QUICK = Plan(n_train=2000, seeds=2, steps=8, batch=64, n_evals=1)


def preset_of(name: str, plan: Plan) -> Preset:
    """OURS on the small problem, with a row's changes."""
    o = ANCHORED.optim
    optim = replace(o, batch_size=plan.batch, steps=plan.steps, d_lr=plan.d_lr)
    preset = replace(ANCHORED, optim=optim)
    changes = dict(ROWS[name])
    whole = changes.pop("", {})
    parts = {k: replace(getattr(preset, k), **v) for k, v in changes.items()}
    return replace(preset, **parts, **whole)


@dataclass(frozen=True)
class Row(Task):
    """A row of the table, all seeds at once."""

    DATASETS: ClassVar = DATASETS
    name: str
    plan: Plan

    def run(self, work: Path) -> dict:
        plan, begun = self.plan, time.process_time()
        preset, problem = preset_of(self.name, plan), fixtures(plan)
        pair = plan.source, plan.target
        sides = dict(zip(pair, problem.sides, strict=True))
        seeds = tuple(range(plan.seeds))
        maps = {pair: problem.maps_for(preset)}
        run = Trainer(sides, preset, seeds=seeds, initial_maps=maps, device="cpu")
        curve = {0: scores(run, problem.pool)}
        for number in range(1, plan.steps + 1):
            run.step()
            if number % (plan.steps // plan.n_evals) == 0:
                curve[number] = scores(run, problem.pool)
        return {"curve": curve, "seconds": time.process_time() - begun}


@dataclass(frozen=True, eq=False)
class Problem:
    """Both sides and the pool on their axes; a start per seed between rows whitened
    with OURS' prior; what the paired reference reaches."""

    sides: tuple[Space, Space]
    pool: tuple[Space, Space]
    crosses: Tensor
    paired: dict[str, float]

    def maps_for(self, preset: Preset) -> Tensor:
        """The starts `(S, d, d)` between rows as the preset's nets see them.

        Filters keep a start's singular values and begin as its rotation; without them
        the rotation is taken here, so that all rows begin alike.
        """
        (own_x, own_y), (x, y) = self._white(ANCHORED), self._white(preset)
        filtered = any(
            (*preset.adversarial.singular_value_exponent,
             *preset.adversarial.variance_exponent)
        )  # fmt: skip
        crosses = self.crosses if filtered else polar(self.crosses)
        return torch.linalg.solve(x, own_x @ crosses @ torch.linalg.solve(own_y, y))

    def _white(self, preset: Preset) -> list[Tensor]:
        found = []
        for space in self.sides:
            x = unit(space.vectors - space.mean)
            prior = preset.whitening_rows / len(x)
            found.append(whitening(x, prior) if prior else torch.eye(x.shape[1]))
        return found


@lru_cache(maxsize=1)
def fixtures(plan: Plan) -> Problem:
    """The small problem of a plan, as in `ablations`, with OURS' kind of start."""
    split = split_of(plan.source, plan.target, plan.n_train, 0)
    both = torch.cat([split.source.known_ids, split.target.known_ids])
    known = [
        rows_with(space_of(name, "train"), both) for name in (plan.source, plan.target)
    ]
    a, pool_a, pairs_a = on_axes(plan.axes, split.source, split.eval_source, known[0])
    b, pool_b, pairs_b = on_axes(plan.axes, split.target, split.eval_target, known[1])
    x, y = (unit(one.vectors - one.mean) for one in (a, b))
    white = [whitening(z, ANCHORED.whitening_rows / len(z)) for z in (x, y)]
    crosses = []
    for seed in range(plan.seeds):
        g = torch.Generator().manual_seed(seed)
        drawn = [
            find_anchors(x, y, plan.anchors, g, *white).cross()
            for _ in range(plan.draws)
        ]
        crosses.append(max(drawn, key=nuclear_norm))
    best = METHODS["procrustes"]().fit(pairs_a, pairs_b)
    reference = kept(score(best.translate(pool_a), pool_b))
    return Problem((a, b), (pool_a, pool_b), torch.stack(crosses), reference)


def nuclear_norm(cross: Tensor) -> float:
    """By which OURS chooses among sets of anchors: how far their rows covary."""
    return torch.linalg.matrix_norm(cross, "nuc").item()


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """Measure all rows, or those that `work` lacks; the table."""
    store = Store(work / "ours_ablation.json")
    tasks = {name: Row(name, plan) for name in ROWS}
    run_all([*tasks.values()], store, 1, "ours_ablation")
    found = {name: store.get(task) for name, task in tasks.items()}
    rows = [row_of(name, row, found[FULL_ROW]) for name, row in found.items()]
    about = asdict(plan) | {"pool": EVAL_ROWS, "preset": asdict(ANCHORED)}
    about |= {"chance": 1 / EVAL_ROWS, "confidence": CONFIDENCE}
    return {"problem": about, "paired": fixtures(plan).paired, "rows": rows}, []


def row_of(name: str, found: Mapping, full: Mapping) -> dict:
    """A row: its end, and how far it is from OURS', seed by seed."""
    ends, own = (_ends(one) for one in (found, full))
    gaps = [a - b for a, b in zip(ends, own, strict=True)]
    curve = {int(at): runs for at, runs in found["curve"].items()}
    low, high = interval(gaps)
    together = interval(gaps, len(ROWS) - 1)
    return {
        "name": name, "changes": ROWS[name],
        "initial": curve[0], "final": curve[max(curve)],
        "top1": short(statistics.mean(ends)), "top1_se": short(standard_error(ends)),
        "gap": short(statistics.mean(gaps)), "gap_se": short(standard_error(gaps)),
        "interval": [short(low), short(high)], "verdict": verdict(low, high),
        "interval_of_all": [short(end) for end in together],
        "lower": sum(gap < 0 for gap in gaps), "higher": sum(gap > 0 for gap in gaps),
        "curve": [
            {"step": at, "top1": short(statistics.mean(r["top1"] for r in runs))}
            for at, runs in curve.items()
        ],
        "seconds": short(found["seconds"]),
    }  # fmt: skip


def _ends(found: Mapping) -> list[float]:
    last = max(found["curve"], key=int)
    return [run["top1"] for run in found["curve"][last]]


def standard_error(values: Sequence[float]) -> float:
    """The standard error of a mean."""
    return statistics.stdev(values) / len(values) ** 0.5


def interval(gaps: Sequence[float], rows: int = 1) -> tuple[float, float]:
    """Student's t interval of a mean difference; of `rows` such intervals all hold
    together with the probability CONFIDENCE (Bonferroni).

    >>> low, high = interval([0.1, 0.2, 0.3])
    >>> round(low, 2), round(high, 2)
    (-0.05, 0.45)
    """
    from scipy.stats import t

    n, mean = len(gaps), statistics.mean(gaps)
    far = t.ppf(1 - (1 - CONFIDENCE) / (2 * rows), n - 1) * standard_error(gaps)
    return mean - float(far), mean + float(far)


def verdict(low: float, high: float) -> str:
    """The one criterion of all rows: a change matters if the 95 % t interval of its
    mean difference from OURS, seed by seed, leaves out zero."""
    return "worse" if high < 0 else "better" if low > 0 else "not told apart"


def lines(table: dict) -> list[str]:
    """The table in words: one line per row."""
    return [
        f"{row['name']:<27} top-1 {row['top1']:.3f} ± {row['top1_se']:.3f}, "
        f"against OURS {row['gap']:+.3f} ({row['interval'][0]:+.3f} to "
        f"{row['interval'][1]:+.3f}) {row['verdict']}"
        for row in table["rows"]
    ]


def recheck(table: dict, work: Path) -> Recheck:
    """The first row, all seeds: mean top-1 at the start and at the end."""
    stored = table["rows"][0]
    found = Row(stored["name"], FULL).run(work)
    new = row_of(stored["name"], found, found)

    def means(row: dict) -> dict[str, float]:
        keys = "initial", "final"
        return {k: statistics.mean(run["top1"] for run in row[k]) for k in keys}

    return Recheck(
        f"row {stored['name']!r}, {len(stored['final'])} seeds, mean top-1",
        means(stored), means(new),
        {k: error_of([run["top1"] for run in stored[k]], 0.01)
         for k in ("initial", "final")},
        "3 standard errors over the row's seeds",
    )  # fmt: skip
