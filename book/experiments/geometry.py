"""Where unpaired translation breaks, and what predicts it.

Four parts: `assumptions` (what the training rows are, changed one thing at a time),
`alignability` (does similarity of spaces predict the unpaired rank?), `consensus` (four
spaces, synchronised), `transport` (Gromov-Wasserstein with the same texts on both
sides). Cheap by design: a fit is self-learning with a short list of phases (`FIT`), so
its numbers compare with one another and not with the table of `align`. `assumptions`
starts from anchors and from the grown game and keeps the fit of the higher objective;
the other parts start from anchors alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import permutations
from pathlib import Path

import torch

from v2v_lite.spaces import NAMES, TRAIN_ROWS
from v2v_lite.teaching.comparison import summary

from .diagnosis_study import spearman
from .recheck import Recheck, spread_of
from .store import Store, Task
from .trials import DATASETS as DATASETS
from .trials import FIT, Case, Gromov, Pairwise, Synchronised
from .workers import run_all

PARTS = ("assumptions", "alignability", "consensus", "transport")
LEVELS = {
    "rows": (1024, 2048, 8192, 16384),
    "fewer source rows": (1024,),
    "fewer target rows": (1024,),
    "other topics": (0.25, 0.5, 1),
    "documents": (0, 1),
    "lengths": (0, 1),
    "near-duplicates": (0.05, 0.25),
    "pca": (96, 32),
    "prefix": (128, 64),
    "bits": (4, 1),
    "top directions removed": (3,),
}
SHOWN = ("top1", "rank", "foscttm", "diagnosis", "cka", "mutual_knn",
         "procrustes_top1", "whitened_top1", "whitened_rank")  # fmt: skip
PREDICTORS = ("cka", "mutual_knn", "procrustes_top1", "whitened_top1", "diagnosis")
VARIANTS = (
    ("", 0), ("pca", 32), ("prefix", 128), ("noise", 0.5), ("noise", 1),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    n: int = 4096
    pool: int = 2048
    studied: tuple[tuple[str, str, int], ...] = (("minilm", "granite", 5),)
    pairs: tuple[tuple[str, str], ...] = tuple(permutations(NAMES, 2))
    consensus_rows: int = TRAIN_ROWS // len(NAMES)
    consensus_seeds: int = 2
    transport: tuple[tuple[str, str], ...] = (
        ("minilm", "granite"),
        ("minilm", "wordllama"),
    )
    transport_rows: tuple[int, ...] = (64, 128, 256, 512)
    transport_seeds: int = 2


FULL = Plan()
QUICK = Plan(
    n=1024, pool=512, studied=(("minilm", "granite", 1),), consensus_rows=1024,
    pairs=(("minilm", "granite"), ("granite", "wordllama")), consensus_seeds=1,
    transport=(("minilm", "granite"),), transport_rows=(64,), transport_seeds=1,
)  # fmt: skip


def tasks_of(part: str, plan: Plan) -> list[list[Task]]:
    """The tasks of a part, in groups of which each needs the ones before it."""
    p = plan
    if part == "assumptions":
        all_levels = [("", 0), *((c, v) for c, vs in LEVELS.items() for v in vs)]
        return [
            [
                Case(source, target, change, level, p.n, p.pool, seed, "best")
                for source, target, seeds in p.studied
                for change, level in all_levels
                for seed in range(seeds)
            ]
        ]
    if part == "alignability":
        return [
            [
                Case(*pair, change, level, p.n, p.pool, 0)
                for pair in p.pairs
                for change, level in (VARIANTS if pair[0] < pair[1] else VARIANTS[:1])
            ]
        ]
    if part == "consensus":
        seeds = range(p.consensus_seeds)
        fits = [
            Pairwise(*pair, p.consensus_rows, seed)
            for seed in seeds
            for pair in permutations(NAMES, 2)
        ]
        return [fits, [Synchronised(p.consensus_rows, p.pool, seed) for seed in seeds]]
    return [
        [
            Gromov(method, *pair, rows, seed)
            for rows in p.transport_rows
            for pair in p.transport
            for method in ("gw", "gw-entropic")
            for seed in range(p.transport_seeds)
        ]
    ]


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`; the table so far, and the parts it still lacks."""
    store = Store(work / "geometry.json")
    for part in parts:
        for group in tasks_of(part, plan):
            run_all(group, store, jobs, part)
    return assemble(plan, store)


def assemble(plan: Plan, store: Store) -> tuple[dict, list[str]]:
    """The table from the rows in the store, and the parts that lack some."""
    table: dict = {"plan": asdict(plan), "fit": asdict(FIT)}
    missing = []
    for part in PARTS:
        tasks = [task for group in tasks_of(part, plan) for task in group]
        rows = [store.get(task) for task in tasks]
        if None in rows:
            missing.append(part)
        elif part in ("assumptions", "alignability"):
            table[part] = _ASSEMBLE[part](rows)
        else:  # a fit that was only kept has no scores to tell
            table[part] = [row for row in rows if len(row) > 1]
    return table, missing


def lines(table: dict) -> list[str]:
    """The table in short, for people."""
    text = []
    for row in table.get("assumptions", ()):
        pair = f"{row['source']} to {row['target']}"
        what = f"{row['change'] or 'nothing changed'} {row['level'] or ''}"
        text.append(
            f"{pair:<22}{what:<27}{row['rows'][0]:>6} :{row['rows'][1]:>6}  top-1 "
            f"{row['top1']['median']:.3f}  rank {row['rank']['median']:7.1f}  paired "
            f"{row['whitened_top1']['median']:.3f}  diagnosis "
            f"{row['diagnosis']['median']:.2f}"
        )
    return text


def _by_level(rows: list[dict]) -> list[dict]:
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        key = tuple(row[k] for k in ("source", "target", "change", "level"))
        groups.setdefault(key, []).append(row)
    return [
        dict(zip(("source", "target", "change", "level"), key, strict=True))
        | {"rows": group[0]["rows"]}
        | {"grown": sum(row["begun"] == "grown" for row in group)}
        | summary(group, (*SHOWN, "seconds"))
        for key, group in groups.items()
    ]


def _predicted(rows: list[dict]) -> dict:
    plain = [row for row in rows if not row["change"]]
    return {
        "cases": rows,
        "spearman": {name: _correlation(rows, name) for name in PREDICTORS},
        "spearman_unchanged": {name: _rho(plain, name) for name in PREDICTORS},
    }


def _correlation(rows: list[dict], name: str, draws: int = 1000) -> dict:
    # The interval redraws pairs of encoders, not cases: those of a pair are kin.
    kin: dict[tuple, list[dict]] = {}
    for row in rows:
        kin.setdefault(tuple(sorted((row["source"], row["target"]))), []).append(row)
    families, g = list(kin.values()), torch.Generator().manual_seed(0)
    found = []
    for _ in range(draws):
        drawn = torch.randint(len(families), (len(families),), generator=g)
        found.append(_rho([row for i in drawn.tolist() for row in families[i]], name))
    low, high = torch.tensor(found).nanquantile(torch.tensor([0.025, 0.975])).tolist()
    return {"rho": _rho(rows, name), "low": round(low, 3), "high": round(high, 3)}


def _rho(rows: Iterable[dict], name: str) -> float:
    rows = list(rows)
    return round(spearman([r[name] for r in rows], [r["rank"] for r in rows]), 3)


_ASSEMBLE = {"assumptions": _by_level, "alignability": _predicted}


def recheck(table: dict, work: Path) -> Recheck:
    """The first pair as it is: one unpaired fit, its references and its diagnosis."""
    stored = next(row for row in table["alignability"]["cases"] if not row["change"])
    row = Case(*(stored[f.name] for f in fields(Case))).run(work)
    base = next(row for row in table["assumptions"] if not row["change"])
    over = {k: [base[k]["min"], base[k]["max"]] for k in ("top1", "rank", "diagnosis")}
    least = {"top1": 0.03, "rank": 0.5, "diagnosis": 0.05}
    tolerance = {key: spread_of(over[key], least[key]) for key in over}
    tolerance |= {"cka": 0.002, "mutual_knn": 0.002, "whitened_top1": 0.002}
    return Recheck(
        f"{stored['source']} to {stored['target']}, nothing changed, seed 0",
        {key: stored[key] for key in tolerance},
        {key: row[key] for key in tolerance},
        tolerance,
        "unpaired numbers: 3 standard deviations over the seeds of `assumptions`, at "
        "least .03 of top-1; numbers that draw nothing, .002",
    )
