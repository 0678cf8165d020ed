"""Drugs asked for first, then confirmed by exact encoding: named facts of notes.

The questionnaire knows each drug by the public notes that have it and by its name's own
vector. Its best answers are a text of their own. For some of the true vectors each of
fifteen candidates is also added to the text that a search finds and encoded; the five
that then score best stand before that text. The search's text alone and the nearest
public note are the rivals. Translators are those of `inversion`'s short fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

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
PARTS = ()
SET = "notes"
#: The errors that a questionnaire expects; .7 was chosen on halves of public notes.
COSINE = {IDEAL: 0.7, "translated": 0.5}
#: How many are given; eight was chosen on private notes that are not among the rows.
ANSWERS = {IDEAL: 5, "translated": 8}


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    victims: tuple[str, ...] = ("granite", "arctic")
    attacker: str = "minilm"
    rows: int = 300
    written: int = 60
    n_train: int = 16_384
    seed: int = 0


FULL = Plan()
QUICK = Plan(("arctic",), "wordllama", 12, 6, 3_000)


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
        asker = asker_of(self.attacker, self.victim)
        k = ANSWERS.get(self.victim, ANSWERS["translated"])
        near = (unit(some - own.mean) @ unit(own.vectors - own.mean).T).argmax(1)
        texts = {
            "nearest": [public[i].text for i in near.tolist()],
            "answers": [", ".join(given) for given in asker.answers(some, k)],
        } | self.written(some, asker)
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
        fit, split = InversionFit(*about, brief=True), split_of(*about)
        model = Translator.load(work / "fits" / fit.key)
        assert isinstance(model, LinearTranslator)
        rows = document_space(private, self.victim).vectors
        adapted = adapt(model, rows, own.vectors, split.source, split.target)
        return adapted.translate(rows)

    def written(self, some: Tensor, asker: Questionnaire) -> dict[str, list[str]]:
        """Further texts for these vectors: none."""
        return {}


class Written(Asked):
    """The same for true vectors, with texts that a search has written."""

    def written(self, some: Tensor, asker: Questionnaire) -> dict[str, list[str]]:
        """The search's texts, the answers confirmed by them, and both together."""
        public, encode = load_documents(SET, "public"), opened(self.attacker)
        own, lm = document_space(public, self.attacker), NgramLM.fit(public.texts)
        scorer = EncoderScorer.fit(lm.words, encode, public.texts, own)
        found = invert(some, lm, scorer, inversion.config_for(SET))
        searched = [one.text for one in found]
        given = confirmed(asker, some, searched, scorer)
        both = zip(given, searched, strict=True)
        return {
            "search": searched,
            "confirmed": [", ".join(line) for line in given],
            "written": [f"{', '.join(a)}. {b}" for a, b in both],
        }


def asker_of(attacker: str, victim: str) -> Questionnaire:
    """The questionnaire about drugs for the vectors of a victim."""
    public = load_documents(SET, "public")
    own, drugs = document_space(public, attacker), [SLOTS["drugs"](d) for d in public]
    cosine = COSINE.get(victim, COSINE["translated"])
    return Questionnaire.fit(own, drugs, cosine, encode=opened(attacker))


def tasks_of(plan: Plan) -> list[Asked]:
    """The true vectors, each victim's, and the true ones with texts."""
    about = plan.n_train, plan.seed
    some = [
        Asked(victim, plan.attacker, plan.rows, *about)
        for victim in (IDEAL, *plan.victims)
    ]
    return [*some, Written(IDEAL, plan.attacker, plan.written, *about)]


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure into `work`; the table so far, and what it still lacks."""
    store, tasks = Store(work / "asked.json"), tasks_of(plan)
    fits = [
        InversionFit(v, plan.attacker, plan.n_train, plan.seed, True)
        for v in plan.victims
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
    asker = asker_of(plan.attacker, IDEAL)
    texts = [", ".join(given) for given in asker.answers(some)]
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
