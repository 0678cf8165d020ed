"""Drugs asked for first, then confirmed by exact encoding: named facts of notes.

The questionnaire knows each drug by the public notes that have it, by its name's own
vector, and by copies of the notes in which other drugs stand. A second one asks for all
other facts that the public notes hold. Their best answers are a text of their own. For
true vectors each candidate drug is also added to the text that a search finds and
encoded; the drugs that then score best, and the other answers, stand before that text.
The search's text alone and the nearest public note are the rivals. Translators are
those of `inversion`, fitted in full.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from v2v_lite.align import LinearTranslator, Translator
from v2v_lite.privacy import (
    SLOTS,
    EncoderScorer,
    NgramLM,
    Questionnaire,
    adapt,
    confirmed,
    facts_found,
    invert,
    text_leakage,
)
from v2v_lite.spaces import Documents, Space, document_space, load_documents, unit
from v2v_lite.teaching.comparison import split_of

from . import inversion
from .inversion import IDEAL, InversionFit, rows_of_plan
from .inverted import measured, opened
from .questionnaire import contrast
from .recheck import SIGMAS, Recheck
from .store import Store, Task
from .workers import run_all

DATASETS = inversion.DATASETS
Answers = list[tuple[str, ...]]
PARTS = ()
SET = "notes"
# Constants were chosen on folds of the public notes.
#: The errors that a questionnaire expects.
COSINE = {IDEAL: 0.9, "translated": 0.4}
#: How many drugs are given, and how many other facts.
ANSWERS = {IDEAL: 12, "translated": 20}
OTHERS = 20
TRIED = 30  # drugs that are confirmed or not; tried with shorter lists
COPIES = 6  # of a note, each with other drugs


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    victims: tuple[str, ...] = ("granite", "arctic")
    attacker: str = "minilm"
    rows: int = 300
    n_train: int = 16_384
    seed: int = 0


FULL = Plan()
QUICK = Plan(("arctic",), "wordllama", 12, 3_000)


@dataclass(frozen=True)
class Asked(Task):
    """Answers for one victim's notes, or for their true vectors, as texts."""

    DATASETS: ClassVar = DATASETS
    victim: str
    attacker: str
    rows: int
    n_train: int
    seed: int

    def run(self, work: Path) -> dict:
        private, public = (load_documents(SET, part) for part in ("private", "public"))
        own = document_space(public, self.attacker)
        rows = rows_of_plan(inversion.Plan(rows=self.rows, seed=self.seed), private)
        some = self.vectors(private, own, work)[rows]
        k = ANSWERS.get(self.victim, ANSWERS["translated"])
        drugs, facts = (
            ask(self.attacker, self.victim) for ask in (asker_of, others_of)
        )
        given, others = drugs.answers(some, k), facts.answers(some, OTHERS)
        near = (unit(some - own.mean) @ unit(own.vectors - own.mean).T).argmax(1)
        texts = {
            "nearest": [public[i].text for i in near.tolist()],
            "drugs": [", ".join(line) for line in given],
            "answers": joined(given, others),
        } | self.written(some, drugs, others)
        row = {"set": SET, "victim": self.victim, "rows": len(rows), "k": k}
        for how, lines in texts.items():
            row[how] = measured(lines, rows.tolist(), private)
            rival = zip(lines, texts["nearest"], strict=True)
            over = text_leakage(
                [f"{a}\f{b}" for a, b in rival], rows.tolist(), private.rows,
                contrast(facts_found),
            )  # fmt: skip
            row[how]["over_nearest"] = asdict(over.gain)
        return row

    def vectors(self, private: Documents, own: Space, work: Path) -> Tensor:
        """The true vectors, or the adapted translations of a victim's."""
        if self.victim == IDEAL:
            return document_space(private, self.attacker).vectors
        about = self.victim, self.attacker, self.n_train, self.seed
        fit, split = InversionFit(*about), split_of(*about)
        model = Translator.load(work / "fits" / fit.key)
        assert isinstance(model, LinearTranslator)
        rows = document_space(private, self.victim).vectors
        adapted = adapt(model, rows, own.vectors, split.source, split.target)
        return adapted.translate(rows)

    def written(
        self, some: Tensor, asker: Questionnaire, others: Answers
    ) -> dict[str, list[str]]:
        """For true vectors the search's texts, the answers with the drugs confirmed by
        them, and both together; a translation does not fit any text exactly."""
        if self.victim != IDEAL:
            return {}
        public, encode = load_documents(SET, "public"), opened(self.attacker)
        own, lm = document_space(public, self.attacker), NgramLM.fit(public.texts)
        scorer = EncoderScorer.fit(lm.words, encode, public.texts, own)
        found = invert(some, lm, scorer, inversion.config_for(SET))
        searched = [one.text for one in found]
        drugs = confirmed(asker, some, searched, scorer, ANSWERS[IDEAL], TRIED)
        texts = joined(drugs, others)
        both = [f"{a}. {b}" for a, b in zip(texts, searched, strict=True)]
        return {"search": searched, "confirmed": texts, "written": both}


def joined(*parts: Answers) -> list[str]:
    """The answers for each row as one line."""
    return [", ".join(sum(line, ())) for line in zip(*parts, strict=True)]


def asker_of(attacker: str, victim: str) -> Questionnaire:
    """The questionnaire about drugs for the vectors of a victim."""
    public, encode = load_documents(SET, "public"), opened(attacker)
    texts, more = copies(public)
    rows = torch.cat([document_space(public, attacker).vectors, encode(texts)])
    answers = [SLOTS["drugs"](note) for note in public]
    return asking(rows, answers + more, attacker, victim)


def others_of(attacker: str, victim: str) -> Questionnaire:
    """The same about all other facts that public notes hold."""
    public = load_documents(SET, "public")
    rows = document_space(public, attacker).vectors
    facts = [tuple({v.lower(): 1 for v in note.facts.values()}) for note in public]
    return asking(rows, facts, attacker, victim)


def asking(rows: Tensor, answers: Answers, attacker: str, victim: str) -> Questionnaire:
    """A questionnaire that leaves frequencies out: they would be right about the other
    notes of a label as well, which the gain subtracts."""
    cosine = COSINE.get(victim, COSINE["translated"])
    found = Questionnaire.fit(rows, answers, cosine, encode=opened(attacker))
    return replace(found, base=torch.zeros_like(found.base))


def copies(
    public: Documents, number: int = COPIES, seed: int = 0
) -> tuple[list[str], Answers]:
    """The notes with each drug replaced by one drawn from all; these drugs."""
    draw, texts, answers = random.Random(seed), [], []
    drugs = sorted({name.lower() for note in public for name in note.medication})
    for note in (*public.rows,) * number:
        if note.medication:
            new = {name.lower(): draw.choice(drugs) for name in note.medication}
            some = "|".join(map(re.escape, sorted(new, key=len, reverse=True)))
            pattern = re.compile(rf"(?<!\w)(?:{some})(?!\w)", re.I)
            texts.append(pattern.sub(partial(_other, new), note.text))
            answers.append(tuple(new.values()))
    return texts, answers


def _other(new: dict[str, str], found: re.Match[str]) -> str:
    return new[found[0].lower()]


def tasks_of(plan: Plan) -> list[Asked]:
    """The true vectors, and each victim's."""
    about = plan.attacker, plan.rows, plan.n_train, plan.seed
    return [Asked(victim, *about) for victim in (IDEAL, *plan.victims)]


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure into `work`; the table so far, and what it still lacks."""
    store, tasks = Store(work / "asked.json"), tasks_of(plan)
    fits = [
        InversionFit(v, plan.attacker, plan.n_train, plan.seed) for v in plan.victims
    ]
    run_all(fits, store, jobs, "fits")
    run_all(tasks, store, jobs, "asked")
    rows = {task.key: store.get(task) for task in tasks}
    lacks = [key for key, row in rows.items() if row is None]
    return asdict(plan) | {"rows": [row for row in rows.values() if row]}, lacks


def lines(table: dict) -> list[str]:
    """The table in words: the gain in facts of every kind of text."""
    return [
        f"{row['victim']:8} {how:9} facts {found['facts']['gain']['mean']:.3f} ± "
        f"{found['facts']['gain']['se']:.3f}"
        for row in table["rows"]
        for how, found in row.items()
        if isinstance(found, dict)
    ]


def recheck(table: dict, work: Path) -> Recheck:
    """The true vectors asked again, without a search: the answers alone."""
    stored = table["rows"][0]
    plan = inversion.Plan(rows=stored["rows"], seed=table["seed"])
    private = load_documents(SET, "private")
    rows = rows_of_plan(plan, private)
    some = document_space(private, plan.attacker).vectors[rows]
    askers = asker_of(plan.attacker, IDEAL), others_of(plan.attacker, IDEAL)
    ks = ANSWERS[IDEAL], OTHERS
    texts = joined(*(one.answers(some, k) for one, k in zip(askers, ks, strict=True)))
    found = measured(texts, rows.tolist(), private)
    kept = ("facts", "medication", "token_f1")
    before, now = (
        {key: each[key]["gain"]["mean"] for key in kept}
        for each in (stored["answers"], found)
    )
    within = {key: SIGMAS * stored["answers"][key]["gain"]["se"] for key in kept}
    return Recheck(
        f"answers alone from {len(rows)} true vectors: gain over the same label",
        before, now, within, "3 standard errors of the stored gain over its notes",
    )  # fmt: skip
