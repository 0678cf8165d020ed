"""Trained judges in the grown game, from MiniLM to Granite.

Discriminators stand in the place of kernel densities, as `vec2vec.grow` has them. The
ranks are those of each stage, within its axes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch

from v2v_lite.align.grow import grow
from v2v_lite.spaces import unit
from v2v_lite.teaching.comparison import split_of
from v2v_lite.vec2vec.grow import JUDGED, JudgeConfig, trained_judges

from .growth import _stages
from .recheck import Recheck, spread_of
from .store import Store, Task
from .workers import run_all

DATASETS = ("wiki",)
PARTS = ()


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    pair: tuple[str, str] = ("minilm", "granite")
    seeds: int = 8
    n_train: int = 16_384


FULL = Plan()
QUICK = Plan(seeds=1, n_train=2_000)


@dataclass(frozen=True)
class Judged(Task):
    """One growth with trained judges, and its rank by the number of axes."""

    DATASETS: ClassVar = DATASETS
    source: str
    target: str
    n_train: int
    seed: int

    def run(self, work: Path) -> dict:
        split = split_of(self.source, self.target, self.n_train, self.seed)
        spaces = split.source, split.target, split.eval_source, split.eval_target
        x, y, *test = [unit(s.vectors - s.mean) for s in spaces]
        start = time.process_time()
        generator = torch.Generator().manual_seed(self.seed)
        judge = trained_judges(JudgeConfig())
        grown = grow(x, y, JUDGED, generator, judge=judge)
        row = {"source": self.source, "target": self.target, "seed": self.seed}
        row["cpu"] = round(time.process_time() - start, 1)
        row |= {"pool": len(test[0]), "threads": torch.get_num_threads()}
        row["stages"] = list(_stages(grown, *test))
        return row | {"rank": row["stages"][-1]["rank"]}


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure into `work` what it lacks; the table."""
    store, p = Store(work / "judges.json"), plan
    tasks = [Judged(*p.pair, p.n_train, seed) for seed in range(p.seeds)]
    run_all(tasks, store, jobs, "trained")
    about = {"judge": asdict(JudgeConfig()), "growth": asdict(JUDGED)}
    rows = [store.get(task) for task in tasks]
    return {"n_train": p.n_train, **about, "trained": rows}, []


def lines(table: dict) -> list[str]:
    """The table in short, for people."""
    text = []
    for row in table["trained"]:
        ranks = ", ".join(f"{s['rank']:.0f} at {s['k']}" for s in row["stages"])
        text.append(f"trained judges, seed {row['seed']}: rank {ranks}")
        text.append(f"  in {row['cpu']:.0f} s of one core")
    return text


def recheck(table: dict, work: Path) -> Recheck:
    """Seed 0 of the growth with trained judges."""
    stored = table["trained"][0]
    one = Judged(stored["source"], stored["target"], table["n_train"], 0)
    rows = [row["rank"] for row in table["trained"]]
    return Recheck(
        "trained judges, seed 0: rank within the last axes",
        {"rank": stored["rank"]},
        {"rank": one.run(work)["rank"]},
        {"rank": spread_of(rows, 5.0)},
        "3 standard deviations over the seeds of the row",
    )
