"""What questions about slots learn from stolen vectors, beside a mere lookup.

Two victims, five unpaired translators each, adapted and as fitted; references are a map
fitted on pairs of wiki, the true vectors, and the victim's own encoder (the oracle).
Gains are over documents of the same label. Verification asks whether a leaked text, or
one sentence of it, is in the store. The notes are unmistakable by design; the routine
notes, which resemble one another, say what that is worth. They are asked by what public
*notes* teach, around their own mean, as public and private routine notes share clauses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from statistics import mean, stdev
from typing import ClassVar

import torch
from torch import Tensor

from v2v_lite.align import METHODS, LinearTranslator
from v2v_lite.measure import Estimate, score
from v2v_lite.privacy import adapt, recentre_translator, text_leakage
from v2v_lite.privacy.questionnaire import (
    SLOTS,
    Questionnaire,
    auc,
    calibration_error,
    values_found,
    verify,
    votes,
)
from v2v_lite.spaces import Documents, document_space, encode, load_documents, unit
from v2v_lite.teaching.comparison import space_of, split_of

from .recheck import Recheck
from .store import Store, Task
from .wiki_fits import WikiFit
from .workers import run_all

DATASETS = ("wiki", "documents/emails", "documents/notes", "documents/routine")
PARTS = ()
ATTACKER = "minilm"
#: Slots that are asked of each set, and how many answers are given.
ASKED = {
    "notes": {"drugs": 5, "conditions": 3, "age": 1, "places": 3},
    "emails": {"conditions": 3, "sums": 1, "places": 3},
    "routine": {"drugs": 3, "conditions": 3, "age": 1},
}
VOTERS = 100
VERIFIED = ("notes", "routine")
LEARNT = {"routine": "notes"}  # of another set than their own


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    victims: tuple[str, ...] = ("granite", "arctic")
    sets: tuple[str, ...] = ("notes", "emails", "routine")
    n_train: int = 16_384
    seeds: int = 5
    full: tuple[str, ...] = ("granite",)


FULL = Plan()
QUICK = Plan(("wordllama",), ("emails",), 3_000, 1, ())


@lru_cache(maxsize=4)
def sides(name: str) -> tuple[Documents, Documents]:
    """The public documents that a set is asked by, and its private ones."""
    public = LEARNT.get(name, name)
    return load_documents(public, "public"), load_documents(name, "private")


def among(own: Tensor, rows: Tensor, name: str, encoder: str) -> Tensor:
    """True rows of a set, moved to `own` by the mean of its public documents if `own`
    is of another set."""
    if name not in LEARNT:
        return rows
    mean = document_space(load_documents(name, "public"), encoder).vectors.mean(0)
    return unit(rows - mean + own.mean(0))


def true_rows(name: str, encoder: str, own: Tensor) -> Tensor:
    """The private documents' vectors under an encoder, as `among` moves them."""
    rows = document_space(sides(name)[1], encoder).vectors
    return among(own, rows, name, encoder)


@dataclass(frozen=True)
class Reading(Task):
    """What one translator, or a reference, tells of one set."""

    DATASETS: ClassVar = DATASETS
    name: str
    fit: WikiFit
    way: str  # "unpaired", or "references"

    def run(self, work: Path) -> dict:
        fit, (public, private) = self.fit, sides(self.name)
        stolen = document_space(private, fit.victim).vectors
        own = document_space(public, fit.attacker).vectors
        about = {"set": self.name, "victim": fit.victim, "seed": fit.seed}
        if self.way == "references":
            return about | {"ways": _references(self.name, fit, stolen, own)}
        ways, model = {}, fit.load(work)
        split = split_of(fit.victim, fit.attacker, fit.n_train, fit.seed)
        for way, moved in {
            "as fitted": recentre_translator(model, stolen, own),
            "adapted": adapt(model, stolen, own, split.source, split.target),
        }.items():
            ways[way] = read(self.name, moved.translate(stolen), own)
        row = about | {"brief": fit.brief, "ways": ways}
        if self.name in VERIFIED:
            row["verified"] = _half_stored(self.name, fit, model, stolen, own)
        return row


def _references(name: str, fit: WikiFit, stolen: Tensor, own: Tensor) -> dict:
    # Pairs of wiki, as fitted and adapted; the true rows; the victim's own encoder.
    source, target = (space_of(one, "train") for one in (fit.victim, fit.attacker))
    paired = METHODS["whitened"]()
    assert isinstance(paired, LinearTranslator)
    paired.fit(source, target)
    split = split_of(fit.victim, fit.attacker, fit.n_train, 0)
    adapted = adapt(paired, stolen, own, split.source, split.target)
    public, _ = sides(name)
    inside = document_space(public, fit.victim).vectors
    rows = {
        "paired": (recentre_translator(paired, stolen, own).translate(stolen), own),
        "paired, adapted": (adapted.translate(stolen), own),
        "true": (true_rows(name, fit.attacker, own), own),
        "oracle": (true_rows(name, fit.victim, inside), inside),
    }
    found = {way: read(name, *pair) for way, pair in rows.items()}
    for key in ("rank", "cosine"):  # of two encoders: they mean nothing
        found["oracle"].pop(key, None)
    return found


def read(name: str, z: Tensor, own: Tensor) -> dict:
    """All slots of a set, asked of translations; how good these are."""
    found: dict = {
        slot: asked(name, slot, k, z, own) for slot, k in ASKED[name].items()
    }
    true = true_rows(name, ATTACKER, own)
    if true.shape[1] == z.shape[1] == own.shape[1]:
        centre = own.mean(0)
        x, y = unit(z - centre), unit(true - centre)
        ranks = score(x, y, torch.zeros_like(centre))
        found["rank"] = ranks.rank.mean
        found["cosine"] = (x * y).sum(1).mean().item()
    return found


def asked(name: str, slot: str, k: int, z: Tensor, own: Tensor) -> dict:
    """One slot: regression, votes and lookup, each with its gain, and calibration."""
    (public, private), values = sides(name), SLOTS[slot]
    known = [values(d) for d in public]
    asker = Questionnaire.fit(own, known, k=k)
    at = {v: j for j, v in enumerate(asker.values)}
    hot, truth = (
        torch.tensor([[float(v in values(d)) for v in at] for d in docs])
        for docs in (public, private)
    )
    many = votes(z, own, hot, VOTERS) + 1e-6 * hot.mean(0)
    near = votes(z, own, hot, 1)
    given = {
        "regression": asker.answers(z, k),
        "votes": [[asker.values[j] for j in r] for r in many.topk(k).indices.tolist()],
        "lookup": [[asker.values[j] for j in r.nonzero().flatten()] for r in near],
    }
    texts = {how: ["\n".join(row) for row in rows] for how, rows in given.items()}
    found: dict = {how: _gain(t, private, slot) for how, t in texts.items()}
    both = [
        f"{a}\f{b}" for a, b in zip(texts["regression"], texts["lookup"], strict=True)
    ]
    rows = list(range(len(private)))
    over = text_leakage(both, rows, private.rows, contrast(values_found(values)))
    found["over_lookup"] = asdict(over.gain)
    best = asker.probabilities(z).topk(k, dim=1)
    right, p = truth.gather(1, best.indices).flatten(), best.values.flatten()
    found["calibration"] = {
        "p": p.mean().item(), "right": right.mean().item(),
        "error": calibration_error(p, right),
    }  # fmt: skip
    found["known"] = (truth.sum() / sum(len(values(d)) for d in private)).item()
    return found


def contrast(measure: Callable) -> Callable:
    """How much more the part before a form feed scores than the part after it."""

    def found(text, document):
        ours, rival = (measure(part, document) for part in text.split("\f"))
        return None if ours is None else ours - rival

    return found


def _gain(texts: list[str], private: Documents, slot: str) -> dict:
    # The control of conditions, which are the labels, is other documents' answers.
    measure, rows = values_found(SLOTS[slot]), list(range(len(private)))
    found = text_leakage(texts, rows, private.rows, measure)
    other, gains = [], []
    for i, document in enumerate(private):
        own, shifted = (measure(texts[i - k], document) for k in (0, 1))
        if own is not None and shifted is not None:
            other.append(shifted)
            gains.append(own - shifted)
    gain = Estimate.of(gains) if slot == "conditions" else found.gain
    return {
        "n": found.n, "own": found.own.mean, "same label": found.control.mean,
        "mismatched": mean(other), "gain": gain.mean, "se": gain.se,
    }  # fmt: skip


@lru_cache(maxsize=4)
def sentences(name: str) -> Tensor:
    """The longest sentence of each private document, encoded live."""
    longest = [max(text.split(". "), key=len) for text in sides(name)[1].texts]
    return encode(longest, ATTACKER, progress=False).vectors


def _half_stored(
    name: str, fit: WikiFit, model: LinearTranslator, stolen: Tensor, own: Tensor
) -> dict:
    # Every second document is in the store, the others are not: which are?
    kept = torch.arange(len(stolen)) % 2 == 0
    split = split_of(fit.victim, fit.attacker, fit.n_train, fit.seed)
    few, found = stolen[kept], {}
    for way, moved in {
        "as fitted": recentre_translator(model, few, own),
        "adapted": adapt(model, few, own, split.source, split.target),
    }.items():
        z = moved.translate(few)
        whole = true_rows(name, fit.attacker, own)
        part = among(own, sentences(name), name, fit.attacker)
        for kind, rows in {"text": whole, "sentence": part}.items():
            members, others = (verify(rows[k], z, own) for k in (kept, ~kept))
            limit = others.score.quantile(0.99)
            found[f"{way}, {kind}"] = {
                "auc": asdict(auc(members.score, others.score)),
                "found at 1 % false": (members.score > limit).float().mean().item(),
                "right row": (members.row == torch.arange(len(z)))
                .float()
                .mean()
                .item(),
            }
    return found


def tasks_of(plan: Plan) -> tuple[list[WikiFit], list[Reading]]:
    """Fits, and what is read through them."""

    def fit(victim: str, seed: int, brief: bool = True) -> WikiFit:
        return WikiFit(victim, ATTACKER, plan.n_train, seed, brief)

    fits = [fit(v, seed) for seed in range(plan.seeds) for v in plan.victims]
    fits += [fit(v, 0, False) for v in plan.full]
    reads = [Reading(name, f, "unpaired") for f in fits for name in plan.sets]
    reads += [
        Reading(name, fit(v, 0), "references")
        for v in plan.victims
        for name in plan.sets
    ]
    return fits, reads


def measure(
    plan: Plan, work: Path, parts=PARTS, jobs: int = 0
) -> tuple[dict, list[str]]:
    """Measure into `work`; the table so far, and what it still lacks."""
    store = Store(work / "questionnaire.json")
    fits, reads = tasks_of(plan)
    run_all(fits, store, jobs, "fits")
    run_all(reads, store, jobs, "reads")
    rows = {task.key: store.get(task) for task in (*fits, *reads)}
    lacks = [key for key, row in rows.items() if row is None]
    table = asdict(plan) | {"attacker": ATTACKER, "voters": VOTERS, "asked": ASKED}
    table["fits"] = [rows[f.key] for f in fits if rows[f.key]]
    table["rows"] = [rows[r.key] for r in reads if rows[r.key]]
    return table, lacks


def over_seeds(table: dict, name: str, victim: str, way: str, *path: str) -> tuple:
    """Mean and standard deviation over the brief fits' seeds of one number."""
    values = []
    for row in table["rows"]:
        if (row["set"], row["victim"]) == (name, victim) and row.get("brief"):
            value = row["ways"][way]
            for key in path:
                value = value[key]
            values.append(value)
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def lines(table: dict) -> list[str]:
    """The table in words: one line per set, victim and slot."""
    text = []
    for name in table["sets"]:
        for victim in table["victims"]:
            for slot in ASKED[name]:
                about = table, name, victim, "adapted", slot
                ours, spread = over_seeds(*about, "regression", "gain")
                rival, _ = over_seeds(*about, "lookup", "gain")
                text.append(
                    f"{name:7}{victim:10}{slot:11} gain {ours:.3f} (sd {spread:.3f}), "
                    f"lookup {rival:.3f}"
                )
    return text


def recheck(table: dict, work: Path) -> Recheck:
    """Drugs of the notes for who has the true vectors, and through pairs of wiki."""
    victim = table["victims"][0]
    about = {"set": "notes", "victim": victim}
    stored = next(
        r for r in table["rows"] if about.items() <= r.items() and "true" in r["ways"]
    )
    fit = WikiFit(victim, ATTACKER, table["n_train"], 0)
    row = Reading("notes", fit, "references").run(work)
    ways = ("true", "paired", "paired, adapted")
    before, now = (
        {way: r["ways"][way]["drugs"]["regression"]["gain"] for way in ways}
        for r in (stored, row)
    )
    return Recheck(
        f"drugs of the notes, {victim}, references: gain over the same label",
        before, now, dict.fromkeys(ways, 0.01),
        "nothing is drawn but the order of rows in a plan: .01",
    )  # fmt: skip
