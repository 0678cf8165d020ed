"""The table of unpaired alignment, and the study of the diagnosis.

Five parts: `main` (many seeds of one pair), `pairs` (all ordered bundled pairs, with
mini-vec2vec, paired references and baselines), `small` (few rows), `time` (ours against
mini-vec2vec, alone on the machine), `diagnosis`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import ClassVar

import torch

from v2v_lite.align.base import Translator
from v2v_lite.spaces import NAMES
from v2v_lite.teaching import comparison
from v2v_lite.teaching.comparison import (
    BASELINES,
    MINI,
    OURS,
    PAIRED,
    row_of,
    split_of,
    summary,
)

from . import diagnosis_study
from .recheck import Recheck, spread_of
from .store import Store, Task
from .workers import run_all

STUDY = (
    ("minilm", "granite"),
    ("minilm", "wordllama"),
    ("wordllama", "arctic"),
)
PARTS = ("main", "pairs", "small", "time", "diagnosis")
DATASETS = ("wiki",)


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    main: tuple[str, str] = ("minilm", "granite")
    pairs: tuple[tuple[str, str], ...] = tuple(permutations(NAMES, 2))
    n_train: int = 16_384
    n_small: int = 6_000
    main_seeds: int = 10
    seeds: int = 5
    study_pairs: tuple[tuple[str, str], ...] = STUDY
    study_seeds: int = 2
    repeats: int = 3
    ours: str = OURS
    published: str = MINI
    once: tuple[str, ...] = BASELINES + PAIRED
    fitted: tuple[str, ...] = diagnosis_study.FITTED
    corrupted: tuple[str, ...] = diagnosis_study.CORRUPTED


FULL = Plan()
QUICK = Plan(
    pairs=(("minilm", "granite"), ("granite", "wordllama")),
    study_pairs=(("minilm", "granite"),),
    n_train=3_000, n_small=1_500, main_seeds=2, seeds=1, study_seeds=1, repeats=1,
)  # fmt: skip


@dataclass(frozen=True)
class Fit(Task):
    """One fit of a method, or of a bad `recipe`; keeps the translator for later."""

    DATASETS: ClassVar = DATASETS
    method: str
    source: str
    target: str
    n_train: int
    seed: int = 0
    recipe: str = ""

    def run(self, work: Path) -> dict:
        who = {"source": self.source, "target": self.target, "n_train": self.n_train}
        if self.recipe:
            row, model = self._run_recipe(work)
        else:
            row, model = comparison.measure(self.method, *who.values(), self.seed)
        model.save(work / "fits" / self.key)
        return who | {"recipe": self.recipe or self.method} | row

    def _run_recipe(self, work: Path) -> tuple[dict, Translator]:
        split = split_of(self.source, self.target, self.n_train, self.seed)
        start = time.perf_counter()
        if self.recipe in diagnosis_study.CORRUPTED:
            full = Fit(self.method, self.source, self.target, self.n_train, self.seed)
            model = Translator.load(work / "fits" / full.key)
            model = diagnosis_study.corrupt(self.recipe, model, split)
        else:
            model = diagnosis_study.fit_badly(self.recipe, split)
        return row_of(model, split, time.perf_counter() - start), model


@dataclass(frozen=True)
class Diagnosed(Task):
    """The diagnosis of a fit, on rows it has not seen, without and with other seeds."""

    DATASETS: ClassVar = DATASETS
    fit: Fit
    others: tuple[Fit, ...] = ()

    def run(self, work: Path) -> dict:
        from v2v_lite.align.diagnosis import diagnose

        fit = self.fit
        split = split_of(fit.source, fit.target, fit.n_train, fit.seed)
        model, *others = (
            Translator.load(work / "fits" / f.key) for f in (fit, *self.others)
        )
        found = diagnose(model, *split.unseen(), other_seeds=others)
        return asdict(found)


@dataclass(frozen=True)
class Timing(Task):
    """Seconds of ours and of mini-vec2vec, one after the other, in a process alone."""

    DATASETS: ClassVar = DATASETS
    methods: tuple[str, ...]
    source: str
    target: str
    n_train: int
    repeat: int

    def run(self, work: Path) -> dict:
        who = self.source, self.target, self.n_train, self.repeat
        taken = {m: comparison.measure(m, *who)[0]["seconds"] for m in self.methods}
        return taken | {"threads": torch.get_num_threads()}


def tasks_of(part: str, plan: Plan) -> list[list[Task]]:
    """The tasks of a part, in groups of which each needs the ones before it."""
    p, n = plan, plan.n_train
    if part == "main":
        return [[Fit(p.ours, *p.main, n, seed) for seed in range(p.main_seeds)]]
    if part == "small":
        return [[Fit(p.ours, *p.main, p.n_small, seed) for seed in range(p.seeds)]]
    if part == "time":
        both = p.ours, p.published
        return [[Timing(both, *p.main, n, r) for r in range(p.repeats)]]
    if part == "pairs":
        many = [
            Fit(method, *pair, n, seed)
            for method in (p.published, p.ours)  # the slow one first fills both cores
            for pair in p.pairs
            for seed in range(p.seeds)
        ]
        return [many + [Fit(m, *pair, n) for pair in p.pairs for m in p.once]]
    return _study_tasks(plan)


def _study_tasks(plan: Plan) -> list[list[Task]]:
    fits, corrupted, diagnoses = [], [], []
    for pair in plan.study_pairs:
        for n, seeds in ((plan.n_train, plan.seeds), (plan.n_small, plan.study_seeds)):
            full = [Fit(plan.ours, *pair, n, seed) for seed in range(seeds)]
            bad = [Fit(plan.ours, *pair, n, 0, recipe) for recipe in plan.fitted]
            hand = [Fit(plan.ours, *pair, n, 0, recipe) for recipe in plan.corrupted]
            fits += full + bad
            corrupted += hand
            diagnoses += [Diagnosed(fit) for fit in full + bad + hand]
            # Agreement between seeds: each run with another seed's.
            others = [full[0], *bad] if seeds > 1 else []
            diagnoses += [Diagnosed(fit, (full[-1],)) for fit in others]
    return [fits, corrupted, diagnoses]


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`; the table so far, and the parts it still lacks."""
    store = Store(work / "align.json")
    for part in sorted(parts, key=lambda part: part != "time"):  # alone, hence first
        for group in tasks_of(part, plan):
            run_all(group, store, 0 if part == "time" else jobs, part)
    return assemble(plan, store)


def assemble(plan: Plan, store: Store) -> tuple[dict, list[str]]:
    """The table from the rows in the store, and the parts that lack some."""
    table: dict = {"n_train": plan.n_train, "n_small": plan.n_small}
    missing = []
    for part in PARTS:
        tasks = [task for group in tasks_of(part, plan) for task in group]
        rows = {task: store.get(task) for task in tasks}
        if None in rows.values():
            missing.append(part)
        else:
            table[part] = _ASSEMBLE[part](plan, rows)
    return table, missing


def _seeds(plan: Plan, rows: dict) -> dict:
    source, target = plan.main
    return {
        "source": source,
        "target": target,
        plan.ours: summary(rows.values()),
        "runs": list(rows.values()),
    }


def _pairs(plan: Plan, rows: dict) -> list[dict]:
    table = []
    for source, target in plan.pairs:
        entry: dict = {"source": source, "target": target}
        for method in (*plan.once, plan.published, plan.ours):
            of = [
                row
                for fit, row in rows.items()
                if (fit.method, fit.source, fit.target) == (method, source, target)
            ]
            entry[method] = summary(of)
        table.append(entry)
    return table


def _times(plan: Plan, rows: dict) -> dict:
    runs = list(rows.values())
    both = (plan.ours, plan.published)
    seconds = {m: statistics.median(run[m] for run in runs) for m in both}
    return {"seconds": seconds, "threads": runs[0]["threads"], "runs": runs}


def _study(plan: Plan, rows: dict) -> dict:
    alone, beside = [], []
    for task, found in rows.items():
        if isinstance(task, Diagnosed):
            fit = rows[task.fit]
            keep = ("source", "target", "n_train", "recipe", "seed", "rank", "top1")
            run = {key: fit[key] for key in keep} | found
            (beside if task.others else alone).append(run)
    return diagnosis_study.study(alone) | {
        "with_other_seeds": diagnosis_study.study(beside)
    }


_ASSEMBLE = {
    "main": _seeds,
    "small": _seeds,
    "pairs": _pairs,
    "time": _times,
    "diagnosis": _study,
}


def lines(table: dict) -> list[str]:
    """The table in short, for people."""
    text = []
    for part in ("main", "small"):
        if part in table:
            found = table[part]
            text.append(f"{part}: {found['source']} to {found['target']}")
            text += comparison.lines({OURS: found[OURS]})
    for entry in table.get("pairs", ()):
        ours, mini = entry[OURS]["top1"], entry[MINI]["top1"]
        text.append(
            f"{entry['source']} to {entry['target']}: top-1 {ours['median']:.3f} "
            f"(mini-vec2vec {mini['median']:.3f}, "
            f"paired Procrustes {entry['procrustes']['top1']['median']:.3f})"
        )
    if "time" in table:
        s = table["time"]["seconds"]
        text.append(f"time: ours {s[OURS]:.1f} s, mini-vec2vec {s[MINI]:.1f} s")
    if "diagnosis" in table:
        d = table["diagnosis"]
        low, rho = d["auc_min"], d["spearman"]
        text.append(f"diagnosis: least AUC {low}, Spearman {rho:.3f}")
    return text


def recheck(table: dict, work: Path) -> Recheck:
    """Seed 0 of the small fits with its diagnosis, and Procrustes with all pairs."""
    small, n = table["small"], table["n_small"]
    fit = Fit(OURS, small["source"], small["target"], n, 0)
    row = fit.run(work)
    row |= {"diagnosis": Diagnosed(fit).run(work)["score"]}
    stored = small["runs"][0]
    where = {"source": fit.source, "target": fit.target, "n_train": n}
    where |= {"recipe": OURS, "seed": 0}
    studied = [r for r in table["diagnosis"]["runs"] if where.items() <= r.items()]
    entry = next(
        e for e in table["pairs"]
        if (e["source"], e["target"]) == (fit.source, fit.target)
    )  # fmt: skip
    paired, _ = comparison.measure(
        "procrustes", fit.source, fit.target, table["n_train"]
    )
    over = {key: [run[key] for run in small["runs"]] for key in ("top1", "rank")}
    return Recheck(
        f"small, seed 0: {OURS} on {n:,} rows a side, and Procrustes with pairs",
        {
            "top1": stored["top1"],
            "rank": stored["rank"],
            "diagnosis": studied[0]["score"],
            "procrustes top1": entry["procrustes"]["top1"]["median"],
        },
        {
            "top1": row["top1"],
            "rank": row["rank"],
            "diagnosis": row["diagnosis"],
            "procrustes top1": paired["top1"],
        },
        {
            "top1": spread_of(over["top1"], 0.005),
            "rank": spread_of(over["rank"], 0.05),
            "diagnosis": 0.05,
            "procrustes top1": 0.002,
        },
        "top-1 and rank: 3 standard deviations over the seeds of the row; the "
        "diagnosis .05 of its scale of 0 to 1; Procrustes, which draws nothing, .002",
    )
