"""Drugs asked for first, then confirmed by exact encoding: named facts of notes.

The questionnaire knows each drug by the public notes that have it, by its name's own
vector, and by copies of the notes in which other drugs stand. A second one asks for all
other facts that the public notes hold. Their best answers are a text of their own. For
true vectors each candidate drug is also added to the text that a search finds and
encoded; the drugs that then score best, and the other answers, stand before that text.
The search's text alone and the nearest public note are the rivals. Lists of several
lengths are compared, and lists of `words` of any kind. Translators are those of
`inversion`, fitted in full.
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
    facts_of,
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
from .words import Own, frequent, likely
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
LENGTHS = (5, 10, 20, 30, 40)  # of both lists, to compare
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
    own: int = 640  # public notes that teach which words there are


FULL = Plan()
QUICK = Plan(("arctic",), "wordllama", 12, 3_000, own=60)


@dataclass(frozen=True)
class Asked(Task):
    """Answers for one victim's notes, or for their true vectors, as texts."""

    DATASETS: ClassVar = DATASETS
    victim: str
    attacker: str
    rows: int
    n_train: int
    seed: int
    own: int

    def run(self, work: Path) -> dict:
        private, public = (load_documents(SET, part) for part in ("private", "public"))
        own = document_space(public, self.attacker)
        rows = rows_of_plan(inversion.Plan(rows=self.rows, seed=self.seed), private)
        some = self.vectors(private, own, work)[rows]
        drugs, facts = (
            ask(public, self.attacker, self.victim) for ask in (asker_of, others_of)
        )
        k = ANSWERS.get(self.victim, ANSWERS["translated"])
        given, others = drugs.answers(some, k), facts.answers(some, OTHERS)
        near = (unit(some - own.mean) @ unit(own.vectors - own.mean).T).argmax(1)
        texts = {
            "nearest": [public[i].text for i in near.tolist()],
            "drugs": [", ".join(line) for line in given],
            "answers": joined(given, others),
        }
        texts |= self.written(some, drugs, others) | self.words(some, own, public)
        row: dict = {"set": SET, "victim": self.victim, "rows": len(rows), "k": k}
        for how, lines in texts.items():
            row[how] = measured(lines, rows.tolist(), private)
            rival = zip(lines, texts["nearest"], strict=True)
            over = text_leakage(
                [f"{a}\f{b}" for a, b in rival], rows.tolist(), private.rows,
                contrast(facts_found),
            )  # fmt: skip
            row[how]["over_nearest"] = asdict(over.gain)
        lists = [[one.answers(some, n) for one in (drugs, facts)] for n in LENGTHS]
        row["lengths"] = [of_length(each, rows.tolist(), private) for each in lists]
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
        public = load_documents(SET, "public")
        own = Own(public.texts, document_space(public, self.attacker).vectors)
        scorer, texts = searched(own, some, self.attacker)
        drugs = confirmed(asker, some, texts, scorer, ANSWERS[IDEAL], TRIED)
        lines = joined(drugs, others)
        both = [f"{a}. {b}" for a, b in zip(lines, texts, strict=True)]
        return {"search": texts, "confirmed": lines, "written": both}

    def words(self, some: Tensor, own: Space, public: Documents) -> dict:
        """Lists of words, read from the vectors and from none."""
        known, exact = Own(public.texts, own.vectors), self.victim == IDEAL
        known = known.take(range(self.own))
        search = (lambda o, z: searched(o, z, self.attacker)[1]) if exact else None
        lists = likely(known, some, self.attacker, exact, search, self.seed)
        return {"words": lists, "frequent": [frequent(known)] * len(some)}


def searched(own: Own, z: Tensor, attacker: str) -> tuple[EncoderScorer, list[str]]:
    """A scorer taught by own notes, and the texts of its beam search for rows `z`."""
    lm = NgramLM.fit(own.texts)
    scorer = EncoderScorer.fit(lm.words, opened(attacker), own.texts, own.vectors)
    found = invert(z, lm, scorer, inversion.config_for(SET))
    return scorer, [one.text for one in found]


def joined(*parts: Answers) -> list[str]:
    """The answers for each row as one line."""
    return [", ".join(sum(line, ())) for line in zip(*parts, strict=True)]


def asker_of(public: Documents, attacker: str, victim: str) -> Questionnaire:
    """The questionnaire about drugs for the vectors of a victim."""
    texts, more = copies(public)
    rows = document_space(public, attacker).vectors
    rows = torch.cat([rows, opened(attacker)(texts)])
    answers = [SLOTS["drugs"](note) for note in public]
    return asking(rows, answers + more, attacker, victim)


def others_of(public: Documents, attacker: str, victim: str) -> Questionnaire:
    """The same about all other facts that public notes hold."""
    rows = document_space(public, attacker).vectors
    facts = [tuple({v.lower(): 1 for v in note.facts.values()}) for note in public]
    return asking(rows, facts, attacker, victim)


def asking(rows: Tensor, answers: Answers, attacker: str, victim: str) -> Questionnaire:
    """A questionnaire that leaves frequencies out: they would be right about the other
    notes of a label as well, which the gain subtracts."""
    cosine = COSINE.get(victim, COSINE["translated"])
    found = Questionnaire.fit(rows, answers, cosine, encode=opened(attacker))
    return replace(found, base=torch.zeros_like(found.base))


def of_length(lists: list[Answers], rows: list[int], private: Documents) -> dict:
    """The facts in lists of one length, and the share of all answers that are right."""
    found = text_leakage(joined(*lists), rows, private.rows, facts_found)
    right = total = 0
    for row, *both in zip(rows, *lists, strict=True):
        known = {fact.lower() for fact in facts_of(private[row])}
        right += sum(answer in known for line in both for answer in line)
        total += sum(map(len, both))
    return asdict(found) | {"k": len(lists[0][0]), "right": right / total}


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
    about = plan.attacker, plan.rows, plan.n_train, plan.seed, plan.own
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
    private, public = (load_documents(SET, part) for part in ("private", "public"))
    rows = rows_of_plan(plan, private)
    some = document_space(private, plan.attacker).vectors[rows]
    askers = [ask(public, plan.attacker, IDEAL) for ask in (asker_of, others_of)]
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
