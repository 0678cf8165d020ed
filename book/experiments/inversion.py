"""What inverted texts give away, compared with mismatched documents and a lookup.

Victims are the private documents under encoders that the attacker neither has nor may
query; they translate by a fit on `data/wiki` without pairs, adapt it to the stolen rows
and invert with an encoder of their own, their public documents and nothing else. The
same search runs on the true vectors (an upper bound) and on the mean vector (the
baseline). A second part inverts some notes again, the true vectors with rounds of
edits, and asks WordLlama, which no search saw, which document was inverted; a third
inverts single sentences by length.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from v2v_lite.align import SelfLearn, Translator, Whitened
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.selflearn import Phase, SelfLearnConfig
from v2v_lite.measure import score
from v2v_lite.privacy import (
    EncoderScorer,
    NgramLM,
    SearchConfig,
    adapt,
    invert,
    recentre_rows,
    tokens,
)
from v2v_lite.spaces import (
    TRAIN_ROWS,
    Documents,
    Space,
    document_space,
    load,
    load_documents,
    unit,
)
from v2v_lite.teaching.comparison import split_of

from .inverted import SETS, measured, of_ten, opened, scorer_of, scores
from .recheck import SIGMAS, Recheck
from .short_texts import LENGTHS, WAYS, Sentences
from .store import Store, Task
from .workers import run_all

DATASETS = ("wiki", "documents/posts", "documents/emails", "documents/notes")
PARTS = ("documents", "judged", "sentences")
BASELINE, IDEAL, PAIRED = "mean", "true", "paired"
EDITS = (32, 3)  # changed texts per round, rounds
#: Less of everything than the default: a tenth of its time, and less precise.
BRIEF = SelfLearnConfig(
    anchors=AnchorConfig(n_runs=20, vote_rounds=4),
    phases=(Phase(12, 2048, 0.05, 1.0, 0.3), Phase(10, 4096, 0.04, 0.6, 0.3)),
    n_init=1,
)


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    victims: tuple[str, ...] = ("granite", "arctic")
    attacker: str = "minilm"
    sets: tuple[str, ...] = SETS
    rows: int = 300
    n_train: int = 16_384
    seed: int = 0
    judged: int = 40
    edited: int = 30
    sentences: int = 48
    brief: bool = False
    edits: bool = False

    def of_part(self, part: str) -> Plan:
        """The plan of the documents, or of the notes that are judged."""
        if part == "documents":
            return self
        some = ("notes",) if "notes" in self.sets else self.sets[:1]
        return replace(self, sets=some, rows=self.judged, brief=True, edits=True)

    def of_length(self, longest: int) -> int:
        """How many sentences of at most so many words; long ones take longer."""
        return self.sentences if longest <= 12 else max(1, self.sentences // 2)


FULL = Plan()
QUICK = Plan(victims=("arctic",), attacker="wordllama", sets=("emails",), rows=12,
             judged=6, edited=3, sentences=3, n_train=3_000)  # fmt: skip


@dataclass(frozen=True)
class InversionFit(Task):
    """The translator of one victim, fitted on Wikipedia without a pair."""

    DATASETS: ClassVar = ("wiki",)
    victim: str
    attacker: str
    n_train: int
    seed: int
    brief: bool = False

    def run(self, work: Path) -> dict:
        split = split_of(self.victim, self.attacker, self.n_train, self.seed)
        clock = time.perf_counter()
        model = SelfLearn(BRIEF if self.brief else None)
        model.fit(split.source, split.target, seed=self.seed)
        model.save(work / "fits" / self.key)
        return {"seconds": time.perf_counter() - clock}


@dataclass(frozen=True)
class Inversions(Task):
    """One set under one victim (or the true vectors, or their mean), inverted."""

    DATASETS: ClassVar = DATASETS
    name: str
    victim: str
    plan: Plan

    def run(self, work: Path) -> dict:
        plan, private = self.plan, load_documents(self.name, "private")
        true = document_space(private, plan.attacker)
        own, lm, scorer = attacker_of(self.name, plan.attacker)
        stolen, extra = self._vectors(private, true, own, work)
        rows = rows_of_plan(plan, private)
        config = config_for(self.name)
        if plan.edits and self.victim == IDEAL:
            rows = rows[: plan.edited]
            config = replace(config, edits=EDITS[0], rounds=EDITS[1])
        some = stolen[rows] if self.victim != BASELINE else stolen
        clock = time.perf_counter()
        found = invert(some, lm, scorer, config)
        seconds = time.perf_counter() - clock
        texts = [one.text for one in found]
        texts = texts if len(texts) > 1 else texts * len(rows)
        return {
            "set": self.name,
            "victim": self.victim,
            "rows": len(rows),
            "seconds_per_text": seconds / len(found),
            "words": config.words,
            **extra,
            **scores(texts, rows.tolist(), private, plan.attacker),
            "nearest": self._nearest(some, own, rows.tolist(), private),
        }

    def _nearest(
        self, stolen: Tensor, own: Space, rows: list[int], private: Documents
    ) -> dict:
        # A baseline that writes nothing: the attacker's nearest own document.
        public = load_documents(self.name, "public").texts
        near = (unit(stolen - own.mean) @ unit(own.vectors - own.mean).T).argmax(1)
        texts = [public[i] for i in near.expand(len(rows)).tolist()]
        found = measured(texts, rows, private)
        return found | {"of_ten": of_ten(texts, rows, private)}

    def _vectors(
        self, private: Documents, true: Space, own: Space, work: Path
    ) -> tuple[Tensor, dict]:
        if self.victim == IDEAL:
            return true.vectors, {}
        if self.victim == BASELINE:
            return own.vectors.mean(0, keepdim=True), {}
        p = self.plan
        if self.victim == PAIRED:
            part = slice(TRAIN_ROWS)  # row i of both is one text
            sides = (load(name).take(part) for name in (p.victims[0], p.attacker))
            victim = document_space(private, p.victims[0])
            stolen = Whitened().fit(*sides).translate(victim)
            return self._scored(recentre_rows(stolen, own.vectors), true, own)
        about = self.victim, p.attacker, p.n_train, p.seed
        fit = InversionFit(*about, brief=p.brief)
        model = Translator.load(work / "fits" / fit.key)
        split = split_of(*about)
        rows = document_space(private, self.victim).vectors
        adapted = adapt(model, rows, own.vectors, split.source, split.target)
        stolen = recentre_rows(adapted.translate(rows), own.vectors)
        return self._scored(stolen, true, own)

    def _scored(self, stolen: Tensor, true: Space, own: Space) -> tuple[Tensor, dict]:
        ranks, mean = score(stolen, true), own.vectors.mean(0)
        targets = (unit(z - mean) for z in (stolen, true.vectors))
        return stolen, {
            "pool": ranks.pool,
            "top1": ranks.top1.mean,
            "rank": ranks.rank.mean,
            "cosine_translated": math.prod(targets).sum(1).mean().item(),
        }


def rows_of_plan(plan: Plan, private: Documents) -> Tensor:
    """Which private documents are inverted."""
    generator = torch.Generator().manual_seed(plan.seed)
    return torch.randperm(len(private), generator=generator)[: plan.rows]


def attacker_of(name: str, encoder: str) -> tuple[Space, NgramLM, EncoderScorer]:
    """What the attacker brings to set `name`: own vectors, language model, scorer."""
    public = {one: load_documents(one, "public") for one in SETS}
    spaces = {one: document_space(public[one], encoder) for one in SETS}
    texts = [text for one in SETS for text in public[one].texts]
    rest = (word for text in texts for word in tokens(text))
    lm = NgramLM.fit(public[name].texts, extra=rest)
    vectors = torch.cat([spaces[one].vectors for one in SETS])
    scorer = scorer_of(encoder, lm.words, texts, vectors)
    own = spaces[name]
    centre = own.vectors.mean(0)
    return own, lm, replace(scorer, centre=centre, encode=opened(encoder))


def config_for(name: str) -> SearchConfig:
    """The search's defaults, as long as the attacker's median text of the set."""
    lengths = sorted(len(tokens(text)) for text in load_documents(name, "public").texts)
    return SearchConfig(words=lengths[len(lengths) // 2])


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure into `work`; the table so far, and what it still lacks."""
    store, tasks = Store(work / "inversion.json"), tasks_of(plan)
    for part in parts:
        run_all(fits_of(plan, part), store, jobs, "fits")
        run_all(tasks[part], store, jobs, part)
    table = {
        part: [row for task in some if (row := store.get(task))]
        for part, some in tasks.items()
    }
    lacks = [t.key for some in tasks.values() for t in some if store.get(t) is None]
    return {"rows" if key == "documents" else key: v for key, v in table.items()}, lacks


def fits_of(plan: Plan, part: str) -> list[InversionFit]:
    """The translators that a part needs."""
    if part == "sentences":
        return []
    p = plan.of_part(part)
    return [
        InversionFit(victim, p.attacker, p.n_train, p.seed, p.brief)
        for victim in p.victims
    ]


def tasks_of(plan: Plan) -> dict[str, list[Task]]:
    """What is inverted, by part of the table."""
    tasks: dict[str, list[Task]] = {}
    for part in ("documents", "judged"):
        p = plan.of_part(part)
        paired = (PAIRED,) if p.edits and p.victims else ()
        tasks[part] = [
            Inversions(name, victim, p)
            for name in p.sets
            for victim in (*p.victims, *paired, IDEAL, BASELINE)
        ]
    tasks["sentences"] = [
        Sentences(high, low, plan.attacker, plan.of_length(high), plan.seed)
        for low, high in LENGTHS
    ]
    return tasks


def lines(table: dict) -> list[str]:
    """The table in words: one line per set and victim, and per length."""
    found = [
        f"{row['set']:7} {row['victim']:8} " + " · ".join(
            f"{key} {row[key]['gain']['mean']:.3f} ± {row[key]['gain']['se']:.3f}"
            for key in ("facts", "token_f1")
        )
        for row in table["rows"] + table["judged"]
    ]  # fmt: skip
    return found + [
        f"at most {row['longest']} words: token_f1 {row[WAYS[-1]]['own']['mean']:.3f}"
        for row in table["sentences"]
    ]


def recheck(table: dict, work: Path) -> Recheck:
    """The shortest sentences, inverted again in all four ways, and the lookup."""
    stored = table["sentences"][0]
    low, high = LENGTHS[0]
    row = Sentences(high, low, FULL.attacker, stored["n"], FULL.seed).run(work)
    kept = (*WAYS, "lookup")
    return Recheck(
        f"sentences of at most {high} words, n = {row['n']}: token F1",
        {key: stored[key]["own"]["mean"] for key in kept},
        {key: row[key]["own"]["mean"] for key in kept},
        {key: max(SIGMAS * stored[key]["own"]["se"], 0.002) for key in kept},
        "3 standard errors of the stored score over its sentences",
    )
