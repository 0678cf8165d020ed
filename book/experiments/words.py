"""Which words does a note contain? A list that is chosen for its expected token F1.

Every word that the public notes know is asked of the vector, and so are its second and
further occurrences. The clues are the frequency, a regression as in the questionnaire,
the word's own vector, the nearest public notes and, where there is one, the text that a
search wrote. Gradient boosting (scikit-learn) turns them into a probability. It learns
on quarters of the public notes from what the other three quarters say of them. The list
is as long as its expected F1 is largest; `frequent` does the same without a vector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor

from v2v_lite.privacy import Questionnaire, tokens
from v2v_lite.spaces import unit

from .inverted import word_vectors

Item = tuple[str, int]  # a word and which of its occurrences
Search = Callable[["Own", Tensor], list[str]]
# Constants were chosen on folds of the public notes.
OCCURRENCES = 8  # of a word, at most
COSINE = {True: 0.8, False: 0.4}  # of true vectors and of translations
NEIGHBOURS, TEMPERATURE = 8, 0.05
PARTS = 4
TREES = {"max_iter": 150, "max_leaf_nodes": 15, "min_samples_leaf": 200}


@dataclass(frozen=True)
class Own:
    """Texts of the attacker and their vectors `(m, d)`."""

    texts: list[str]
    vectors: Tensor

    def take(self, rows: Sequence[int]) -> Own:
        """Some of them."""
        return Own([self.texts[i] for i in rows], self.vectors[list(rows)])


def frequent(own: Own) -> str:
    """The list with the largest expected F1 for any note, read from no vector."""
    items = items_of(own.texts)
    return best(present(own.texts, items).mean(0), items)


def likely(
    own: Own, z: Tensor, attacker: str, exact: bool, search: Search | None = None,
    seed: int = 0,
) -> list[str]:  # fmt: skip
    """The list of words for each row of `z` `(n, d)`; true vectors are `exact`."""
    items, cosine = items_of(own.texts), COSINE[exact]
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(own.texts), generator=generator)
    table, right = [], []
    for part in order.tensor_split(PARTS):
        asked = own.take(part.tolist())
        rest = own.take(sorted({*range(len(own.texts))} - {*part.tolist()}))
        rows = asked.vectors
        if not exact:
            rows = away(rows, rest.vectors.mean(0), cosine, generator)
        table.append(clues(rest, rows, items, attacker, cosine, search).flatten(0, 1))
        right.append(present(asked.texts, items).flatten())
    model = HistGradientBoostingClassifier(**TREES, random_state=seed)
    model.fit(torch.cat(table).numpy(), torch.cat(right).numpy())
    known = clues(own, z, items, attacker, cosine, search).flatten(0, 1)
    p = torch.tensor(model.predict_proba(known.numpy())[:, 1])
    return [best(row, items) for row in p.view(len(z), -1)]


def items_of(texts: Sequence[str]) -> list[Item]:
    """All words of the texts, and their further occurrences in one text."""
    most: Counter[str] = Counter()
    for text in texts:
        most |= Counter(tokens(text))
    return [(w, k) for w, c in most.items() for k in range(1, min(c, OCCURRENCES) + 1)]


def present(texts: Sequence[str], items: Sequence[Item]) -> Tensor:
    """`(n, L)`: 1 where a text has the occurrence."""
    bags = [Counter(tokens(text)) for text in texts]
    return torch.tensor([[float(bag[w] >= k) for w, k in items] for bag in bags])


def away(rows: Tensor, centre: Tensor, cosine: float, g: torch.Generator) -> Tensor:
    """Rows `(n, d)` moved, around the centre, to the cosine with where they were."""
    x = unit(rows - centre)
    error = torch.randn(x.shape, generator=g)
    error = unit(error - (error * x).sum(1, keepdim=True) * x)
    return centre + cosine * x + (1 - cosine**2) ** 0.5 * error


def clues(
    own: Own, z: Tensor, items: list[Item], attacker: str, cosine: float,
    search: Search | None,
) -> Tensor:  # fmt: skip
    """`(n, L, 7)`: what is known of each occurrence in the texts of `z` `(n, d)`."""
    hot, centre = present(own.texts, items), own.vectors.mean(0)
    base, x, at = hot.mean(0), unit(own.vectors - centre), unit(z - centre)
    score = asked(own, hot, cosine, z)
    known = word_vectors(attacker)
    names = torch.stack([known[w] for w, _ in items])
    alone = at @ unit(names - torch.stack([*known.values()]).mean(0)).T
    near = (at @ x.T).topk(NEIGHBOURS, dim=1)
    weight = torch.softmax(near.values / TEMPERATURE, dim=1)
    votes = (weight[:, :, None] * hot[near.indices]).sum(1)
    said = present(search(own, z), items) if search else torch.zeros_like(score)
    occurrence = torch.tensor([float(k) for _, k in items])
    spread = (base * (1 - base)).clamp_min(1e-4).sqrt()
    each = base, score, score / spread, alone, votes, said, occurrence
    return torch.stack([one.expand_as(score) for one in each], dim=-1)


def asked(own: Own, hot: Tensor, cosine: float, z: Tensor) -> Tensor:
    """`(n, L)` scores of a questionnaire about the occurrences, beyond frequencies."""
    answers = [tuple(map(str, row.nonzero().flatten().tolist())) for row in hot]
    asker = Questionnaire.fit(own.vectors, answers, cosine)
    score = torch.zeros(len(z), hot.shape[1])
    score[:, [int(value) for value in asker.values]] = asker.scores(z) - asker.base
    return score


def best(p: Tensor, items: Sequence[Item]) -> str:
    r"""The words with the k largest probabilities, $k = \arg\max 2 \sum_{i \le k} p_i /
    (k + \sum_i p_i)$: the expected F1, with expectations above and below."""
    order = p.argsort(descending=True)
    n = torch.arange(1, len(p) + 1)
    k = int((2 * p[order].cumsum(0) / (n + p.sum())).argmax()) + 1
    return " ".join(items[i][0] for i in order[:k].tolist())
