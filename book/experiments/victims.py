"""What is stolen in the experiments of privacy: documents, their labels, the truth."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from v2v_lite.privacy import label_vectors
from v2v_lite.privacy.attributes import AttributeLeakage, read_described
from v2v_lite.spaces import document_space, encode, load_documents, read_corpus
from v2v_lite.teaching.comparison import short

ATTACKER, TWEETS = "minilm", "tweets"


@lru_cache(maxsize=16)
def victim_data(name: str, victim: str, tweets: str = "") -> dict:
    """What was stolen, what the attacker owns, and, for scoring, the truth."""
    if name == TWEETS:
        return _tweets(victim, tweets)
    private, public = (load_documents(name, part) for part in ("private", "public"))
    return {
        "multi_hot": private.multi_hot(),
        "names": [label.key for label in private.labels],
        "labels": words_of(private.labels),
        "stolen": document_space(private, victim).vectors,
        "truth": document_space(private, ATTACKER).vectors,
        "own": document_space(public, ATTACKER).vectors,
        "inside": document_space(private, victim, "labels").vectors,
    }


@lru_cache(maxsize=16)
def words_of(labels) -> torch.Tensor:
    """The attacker's vectors of labels, all phrasings averaged."""
    return label_vectors(labels, lambda texts: encode(texts, ATTACKER, progress=False))


@lru_cache(maxsize=4)
def encoded(path: str, encoder: str) -> torch.Tensor:
    """The tweets' vectors; DataError when the encoder cannot be had."""
    return encode(read_corpus("tweet_topic", Path(path)).texts, encoder).vectors


def _tweets(victim: str, path: str) -> dict:
    tweets = read_corpus("tweet_topic", Path(path))
    described = {x.name: x for x in read_described(Path(path).with_name("labels.csv"))}
    labels = tuple(described[label.name] for label in tweets.labels)
    return {
        "multi_hot": tweets.multi_hot(),
        "names": [label.key for label in labels],
        "labels": words_of(labels),
        "stolen": encoded(path, victim),
        "truth": encoded(path, ATTACKER),
        # Texts of the same kind that the attacker owns: our public posts.
        "own": victim_data("posts", victim)["own"],
        "inside": None,
    }


def numbers(found: AttributeLeakage) -> dict:
    """A leak as a flat row of numbers."""
    row = {f"top{k}": short(value.mean) for k, value in found.top.items()}
    row |= {"top1_se": short(found.top[1].se), "map": short(found.map.mean)}
    return row | {"map_se": short(found.map.se)}
