"""What `defended` measures: one defence's cost, one attack on it, one game of nets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from v2v_lite.align import METHODS, LinearTranslator, SelfLearn, random_orthogonal
from v2v_lite.measure import score
from v2v_lite.privacy import adapt, attribute_leakage, recentre_translator, scores
from v2v_lite.privacy.defences import Defence, recall, topical_search
from v2v_lite.spaces import Space, document_space, load_documents, unit
from v2v_lite.teaching.comparison import short, space_of, split_of
from v2v_lite.vec2vec import Trainer

from . import ours_ablation
from .ablations import scores as scores_of
from .defences import CONFIG, DATASETS, SETS, _partners
from .store import Task
from .victims import ATTACKER, numbers, words_of

#: Pairs make up for a rough start.
FEW_ANCHORS = replace(CONFIG.anchors, n_runs=8, vote_rounds=1)


def owner_of(kind: str, strength: float, seed: int) -> Defence:
    """The defence under the seed's key; of kind "", one that changes nothing."""
    key = 1 + 10 * seed
    return Defence(kind, strength, key) if kind else Defence("knn-average", 1, key)


@dataclass(frozen=True)
class Cost(Task):
    """What the owner's search keeps: exact lists, centred exact lists, topics."""

    DATASETS: ClassVar = DATASETS
    victim: str
    n_train: int
    seed: int
    kind: str
    strength: float

    def run(self, work: Path) -> dict:
        owner = owner_of(self.kind, self.strength, self.seed)
        split = split_of(self.victim, ATTACKER, self.n_train, self.seed)
        base, rows = split.source.vectors, space_of(self.victim, "eval").vectors
        x, asked = rows[:3584], rows[3584:]
        both = owner.protect(x, base), owner.protect_query(asked, base)
        exact = recall(*both, x, asked)
        mean = base.mean(0)
        centred = recall(*both, unit(x - mean), unit(asked - mean))
        row = {
            "recall": short(exact.mean), "recall_se": short(exact.se),
            "centred": short(centred.mean),
        }  # fmt: skip
        for part, name in enumerate(SETS, 2):
            private, public = (load_documents(name, s) for s in ("private", "public"))
            shared = public.multi_hot().float() @ private.multi_hot().float().T
            found = topical_search(
                owner.protect(_rows(private, self.victim), base, part),
                owner.protect_query(_rows(public, self.victim), base),
                shared,
            )
            row[name] = {
                "precision": short(found.precision.mean), "ndcg": short(found.ndcg.mean)
            }  # fmt: skip
        return row


@dataclass(frozen=True)
class Attack(Task):
    """One attack on one defended database.

    "paired" knows `pairs` texts of it and fits these alone; it is read both as fitted,
    with the documents' own means, and adapted to them with all that was stolen. All
    others are adapted: "helped" is self-learning with pairs beside unpaired rows,
    "unpaired" has none, "grown" starts from the grown game, "mirrored" too, and does to
    its own rows what was done to the stolen ones.
    """

    DATASETS: ClassVar = DATASETS
    victim: str
    n_train: int
    seed: int
    kind: str
    strength: float
    attack: str
    pairs: int = 0

    def run(self, work: Path) -> dict:
        split = split_of(self.victim, ATTACKER, self.n_train, self.seed)
        owner = owner_of(self.kind, self.strength, self.seed)
        base, mine = split.source.vectors, split.target.vectors
        mirror = owner.adaptive() if self.attack == "mirrored" else None

        def own(y: Tensor, asked: bool = False) -> Tensor:
            if mirror is None:
                return y
            return mirror.protect_query(y, mine) if asked else mirror.protect(y, mine)

        source, target = Space(owner.protect(base)), Space(own(mine))
        model, source, target = self._fit(source, target, split)
        found = score(
            model.translate(owner.protect(split.eval_source.vectors, base, 1)),
            own(split.eval_target.vectors),
        )
        row: dict = {"pool": found.pool, "top1": short(found.top1.mean)}
        row["rank"] = short(found.rank.mean)
        for part, name in enumerate(SETS, 2):
            private, public = (load_documents(name, s) for s in ("private", "public"))
            hidden = owner.protect(_rows(private, self.victim), base, part)
            texts, hot = own(_rows(public, ATTACKER)), private.multi_hot()
            words = own(words_of(private.labels), asked=True)
            ways = {"adapted": adapt(model, hidden, texts, source, target)}
            if self.attack == "paired":
                ways["paired"] = recentre_translator(model, hidden, texts)
            row[name] = {
                way: _read(moved.translate(hidden), words, hot)
                for way, moved in ways.items()
            }
        return row

    def _fit(
        self, source: Space, target: Space, split
    ) -> tuple[LinearTranslator, Space, Space]:
        # The translator, and the rows that adaptation may go on with.
        known = _partners(split.source.take(slice(max(self.pairs, 1))))
        if self.attack == "paired":
            x = source.take(slice(self.pairs))
            return METHODS["whitened"]().fit(x, known), source, target
        if self.attack == "helped":
            rows = torch.arange(self.pairs)
            target = Space(torch.cat([target.vectors, known.vectors]))
            model = SelfLearn(replace(CONFIG, anchors=FEW_ANCHORS))
            pairs = rows, rows + split.target.n
            return (
                model.fit(source, target, seed=self.seed, pairs=pairs),
                source,
                target,
            )
        start = "grown" if self.attack in ("grown", "mirrored") else "anchors"
        model = SelfLearn(replace(CONFIG, start=start))
        return model.fit(source, target, seed=self.seed), source, target


@dataclass(frozen=True)
class Nets(Task):
    """The vec2vec nets' game on the small problem, one side rotated or not, all seeds
    at once; with Muon, as OURS has it, or with Adam."""

    DATASETS: ClassVar = ("wiki",)
    name: str
    rotated: bool
    plan: ours_ablation.Plan

    def run(self, work: Path) -> dict:
        plan = self.plan
        preset = ours_ablation.preset_of(self.name, plan)
        problem = ours_ablation.fixtures(plan)
        maps = problem.maps_for(preset)
        (a, b), (pool_a, pool_b) = problem.sides, problem.pool
        if self.rotated:  # whitened rows are rotated too: the same start is Q' M
            g = torch.Generator().manual_seed(7)
            q = random_orthogonal(a.d, generator=g)
            maps = q.T @ maps
            a, pool_a = (
                replace(s, vectors=s.vectors @ q, mean=s.mean @ q) for s in (a, pool_a)
            )
        pair = plan.source, plan.target
        sides = dict(zip(pair, (a, b), strict=True))
        run = Trainer(
            sides, preset, seeds=tuple(range(plan.seeds)),
            initial_maps={pair: maps}, device="cpu",
        )  # fmt: skip
        first = scores_of(run, (pool_a, pool_b))
        for _ in range(plan.steps):
            run.step()
        return {"initial": first, "final": scores_of(run, (pool_a, pool_b))}


def _read(z: Tensor, words: Tensor, hot: Tensor) -> dict:
    """What is inferred of each document's labels, and which first answers are right."""
    best = scores(z, words)
    hits = hot.gather(1, best.argmax(1, keepdim=True))[:, 0]
    found = numbers(attribute_leakage(best, hot))
    return found | {"hits": "".join("01"[hit] for hit in hits.tolist())}


def _rows(documents, encoder: str) -> Tensor:
    return document_space(documents, encoder).vectors
