"""What inverted texts are scored by: words, facts, labels, cosines, a judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache

import torch
from torch import Tensor

from v2v_lite.privacy import (
    EncoderScorer,
    contains_fact,
    facts_found,
    facts_of,
    medication_found,
    text_leakage,
    token_f1,
    tokens,
)
from v2v_lite.spaces import (
    Documents,
    document_space,
    load_documents,
    open_encoder,
    unit,
)

MEASURES = {
    "facts": facts_found,
    "medication": medication_found,
    "token_f1": token_f1,
}
SHOWN = (0.1, 0.5, 0.9)  # quantiles of the gain in F1 whose documents are shown
JUDGE = "wordllama"
SETS = ("posts", "emails", "notes")


@lru_cache(maxsize=3)
def opened(encoder: str) -> Callable[[list[str]], Tensor]:
    """An encoder that stays open, in half precision."""
    return open_encoder(encoder, half=True)


@lru_cache(maxsize=2)
def word_vectors(encoder: str) -> dict[str, Tensor]:
    """The attacker's encoder on every word of the public documents, one by one."""
    texts = (text for one in SETS for text in load_documents(one, "public").texts)
    words = list(dict.fromkeys(word for text in texts for word in tokens(text)))
    return dict(zip(words, opened(encoder)(words), strict=True))


def scorer_of(
    encoder: str, words: Sequence[str], texts: Sequence[str], vectors: Tensor
) -> EncoderScorer:
    """The attacker's scorer, without encoding any word of the public texts twice."""
    known = word_vectors(encoder)
    return EncoderScorer.fit(
        words, lambda some: torch.stack([known[w] for w in some]), texts, vectors
    )


def scores(texts: list[str], rows: list[int], private: Documents, encoder: str) -> dict:
    """All measures with their control, the kinds of facts, labels, and examples."""
    found = measured(texts, rows, private)
    every = opened(encoder)(texts)
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
    found["of_ten"] = of_ten(texts, rows, private)
    return found | {"examples": examples(texts, rows, private)}


def measured(texts: list[str], rows: list[int], private: Documents) -> dict:
    """The measures of words and facts with their control."""
    found = {}
    for name, measure in MEASURES.items():
        if name != "medication" or any(row.medication for row in private):
            one = text_leakage(texts, rows, private.rows, measure)
            found[name] = asdict(one) | {"z": one.z}
    return found


def of_ten(texts: list[str], rows: list[int], private: Documents) -> dict:
    """Which of ten documents was inverted, by WordLlama's nearest: shares right.

    The nine others are drawn once for each row: among all documents, and among those
    that share its first label (left out where fewer than nine do).
    """
    truth = document_space(private, JUDGE).vectors
    centre = document_space(load_documents(private.name, "public"), JUDGE).mean
    said = unit(opened(JUDGE)(texts) - centre)
    generator = torch.Generator().manual_seed(0)
    found = {}
    for kind in ("any", "same_label"):
        right = []
        for text, row in zip(said, rows, strict=True):
            label = private[row].labels[0]
            others = [
                i for i, d in enumerate(private)
                if i != row and (kind == "any" or label in d.labels)
            ]  # fmt: skip
            if len(others) >= 9:
                drawn = torch.randperm(len(others), generator=generator)[:9].tolist()
                ten = [row, *(others[i] for i in drawn)]
                cosines = unit(truth[ten] - centre) @ text
                right.append(float(cosines.argmax() == 0))
        share = sum(right) / max(1, len(right))
        found[kind] = {"n": len(right), "right": share}
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
