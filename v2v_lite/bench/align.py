"""`v2v bench align`: the table of unpaired alignment, and the study of the diagnosis.

Five parts: `main` (many seeds of one pair), `pairs` (all ordered bundled pairs, with
peer, paired references and floors), `small` (few rows), `time` (ours against the peer,
alone on the machine), `diagnosis`.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import torch

from ..align import METHODS
from ..align.base import Translator
from ..spaces import NAMES
from . import diagnosis
from .pool import Store, Task, run_all
from .results import DATASETS, code_hash, data_hash
from .table import FLOORS, OURS, PAIRED, PEER, measure, row_of, split_of, summary

STUDY = (
    ("minilm", "granite"),
    ("minilm", "wordllama"),
    ("wordllama", "arctic"),
)
PARTS = ("main", "pairs", "small", "time", "diagnosis")
SCORED = ("measure/retrieval", "spaces/splits")


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
    peer: str = PEER
    once: tuple[str, ...] = FLOORS + PAIRED
    fitted: tuple[str, ...] = diagnosis.FITTED
    spoiled: tuple[str, ...] = diagnosis.SPOILED


QUICK = Plan(
    pairs=(("minilm", "granite"), ("granite", "wordllama")),
    study_pairs=(("minilm", "granite"),),
    n_train=3_000, n_small=1_500, main_seeds=2, seeds=1, study_seeds=1, repeats=1,
)  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """One fit of a method, or of a bad `recipe`; keeps the translator for later."""

    method: str
    source: str
    target: str
    n_train: int
    seed: int = 0
    recipe: str = ""

    @property
    def key(self) -> str:
        # The random method and the random recipe are two things.
        name = f"{self.method}.{self.recipe}" if self.recipe else self.method
        return f"{name}-{self.source}-{self.target}-{self.n_train}-{self.seed}"

    @property
    def code(self) -> str:
        home = METHODS[self.method].__module__.rpartition(".")[2]
        recipes = ("bench/diagnosis",) if self.recipe else ()
        made_by = (f"align/{home}", *SCORED, *recipes)
        return code_hash(made_by) + data_hash(DATASETS["align"])

    def run(self, work: Path) -> dict:
        who = {"source": self.source, "target": self.target, "n_train": self.n_train}
        if self.recipe:
            row, model = self._run_recipe(work)
        else:
            row, model = measure(self.method, *who.values(), self.seed)
        model.save(work / "fits" / self.key)
        return who | {"recipe": self.recipe or self.method} | row

    def _run_recipe(self, work: Path) -> tuple[dict, Translator]:
        split = split_of(self.source, self.target, self.n_train, self.seed)
        start = time.perf_counter()
        if self.recipe in diagnosis.SPOILED:
            full = Fit(self.method, self.source, self.target, self.n_train, self.seed)
            model = Translator.load(work / "fits" / full.key)
            model = diagnosis.spoil(self.recipe, model, split)
        else:
            model = diagnosis.fit_badly(self.recipe, split)
        return row_of(model, split, time.perf_counter() - start), model


@dataclass(frozen=True)
class Diagnosed:
    """The diagnosis of a fit, on rows it has not seen, without and with rivals."""

    fit: Fit
    rivals: tuple[Fit, ...] = ()

    @property
    def key(self) -> str:
        return f"diagnosis-{self.fit.key}-{len(self.rivals)}"

    @property
    def code(self) -> str:
        return self.fit.code + code_hash(("align/diagnosis",))

    def run(self, work: Path) -> dict:
        from ..align.diagnosis import diagnose

        fit = self.fit
        split = split_of(fit.source, fit.target, fit.n_train, fit.seed)
        model, *rivals = (
            Translator.load(work / "fits" / f.key) for f in (fit, *self.rivals)
        )
        found = diagnose(model, *split.unseen(), other_seeds=rivals)
        return found.as_dict()


@dataclass(frozen=True)
class Timing:
    """Seconds of ours and of the peer, one after the other, in a process alone."""

    methods: tuple[str, ...]
    source: str
    target: str
    n_train: int
    repeat: int

    @property
    def key(self) -> str:
        return f"time-{self.source}-{self.target}-{self.n_train}-{self.repeat}"

    @property
    def code(self) -> str:
        fits = [Fit(m, self.source, self.target, self.n_train) for m in self.methods]
        return "".join(fit.code for fit in fits)

    def run(self, work: Path) -> dict:
        who = self.source, self.target, self.n_train, self.repeat
        taken = {m: measure(m, *who)[0]["seconds"] for m in self.methods}
        return taken | {"threads": torch.get_num_threads()}


def tasks_of(part: str, plan: Plan) -> list[list[Task]]:
    """The tasks of a part, in groups of which each needs the ones before it."""
    p, n = plan, plan.n_train
    if part == "main":
        return [[Fit(p.ours, *p.main, n, seed) for seed in range(p.main_seeds)]]
    if part == "small":
        return [[Fit(p.ours, *p.main, p.n_small, seed) for seed in range(p.seeds)]]
    if part == "time":
        both = p.ours, p.peer
        return [[Timing(both, *p.main, n, r) for r in range(p.repeats)]]
    if part == "pairs":
        many = [
            Fit(method, *pair, n, seed)
            for method in (p.peer, p.ours)  # the slow one first fills both cores
            for pair in p.pairs
            for seed in range(p.seeds)
        ]
        return [many + [Fit(m, *pair, n) for pair in p.pairs for m in p.once]]
    return _study_tasks(plan)


def _study_tasks(plan: Plan) -> list[list[Task]]:
    fits, spoiled, diagnoses = [], [], []
    for pair in plan.study_pairs:
        for n, seeds in ((plan.n_train, plan.seeds), (plan.n_small, plan.study_seeds)):
            full = [Fit(plan.ours, *pair, n, seed) for seed in range(seeds)]
            bad = [Fit(plan.ours, *pair, n, 0, recipe) for recipe in plan.fitted]
            hand = [Fit(plan.ours, *pair, n, 0, recipe) for recipe in plan.spoiled]
            fits += full + bad
            spoiled += hand
            diagnoses += [Diagnosed(fit) for fit in full + bad + hand]
            # Agreement between seeds: each run beside another seed's.
            others = [full[0], *bad] if seeds > 1 else []
            diagnoses += [Diagnosed(fit, (full[-1],)) for fit in others]
    return [fits, spoiled, diagnoses]


def run(
    plan: Plan, work: Path, parts: tuple[str, ...] = PARTS, jobs: int = 2
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
        for method in (*plan.once, plan.peer, plan.ours):
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
    both = (plan.ours, plan.peer)
    seconds = {m: statistics.median(run[m] for run in runs) for m in both}
    return {"seconds": seconds, "threads": runs[0]["threads"], "runs": runs}


def _study(plan: Plan, rows: dict) -> dict:
    alone, beside = [], []
    for task, found in rows.items():
        if isinstance(task, Diagnosed):
            fit = rows[task.fit]
            keep = ("source", "target", "n_train", "recipe", "seed", "rank", "top1")
            run = {key: fit[key] for key in keep} | found
            (beside if task.rivals else alone).append(run)
    return diagnosis.study(alone) | {"with_rivals": diagnosis.study(beside)}


_ASSEMBLE = {
    "main": _seeds,
    "small": _seeds,
    "pairs": _pairs,
    "time": _times,
    "diagnosis": _study,
}
