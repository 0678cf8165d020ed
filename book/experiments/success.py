"""The paper's method trained to a success: deep nets, trained judges, random starts.

Two worlds: an encoder and its hidden orthogonal copy, and a real pair, each side on its
own first principal axes. A *single* run sees all axes at once. A *staged* seed is a
population that begins in two axes: with every further axis the best distinct nets, by
the game's loss, are copied with the new axis turned at random. Pairs score; they
neither train nor choose.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from v2v_lite.teaching.comparison import short

from .players import DEEP, WORLDS, Players, spread
from .recheck import SIGMAS, Recheck
from .store import Store, Task
from .workers import run_all

DATASETS = ("wiki",)
PARTS = ()
ALL = 384  # axes
RIGHT = 2.0  # a net is right up to so many times the paired rotation's rank
NEAR = 0.02  # ... or up to this share of the pool: a copy's rotation has rank 1


COARSE = 0.1  # of the pool: coarsely right, where chance has half of it


def threshold(paired: float, pool: int) -> float:
    """The highest mean rank that counts as right."""
    return max(RIGHT * paired, NEAR * pool)


@dataclass(frozen=True)
class Plan:
    """How many nets, for how many steps, in which axes."""

    pool: int = 1024
    singles: int = 64  # nets per world and number of axes, one run each
    restarts: int = 8  # of which one is chosen
    steps: int = 80
    copy_axes: tuple[int, ...] = (2, 4)
    real_axes: tuple[int, ...] = (2, 4, 8, 16)
    seeds: int = 16  # staged ones
    populations: int = 4  # per seed, of which the score chooses one
    #: axes, nets per seed, steps, how many nets are kept; see `Staged`.
    stages: tuple[tuple[int, int, int, int], ...] = (
        (2, 16, 70, 4), (3, 8, 60, 4), (4, 8, 60, 4), (5, 8, 50, 4), (6, 8, 50, 4),
        (8, 8, 50, 4), *((8, 8, 50, 2),) * 7, (8, 8, 50, 1),
    )  # fmt: skip
    copy_stages: int = 3  # the first so many for the copy, with fewer seeds
    copy_seeds: int = 4
    whole: int = 4  # nets in all axes
    whole_steps: int = 40


FULL = Plan()
QUICK = Plan(
    pool=64, singles=4, restarts=2, steps=2, copy_axes=(2,), real_axes=(2,), seeds=2,
    populations=1, copy_seeds=2,
    stages=((2, 4, 2, 2), (3, 4, 2, 1), (3, 4, 2, 1)), whole=1, whole_steps=1,
)  # fmt: skip


# ---- tasks


@dataclass(frozen=True)
class Single(Task):
    """Nets that see all their axes from the first step on, one run each."""

    DATASETS: ClassVar = DATASETS
    world: str
    axes: int
    nets: int
    steps: int
    pool: int

    def run(self, work: Path) -> dict:
        begun = time.process_time()
        players = Players(self.world, self.axes, self.nets, self.pool)
        reference, turn = players.paired()
        began = players.same_part(turn).tolist()
        course = players.play(self.steps)
        kinds = course[0]  # of losses
        ranks, score = players.ranks(), players.score()
        right = ranks <= threshold(reference, self.pool)
        bent = players.nonlinearity()
        # The best right net and the best wrong one by the score, as far as there are.
        shown = [
            (name, int((score + ~part * 1e9).argmin()))
            for name, part in (("winner", right), ("failure", ~right))
            if part.any()
        ]
        return {
            "paired": short(reference), "ranks": shorts(ranks), "score": shorts(score),
            "nonlinear": shorts(bent),
            "began_in_part": began, "ended_in_part": players.same_part(turn).tolist(),
            "curves": {
                name: {k: shorts(torch.stack([c[k][i] for c in course])) for k in kinds}
                for name, i in shown
            },
            "seconds": short(time.process_time() - begun),
        }  # fmt: skip


@dataclass(frozen=True)
class Staged(Task):
    """Populations that are shown one axis after the other, all seeds as one program.

    A stage (axes, nets, steps, kept) begins with copies of the nets that the stage
    before has kept. Where it shows new axes, each copy has these turned at random, with
    as many rotations as reflections. Where it does not, each kept net goes on as it is,
    beside copies whose newer half of the axes is turned: see `spread`.
    """

    DATASETS: ClassVar = DATASETS
    world: str
    seeds: int
    stages: tuple[tuple[int, int, int, int], ...]
    pool: int
    population: int  # seeds the draws; a restart of everything

    def run(self, work: Path) -> dict:
        begun, rows = time.process_time(), []
        axes, nets = self.stages[-1][0], self.stages[0][1]
        size = self.seeds * nets
        players = Players(self.world, axes, size, self.pool, self.population)
        players.seen, kept = self.stages[0][0], None
        for axes, nets, steps, keep in self.stages:
            if kept is not None:
                spread(players, kept, axes, nets // kept.shape[1])
            losses = players.play(steps)[-1]
            kept = players.best(nets, keep)
            ranks, score = players.ranks(), players.score()
            (reference, turn) = players.paired()
            right = ranks <= threshold(reference, self.pool)
            rows.append({
                "axes": axes, "nets": nets, "steps": steps, "paired": short(reference),
                "kept": [shorts(ranks[k]) for k in kept],
                "score": [shorts(score[k]) for k in kept],
                "right": right.view(self.seeds, nets).sum(1).tolist(),
                "in_part": players.same_part(turn)[kept[:, 0]].tolist(),
                "losses": {k: short(v.mean().item()) for k, v in losses.items()},
            })  # fmt: skip
        return {"stages": rows, "seconds": short(time.process_time() - begun)}


def shorts(values: Tensor) -> list[float]:
    """Numbers of a result file."""
    return [short(v) for v in values.tolist()]


# ---- the table


def tasks_of(plan: Plan) -> dict[str, Task]:
    """All tasks by name, the real pair first."""
    short_plan = plan.copy_seeds, plan.stages[: plan.copy_stages]
    staged = {"real": (plan.seeds, plan.stages), "copy": short_plan}
    axes = {"real": (*plan.real_axes, ALL), "copy": plan.copy_axes}
    found: dict[str, Task] = {}
    for world in reversed(WORLDS):
        for p in range(plan.populations if world == "real" else 1):
            task = Staged(world, *staged[world], plan.pool, p)
            found[f"{world} staged {p}"] = task
        for k in axes[world]:
            size = plan.whole if k == ALL else plan.singles
            steps = plan.whole_steps if k == ALL else plan.steps
            found[f"{world} {k}"] = Single(world, k, size, steps, plan.pool)
    return found


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """Train what `work` lacks; the table."""
    store, tasks = Store(work / "success.json"), tasks_of(plan)
    run_all([*tasks.values()], store, 1, "success")
    rows = {name: store.get(task) for name, task in tasks.items()}
    singles, staged = [], []
    for name, row in rows.items():
        about = {"world": name.split()[0], **row}
        if "stages" in row:
            for stage in row["stages"]:
                stage |= judged(stage["kept"], stage["score"], stage["paired"], plan)
            staged.append(about)
        else:
            axes = tasks[name].axes
            singles.append({"axes": axes, **about, **rates(row, plan)})
    about = asdict(plan) | {"right": RIGHT, "preset": asdict(DEEP)}
    real = [row["stages"][-1] for row in staged if row["world"] == "real"]
    kept, score = ([sum(z, []) for z in zip(*(r[n] for r in real), strict=True)]
                   for n in ("kept", "score"))  # fmt: skip
    best = [min(range(len(s)), key=s.__getitem__) for s in score]
    kept, score = ([[z[i]] for z, i in zip(part, best, strict=True)]
                   for part in (kept, score))  # fmt: skip
    selected = judged(kept, score, real[0]["paired"], plan) | {"kept": kept}
    return {
        "problem": about, "singles": singles, "staged": staged, "selected": selected,
    }, []  # fmt: skip


def judged(kept: list, score: list, paired: float, plan: Plan) -> dict:
    """How many seeds' first net is right, and coarsely right."""
    bars = {"chosen": threshold(paired, plan.pool), "coarse": COARSE * plan.pool}
    found, some = {}, [m for m in (2, 4, 8) if m <= len(kept)]
    for name, bar in bars.items():
        right = [ranks[0] <= bar for ranks in kept]
        best = {m: best_of(right, [s[0] for s in score], m) for m in some}
        found[name] = rate(sum(right), len(right)) | {"best_of": best}
    return found


def rates(row: dict, plan: Plan) -> dict:
    """How many single runs are right, and how many of those that the score chooses
    among the plan's restarts."""
    bar, n = threshold(row["paired"], plan.pool), plan.restarts
    right = [rank <= bar for rank in row["ranks"]]
    starts = range(0, len(right) - n + 1, n)
    best = [min(range(i, i + n), key=row["score"].__getitem__) for i in starts]
    found = {"single": rate(sum(right), len(right))}
    if best:
        found["chosen"] = rate(sum(right[i] for i in best), len(best))
    return found


def best_of(right: Sequence[bool], score: Sequence[float], m: int) -> float:
    """Share of all choices of m populations whose lowest score belongs to a right one.

    >>> round(best_of([True, False, False], [0.0, 1.0, 2.0], 2), 3)
    0.667
    """
    order, n = sorted(range(len(right)), key=score.__getitem__), len(right)
    ways = [math.comb(n - 1 - i, m - 1) for i, k in enumerate(order) if right[k]]
    return short(sum(ways) / math.comb(n, m))


def rate(right: int, runs: int) -> dict:
    """A count with its exact 95 % interval (Clopper and Pearson 1934)."""
    from scipy.stats import binomtest

    found = binomtest(right, runs).proportion_ci(method="exact")
    interval = [short(float(found.low)), short(float(found.high))]
    return {"right": right, "runs": runs, "interval": interval}


def lines(table: dict) -> list[str]:
    """The table in words: one line per world and number of axes."""
    text = []
    for row in table["singles"]:
        one = f"{row['world']:5} {row['axes']:>3} axes: {in_words(row['single'])}"
        best = f", chosen {in_words(row['chosen'])}" if "chosen" in row else ""
        middle = statistics.median(row["ranks"])
        text.append(f"{one}{best}, median rank {middle:.0f}, paired {row['paired']}")
    for row in table["staged"]:
        end = row["stages"][-1]
        ranks = sorted(kept[0] for kept in end["kept"])
        seen = f"ranks {ranks[0]:.0f} to {ranks[-1]:.0f}, paired {end['paired']}"
        text.append(f"{row['world']:5} staged to {end['axes']}: "
                    f"{in_words(end['chosen'])}, {seen}; "
                    f"coarsely {in_words(end['coarse'])}")  # fmt: skip
    return text


def in_words(found: dict) -> str:
    """A count and its interval."""
    low, high = found["interval"]
    return f"{found['right']} of {found['runs']} ({low:.2f} to {high:.2f})"


def recheck(table: dict, work: Path) -> Recheck:
    """All single runs of the real pair in two axes: how many are right."""
    task = tasks_of(FULL)["real 2"]
    stored = next(r for r in table["singles"] if (r["world"], r["axes"]) == ("real", 2))
    new = task.run(work)
    counts = [rates(row, FULL)["single"]["right"] for row in (stored, new)]
    p, n = counts[0] / task.nets, task.nets
    return Recheck(
        f"the real pair in two axes, {n} single runs",
        {"right": counts[0], "paired rank": stored["paired"]},
        {"right": counts[1], "paired rank": new["paired"]},
        {"right": max(SIGMAS * (n * p * (1 - p)) ** 0.5, 1), "paired rank": 1.0},
        "3 binomial standard errors of the count",
    )
