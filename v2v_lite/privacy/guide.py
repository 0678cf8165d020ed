"""The attacker's encoder as a search needs it: exact but slow, and as a word table.

Each encoder here is nearly a bag of words: the sum of well-chosen word vectors points
within a small angle of the text's own vector. So a search may score every next word by
one matrix product and leave the encoder itself to choose among the best texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..spaces.files import DataError
from ..spaces.rows import check_rows, unit
from ..spaces.space import Space
from .proposals import END, tokens

Encode = Callable[[list[str]], Tensor]


@dataclass(frozen=True, eq=False)
class Guide:
    r"""The attacker's encoder, as a search needs it.

    `table` `(V, d)`: a bag-of-words stand-in, $E(t) - \mu \propto \sum_{w \in t}
    \mathrm{table}_w$, so that a step scores the whole vocabulary by one product.
    `topics` `(V, d)`: the vector to expect of a text that holds the word.
    `common` `(V,)`: how many of the attacker's texts hold it; `most` `(V,)`: how often
    one of them does at most. `centre` `(d,)`: $\mu$, the mean of their vectors.
    `encode` is exact and slow.
    """

    encode: Encode
    centre: Tensor
    table: Tensor | None = None
    topics: Tensor | None = None
    common: Tensor | None = None
    most: Tensor | None = None

    @classmethod
    def fit(
        cls,
        words: Sequence[str],
        encode: Encode,
        texts: Sequence[str],
        vectors: Space | Tensor,
        shrink: float = 10.0,
        ridge: float = 0.1,
    ) -> Guide:
        r"""From the attacker's texts, their vectors `(n, d)`, and the words alone.

        A word starts as its own vector, centred, times the root of its inverse document
        frequency; one ridge regression on the texts maps sums of those to the texts'
        vectors. A word's topic is the mean of the texts that hold it, shrunk towards
        its row of the table as if `shrink` further texts pointed there.
        """
        own = vectors.vectors if isinstance(vectors, Space) else check_rows(vectors)
        if own.shape[0] != len(texts):
            raise DataError(f"{len(texts)} texts, but {own.shape[0]} vectors")
        alone = encode([word for word in words if word])
        if alone.shape[1] != own.shape[1]:
            raise DataError(
                f"the encoder gives {alone.shape[1]}-d vectors, the texts have "
                f"{own.shape[1]}-d ones; encode both with one encoder"
            )
        centre = own.mean(0)
        bags = _bags(texts, words)  # (n, V), counts
        holds = (bags > 0).float()
        df = holds.sum(0)
        start = torch.zeros(len(words), own.shape[1])
        start[[i for i, word in enumerate(words) if word]] = unit(alone - alone.mean(0))
        start *= ((len(texts) + 1) / (df + 1)).log().sqrt()[:, None]
        share = bags / bags.sum(1, keepdim=True).clamp_min(1)
        mean = (share @ start).mean(0)
        sums = share @ start - mean
        gram = sums.T @ sums
        gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
        table = (start - mean) @ torch.linalg.solve(gram, sums.T @ (own - centre))
        table[END] = 0
        topics = holds.T @ unit(own - centre) + shrink * unit(table)
        topics /= (df + shrink)[:, None]
        return cls(encode, centre, table, topics, df, bags.amax(0))

    def aim(self, vectors: Space | Tensor) -> Tensor:
        """Rows `(n, d)` centred, of length one; one in the centre's direction, which
        says nothing, becomes zero."""
        rows = vectors.vectors if isinstance(vectors, Space) else check_rows(vectors)
        if rows.shape[1] != self.centre.shape[0]:
            raise DataError(
                f"vectors are {rows.shape[1]}-d, the attacker's encoder gives "
                f"{self.centre.shape[0]}-d ones; translate them into its space first"
            )
        blank = rows @ unit(self.centre) > 1 - 1e-6
        return unit(rows - self.centre).masked_fill(blank[:, None], 0.0)

    def cosines(self, texts: list[str], aims: Tensor) -> Tensor:
        """`(n,)` centred cosines of encoded texts with aims `(n, d)`."""
        filled = [text if text.strip() else "." for text in texts]
        return (unit(self.encode(filled) - self.centre) * aims).sum(1)


def recentre(translated: Tensor, own: Tensor, ridge: float = 0.1) -> Tensor:
    r"""Translations `(n, d)` moved to the mean of the attacker's own rows, and shaped.

    $\mathrm{unit}(\mu + c\,\mathrm{unit}((\hat y - \bar{\hat y}) C^{1/2}))$, C being
    the covariance of `own` `(m, d)` and c the mean distance of its rows from $\mu$. No
    pair is used: the stolen texts are assumed to be of the same kind as `own`, of which
    the translator's training texts were not. Needs several rows.
    """
    own, translated = check_rows(own), check_rows(translated, min_rows=2)
    mean = own.mean(0)
    away = own - mean
    values, basis = torch.linalg.eigh(away.T @ away / len(own))
    scale = (values.clamp_min(0) + ridge * values.mean()).sqrt()
    core = unit((translated - translated.mean(0)) @ (basis * scale) @ basis.T)
    return unit(mean + away.norm(dim=1).mean() * core)


def _bags(texts: Sequence[str], words: Sequence[str]) -> Tensor:
    # (n, V): how often each word stands in each text
    row_of = {word: row for row, word in enumerate(words)}
    bags = torch.zeros(len(texts), len(words))
    for bag, text in zip(bags, texts, strict=True):
        rows = [row_of[word] for word in tokens(text) if word in row_of]
        bag.index_add_(0, torch.tensor(rows, dtype=torch.long), torch.ones(len(rows)))
    return bags
