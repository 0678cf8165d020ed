"""The grown game: many seeds of one pair, all pairs, and texts of other topics.

`main` grows from two axes and goes on with self-learning, on MiniLM to Granite; `pairs`
does so on all ordered bundled pairs, without self-learning's last phase, which is the
longest, twice for each seed; `topics` compares starts where the two sides' topics
differ, and `topics_best` fits with both starts there (`start="best"`). Of the two tries
of a pair the "best" has the higher objective; inside a fit no kind of start is tried
twice here (`n_init` = 1).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import ClassVar

import torch

from v2v_lite.align.base import Translator
from v2v_lite.align.diagnosis import diagnose
from v2v_lite.align.grow import GrowConfig, Grown, grow
from v2v_lite.align.linalg import procrustes
from v2v_lite.align.selflearn import PHASES, SelfLearn, SelfLearnConfig
from v2v_lite.measure import score
from v2v_lite.spaces import NAMES, Space, unit
from v2v_lite.teaching.comparison import NUMBERS, short, split_of

from . import cases
from .recheck import Recheck, spread_of
from .store import Store, Task
from .workers import run_all

DATASETS = ("wiki",)
PARTS = ("main", "pairs", "topics", "topics_best")
STARTS = ("grown", "anchors")


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    main: tuple[str, str] = ("minilm", "granite")
    main_seeds: int = 16
    pairs: tuple[tuple[str, str], ...] = tuple(permutations(NAMES, 2))
    seeds: int = 3
    tries: int = 2  # of a seed's pairs, on the same rows
    n_train: int = 16_384
    topics: tuple[tuple[str, str], ...] = (("minilm", "granite"), ("minilm", "arctic"))
    level: float = 0.25
    n_topics: int = 8_192
    topic_seeds: int = 5


FULL = Plan()
QUICK = Plan(
    pairs=(("wordllama", "minilm"),), n_train=2_000, n_topics=2_000, main_seeds=1,
    seeds=1, topic_seeds=1, topics=(("minilm", "granite"),),
)  # fmt: skip


@dataclass(frozen=True)
class Growth(Task):
    """One growth, its rank by the number of axes, and self-learning from it."""

    DATASETS: ClassVar = DATASETS
    source: str
    target: str
    n_train: int
    seed: int
    phases: int = len(PHASES)
    attempt: int = 0

    def run(self, work: Path) -> dict:
        split = split_of(self.source, self.target, self.n_train, self.seed)
        sides = [unit(s.vectors - s.mean) for s in (split.source, split.target)]
        test = [
            unit(s.vectors - s.mean) for s in (split.eval_source, split.eval_target)
        ]
        start = time.perf_counter(), time.process_time()
        number = self.seed + 1_000 * self.attempt
        generator = torch.Generator().manual_seed(number)
        grown = grow(*sides, GrowConfig(), generator)
        row = {"source": self.source, "target": self.target, "seed": self.seed}
        row["attempt"] = self.attempt
        row["grow_seconds"] = round(time.perf_counter() - start[0], 1)
        row["grow_cpu"] = round(time.process_time() - start[1], 1)
        row["stages"] = list(_stages(grown, *test))
        row["grown_rank"] = row["stages"][-1]["rank"]
        model, found = fitted("grown", self.phases, split.source, split.target, number)
        return row | found | judged(model, split.eval_source, split.eval_target)


def _stages(grown: Grown, x: torch.Tensor, y: torch.Tensor) -> list[dict]:
    # Ranks within the axes of a stage: of its best map, and of the rotation by pairs.
    found = []
    for k, one, losses in grown.history:
        a, b = x @ grown.source_axes[:, :k], y @ grown.target_axes[:, :k]
        half = len(a) // 2  # the rotation is fitted on pairs that are not scored
        paired = score(unit(a[half:] @ procrustes(a[:half], b[:half])), unit(b[half:]))
        ranks = {"rank": score(unit(a @ one), unit(b)).rank.mean}
        ranks["paired_rank"] = 1 + 2 * (paired.rank.mean - 1)  # of half the pool
        found.append({"k": k, "loss": short(losses[0].item()), "kept": len(losses)})
        found[-1] |= {key: short(value) for key, value in ranks.items()}
    return found


def fitted(
    start: str, phases: int, source: Space, target: Space, seed: int
) -> tuple[SelfLearn, dict]:
    """The first phases of self-learning from a start; its objective after the third."""
    began = time.perf_counter(), time.process_time()
    config = SelfLearnConfig(start=start, n_init=1, phases=PHASES[:phases])
    model = SelfLearn(config).fit(source, target, seed=seed)
    objective = model.history[len(PHASES) - 1].objective
    row = {"start": model.history[0].name, "objective": short(objective)}
    row["seconds"] = round(time.perf_counter() - began[0], 1)
    row["cpu"] = round(time.process_time() - began[1], 1)
    return model, row


def judged(model: Translator, x: Space, y: Space) -> dict:
    """Scores from the pairs, and the diagnosis without them."""
    found, half = score(model.translate(x), y), x.n // 2
    row = {"pool": found.pool, "top1_se": short(found.top1.se)}
    row |= {key: short(getattr(found, key).mean) for key in NUMBERS}
    unseen = x.take(slice(half)), y.take(slice(half, None))
    verdict = diagnose(model, *unseen)
    return row | {"diagnosis": short(verdict.score), "verdict": verdict.verdict}


@dataclass(frozen=True)
class Topics(Task):
    """Self-learning where topics differ, from one kind of start or the best of both."""

    DATASETS: ClassVar = DATASETS
    start: str
    source: str
    target: str
    level: float
    n_train: int
    seed: int

    def run(self, work: Path) -> dict:
        where = self.source, self.target, "other topics", self.level
        sides = cases.make(*where, self.n_train, cases.EVAL_ROWS, self.seed)
        model, found = fitted(self.start, len(PHASES), *sides.train(), self.seed)
        row = {"source": self.source, "target": self.target, "seed": self.seed}
        return row | found | judged(model, *sides.test())


def tasks_of(part: str, plan: Plan) -> list[Task]:
    """The tasks of a part."""
    p = plan
    if part == "main":
        return [Growth(*p.main, p.n_train, seed) for seed in range(p.main_seeds)]
    if part == "pairs":
        n, few = p.n_train, len(PHASES) - 1
        return [
            Growth(*q, n, s, few, attempt)
            for attempt in range(p.tries)
            for s in range(p.seeds)
            for q in p.pairs
        ]
    return [
        Topics(start, *pair, p.level, p.n_topics, seed)
        for seed in range(p.topic_seeds)
        for pair in p.topics
        for start in (STARTS if part == "topics" else ("best",))
    ]


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`; the table so far, and the parts it still lacks."""
    store = Store(work / "growth.json")
    for part in parts:
        run_all(tasks_of(part, plan), store, jobs, part)
    return assemble(plan, store)


def assemble(plan: Plan, store: Store) -> tuple[dict, list[str]]:
    """The table from the rows in the store, and the parts that lack some."""
    table: dict = {"n_train": plan.n_train, "n_topics": plan.n_topics}
    table |= {"level": plan.level}
    missing = []
    for part in PARTS:
        rows = [store.get(task) for task in tasks_of(part, plan)]
        if None in rows:
            missing.append(part)
        else:
            table[part] = rows
    if "pairs" in table:
        table["pairs_best"] = best_of(table["pairs"])
    return table, missing


def best_of(rows: Sequence[dict]) -> list[dict]:
    """Of each pair and seed the run of the highest objective, which needs no pair."""
    found: dict[tuple, dict] = {}
    for row in rows:
        key = row["source"], row["target"], row["seed"]
        if key not in found or row["objective"] > found[key]["objective"]:
            found[key] = row
    return list(found.values())


def lines(table: dict) -> list[str]:
    """The table in short, for people."""
    text = []
    for part in ("main", "pairs"):
        for row in table.get(part, ()):
            text.append(
                f"{row['source']} to {row['target']}, seed {row['seed']}: grown rank "
                f"{row['grown_rank']:.0f} in {row['grow_cpu']:.0f} s of one core, then "
                f"top-1 {row['top1']:.3f}, rank {row['rank']:.1f} ({row['verdict']})"
            )
    for part in ("topics", "topics_best"):
        for row in table.get(part, ()):
            text.append(
                f"{part}, {row['source']} to {row['target']}, seed {row['seed']}, "
                f"from {row['start']}: top-1 {row['top1']:.3f}, objective "
                f"{row['objective']:.3f}"
            )
    return text


def recheck(table: dict, work: Path) -> Recheck:
    """Seed 0 of the main pair, grown and finished."""
    stored = table["main"][0]
    one = Growth(stored["source"], stored["target"], table["n_train"], 0)
    keys = ("grown_rank", "top1", "rank")
    row = one.run(work)
    least = {"grown_rank": 2.0, "top1": 0.005, "rank": 0.05}
    return Recheck(
        "main, seed 0: grown, and finished by self-learning",
        {key: stored[key] for key in keys},
        {key: row[key] for key in keys},
        {key: spread_of([r[key] for r in table["main"]], least[key]) for key in keys},
        "3 standard deviations over the seeds of the row",
    )
