"""`v2v bench privacy`: what translations of stolen documents give away.

The attacker owns MiniLM. The victims' private documents were encoded by an encoder that
he cannot query; his translators from it to MiniLM were learned on `data/wiki`, without
a pair. `bench/defences` measures what helps.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from ..align import METHODS, SelfLearn, Translator
from ..align.anchors import AnchorConfig
from ..align.selflearn import Phase, SelfLearnConfig
from ..measure import score
from ..privacy import adapt, controls, leak, recentre, scores
from ..spaces import DataError
from . import defences
from .loot import ATTACKER, TWEETS, encoded, loot_of, numbers
from .pool import Store, Task, run_all
from .results import DATASETS, MADE_BY, code_hash, data_hash
from .table import row_of, short, space_of, split_of

SETS = ("posts", "emails", "notes")
#: Less of everything: a tenth of the default's time, and less precise.
BRIEF = SelfLearnConfig(
    anchors=AnchorConfig(n_runs=20, vote_rounds=4),
    phases=(Phase(12, 2048, 0.05, 1.0, 0.3), Phase(10, 4096, 0.04, 0.6, 0.3)),
    n_init=1,
)
PARTS = ("attributes", "defences")


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    victims: tuple[str, ...] = ("granite", "arctic", "wordllama")
    sets: tuple[str, ...] = SETS
    n_train: int = 16_384
    seeds: int = 3
    brief: bool = False
    defence: defences.Plan = defences.Plan()
    tweets: str = ""


QUICK = Plan(n_train=6_000, brief=True, defence=defences.QUICK)


@dataclass(frozen=True)
class Fit:
    """A translator from a victim's encoder to the attacker's, on sentences of wiki."""

    victim: str
    n_train: int
    seed: int
    brief: bool = False

    @property
    def key(self) -> str:
        return f"fit-{self.victim}-{self.n_train}-{self.seed}{'-brief' * self.brief}"

    @property
    def code(self) -> str:
        made_by = "align/selflearn", "measure/retrieval", "spaces/splits"
        return code_hash(made_by) + data_hash(("wiki",)) + repr(BRIEF) * self.brief

    def run(self, work: Path) -> dict:
        split = split_of(self.victim, ATTACKER, self.n_train, self.seed)
        model = SelfLearn(BRIEF if self.brief else None)
        model.fit(split.source, split.target, seed=self.seed)
        model.save(work / "fits" / self.key)
        row = row_of(model, split, sum(stage.seconds for stage in model.history))
        return {"victim": self.victim, "n_train": self.n_train} | row


@dataclass(frozen=True)
class Read:
    """What one translator reads out of one set of stolen documents."""

    fit: Fit
    name: str
    tweets: str = ""

    @property
    def key(self) -> str:
        return f"read-{self.name}-{self.fit.key}"

    @property
    def code(self) -> str:
        return (
            self.fit.code
            + code_hash(MADE_BY["privacy"])
            + data_hash(DATASETS["privacy"])
        )

    def run(self, work: Path) -> dict:
        from ..align import LinearTranslator

        fit, loot = self.fit, loot_of(self.name, self.fit.victim, self.tweets)
        model = Translator.load(work / "fits" / fit.key)
        assert isinstance(model, LinearTranslator)
        split = split_of(fit.victim, ATTACKER, fit.n_train, fit.seed)
        stolen, own = loot["stolen"], loot["own"]
        ways = {
            "as fitted": model,
            "recentred": recentre(model, stolen, own),
            "adapted": adapt(model, stolen, own, split.source, split.target),
        }
        if fit.seed == 0:  # a reference that had pairs of wiki, the same for all seeds
            paired = METHODS["whitened"]()
            paired.fit(space_of(fit.victim, "train"), space_of(ATTACKER, "train"))
            ways["paired"] = recentre(paired, stolen, own)
        n, where = len(stolen), slice(-len(stolen), None)
        wiki = split.eval_source.take(where), split.eval_target.take(where)
        row = {
            "victim": fit.victim,
            "set": self.name,
            "seed": fit.seed,
            "pool": n,
            "wiki": _found(model.translate(wiki[0]), wiki[1].vectors),
            "ways": {name: self._read(one, loot) for name, one in ways.items()},
        }
        return row | self._references(model, loot)

    def _read(self, model, loot: dict) -> dict:
        z = model.translate(loot["stolen"])
        found = {
            how: numbers(leak(scores(z, loot["labels"], how), loot["hot"]))
            for how in ("none", "csls", "standard")
        }
        return found | {"translation": _found(z, loot["truth"])}

    def _references(self, model, loot: dict) -> dict:
        hot, labels, names = loot["hot"], loot["labels"], loot["names"]
        told = {
            how: leak(scores(loot["truth"], labels, how), hot, names)
            for how in ("none", "csls", "standard")
        }
        mean = space_of(ATTACKER, "train").mean
        floors = controls(loot["stolen"], labels, hot, mean, self.fit.seed)
        z = model.translate(loot["stolen"])
        order = torch.randperm(
            len(z), generator=torch.Generator().manual_seed(self.fit.seed)
        )
        floors["mismatched"] = scores(z[order], labels)
        found = {
            "ideal": {how: numbers(one) for how, one in told.items()},
            "controls": {k: numbers(leak(s, hot)) for k, s in floors.items()},
            "per_label": {k: short(v) for k, v in told["standard"].per_label.items()},
        }
        if loot["inside"] is not None:
            inside = scores(loot["stolen"], loot["inside"])
            found["inside"] = numbers(leak(inside, hot))
        return found


def _found(z, truth) -> dict:
    """Retrieval of the true row, both sides around their own mean."""
    found = score(z - z.mean(0), truth - truth.mean(0), torch.zeros(truth.shape[1]))
    return {"top1": short(found.top1.mean), "rank": short(found.rank.mean)}


def tasks_of(plan: Plan) -> list[list[Task]]:
    """The tasks, in groups of which each needs the ones before it."""
    fits = [
        Fit(victim, plan.n_train, seed, plan.brief)
        for victim in plan.victims
        for seed in range(plan.seeds)
    ]
    reads = [Read(fit, name) for name in plan.sets for fit in fits]
    if plan.tweets:
        reads += [Read(fit, TWEETS, plan.tweets) for fit in fits if _can(fit, plan)]
    return [fits, reads, defences.tasks_of(plan.defence)]


def _can(fit: Fit, plan: Plan) -> bool:
    try:  # the victim's encoder has to be at hand for texts that are not bundled
        return bool(len(encoded(plan.tweets, fit.victim)))
    except DataError:
        return False


def run(
    plan: Plan, work: Path, jobs: int = 2, parts: Sequence[str] = PARTS
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`, going on where it was; the table so far, and the
    parts that it still lacks."""
    store = Store(work / "privacy.json")
    fits, reads, defended = tasks_of(plan)
    if "attributes" in parts:
        run_all(fits, store, jobs, "fits")
        run_all(reads, store, jobs, "reads")
    if "defences" in parts:
        run_all(defended, store, jobs, "defences")
    table, missing = asdict(replace(plan, tweets="")) | {"attacker": ATTACKER}, []
    found = {task: store.get(task) for task in (*fits, *reads, *defended)}
    if all(found[task] for task in (*fits, *reads)):
        table["fits"] = [found[task] for task in fits]
        table["sets"] = {
            name: _summary([found[task] for task in reads if task.name == name])
            for name in dict.fromkeys(task.name for task in reads)
        }
    else:
        missing.append("attributes")
    if all(found[task] for task in defended):
        rows = [found[task] for task in defended]
        table["defence"] = defences.assemble(plan.defence, rows)
    else:
        del table["defence"]
        missing.append("defences")
    return table, missing


def _summary(rows: Sequence[dict]) -> dict:
    """The rows of one set, and for each victim and way the share of the leak."""
    victims = dict.fromkeys(row["victim"] for row in rows)
    found: dict = {"ideal": rows[0]["ideal"], "per_label": rows[0]["per_label"]}
    found["victims"] = {}
    for victim in victims:
        mine = [row for row in rows if row["victim"] == victim]
        floors = mine[0]["controls"]
        floor = max(control["top1"] for control in floors.values())
        ideal = rows[0]["ideal"]["standard"]["top1"]
        ways = {way: [row["ways"][way] for row in mine if way in row["ways"]]
                for way in mine[0]["ways"]}  # fmt: skip
        found["victims"][victim] = {
            "controls": floors,
            "floor": floor,
            "room": short(ideal - floor),
            "inside": mine[0].get("inside"),
            "wiki": [row["wiki"] for row in mine],
            "ways": ways,
            "share": {
                way: spread(
                    [(row["standard"]["top1"] - floor) / (ideal - floor) for row in of]
                )
                for way, of in ways.items()
            },
        }
    return found | {"n": rows[0]["pool"]}


def spread(values: Sequence[float]) -> dict:
    """Median, least and most."""
    return {
        "median": short(statistics.median(values)),
        "min": short(min(values)),
        "max": short(max(values)),
    }


def lines(table: dict) -> list[str]:
    """The table in a few lines of text."""
    text = []
    for name, part in table.get("sets", {}).items():
        for victim, found in part["victims"].items():
            share = found["share"]["adapted"]
            text.append(
                f"{name:<7}{victim:<10} share {share['median']:.2f} "
                f"({share['min']:.2f} to {share['max']:.2f}), room {found['room']:.2f}"
            )
    return text + (defences.lines(table["defence"]) if "defence" in table else [])
