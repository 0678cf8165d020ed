"""The defences put to the test: what each hides from an unpaired attack, what it costs.

The owner defends the whole database. The attacker steals it, learns a translator on the
defended vectors (`data/wiki`) to his own, adapts it to the defended documents and reads
their labels. "mirror" is one who knows the method but not the key, and does to his own
rows what was done to the stolen ones; "reads" one who reads fresh noise eight times.
"paired" is a stronger one: he knows which of his own texts each row of wiki is.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..align import METHODS, SelfLearn
from ..align.anchors import AnchorConfig
from ..align.selflearn import Phase, SelfLearnConfig
from ..measure import score
from ..privacy import adapt, leak, recentre, scores
from ..privacy.defenses import Defense, crossing, recall
from ..spaces import Space, document_space, load_documents, unit
from .loot import ATTACKER, numbers, words_of
from .results import DATASETS, MADE_BY, code_hash, data_hash
from .table import short, space_of, split_of

READS, SETS = 8, ("posts", "notes")
NOISE = (0.25, 0.5, 1.0, 1.5, 2.0)
CONFIG = SelfLearnConfig(
    anchors=AnchorConfig(n_runs=20, vote_rounds=4),
    phases=(Phase(12, 2048, 0.05, 1.0, 0.3), Phase(8, 4096, 0.04, 0.6, 0.3)),
    n_init=1,
)
SETTINGS = (
    ("rotate", 0), *(("noise", s) for s in NOISE),
    ("keyed-noise", 1.0),
    ("truncate", 192), ("truncate", 96),
    ("quantise", 4), ("quantise", 1),
    ("stretch", 1.0), ("bend", 1.0), ("bend", 2.0), ("bend", 3.0),
    ("average", 8), ("drop", 8), ("drop", 32),
)  # fmt: skip
#: Every noise, and of the others one strength each.
MIRRORED = (
    *(("noise", s) for s in NOISE), ("truncate", 96), ("quantise", 1), ("stretch", 1.0),
    ("bend", 2.0), ("average", 8), ("drop", 8),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    victim: str = "granite"
    n_train: int = 8_192
    seeds: int = 3
    paired_seeds: int = 5
    settings: tuple[tuple[str, float], ...] = SETTINGS
    mirrored: tuple[tuple[str, float], ...] = MIRRORED


QUICK = Plan(
    n_train=2_500,
    seeds=1,
    settings=(
        ("rotate", 0), *(("noise", s) for s in (0.25, 0.5, 1.0, 1.5, 2.5)),
        ("keyed-noise", 1.0), ("truncate", 96), ("quantise", 1), ("stretch", 1.0),
        ("bend", 1.0), ("bend", 2.0), ("bend", 3.0), ("average", 8), ("drop", 8),
    ),
    mirrored=(("noise", 1.0), ("noise", 1.5), ("truncate", 96), ("bend", 2.0)),
)  # fmt: skip


@dataclass(frozen=True)
class Defended:
    """One defence, attacked in one way."""

    victim: str
    n_train: int
    seed: int
    kind: str = ""
    strength: float = 0.0
    attack: str = "plain"

    @property
    def key(self) -> str:
        who = f"{self.victim}-{self.n_train}-{self.seed}"
        return f"defended-{who}-{self.kind or 'none'}-{self.strength:g}-{self.attack}"

    @property
    def code(self) -> str:
        made_by = code_hash((*MADE_BY["privacy"], "align/selflearn"))
        return made_by + data_hash(DATASETS["privacy"]) + repr(CONFIG)

    def run(self, work: Path) -> dict:
        split = split_of(self.victim, ATTACKER, self.n_train, self.seed)
        base, mine = split.source.vectors, split.target.vectors
        # Keys differ between seeds, and never the attacker's from the owner's by luck.
        owner = (
            Defense(self.kind, self.strength, 1 + 10 * self.seed) if self.kind else None
        )
        mirror = owner.mirror() if owner and self.attack == "mirror" else None

        def stolen(x, part=0):  # each part of the database has noise of its own
            if owner is None:
                return x
            reads = range(READS if self.attack == "reads" else 1)
            drawn = [owner.store(x, base, part * READS + r) for r in reads]
            return unit(torch.stack(drawn).mean(0))

        def own(y, asked=False):
            if mirror is None:
                return y
            return mirror.ask(y, mine) if asked else mirror.store(y, mine)

        source, target = (Space(rows) for rows in (stolen(base), own(mine)))
        if self.attack == "paired":
            model = METHODS["whitened"]().fit(source, _partners(split.source))
        else:
            model = SelfLearn(CONFIG).fit(source, target, seed=self.seed)
        found = score(
            model.translate(stolen(split.eval_source.vectors, 1)),
            own(split.eval_target.vectors),
        )
        row = {
            "kind": self.kind or "none", "strength": self.strength,
            "attack": self.attack, "seed": self.seed, "pool": found.pool,
            "top1": short(found.top1.mean), "rank": short(found.rank.mean),
        }  # fmt: skip
        for part, name in enumerate(SETS, 2):
            private, public = (load_documents(name, s) for s in ("private", "public"))
            loot = stolen(document_space(private, self.victim).vectors, part)
            hot = private.hot()
            texts = own(document_space(public, ATTACKER).vectors)
            labels = own(words_of(private.labels), asked=True)
            if self.attack == "paired":
                adapted = recentre(model, loot, texts)
            else:
                adapted = adapt(model, loot, texts, source, target)
            best = scores(adapted.translate(loot), labels)
            row[name] = numbers(leak(best, hot))
            hits = hot.gather(1, best.argmax(1, keepdim=True))[:, 0]
            row[f"{name}_hits"] = "".join("01"[hit] for hit in hits.tolist())
        return row | self._cost(owner, base)

    def _cost(self, owner: Defense | None, base) -> dict:
        rows = space_of(self.victim, "eval").vectors
        x, questions = rows[:3584], rows[3584:]
        if owner is None:
            return {"recall": 1.0, "recall_se": 0.0}
        found = recall(owner.store(x, base), owner.ask(questions, base), x, questions)
        return {"recall": short(found.mean), "recall_se": short(found.se)}


def tasks_of(plan: Plan) -> list[Defended]:
    """One task for each defence, attack and seed."""
    found = []
    for seed in range(plan.seeds):
        who = plan.victim, plan.n_train, seed
        found.append(Defended(*who))
        found += [Defended(*who, *setting) for setting in plan.settings]
        found += [Defended(*who, *s, "mirror") for s in plan.mirrored]
        fresh = [s for s in plan.mirrored if s[0] == "noise"]
        found += [Defended(*who, *s, "reads") for s in fresh]
    for seed in range(plan.paired_seeds):
        who = plan.victim, plan.n_train, seed
        found += [
            Defended(*who, *setting, attack="paired")
            for setting in (("", 0.0), *plan.settings)
        ]
    return found


def assemble(plan: Plan, rows: list[dict]) -> dict:
    """Shares of the undefended reading, by defence and attack, and what halves it."""
    references = {name: _reference(name) for name in SETS}
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["kind"], row["strength"], row["attack"]), []).append(row)
    table = []
    for (kind, strength, attack), members in groups.items():
        entry = {"kind": kind, "strength": strength, "attack": attack}
        for key in ("top1", "rank", "recall"):
            entry[key] = [row[key] for row in members]
        entry["recall_se"] = members[0]["recall_se"]
        for name, (floor, ideal) in references.items():
            tops = [row[name]["top1"] for row in members]
            entry[name] = {
                "top1": tops,
                "map": [row[name]["map"] for row in members],
                "share": [short((top - floor) / (ideal - floor)) for top in tops],
            }
        table.append(entry)
    return {
        "victim": plan.victim,
        "n_train": plan.n_train,
        "pool": rows[0]["pool"],
        "floor": {name: low for name, (low, _) in references.items()},
        "ideal": {name: high for name, (_, high) in references.items()},
        "rows": table,
        "half": {
            f"{name}, {attack}": halving(rows, name, references[name][0], attack)
            for name in SETS
            for attack in ("plain", "mirror", "reads", "paired")
            if noises(rows, attack) == noises(rows, "plain")  # else no fair comparison
        },
    }


def _partners(source: Space) -> Space:
    """The attacker's vectors of the same texts, row by row."""
    every = space_of(ATTACKER, "train")
    ids, place = every.ids.sort()
    return every.take(place[torch.searchsorted(ids, source.ids)])


@lru_cache(maxsize=4)
def _reference(name: str) -> tuple[float, float]:
    private = load_documents(name, "private")
    hot, truth = private.hot(), document_space(private, ATTACKER)
    told = leak(scores(truth, words_of(private.labels)), hot)
    return short(hot.float().mean(0).max().item()), short(told.top[1].mean)


def noises(rows: list[dict], attack: str) -> set[float]:
    """The strengths at which fresh noise was attacked so."""
    which = "noise", attack
    return {r["strength"] for r in rows if (r["kind"], r["attack"]) == which}


def halving(
    rows: list[dict], name: str, floor: float, attack: str, draws: int = 400
) -> dict | None:
    """The noise at which what is read above the floor falls to half of the undefended,
    and the recall there: the mean over seeds, and the 2.5 and 97.5 % points over draws
    of a seed and, with replacement, of documents. None where a draw never gets there.
    """
    curves = []
    rows = [row for row in rows if (row["attack"] == "paired") == (attack == "paired")]
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if row["seed"] == seed]
        none = "paired" if attack == "paired" else "plain"
        of = [r for r in mine if (r["kind"], r["attack"]) == ("none", none)]
        of += [r for r in mine if (r["kind"], r["attack"]) == ("noise", attack)]
        of.sort(key=lambda row: row["strength"])
        hits = np.array([[c == "1" for c in row[f"{name}_hits"]] for row in of], float)
        x, z = [row["strength"] for row in of], [row["recall"] for row in of]
        curves.append((x, hits, z))
    if not curves or len(curves[0][0]) < 3:
        return None

    def at(curve, documents):
        x, hits, z = curve
        y = (hits[:, documents].mean(1) - floor).tolist()
        return crossing(x, y, y[0] / 2, z)

    everyone = np.arange(curves[0][1].shape[1])
    points = [at(curve, everyone) for curve in curves]
    rng = np.random.default_rng(0)
    drawn = [
        at(curves[rng.integers(len(curves))], rng.choice(everyone, len(everyone)))
        for _ in range(draws)
    ]
    if None in points or None in drawn:
        return None
    low, high = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    return {
        key: {
            "mean": short(statistics.mean(p[i] for p in points)),
            "low": short(low[i]),
            "high": short(high[i]),
        }
        for i, key in enumerate(("noise", "recall"))
    }


def lines(table: dict) -> list[str]:
    """The table in text: a line a defence and attack."""

    mean = statistics.mean
    text = []
    for row in table["rows"]:
        name = f"{row['kind']} {row['strength']:g}"
        text.append(
            f"{name:<16}{row['attack']:<8} recall {mean(row['recall']):.2f}  "
            f"rank {mean(row['rank']):7.1f}  "
            + "  ".join(f"{s} {mean(row[s]['share']):.2f}" for s in SETS)
        )
    for name, half in table["half"].items():
        if half:
            n, r = half["noise"], half["recall"]
            text.append(
                f"half of {name}: noise {n['mean']:.2f} ({n['low']:.2f} to "
                f"{n['high']:.2f}), recall {r['mean']:.2f} ({r['low']:.2f} to "
                f"{r['high']:.2f})"
            )
    return text
