"""What a defence costs its owner by list and by topic, and what pairs add to an attack.

`privacy` measures the unpaired attack on every defence, at many strengths. This adds
what it does not have: the owner's cost by topic, an attacker with pairs who also adapts
to the stolen documents, with 30 to 3,000 pairs and with or without unpaired rows beside
them, an unpaired attacker who starts from the grown game, and whether a rotation of the
rows disturbs the game of the vec2vec nets.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from v2v_lite.teaching.comparison import short

from . import ours_ablation
from .defences import DATASETS, SETS, _reference, half_effect
from .defended_tasks import Attack, Cost, Nets
from .recheck import Recheck, spread_of
from .store import Store, Task
from .workers import run_all

__all__ = ["DATASETS", "FULL", "PARTS", "QUICK", "lines", "measure", "recheck"]

PARTS = ("cost", "nets", "paired", "attacks")
NONE = ("", 0.0)
SETTINGS = (
    NONE, ("rotate", 0.0), ("permute", 0.0), ("noise", 0.5), ("noise", 1.0),
    ("keyed-noise", 1.0), ("truncate", 96.0), ("quantise", 1.0), ("scale", 1.0),
    ("rff", 2.0), ("knn-average", 8.0), ("remove-top", 8.0),
)  # fmt: skip
#: What pairs undo exactly; unpaired they are in `privacy`, and here once.
ISOMETRIES = ("rotate", "permute")
#: Strengths of noise at which the dose that halves the leak is looked for.
NOISE = (0.5, 1.0, 1.5, 2.0, 3.0)
TOP = ("remove-top", 8.0)
CURVES = (NONE, TOP)


@dataclass(frozen=True)
class Plan:
    """What is measured. `pairs` are those of the curves, the last one that of all
    settings; `helped` those that stand beside unpaired rows."""

    victim: str = "granite"
    n_train: int = 8_192
    seeds: int = 3
    pairs: tuple[int, ...] = (30, 100, 300, 1000, 3000)
    helped: tuple[int, ...] = (30, 100)
    nets: ours_ablation.Plan = replace(ours_ablation.FULL, seeds=3)


FULL = Plan()
QUICK = Plan(
    n_train=2_500, seeds=1, pairs=(30, 300), helped=(30,), nets=ours_ablation.QUICK
)


def tasks_of(plan: Plan) -> dict[str, list[Task]]:
    """The tasks of each part, the seeds one after the other."""
    found: dict[str, list[Task]] = {part: [] for part in PARTS}
    for seed in range(plan.seeds):
        who = plan.victim, plan.n_train, seed
        every = list(dict.fromkeys([*SETTINGS, *(("noise", s) for s in NOISE)]))
        found["cost"] += [Cost(*who, *setting) for setting in every]
        cases = [(s, plan.pairs[-1]) for s in every if s[0] not in ISOMETRIES]
        cases += [(s, n) for s in CURVES for n in plan.pairs[:-1]]
        found["paired"] += [Attack(*who, *s, "paired", n) for s, n in cases]
        found["attacks"] += [Attack(*who, *TOP, "helped", n) for n in plan.helped]
    first = plan.victim, plan.n_train, 0
    found["attacks"] += [
        Attack(*first, *TOP, "grown"), Attack(*first, *NONE, "grown"),
        Attack(*first, "permute", 0.0, "unpaired"), Attack(*first, *TOP, "mirrored"),
    ]  # fmt: skip
    for seed in range(1, plan.seeds):
        found["attacks"].append(Attack(plan.victim, plan.n_train, seed, *TOP, "grown"))
    for name in ("OURS", "Adam, lr .003"):
        found["nets"] += [Nets(name, turned, plan.nets) for turned in (False, True)]
    return found


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`, going on where it was; the table so far, and the
    parts that it still lacks."""
    store, tasks = Store(work / "defences.json"), tasks_of(plan)
    for part in parts:
        run_all(tasks[part], store, jobs, part)
    table: dict = {"victim": plan.victim, "n_train": plan.n_train, "seeds": plan.seeds}
    table["baseline"] = {name: _reference(name)[0] for name in SETS}
    table["ideal"] = {name: _reference(name)[1] for name in SETS}
    found = {t: store.get(t) for part in PARTS for t in tasks[part]}
    missing = [p for p in PARTS if not all(found[t] for t in tasks[p])]
    if "cost" not in missing:
        table["cost"] = _costs([(t, found[t]) for t in tasks["cost"]])
    if "paired" not in missing and "cost" not in missing:
        done = [(t, found[t]) for p in ("paired", "attacks") for t in tasks[p]]
        table["attacks"] = _attacks([(t, row) for t, row in done if row])
        table["half_effect"] = _doses(plan, found)
    if "nets" not in missing:
        nets = [(t, found[t]) for t in tasks["nets"]]
        about = [{"name": t.name, "rotated": t.rotated} | row for t, row in nets]
        table["nets"] = {"plan": asdict(plan.nets), "rows": about}
    return table, missing


def _grouped(rows: list[tuple], keys: Sequence[str]) -> Iterator[tuple[dict, list]]:
    groups: dict[tuple, list[dict]] = {}
    for task, row in rows:
        groups.setdefault(tuple(getattr(task, k) for k in keys), []).append(row)
    for values, members in groups.items():
        about = dict(zip(keys, values, strict=True))
        yield about | {"kind": about["kind"] or "none"}, members


def _costs(rows: list[tuple]) -> list[dict]:
    """By defence, a number for each seed; topics relative to the undefended rows."""
    found = []
    plain = next(row for task, row in rows if not task.kind)
    for entry, members in _grouped(rows, ("kind", "strength")):
        entry["recall_se"] = members[0]["recall_se"]
        for key in ("recall", "centred"):
            entry[key] = [row[key] for row in members]
        for name in SETS:
            entry[name] = {
                key: [short(row[name][key] / plain[name][key]) for row in members]
                for key in ("precision", "ndcg")
            }
        found.append(entry)
    return found


def _attacks(rows: list[tuple]) -> list[dict]:
    """By defence and attack, a number for each seed; shares of what the texts give."""
    found = []
    keys = "kind", "strength", "attack", "pairs"
    for entry, members in _grouped(rows, keys):
        for key in ("top1", "rank"):
            entry[key] = [row[key] for row in members]
        for way in sorted(members[0][SETS[0]], reverse=True):
            shares = {
                name: _shares(name, [row[name][way] for row in members])
                for name in SETS
            }
            paired = entry["attack"] == "paired" and way == "adapted"
            attack = "paired, adapted" if paired else entry["attack"]
            found.append(entry | {"attack": attack} | shares)
    return found


def _shares(name: str, reads: list[dict]) -> dict:
    low, high = _reference(name)
    tops = [read["top1"] for read in reads]
    share = [short((top - low) / (high - low)) for top in tops]
    return {"top1": tops, "map": [read["map"] for read in reads], "share": share}


def _doses(plan: Plan, found: dict) -> dict:
    """The noise that halves what the two paired attackers read; see `half_effect`."""
    doses = {}
    for way in ("paired", "adapted"):
        for name in SETS:
            rows = []
            for t, row in found.items():
                known = isinstance(t, Attack) and t.attack == "paired"
                if known and t.kind in ("", "noise") and t.pairs == plan.pairs[-1]:
                    cost = found[Cost(t.victim, t.n_train, t.seed, t.kind, t.strength)]
                    rows.append({
                        "kind": t.kind or "none", "strength": t.strength,
                        "seed": t.seed, "attack": "paired", "recall": cost["recall"],
                        f"{name}_hits": row[name][way]["hits"],
                    })  # fmt: skip
            low = _reference(name)[0]
            doses[f"{name}, {way}"] = half_effect(rows, name, low, "paired")
    return doses


def lines(table: dict) -> list[str]:
    """The table in text."""
    text, mean = [], statistics.mean
    for row in table.get("cost", []):
        tops = "  ".join(f"{s} {mean(row[s]['precision']):.2f}" for s in SETS)
        name = f"{row['kind']} {row['strength']:g}"
        text.append(f"{name:<16}recall {mean(row['recall']):.2f}  {tops}")
    for row in table.get("attacks", []):
        shares = "  ".join(f"{s} {mean(row[s]['share']):.2f}" for s in SETS)
        name = f"{row['kind']} {row['strength']:g}"
        text.append(
            f"{name:<16}{row['attack']:<16} {row['pairs']:5} pairs  "
            f"rank {statistics.median(row['rank']):7.1f}  {shares}"
        )
    for row in table.get("nets", {}).get("rows", []):
        tops = [
            statistics.median(r["top1"] for r in row[w]) for w in ("initial", "final")
        ]
        text.append(f"{row['name']:<16}rotated {row['rotated']}: {tops}")
    return text


def recheck(table: dict, work: Path) -> Recheck:
    """Pairs against the leading components removed, seed 0, and what these cost."""
    who = table["victim"], table["n_train"], 0
    about = {"kind": TOP[0], "strength": TOP[1]}
    cost = next(r for r in table["cost"] if about.items() <= r.items())
    about |= {"attack": "paired, adapted", "pairs": FULL.pairs[-1]}
    stored = next(r for r in table["attacks"] if about.items() <= r.items())
    row = Attack(*who, *TOP, "paired", FULL.pairs[-1]).run(work)
    now = Cost(*who, *TOP).run(work)
    was = {"rank": stored["rank"][0], "recall": cost["recall"][0]}
    new = {"rank": row["rank"], "recall": now["recall"]}
    most = {"rank": spread_of(stored["rank"], 0.3), "recall": 0.005}
    for name in SETS:
        was[f"{name} top1"] = stored[name]["top1"][0]
        new[f"{name} top1"] = row[name]["adapted"]["top1"]
        most[f"{name} top1"] = spread_of(stored[name]["top1"], 0.02)
    return Recheck(
        "remove-top 8, seed 0: 3,000 pairs and adaptation, and the owner's recall",
        was, new, most,
        "3 standard deviations over seeds, at least .3 of a rank and .02 of labels; "
        "the recall, which draws nothing, .005",
    )  # fmt: skip
