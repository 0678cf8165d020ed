"""What each loss does for adversarial training, over seeds, on a small problem.

The problem is `v2v_lite.teaching.worlds`', which chapters 9 and 10 train on live, for a
shorter time and with fewer seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from v2v_lite.teaching.worlds import (
    STEPS,
    SmallProblem,
    coarse_maps,
    metrics,
    references,
    small_preset,
    small_problem,
    train_small,
)

from .recheck import Recheck, error_of
from .store import Store, Task
from .workers import run_all

DATASETS = ("wiki",)
PARTS = ()


@dataclass(frozen=True)
class Plan:
    """How long to train, how often to evaluate, and with how many seeds."""

    steps: int = STEPS
    every: int = 150
    seeds: int = 6


FULL = Plan()
QUICK = Plan(steps=4, every=2, seeds=2)


@dataclass(frozen=True)
class Case(Task):
    """One choice of losses, trained over seeds."""

    DATASETS: ClassVar = DATASETS
    name: str
    weights: tuple[tuple[str, object], ...]
    steps: int
    every: int
    seeds: int

    def run(self, work: Path) -> dict:
        problem, maps = _fixtures(self.seeds)
        preset = small_preset(**dict(self.weights))
        course = train_small(problem, maps, preset, self.steps, self.every)
        seen = [(step, metrics(problem, nets)) for step, nets in course]
        table = {k: [numbers[k].tolist() for _, numbers in seen] for k in seen[0][1]}
        return {"weights": dict(self.weights), "steps": [s for s, _ in seen]} | table


@lru_cache(maxsize=1)
def _fixtures(seeds: int) -> tuple[SmallProblem, Tensor]:
    problem = small_problem()
    return problem, coarse_maps(problem, seeds)


def cases(plan: Plan) -> list[Case]:
    """Cycle and its forms, then forms and weights of VSP beside a cycle."""
    cycle = {"cycle_weight": 2.0}
    well_posed = {"vsp": "self", "vsp_weight": 1.0}
    table: dict[str, dict] = {
        "adversary": {},
        "adversary, cycle": cycle,
        "adversary, detached cycle": cycle | {"cycle_stop_gradient": True},
        "adversary, VSP": well_posed,
        "cycle, VSP": cycle | well_posed | {"adv_weight": 0.0},
    }
    forms = {"well posed": "self", "paper": "paper", "released": "released"}
    weights = {"well posed": (1, 0.3, 3, 10), "paper": (10, 30), "released": (10,)}
    for label, form in forms.items():
        for w in weights[label]:
            table[f"{label} {w:g}"] = cycle | {"vsp": form, "vsp_weight": float(w)}
    return [
        Case(name, tuple(row.items()), plan.steps, plan.every, plan.seeds)
        for name, row in table.items()
    ]


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Train what `work` lacks, and give the table."""
    store, tasks = Store(work / "losses.json"), cases(plan)
    run_all(tasks, store, jobs, "losses")
    return {
        "problem": {"source": "minilm", "target": "granite", "d": 32, "pool": 1024},
        "preset": asdict(small_preset()),
        "references": references(small_problem()),
        "cases": {task.name: store.get(task) for task in tasks},
    }, []


def lines(table: dict) -> list[str]:
    """The table in words: one line per case."""
    text = []
    for name, row in table["cases"].items():
        low, *_, high = sorted(row["rank"][-1])
        middle = statistics.median(row["rank"][-1])
        text.append(f"{name:26} rank {middle:.1f}, from {low:.1f} to {high:.1f}")
    return text


def recheck(table: dict, work: Path) -> Recheck:
    """The case with a cycle alone, all seeds, from its initial maps to the end."""
    name = "adversary, cycle"
    case = next(case for case in cases(FULL) if case.name == name)
    stored, new = table["cases"][name], case.run(work)

    def numbers(row: dict) -> dict[str, float]:
        found = {f"final {k}": statistics.mean(row[k][-1]) for k in kept}
        return {"initial rank": statistics.mean(row["rank"][0])} | found

    kept = {"rank": 0.5, "top1": 0.01, "effective_rank": 0.1, "cosine_std": 0.002}
    return Recheck(
        f"{name!r}, mean of {case.seeds} seeds",
        numbers(stored),
        numbers(new),
        {"initial rank": error_of(stored["rank"][0], 0.5)}
        | {f"final {k}": error_of(stored[k][-1], least) for k, least in kept.items()},
        "3 standard errors over the seeds of the case",
    )
