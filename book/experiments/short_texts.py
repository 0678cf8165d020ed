"""Inversion of single sentences, from true vectors, by length.

Four ways, each with one thing more: the beam search; edits of its text; edits that also
begin at the nearest public sentences; restarts at parts of the best text. What they
depend on was chosen on sentences of public notes that were held out for it.
"""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch

from v2v_lite.privacy import (
    EncoderScorer,
    NgramLM,
    SearchConfig,
    invert,
    text_leakage,
    token_f1,
)
from v2v_lite.spaces import Document, document_space, load_documents

from .inverted import SETS, opened, scorer_of
from .store import Task

DATASETS = ("documents/posts", "documents/emails", "documents/notes")
LENGTHS = ((0, 6), (6, 12), (12, 24), (24, 48))  # words: more than, at most
WAYS = ("beam", "edits", "drafts", "restarts")
EDITS, ROUNDS, DRAFTS, RESTARTS = 32, 8, 3, 3
OWN = 3_000  # public sentences of a class, at most
ENDS = re.compile(r"(?<=[.!?])\s+|\n+")


def sentences(text: str) -> list[str]:
    """The sentences of a text, without empty ones."""
    return [part.strip() for part in ENDS.split(text) if part.strip()]


@dataclass(frozen=True)
class Sentences(Task):
    """Private sentences of one length, from true vectors; the length is known."""

    DATASETS: ClassVar = DATASETS
    longest: int
    shortest: int
    attacker: str
    n: int
    seed: int

    def run(self, work: Path) -> dict:
        encode = opened(self.attacker)
        private = [Document(f"s{i}", "private", text, ("any",)) for i, text in
                   enumerate(self._texts("private", self.n))]  # fmt: skip
        own = self._texts("public", OWN)
        near, true = (encode(x) for x in (own, [d.text for d in private]))
        lm, scorer = own_search(self.attacker)
        scorer = replace(scorer, centre=near.mean(0), encode=encode)
        closest = scorer.target(true) @ scorer.target(near).T
        lookup = [[own[i] for i in row] for row in closest.topk(DRAFTS).indices]
        row: dict = {"longest": self.longest, "n": len(private), "own": len(own)}
        for way, (config, drafts) in self._ways(lookup).items():
            clock = time.perf_counter()
            found = invert(true, lm, scorer, config, drafts=drafts, seed=self.seed)
            seconds = (time.perf_counter() - clock) / len(found)
            cosine = sum(one.cosine for one in found) / len(found)
            texts = [one.text for one in found]
            row[way] = scored(texts, private) | {"cosine": cosine, "seconds": seconds}
        return row | {
            "lookup": scored([texts[0] for texts in lookup], private),
            "examples": [[d.text, t] for d, t in zip(private[:4], texts, strict=False)],
        }

    def _ways(self, lookup: list[list[str]]) -> dict:
        # What is added, one after the other: settings, and drafts to edit.
        beam = SearchConfig(words=self.longest * 5 // 4)
        edits = replace(beam, edits=EDITS, rounds=ROUNDS)
        restarts = replace(edits, restarts=RESTARTS)
        kinds = (beam, None), (edits, None), (edits, lookup), (restarts, lookup)
        return dict(zip(WAYS, kinds, strict=True))

    def _texts(self, split: str, n: int) -> list[str]:
        # Sentences, and neighbouring ones joined, of the length, at random.
        found = []
        for one in SETS:
            for text in load_documents(one, split).texts:
                parts = sentences(text)
                for k in (1, 2, 3):
                    joined = [" ".join(parts[i : i + k]) for i in range(len(parts))]
                    found += joined[: max(1, len(parts) - k + 1)]
        found = [
            t for t in dict.fromkeys(found)
            if self.shortest < len(t.split()) <= self.longest
        ]  # fmt: skip
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(found), generator=generator)[:n]
        return [found[i] for i in order]


def scored(texts: list[str], private: list[Document]) -> dict:
    """Token F1 with its control."""
    return asdict(text_leakage(texts, list(range(len(texts))), private, token_f1))


@lru_cache(maxsize=1)
def own_search(attacker: str) -> tuple[NgramLM, EncoderScorer]:
    """A language model of all sentences of the public documents, and a scorer."""
    public = {one: load_documents(one, "public") for one in SETS}
    every = [text for one in SETS for text in public[one].texts]
    lm = NgramLM.fit([part for text in every for part in sentences(text)])
    rows = [document_space(public[one], attacker).vectors for one in SETS]
    return lm, scorer_of(attacker, lm.words, every, torch.cat(rows))
