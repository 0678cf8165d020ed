"""Does an unpaired *nonlinear* translation beat the best unpaired linear one?

Three parts, all on pairs with WordLlama, where most is left to win. `paired`: what nets
that may bend (`bent`) win *with* pairs from self-learning's map, so that one knows what
there is. `settings`: rates of both games without pairs, on one pair and one seed.
`unpaired`: the settings chosen, all pairs and seeds, and what the score without pairs
makes of them. A training serves both directions of its pair.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from v2v_lite.spaces import EVAL_ROWS
from v2v_lite.teaching.comparison import short

from .bent import ARMS, PAIRS, Trial
from .recheck import Recheck, spread_of
from .starts import Start
from .store import Store
from .vec2vec import REFINE
from .workers import run_all

DATASETS = ("wiki",)
PARTS = ("paired", "settings", "unpaired")
DENSITY, SQUARES = "density", "least_squares"
Setting = tuple[str, str, float, float, int]  # arm, game, lr, slow, batch

#: Tried on the first pair, seed 0.
TRIED: tuple[Setting, ...] = (
    ("linear", DENSITY, 0.01, 0.03, 1024),
    ("backbone", DENSITY, 0.01, 0.03, 1024),
    ("adapters", DENSITY, 0.01, 0.03, 1024),
    ("adapters", DENSITY, 0.002, 0.15, 1024),
    ("adapters", DENSITY, 0.01, 1.0, 1024),
    ("adapters", SQUARES, 0.002, 0.03, 512),
    ("adapters", SQUARES, 0.01, 0.03, 512),
)
#: Taken for all pairs and seeds.
CHOSEN: tuple[Setting, ...] = (
    ("linear", DENSITY, 0.01, 0.03, 1024),
    ("adapters", DENSITY, 0.01, 0.03, 1024),
    ("adapters", SQUARES, 0.002, 0.03, 512),
)


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    others: tuple[str, ...] = ("minilm", "granite", "arctic")
    hub: str = "wordllama"
    seeds: int = 3
    n_train: int = 16_384
    hidden: int = 256
    steps: int = 60
    n_evals: int = 2
    paired: tuple[Setting, ...] = tuple((arm, PAIRS, 0.01, 0.03, 1024) for arm in ARMS)
    paired_steps: int = 150
    paired_seeds: int = 1
    paired_evals: int = 1
    tried: tuple[Setting, ...] = TRIED
    chosen: tuple[Setting, ...] = CHOSEN


FULL = Plan()
QUICK = Plan(
    others=("minilm",), seeds=2, n_train=1000, hidden=16, steps=4, paired_steps=4,
    tried=(("backbone", DENSITY, 0.01, 0.03, 64),),
    chosen=(("linear", DENSITY, 0.01, 0.03, 64), ("adapters", SQUARES, 0.01, 0.03, 64)),
    paired=(("linear", PAIRS, 0.01, 0.03, 64), ("adapters", PAIRS, 0.01, 0.03, 64)),
)  # fmt: skip


def starts_of(plan: Plan) -> list[Start]:
    """The fits that trainings start from: one serves both directions of a pair."""
    sides = product(range(plan.seeds), plan.others)
    return [Start(other, plan.hub, plan.n_train, seed) for seed, other in sides]


def trials_of(part: str, plan: Plan) -> list[Trial]:
    """The trainings of a part."""
    starts, settings = starts_of(plan), plan.chosen
    steps, n_evals = plan.steps, plan.n_evals
    if part == "paired":
        starts = [start for start in starts if start.seed < plan.paired_seeds]
        settings = plan.paired
        steps, n_evals = plan.paired_steps, plan.paired_evals
    elif part == "settings":
        starts, settings = starts[:1], plan.tried
    trials = [
        Trial(start, arm, game, lr, slow, steps, n_evals, batch, plan.hidden)
        for start, (arm, game, lr, slow, batch) in product(starts, settings)
    ]
    if part == "paired":  # the backbone's share is seen on the first pair
        trials = [t for t in trials if t.arm != "backbone" or t.start == starts[0]]
    return trials


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`; the table so far, and the parts it still lacks."""
    store = Store(work / "nonlinear.json")
    run_all(starts_of(plan), store, jobs, "starts")
    for part in parts:
        run_all(trials_of(part, plan), store, jobs, part)
    about = asdict(plan) | {"pool": EVAL_ROWS, "min_delta": REFINE.min_delta}
    table: dict = {"plan": about, "chance": {"top1": 1 / EVAL_ROWS}}
    missing = []
    for part in PARTS:
        found = {trial: store.get(trial) for trial in trials_of(part, plan)}
        if None in found.values():
            missing.append(part)
            continue
        rows = [r for trial, row in found.items() for r in rows_of(trial, row or {})]
        table[part] = {"gains": gains(rows), "rows": rows}
    return table, missing


def rows_of(trial: Trial, found: dict) -> list[dict]:
    """A row per direction: its start, its end, and what the score would keep."""
    every, made = trial.steps // trial.n_evals, []
    names = trial.start.a, trial.start.b
    for source, target in (names, names[::-1]):
        points = [point[f"{source} to {target}"] for point in found["curve"]]
        scores = [point["score"] for point in points]
        at, free = (kept_at(scores, delta) for delta in (REFINE.min_delta, 0.0))
        made.append({
            "source": source, "target": target, "seed": trial.start.seed,
            "arm": trial.arm, "game": trial.game, "lr": trial.lr, "slow": trial.slow,
            "batch": trial.batch, "start": points[0], "last": points[-1],
            "kept": points[at], "kept_step": at * every,
            "kept_step_without_min_delta": free * every,
            "curve": [{"step": i * every, **p} for i, p in enumerate(points)],
            "losses": found["curve"][-1]["losses"], "seconds": found["seconds"],
        })  # fmt: skip
    return made


def kept_at(scores: Sequence[float], min_delta: float) -> int:
    """Which evaluation the score without pairs keeps, by the trainer's own rule: the
    start stays until a score exceeds its own by `min_delta`.

    >>> kept_at([0.50, 0.51, 0.53, 0.52], 0.02), kept_at([0.50, 0.51], 0.02)
    (2, 0)
    """
    best = 0
    for i, new in enumerate(scores):
        if i and new >= scores[best] + (min_delta if best == 0 else 0.0):
            best = i
    return best


def gains(rows: Sequence[dict]) -> list[dict]:
    """Top-1 gained over the linear start, per setting: of each ordered pair, and the
    mean with a 95 % t interval over trainings, each the mean of its two directions;
    at the "last" step and as the score keeps it."""
    keys = "arm", "game", "lr", "slow", "batch"
    found = []
    for setting in dict.fromkeys(tuple(r[k] for k in keys) for r in rows):
        some = [r for r in rows if tuple(r[k] for k in keys) == setting]
        for when in ("last", "kept"):
            gain = [(r, r[when]["top1"] - r["start"]["top1"]) for r in some]
            by_training: dict[tuple, list[float]] = {}
            by_pair: dict[str, list[float]] = {}
            for r, g in gain:
                training = frozenset((r["source"], r["target"])), r["seed"]
                by_training.setdefault(training, []).append(g)
                by_pair.setdefault(f"{r['source']} to {r['target']}", []).append(g)
            over = [statistics.mean(values) for values in by_training.values()]
            each = {pair: interval(values) for pair, values in by_pair.items()}
            found.append(dict(zip(keys, setting, strict=True)) | {
                "when": when, "mean": interval(over), "pairs": each,
                "above": sum(g > 0 for _, g in gain), "of": len(gain),
            })  # fmt: skip
    return found


def interval(values: Sequence[float]) -> dict:
    """Mean and 95 % t interval (none from one value).

    >>> interval([0.1, 0.2, 0.3])
    {'gain': 0.2, 'n': 3, 'low': -0.048414, 'high': 0.44841}
    """
    from scipy.stats import t

    mean, n = statistics.mean(values), len(values)
    found = {"gain": short(mean), "n": n}
    if n > 1:
        far = t.ppf(0.975, n - 1) * statistics.stdev(values) / math.sqrt(n)
        found |= {"low": short(mean - float(far)), "high": short(mean + float(far))}
    return found


def lines(table: dict) -> list[str]:
    """The table in words: a line per part and setting."""
    text = []
    for part in PARTS:
        for row in table.get(part, {}).get("gains", ()):
            mean, spread = row["mean"], ""
            if "low" in mean:
                spread = f" ({mean['low']:+.4f} to {mean['high']:+.4f})"
            text.append(
                f"{part:<9} {row['game']:<13} {row['arm']:<9} lr {row['lr']:<6} slow "
                f"{row['slow']:<6} {row['when']:<5} top-1 {mean['gain']:+.4f}{spread}, "
                f"above the start in {row['above']} of {row['of']}"
            )
    return text


def recheck(table: dict, work: Path) -> Recheck:
    """The first pair, seed 0, from its fit to the end of the last setting chosen."""
    trial = trials_of("unpaired", FULL)[len(FULL.chosen) - 1]
    trial.start.run(work)
    stored, measured, most = {}, {}, {}
    for new in rows_of(trial, trial.run(work)):
        keys = "source", "target", "arm", "game", "lr", "slow"
        same = [
            row for row in table["unpaired"]["rows"]
            if all(row[key] == new[key] for key in keys)
        ]  # fmt: skip
        (old,) = [row for row in same if row["seed"] == new["seed"]]
        for when in ("start", "last"):
            key = f"{new['source']} to {new['target']} {when}"
            stored[key], measured[key] = old[when]["top1"], new[when]["top1"]
            most[key] = spread_of([row[when]["top1"] for row in same], 0.01)
    why = "3 standard deviations over the seeds of the same row, at least .01"
    about = f"top-1 of seed {trial.start.seed}, {trial.game}, {trial.arm}"
    return Recheck(about, stored, measured, most, why)
