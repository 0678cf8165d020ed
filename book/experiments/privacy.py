"""What translations of stolen documents give away, and what defends them.

The attacker owns MiniLM. The victims' private documents were encoded by an encoder that
they cannot query; their translators from it to MiniLM were learned on `data/wiki`,
without a pair. `defences` measures what helps.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from v2v_lite.align import METHODS, SelfLearn, Translator
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.selflearn import Phase, SelfLearnConfig
from v2v_lite.measure import score
from v2v_lite.privacy import (
    adapt,
    attribute_leakage,
    baselines,
    recentre_translator,
    scores,
)
from v2v_lite.spaces import DataError
from v2v_lite.teaching.comparison import row_of, short, space_of, split_of

from . import defences
from .recheck import Recheck, spread_of
from .store import Store, Task
from .victims import ATTACKER, TWEETS, encoded, numbers, victim_data
from .workers import run_all

DATASETS = defences.DATASETS
SETS = ("posts", "emails", "notes")
#: Less of everything: a tenth of the default's time, and less precise.
BRIEF = SelfLearnConfig(
    anchors=AnchorConfig(n_runs=20, vote_rounds=4),
    phases=(Phase(12, 2048, 0.05, 1.0, 0.3), Phase(10, 4096, 0.04, 0.6, 0.3)),
    n_init=1,
)
NO_DEFENCE = ("none", "plain")
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


FULL = Plan()
QUICK = Plan(n_train=6_000, brief=True, defence=defences.QUICK)


@dataclass(frozen=True)
class VictimFit(Task):
    """A translator from a victim's encoder to the attacker's, on sentences of wiki."""

    DATASETS: ClassVar = ("wiki",)
    victim: str
    n_train: int
    seed: int
    brief: bool = False

    def run(self, work: Path) -> dict:
        split = split_of(self.victim, ATTACKER, self.n_train, self.seed)
        model = SelfLearn(BRIEF if self.brief else None)
        model.fit(split.source, split.target, seed=self.seed)
        model.save(work / "fits" / self.key)
        row = row_of(model, split, sum(stage.seconds for stage in model.history))
        return {"victim": self.victim, "n_train": self.n_train} | row


@dataclass(frozen=True)
class AttributeAttack(Task):
    """What one translator infers from one set of stolen documents."""

    DATASETS: ClassVar = DATASETS
    fit: VictimFit
    name: str
    tweets: str = ""

    def run(self, work: Path) -> dict:
        from v2v_lite.align import LinearTranslator

        fit = self.fit
        data = victim_data(self.name, fit.victim, self.tweets)
        model = Translator.load(work / "fits" / fit.key)
        assert isinstance(model, LinearTranslator)
        split = split_of(fit.victim, ATTACKER, fit.n_train, fit.seed)
        stolen, own = data["stolen"], data["own"]
        variants = {
            "as fitted": model,
            "recentred": recentre_translator(model, stolen, own),
            "adapted": adapt(model, stolen, own, split.source, split.target),
        }
        if fit.seed == 0:  # a reference that had pairs of wiki, the same for all seeds
            paired = METHODS["whitened"]()
            paired.fit(space_of(fit.victim, "train"), space_of(ATTACKER, "train"))
            variants["paired"] = recentre_translator(paired, stolen, own)
        n, where = len(stolen), slice(-len(stolen), None)
        wiki = split.eval_source.take(where), split.eval_target.take(where)
        row = {
            "victim": fit.victim,
            "set": self.name,
            "seed": fit.seed,
            "pool": n,
            "wiki": _found(model.translate(wiki[0]), wiki[1].vectors),
            "variants": {name: self._read(m, data) for name, m in variants.items()},
        }
        return row | self._references(model, data)

    def _read(self, model, data: dict) -> dict:
        z = model.translate(data["stolen"])
        found = {
            how: numbers(
                attribute_leakage(scores(z, data["labels"], how), data["multi_hot"])
            )
            for how in ("none", "csls", "standard")
        }
        return found | {"translation": _found(z, data["truth"])}

    def _references(self, model, data: dict) -> dict:
        hot, labels, names = data["multi_hot"], data["labels"], data["names"]
        known = {
            how: attribute_leakage(scores(data["truth"], labels, how), hot, names)
            for how in ("none", "csls", "standard")
        }
        mean = space_of(ATTACKER, "train").mean
        uninformed = baselines(data["stolen"], labels, hot, mean, self.fit.seed)
        z = model.translate(data["stolen"])
        order = torch.randperm(
            len(z), generator=torch.Generator().manual_seed(self.fit.seed)
        )
        uninformed["mismatched"] = scores(z[order], labels)
        found = {
            "ideal": {how: numbers(one) for how, one in known.items()},
            "baselines": {
                k: numbers(attribute_leakage(s, hot)) for k, s in uninformed.items()
            },
            "per_label": {k: short(v) for k, v in known["standard"].per_label.items()},
        }
        if data["inside"] is not None:
            inside = scores(data["stolen"], data["inside"])
            found["inside"] = numbers(attribute_leakage(inside, hot))
        return found


def _found(z, truth) -> dict:
    """Retrieval of the true row, both sides around their own mean."""
    found = score(z - z.mean(0), truth - truth.mean(0), torch.zeros(truth.shape[1]))
    return {"top1": short(found.top1.mean), "rank": short(found.rank.mean)}


def tasks_of(plan: Plan) -> list[list[Task]]:
    """The tasks, in groups of which each needs the ones before it."""
    fits = [
        VictimFit(victim, plan.n_train, seed, plan.brief)
        for victim in plan.victims
        for seed in range(plan.seeds)
    ]
    reads = [AttributeAttack(fit, name) for name in plan.sets for fit in fits]
    if plan.tweets:
        able = [fit for fit in fits if _can_encode(fit, plan)]
        reads += [AttributeAttack(fit, TWEETS, plan.tweets) for fit in able]
    return [fits, reads, defences.tasks_of(plan.defence)]


def _can_encode(fit: VictimFit, plan: Plan) -> bool:
    try:  # the victim's encoder has to be at hand for texts that are not bundled
        return bool(len(encoded(plan.tweets, fit.victim)))
    except DataError:
        return False


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`, going on where it was; the table so far, and the
    parts that it still lacks."""
    store = Store(work / "privacy.json")
    fits, reads, defended = tasks_of(plan)
    if plan.tweets and not Path(plan.tweets).is_file():
        raise DataError(f"{plan.tweets}: there is no such file")
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
    """The rows of one set, and for each victim and variant the share of the leakage."""
    victims = dict.fromkeys(row["victim"] for row in rows)
    found: dict = {"ideal": rows[0]["ideal"], "per_label": rows[0]["per_label"]}
    found["victims"] = {}
    for victim in victims:
        mine = [row for row in rows if row["victim"] == victim]
        baselines = mine[0]["baselines"]
        baseline = max(one["top1"] for one in baselines.values())
        ideal = rows[0]["ideal"]["standard"]["top1"]
        variants = {
            name: [row["variants"][name] for row in mine if name in row["variants"]]
            for name in mine[0]["variants"]
        }
        found["victims"][victim] = {
            "baselines": baselines,
            "baseline": baseline,
            "headroom": short(ideal - baseline),
            "inside": mine[0].get("inside"),
            "wiki": [row["wiki"] for row in mine],
            "variants": variants,
            "share": {
                name: spread(
                    [
                        (row["standard"]["top1"] - baseline) / (ideal - baseline)
                        for row in of
                    ]
                )
                for name, of in variants.items()
            },
        }
    return found | {"n": rows[0]["pool"]}


def spread(values: Sequence[float]) -> dict:
    """Median, least and largest."""
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
                f"({share['min']:.2f} to {share['max']:.2f}), "
                f"headroom {found['headroom']:.2f}"
            )
    return text + (defences.lines(table["defence"]) if "defence" in table else [])


def recheck(table: dict, work: Path) -> Recheck:
    """The undefended attack of the defences' seed 0, and what pairs infer of posts."""
    victim, defence = "wordllama", table["defence"]
    trial = defences.DefenceTrial(defence["victim"], defence["n_train"], 0)
    row = trial.run(work)
    plain = next(r for r in defence["rows"] if (r["kind"], r["attack"]) == NO_DEFENCE)
    data = victim_data("posts", victim)
    paired = METHODS["whitened"]()
    paired.fit(space_of(victim, "train"), space_of(ATTACKER, "train"))
    z = recentre_translator(paired, data["stolen"], data["own"]).translate(
        data["stolen"]
    )
    inferred = attribute_leakage(
        scores(z, data["labels"], "standard"), data["multi_hot"]
    )
    variants = table["sets"]["posts"]["victims"][victim]["variants"]
    return Recheck(
        f"{defence['victim']} undefended, seed 0, and posts under {victim} with pairs",
        {
            "top1": plain["top1"][0],
            "posts top1": plain["posts"]["top1"][0],
            "notes top1": plain["notes"]["top1"][0],
            "paired posts top1": variants["paired"][0]["standard"]["top1"],
        },
        {
            "top1": row["top1"],
            "posts top1": row["posts"]["top1"],
            "notes top1": row["notes"]["top1"],
            "paired posts top1": numbers(inferred)["top1"],
        },
        {
            "top1": spread_of(plain["top1"], 0.01),
            "posts top1": spread_of(plain["posts"]["top1"], 0.02),
            "notes top1": spread_of(plain["notes"]["top1"], 0.02),
            "paired posts top1": 0.005,
        },
        "3 standard deviations over the row's seeds, at least .01 of top-1 of rows and "
        ".02 of labels; the paired reference, which draws nothing, .005",
    )
