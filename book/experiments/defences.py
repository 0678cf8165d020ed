"""What each defence hides from an unpaired attack, and what it costs.

The owner defends the whole database. Attackers steal it, learn a translator on the
defended vectors (`data/wiki`) to their own, adapt it to the defended documents and
infer their labels. An "adaptive" attacker knows the method but not the key, and does to
their own rows what was done to the stolen ones; an "averaging" one reads fresh noise
eight times. A "paired" one is stronger: they know which of their own texts each row of
wiki is.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from v2v_lite.align import METHODS, SelfLearn
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.selflearn import Phase, SelfLearnConfig
from v2v_lite.measure import score
from v2v_lite.privacy import adapt, attribute_leakage, recentre_translator, scores
from v2v_lite.privacy.defences import Defence, recall
from v2v_lite.spaces import Space, document_space, load_documents, unit
from v2v_lite.teaching.comparison import short, space_of, split_of

from .store import Task
from .victims import ATTACKER, numbers, words_of

DATASETS = ("wiki", "documents/posts", "documents/emails", "documents/notes")
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
    ("scale", 1.0), ("rff", 1.0), ("rff", 2.0), ("rff", 3.0),
    ("knn-average", 8), ("remove-top", 8), ("remove-top", 32),
)  # fmt: skip
#: Every noise, and of the others one strength each.
ADAPTIVE = (
    *(("noise", s) for s in NOISE), ("truncate", 96), ("quantise", 1), ("scale", 1.0),
    ("rff", 2.0), ("knn-average", 8), ("remove-top", 8),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    victim: str = "granite"
    n_train: int = 8_192
    seeds: int = 3
    paired_seeds: int = 5
    settings: tuple[tuple[str, float], ...] = SETTINGS
    adaptive: tuple[tuple[str, float], ...] = ADAPTIVE


QUICK = Plan(
    n_train=2_500,
    seeds=1,
    settings=(
        ("rotate", 0), *(("noise", s) for s in (0.25, 0.5, 1.0, 1.5, 2.5)),
        ("keyed-noise", 1.0), ("truncate", 96), ("quantise", 1), ("scale", 1.0),
        ("rff", 1.0), ("rff", 2.0), ("rff", 3.0), ("knn-average", 8), ("remove-top", 8),
    ),
    adaptive=(("noise", 1.0), ("noise", 1.5), ("truncate", 96), ("rff", 2.0)),
)  # fmt: skip


@dataclass(frozen=True)
class DefenceTrial(Task):
    """One defence, attacked in one way."""

    DATASETS: ClassVar = DATASETS
    victim: str
    n_train: int
    seed: int
    kind: str = ""
    strength: float = 0.0
    attack: str = "plain"

    def run(self, work: Path) -> dict:
        split = split_of(self.victim, ATTACKER, self.n_train, self.seed)
        base, mine = split.source.vectors, split.target.vectors
        # Keys differ between seeds; the attacker's never equals the owner's by luck.
        owner = (
            Defence(self.kind, self.strength, 1 + 10 * self.seed) if self.kind else None
        )
        mirror = owner.adaptive() if owner and self.attack == "adaptive" else None

        def stolen(x, part=0):  # each part of the database has noise of its own
            if owner is None:
                return x
            reads = range(READS if self.attack == "averaging" else 1)
            drawn = [owner.protect(x, base, part * READS + r) for r in reads]
            return unit(torch.stack(drawn).mean(0))

        def own(y, asked=False):
            if mirror is None:
                return y
            return mirror.protect_query(y, mine) if asked else mirror.protect(y, mine)

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
            hidden = stolen(document_space(private, self.victim).vectors, part)
            hot = private.multi_hot()
            texts = own(document_space(public, ATTACKER).vectors)
            labels = own(words_of(private.labels), asked=True)
            if self.attack == "paired":
                adapted = recentre_translator(model, hidden, texts)
            else:
                adapted = adapt(model, hidden, texts, source, target)
            best = scores(adapted.translate(hidden), labels)
            row[name] = numbers(attribute_leakage(best, hot))
            hits = hot.gather(1, best.argmax(1, keepdim=True))[:, 0]
            row[f"{name}_hits"] = "".join("01"[hit] for hit in hits.tolist())
        return row | self._cost(owner, base)

    def _cost(self, owner: Defence | None, base) -> dict:
        rows = space_of(self.victim, "eval").vectors
        x, questions = rows[:3584], rows[3584:]
        if owner is None:
            return {"recall": 1.0, "recall_se": 0.0}
        found = recall(
            owner.protect(x, base), owner.protect_query(questions, base), x, questions
        )
        return {"recall": short(found.mean), "recall_se": short(found.se)}


def tasks_of(plan: Plan) -> list[DefenceTrial]:
    """One task for each defence, attack and seed."""
    found = []
    for seed in range(plan.seeds):
        who = plan.victim, plan.n_train, seed
        found.append(DefenceTrial(*who))
        found += [DefenceTrial(*who, *setting) for setting in plan.settings]
        found += [DefenceTrial(*who, *s, "adaptive") for s in plan.adaptive]
        fresh = [s for s in plan.adaptive if s[0] == "noise"]
        found += [DefenceTrial(*who, *s, "averaging") for s in fresh]
    for seed in range(plan.paired_seeds):
        who = plan.victim, plan.n_train, seed
        found += [
            DefenceTrial(*who, *setting, attack="paired")
            for setting in (("", 0.0), *plan.settings)
        ]
    return found


def assemble(plan: Plan, rows: list[dict]) -> dict:
    """Shares of the undefended leakage, by defence and attack, and what halves it."""
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
        for name, (baseline, ideal) in references.items():
            tops = [row[name]["top1"] for row in members]
            entry[name] = {
                "top1": tops,
                "map": [row[name]["map"] for row in members],
                "share": [short((top - baseline) / (ideal - baseline)) for top in tops],
            }
        table.append(entry)
    return {
        "victim": plan.victim,
        "n_train": plan.n_train,
        "pool": rows[0]["pool"],
        "baseline": {name: low for name, (low, _) in references.items()},
        "ideal": {name: high for name, (_, high) in references.items()},
        "rows": table,
        "half_effect": {
            f"{name}, {attack}": half_effect(rows, name, references[name][0], attack)
            for name in SETS
            for attack in ("plain", "adaptive", "averaging", "paired")
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
    hot, truth = private.multi_hot(), document_space(private, ATTACKER)
    known = attribute_leakage(scores(truth, words_of(private.labels)), hot)
    return short(hot.float().mean(0).max().item()), short(known.top[1].mean)


def noises(rows: list[dict], attack: str) -> set[float]:
    """The strengths at which fresh noise was attacked so."""
    which = "noise", attack
    return {r["strength"] for r in rows if (r["kind"], r["attack"]) == which}


def crossing(
    x: Sequence[float], y: Sequence[float], level: float, z: Sequence[float]
) -> tuple[float, float] | None:
    """Where y over x first falls to `level`, and the value of z there, both by linear
    interpolation between the points; None where y never does.

    >>> crossing([0, 1, 2], [1.0, 0.8, 0.2], 0.5, [1.0, 0.9, 0.7])
    (1.5, 0.8)
    """
    for i in range(1, len(x)):
        if y[i] <= level < y[i - 1]:
            t = (y[i - 1] - level) / (y[i - 1] - y[i])
            at_x, at_z = (round(v[i - 1] + t * (v[i] - v[i - 1]), 9) for v in (x, z))
            return at_x, at_z
    return None


def half_effect(
    rows: list[dict], name: str, baseline: float, attack: str, draws: int = 400
) -> dict | None:
    """The noise that halves what is inferred above the baseline, and the recall there.

    The mean over seeds, and the 2.5 and 97.5 % points over draws of a seed and, with
    replacement, of documents. A draw that never gets there counts as beyond the largest
    strength, with less recall than there: a number that lies beyond is infinite (null
    in a file), and `beyond` is the share of such draws. None below three strengths.
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
        y = (hits[:, documents].mean(1) - baseline).tolist()
        return crossing(x, y, y[0] / 2, z) or (np.inf, -np.inf)

    everyone = np.arange(curves[0][1].shape[1])
    points = [at(curve, everyone) for curve in curves]
    rng = np.random.default_rng(0)
    drawn = np.array(
        [
            at(curves[rng.integers(len(curves))], rng.choice(everyone, len(everyone)))
            for _ in range(draws)
        ]
    )
    # An order statistic: between a number and infinity nothing can be interpolated.
    ends = [np.percentile(drawn, q, axis=0, method="inverted_cdf") for q in (2.5, 97.5)]
    found: dict = {
        key: {
            "mean": short(statistics.mean(p[i] for p in points)),
            "low": short(ends[0][i]),
            "high": short(ends[1][i]),
        }
        for i, key in enumerate(("noise", "recall"))
    }
    return found | {
        "beyond": short(np.isinf(drawn[:, 0]).mean()),
        "largest": max(curves[0][0]),
    }


def lines(table: dict) -> list[str]:
    """The table in text: one line per defence and attack."""

    mean = statistics.mean
    text = []
    for row in table["rows"]:
        name = f"{row['kind']} {row['strength']:g}"
        text.append(
            f"{name:<16}{row['attack']:<10} recall {mean(row['recall']):.2f}  "
            f"rank {mean(row['rank']):7.1f}  "
            + "  ".join(f"{s} {mean(row[s]['share']):.2f}" for s in SETS)
        )
    for name, half in table["half_effect"].items():
        if half and all(half["noise"].values()):
            n, r = half["noise"], half["recall"]
            text.append(
                f"half of {name}: noise {n['mean']:.2f} ({n['low']:.2f} to "
                f"{n['high']:.2f}), recall {r['mean']:.2f} ({r['low']:.2f} to "
                f"{r['high']:.2f})"
            )
    return text
