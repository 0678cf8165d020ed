"""What inverted texts give away, compared with mismatched documents.

Victims are the private documents under encoders that the attacker neither has nor may
query; they translate by a fit on `data/wiki` without pairs, adapt it to the stolen rows
and invert with an encoder of their own, their public documents and nothing else. The
same search runs on the true vectors (an upper bound) and on their mean (the baseline).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from v2v_lite.align import SelfLearn, Translator
from v2v_lite.measure import score
from v2v_lite.privacy import (
    EncoderScorer,
    NgramLM,
    SearchConfig,
    adapt,
    contains_fact,
    facts_found,
    facts_of,
    invert,
    medication_found,
    recentre_rows,
    text_leakage,
    token_f1,
    tokens,
)
from v2v_lite.spaces import (
    Documents,
    Space,
    document_space,
    encode,
    load_documents,
    unit,
)
from v2v_lite.teaching.comparison import split_of

from .recheck import SIGMAS, Recheck
from .store import Store, Task
from .workers import run_all

DATASETS = ("wiki", "documents/posts", "documents/emails", "documents/notes")
PARTS = ()
SETS = ("posts", "emails", "notes")
MEASURES = {
    "facts": facts_found,
    "medication": medication_found,
    "token_f1": token_f1,
}
BASELINE, IDEAL = "mean", "true"
SHOWN = (0.1, 0.5, 0.9)  # quantiles of the gain in F1 whose documents are shown


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    victims: tuple[str, ...] = ("granite", "arctic")
    attacker: str = "minilm"
    sets: tuple[str, ...] = SETS
    rows: int = 300
    n_train: int = 16_384
    seed: int = 0


FULL = Plan()
QUICK = Plan(victims=("arctic",), attacker="wordllama", sets=("emails",), rows=12,
             n_train=3_000)  # fmt: skip


@dataclass(frozen=True)
class InversionFit(Task):
    """The translator of one victim, fitted on Wikipedia without a pair."""

    DATASETS: ClassVar = ("wiki",)
    victim: str
    attacker: str
    n_train: int
    seed: int

    def run(self, work: Path) -> dict:
        split = split_of(self.victim, self.attacker, self.n_train, self.seed)
        clock = time.perf_counter()
        model = SelfLearn().fit(split.source, split.target, seed=self.seed)
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
        return measured(texts, rows, private)

    def _vectors(
        self, private: Documents, true: Space, own: Space, work: Path
    ) -> tuple[Tensor, dict]:
        if self.victim == IDEAL:
            return true.vectors, {}
        if self.victim == BASELINE:
            return own.vectors.mean(0, keepdim=True), {}
        p = self.plan
        about = self.victim, p.attacker, p.n_train, p.seed
        model = Translator.load(work / "fits" / InversionFit(*about).key)
        split = split_of(*about)
        rows = document_space(private, self.victim).vectors
        adapted = adapt(model, rows, own.vectors, split.source, split.target)
        stolen = recentre_rows(adapted.translate(rows), own.vectors)
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
    known = word_vectors(encoder)
    scorer = EncoderScorer.fit(
        lm.words, lambda ws: torch.stack([known[w] for w in ws]), texts, vectors
    )
    own = spaces[name]
    return (
        own,
        lm,
        replace(scorer, centre=own.vectors.mean(0), encode=partial(rows_of, encoder)),
    )


@lru_cache(maxsize=2)
def word_vectors(encoder: str) -> dict[str, Tensor]:
    """The attacker's encoder on every word of the public documents, one by one."""
    texts = (text for one in SETS for text in load_documents(one, "public").texts)
    words = list(dict.fromkeys(word for text in texts for word in tokens(text)))
    return dict(zip(words, rows_of(encoder, words), strict=True))


def rows_of(encoder: str, texts: list[str]) -> Tensor:
    """Texts to vectors, without bars, equal texts once."""
    once = list(dict.fromkeys(texts))
    at = {text: i for i, text in enumerate(once)}
    rows = encode(once, encoder, 128, progress=False).vectors
    return rows[[at[text] for text in texts]]


def config_for(name: str) -> SearchConfig:
    """The search's defaults, as long as the attacker's median text of the set."""
    lengths = sorted(len(tokens(text)) for text in load_documents(name, "public").texts)
    return SearchConfig(words=lengths[len(lengths) // 2])


def scores(texts: list[str], rows: list[int], private: Documents, encoder: str) -> dict:
    """All measures with their control, the kinds of facts, labels, and examples."""
    found = measured(texts, rows, private)
    every = rows_of(encoder, texts)
    labels = document_space(private, encoder, "labels").vectors
    own = document_space(load_documents(private.name, "public"), encoder)
    places = unit(every - own.mean) @ unit(labels - labels.mean(0)).T
    guess = {
        text: private.labels[i].key
        for text, i in zip(texts, places.argmax(1).tolist(), strict=True)
    }
    hit = text_leakage(
        texts, rows, private.rows, lambda t, d: float(guess[t] in d.labels), False
    )
    true = document_space(private, encoder).vectors
    cosine = unit(every - own.mean) @ unit(true - own.mean).T
    at = {text: i for i, text in enumerate(texts)}
    row_of = {document.id: i for i, document in enumerate(private)}
    near = text_leakage(
        texts, rows, private.rows, lambda t, d: cosine[at[t], row_of[d.id]].item()
    )
    found |= {"label": asdict(hit) | {"z": hit.z}, "cosine": asdict(near)}
    found["kinds"] = by_kind(texts, rows, private)
    return found | {"examples": examples(texts, rows, private)}


def measured(texts: list[str], rows: list[int], private: Documents) -> dict:
    """The measures of words and facts with their control."""
    found = {}
    for name, measure in MEASURES.items():
        if name != "medication" or any(row.medication for row in private):
            one = text_leakage(texts, rows, private.rows, measure)
            found[name] = asdict(one) | {"z": one.z}
    return found


def by_kind(texts: list[str], rows: list[int], private: Documents) -> dict:
    """For each kind of fact: how many there are, and how many were found."""
    kinds: dict[str, list[bool]] = {}
    for text, row in zip(texts, rows, strict=True):
        d = private[row]
        named = [(key, value) for key, value in d.facts.items()]
        named += [("medication", value) for value in d.medication]
        named += [("person", v) for v in d.people] + [("firm", v) for v in d.firms]
        for key, value in named:
            kinds.setdefault(key, []).append(contains_fact(text, value))
    most = sorted(kinds.items(), key=lambda item: -len(item[1]))[:12]
    return {key: {"n": len(hits), "found": sum(hits)} for key, hits in most}


def examples(texts: list[str], rows: list[int], private: Documents) -> list[dict]:
    """The documents at the quantiles SHOWN of the gain in token F1."""
    gains = []
    for text, row in zip(texts, rows, strict=True):
        label = private[row].labels[0]
        others = [
            token_f1(text, d)
            for i, d in enumerate(private)
            if i != row and label in d.labels
        ]
        gains.append(token_f1(text, private[row]) - sum(others) / max(1, len(others)))
    order = sorted(range(len(texts)), key=gains.__getitem__)
    shown = []
    for quantile in SHOWN:
        i = order[round(quantile * (len(order) - 1))]
        found = [
            fact for fact in facts_of(private[rows[i]]) if contains_fact(texts[i], fact)
        ]
        shown.append({
            "quantile": quantile, "id": private[rows[i]].id, "text": texts[i],
            "gain": gains[i], "found": found,
        })  # fmt: skip
    return shown


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure into `work`; the table so far, and what it still lacks."""
    store = Store(work / "inversion.json")
    fits = [
        InversionFit(v, plan.attacker, plan.n_train, plan.seed) for v in plan.victims
    ]
    many = [
        Inversions(name, victim, plan)
        for name in plan.sets
        for victim in (*plan.victims, IDEAL, BASELINE)
    ]
    run_all(fits, store, jobs, "fits")
    run_all(many, store, jobs, "inversion")
    rows = {task.key: store.get(task) for task in many}
    lacks = [key for key, row in rows.items() if row is None]
    return {"rows": [row for row in rows.values() if row]}, lacks


def lines(table: dict) -> list[str]:
    """The table in words: one line per set and victim."""
    return [
        f"{row['set']:7} {row['victim']:8} " + " · ".join(
            f"{key} {row[key]['gain']['mean']:.3f} ± {row[key]['gain']['se']:.3f}"
            for key in ("facts", "token_f1")
        )
        for row in table["rows"]
    ]  # fmt: skip


def recheck(table: dict, work: Path) -> Recheck:
    """The posts' true vectors, inverted again: the whole search, without a fit."""
    about = {"set": "posts", "victim": IDEAL}
    stored = next(row for row in table["rows"] if about.items() <= row.items())
    row = Inversions("posts", IDEAL, FULL).run(work)
    kept = ("token_f1", "cosine", "label")
    return Recheck(
        f"posts, true vectors, {row['rows']} rows: gain over mismatched documents",
        {key: stored[key]["gain"]["mean"] for key in kept},
        {key: row[key]["gain"]["mean"] for key in kept},
        {key: max(SIGMAS * stored[key]["gain"]["se"], 0.002) for key in kept},
        "3 standard errors of the stored gain over its documents",
    )
