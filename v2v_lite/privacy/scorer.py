"""The attacker's encoder as a scorer of texts: exact but slow, and as a word table.

Each encoder here is nearly a bag of words: the sum of well-chosen word vectors has a
high cosine with the text's own vector. So a search may score every next word by one
matrix product and leave the encoder itself to choose among the best texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..measure.neighbors import Rows, as_unit_rows, check_widths
from ..spaces.files import DataError
from ..spaces.rows import check_rows, unit
from .proposals import END, Vocabulary

Encode = Callable[[list[str]], Tensor]


@dataclass(frozen=True, eq=False)
class WordTable:
    r"""A bag-of-words stand-in for an encoder $E$ with mean $\mu$, a row per word.

    `vectors` `(V, d)` are such that $E(t) - \mu \propto \sum_{w \in t} v_w$; `topics`
    `(V, d)` is the vector to expect of a text that contains the word. `doc_freq` `(V,)`
    counts the attacker's texts that contain it; `max_count` `(V,)` is how often it
    occurs in one of them at most.
    """

    vectors: Tensor
    topics: Tensor
    doc_freq: Tensor
    max_count: Tensor


@dataclass(frozen=True, eq=False)
class EncoderScorer:
    r"""The attacker's encoder, as a search uses it.

    `encode` is exact and slow; `centre` `(d,)` is $\mu$, the mean of the vectors of the
    attacker's texts. With the table `words` one step scores the whole vocabulary by one
    product; without it every candidate is encoded.
    """

    encode: Encode
    centre: Tensor
    words: WordTable | None = None

    @classmethod
    def fit(
        cls, words: Sequence[str], encode: Encode, texts: Sequence[str],
        vectors: Rows, shrink: float = 10.0, ridge: float = 0.1,
    ) -> EncoderScorer:  # fmt: skip
        r"""From the attacker's texts, their vectors `(n, d)`, and the words alone.

        A word starts as its own vector, centred, times the root of its inverse document
        frequency; one ridge regression on the texts maps sums of those to the texts'
        vectors. A word's topic is the mean of the texts that contain it, shrunk towards
        its row of the table as if `shrink` further texts pointed there. Raises
        DataError for other than one vector per text, or of another width.
        """
        known, own = Vocabulary(tuple(words), {}), as_unit_rows(vectors, "vectors")
        if own.shape[0] != len(texts):
            raise DataError(f"{len(texts)} texts, but {own.shape[0]} vectors")
        alone = encode([word for word in words if word])
        check_widths(alone, own, "words", "texts", "encode both with one encoder")
        centre = own.mean(0)
        found = [torch.tensor(known.rows(text), dtype=torch.long) for text in texts]
        counts = [one.bincount(minlength=len(words)) for one in found]
        bags = torch.stack(counts).float()  # (n, V)
        contains = (bags > 0).float()
        doc_freq = contains.sum(0)
        start = torch.zeros(len(words), own.shape[1])
        start[[i for i, word in enumerate(words) if word]] = unit(alone - alone.mean(0))
        start *= ((len(texts) + 1) / (doc_freq + 1)).log().sqrt()[:, None]
        weights = bags / bags.sum(1, keepdim=True).clamp_min(1)
        mean = (weights @ start).mean(0)
        sums = weights @ start - mean
        gram = sums.T @ sums
        gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
        table = (start - mean) @ torch.linalg.solve(gram, sums.T @ (own - centre))
        table[END] = 0
        topics = contains.T @ unit(own - centre) + shrink * unit(table)
        topics /= (doc_freq + shrink)[:, None]
        return cls(encode, centre, WordTable(table, topics, doc_freq, bags.amax(0)))

    def target(self, vectors: Rows) -> Tensor:
        """`(n, d)` unit rows: the vectors around the centre. A vector in the centre's
        own direction, which says nothing, becomes zero. DataError for other widths."""
        rows = as_unit_rows(vectors, "rows")
        mend = "translate them into the space of the attacker's encoder first"
        check_widths(rows, self.centre[None], "vectors", "its texts", mend)
        blank = rows @ unit(self.centre) > 1 - 1e-6
        return unit(rows - self.centre).masked_fill(blank[:, None], 0.0)

    def cosines(self, texts: list[str], targets: Tensor) -> Tensor:
        """`(n,)` centred cosines of encoded texts with their targets `(n, d)`."""
        filled = [text if text.strip() else "." for text in texts]
        return (unit(self.encode(filled) - self.centre) * targets).sum(1)


def recentre_rows(translated: Tensor, own: Tensor, ridge: float = 0.1) -> Tensor:
    r"""Translations `(n, d)` moved to the mean of the attacker's own rows, and shaped.

    $\mathrm{unit}(\mu + c\,\mathrm{unit}((\hat y - \bar{\hat y}) C^{1/2}))$, C being
    the covariance of `own` `(m, d)`, $\mu$ their mean and c their mean distance from
    it. No pair is used: the stolen texts are assumed to be of the same kind as `own`,
    of which the translator's training texts were not. Raises DataError for one row.
    """
    own, translated = check_rows(own), check_rows(translated, min_rows=2)
    mean = own.mean(0)
    away = own - mean
    values, basis = torch.linalg.eigh(away.T @ away / len(own))
    scale = (values.clamp_min(0) + ridge * values.mean()).sqrt()
    direction = unit((translated - translated.mean(0)) @ (basis * scale) @ basis.T)
    return unit(mean + away.norm(dim=1).mean() * direction)
