"""Inversion of single sentences, from true vectors, by length."""

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

from .inverted import SETS, opened, word_vectors
from .store import Task

DATASETS = ("documents/posts", "documents/emails", "documents/notes")
LENGTHS = ((0, 6), (6, 12), (12, 24), (24, 48))  # words: more than, at most
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
    edits: int
    rounds: int

    def run(self, work: Path) -> dict:
        private = [Document(f"s{i}", "private", text, ("any",)) for i, text in
                   enumerate(self._texts("private", self.n))]  # fmt: skip
        own = self._texts("public", 600)
        lm, known = NgramLM.fit(own_sentences()), word_vectors(self.attacker)
        near, true = (
            opened(self.attacker)(x) for x in (own, [d.text for d in private])
        )
        public = {one: load_documents(one, "public") for one in SETS}
        every = [text for one in SETS for text in public[one].texts]
        rows = [document_space(public[one], self.attacker).vectors for one in SETS]
        scorer = EncoderScorer.fit(
            lm.words, lambda ws: torch.stack([known[w] for w in ws]), every,
            torch.cat(rows),
        )  # fmt: skip
        scorer = replace(scorer, centre=near.mean(0), encode=opened(self.attacker))
        config = SearchConfig(
            words=self.longest * 5 // 4, edits=self.edits, rounds=self.rounds
        )
        clock = time.perf_counter()
        found = invert(true, lm, scorer, config)
        seconds = (time.perf_counter() - clock) / len(found)
        lookup = [
            own[i] for i in (scorer.target(true) @ scorer.target(near).T).argmax(1)
        ]
        texts = [one.text for one in found]
        numbers = list(range(len(texts)))
        return {
            "longest": self.longest, "n": len(texts), "seconds_per_text": seconds,
            "cosine": sum(one.cosine for one in found) / len(found),
            "token_f1": asdict(text_leakage(texts, numbers, private, token_f1)),
            "lookup": asdict(text_leakage(lookup, numbers, private, token_f1)),
            "examples": [[d.text, t] for d, t in zip(private[:4], texts, strict=False)],
        }  # fmt: skip

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


@lru_cache(maxsize=1)
def own_sentences() -> list[str]:
    """All sentences of the public documents."""
    texts = (text for one in SETS for text in load_documents(one, "public").texts)
    return [part for text in texts for part in sentences(text)]
