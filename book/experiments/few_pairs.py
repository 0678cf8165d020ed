"""A few known pairs beside many rows without one: what are 0 to 1,000 of them worth?

`curve` fits self-learning on unpaired rows and so many pairs beside them, and, on the
same pairs alone, Procrustes and ridge: centred by the means of the pairs, and by the
means of all the rows at hand. `around` has what stands about the curve: baselines that
learn nothing, and references that have the partner of every row.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from v2v_lite.align import METHODS
from v2v_lite.align.selflearn import SelfLearn
from v2v_lite.spaces import Space, Split
from v2v_lite.teaching.comparison import measure as measure_method
from v2v_lite.teaching.comparison import row_of, short, space_of, split_of

from .recheck import Recheck, spread_of
from .store import Store, Task
from .workers import run_all

DATASETS = ("wiki",)
PARTS = ("around", "curve")
ALONE = ("procrustes", "ridge")
MEANS = ("pairs", "all")  # by which rows' means the pairs alone are centred
AROUND = ("identity", "mean", "procrustes", "whitened")


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    source: str = "minilm"
    target: str = "wordllama"
    n_train: int = 4_096
    pairs: tuple[int, ...] = (0, 5, 20, 100, 1_000)
    seeds: int = 3


FULL = Plan()
QUICK = Plan(n_train=1_000, pairs=(0, 5, 20), seeds=1)


@dataclass(frozen=True)
class Few(Task):
    """Self-learning from unpaired rows and pairs, and the pairs alone; one seed."""

    DATASETS: ClassVar = DATASETS
    source: str
    target: str
    n_train: int
    n_pairs: int
    seed: int

    def run(self, work: Path) -> dict:
        split = split_of(self.source, self.target, self.n_train, self.seed)
        pairs = pairs_of(self.source, self.target, self.n_train, self.n_pairs, split)
        sides = [split.source, split.target]
        for k, one in enumerate(pairs):
            sides[k] = Space(torch.cat([sides[k].vectors, one.vectors]))
        known = torch.arange(self.n_train, self.n_train + self.n_pairs)
        start = time.process_time()
        model = SelfLearn().fit(*sides, seed=self.seed, pairs=(known, known))
        cpu = time.process_time() - start
        row: dict = {"pairs": self.n_pairs, "seed": self.seed, "cpu": round(cpu, 1)}
        row["selflearn"] = row_of(model, split, cpu)
        for name in ALONE if pairs else ():
            for means in MEANS:
                centred = [
                    one.with_mean(side.mean if means == "all" else None)
                    for one, side in zip(pairs, sides, strict=True)
                ]
                one = METHODS[name]().fit(*centred)
                row[f"{name}, means of {means}"] = row_of(one, split, 0.0)
        return row


def pairs_of(
    source: str, target: str, n: int, n_pairs: int, split: Split
) -> list[Space]:  # fmt: skip
    """Both sides of pairs whose texts are in neither training set nor the pool; those
    of a longer list begin with those of a shorter one."""
    a, b = space_of(source), space_of(target)
    rest = a.n - split.eval_source.n
    order = torch.randperm(rest, generator=torch.Generator().manual_seed(split.seed))
    some = order[2 * n : 2 * n + n_pairs]
    return [a.take(some), b.take(some)] if n_pairs else []


@dataclass(frozen=True)
class Around(Task):
    """A baseline, or a reference that has the pairs of both training sets."""

    DATASETS: ClassVar = DATASETS
    source: str
    target: str
    n_train: int
    method: str
    seed: int

    def run(self, work: Path) -> dict:
        pair = self.source, self.target
        row, _ = measure_method(self.method, *pair, self.n_train, self.seed)
        return {"method": self.method} | row


def tasks_of(part: str, plan: Plan) -> list[Task]:
    """The tasks of a part."""
    p, pair, seeds = plan, (plan.source, plan.target), range(plan.seeds)
    if part == "around":
        return [Around(*pair, p.n_train, method, s) for s in seeds for method in AROUND]
    return [Few(*pair, p.n_train, n, seed) for seed in seeds for n in p.pairs]


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`; the table so far, and the parts it still lacks."""
    store = Store(work / "few_pairs.json")
    for part in parts:
        run_all(tasks_of(part, plan), store, jobs, part)
    table: dict = {"source": plan.source, "target": plan.target}
    table |= {"n_train": plan.n_train}
    missing = []
    for part in PARTS:
        rows = [store.get(task) for task in tasks_of(part, plan)]
        if None in rows:
            missing.append(part)
        else:
            table[part] = rows
    if "curve" in table:
        table["gains"] = gains(table["curve"])
    return table, missing


def gains(rows: Sequence[dict]) -> list[dict]:
    """By the number of pairs: top-1 of self-learning with them, less that without any,
    and less that of each map of the pairs alone, with standard errors.

    Means over seeds. The standard error is that of the pool, as if the two scores were
    independent and all seeds the same, which both make it larger than it is; `least` is
    the smallest gain of a seed.
    """
    by = {(row["pairs"], row["seed"]): row for row in rows}
    seeds, found = sorted({row["seed"] for row in rows}), []
    for n in sorted({row["pairs"] for row in rows} - {0}):
        for other in [key for key in by[n, seeds[0]] if "means" in key] + ["unpaired"]:
            some = [by[n, s]["selflearn"] for s in seeds]
            others = [
                by[0, s]["selflearn"] if other == "unpaired" else by[n, s][other]
                for s in seeds
            ]
            each = [a["top1"] - b["top1"] for a, b in zip(some, others, strict=True)]
            error = statistics.mean(
                math.hypot(a["top1_se"], b["top1_se"])
                for a, b in zip(some, others, strict=True)
            )
            found.append({
                "pairs": n, "over": other, "gain": short(statistics.mean(each)),
                "least": short(min(each)), "se": short(error), "seeds": len(each),
            })  # fmt: skip
    return found


def lines(table: dict) -> list[str]:
    """The table in words."""
    text = [
        f"{row['method']}, seed {row['seed']}: top-1 {row['top1']:.3f}, rank "
        f"{row['rank']:.1f}"
        for row in table.get("around", ())
    ]
    for row in table.get("curve", ()):
        parts = {k: v for k, v in row.items() if isinstance(v, dict)}
        told = ", ".join(f"{k} {v['top1']:.3f}" for k, v in parts.items())
        text.append(f"{row['pairs']} pairs, seed {row['seed']}: top-1 of {told}")
    return text + [
        f"{row['pairs']} pairs over {row['over']}: {row['gain']:+.4f}, at least "
        f"{row['least']:+.4f}, standard error {row['se']:.4f}"
        for row in table.get("gains", ())
    ]


def recheck(table: dict, work: Path) -> Recheck:
    """The fit with 100 pairs, seed 0, and the maps of these pairs alone."""
    stored = next(r for r in table["curve"] if (r["pairs"], r["seed"]) == (100, 0))
    where = table["source"], table["target"], table["n_train"]
    row = Few(*where, 100, 0).run(work)
    keys = [key for key, value in stored.items() if isinstance(value, dict)]
    same = [r for r in table["curve"] if r["pairs"] == 100]
    return Recheck(
        "top-1 with 100 pairs, seed 0",
        {key: stored[key]["top1"] for key in keys},
        {key: row[key]["top1"] for key in keys},
        {key: spread_of([r[key]["top1"] for r in same], 0.005) for key in keys},
        "3 standard deviations over the seeds of the row, at least .005",
    )
