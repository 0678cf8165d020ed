"""Trained judges in the grown game, and vec2vec's nets trained from a grown map.

`trained` grows MiniLM to Granite with discriminators in the place of kernel densities.
`handed` trains OURS for a few hundred steps from a grown map and from anchors, with the
adversarial loss and without it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from v2v_lite.align.grow import grow
from v2v_lite.spaces import unit
from v2v_lite.teaching.comparison import split_of
from v2v_lite.vec2vec import OURS, Preset
from v2v_lite.vec2vec.grow import JUDGED, JudgeConfig, trained_judges

from .growth import _stages
from .recheck import Recheck, spread_of
from .store import Store, Task
from .vec2vec import Trial
from .workers import run_all

DATASETS = ("wiki",)
PARTS = ("trained", "handed")
VARIANTS = ("ours", "without adversary")


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    pair: tuple[str, str] = ("minilm", "granite")
    seeds: int = 8
    hand_seeds: int = 1
    starts: tuple[str, ...] = ("grown", "anchors")
    n_train: int = 16_384
    steps: int = 300
    control_steps: int = 150


FULL = Plan()
QUICK = Plan(seeds=1, hand_seeds=1, n_train=2_000, steps=6, control_steps=6)


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


@dataclass(frozen=True)
class Handed(Trial):
    """OURS for some steps, from the start of that name."""

    @property
    def preset(self) -> Preset:
        """OURS with this trial's start and length, with an adversary or without."""
        weight = OURS.loss.adv_weight if self.variant == VARIANTS[0] else 0.0
        loss = replace(OURS.loss, adv_weight=weight)
        optim = replace(OURS.optim, steps=self.steps)
        return replace(OURS, init=self.start, loss=loss, optim=optim)

    def run(self, work: Path) -> dict:
        """The trial's row, with its start and the processor's time."""
        start = time.process_time()
        row = super().run(work) | {"start": self.start, "variant": self.variant}
        return row | {"cpu": round(time.process_time() - start, 1)}


def tasks_of(part: str, plan: Plan) -> list[Task]:
    """The tasks of a part."""
    p = plan
    if part == "trained":
        return [Judged(*p.pair, p.n_train, seed) for seed in range(p.seeds)]
    lengths = dict(zip(VARIANTS, (p.steps, p.control_steps), strict=True))
    return [
        Handed(*p.pair, seed, variant, start, p.n_train, steps)
        for seed in range(p.hand_seeds)
        for start in p.starts
        for variant, steps in lengths.items()
        if (start, variant) != ("anchors", VARIANTS[1])  # it is in vec2vec's table
    ]


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`; the table so far, and the parts it still lacks."""
    store = Store(work / "judges.json")
    for part in parts:
        run_all(tasks_of(part, plan), store, jobs, part)
    table: dict = {"n_train": plan.n_train, "steps": plan.steps}
    table |= {"control_steps": plan.control_steps}
    table |= {"judge": asdict(JudgeConfig()), "growth": asdict(JUDGED)}
    missing = []
    for part in PARTS:
        rows = [store.get(task) for task in tasks_of(part, plan)]
        if None in rows:
            missing.append(part)
        else:
            table[part] = rows
    return table, missing


def lines(table: dict) -> list[str]:
    """The table in short, for people."""
    text = []
    for row in table.get("trained", ()):
        ranks = ", ".join(f"{s['rank']:.0f} at {s['k']}" for s in row["stages"])
        text.append(f"trained judges, seed {row['seed']}: rank {ranks}")
        text.append(f"  in {row['cpu']:.0f} s of one core")
    for row in table.get("handed", ()):
        text.append(
            f"from {row['start']}, {row['variant']}, seed {row['seed']}: top-1 "
            f"{row['initial']['top1']:.3f}, then {row['last']['top1']:.3f} "
            f"(rank {row['last']['rank']:.1f}) in {row['cpu']:.0f} s of one core"
        )
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
