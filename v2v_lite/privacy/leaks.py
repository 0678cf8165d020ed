r"""What an inverted text gives away, beside what it seems to give away by being apt.

A fluent e-mail about layoffs shares words with every e-mail about layoffs. So each text
is scored against its own document and against all *other* documents of the same label;
the leak is the paired difference of the two.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..measure.retrieval import Estimate
from ..spaces.documents import Document
from ..spaces.files import DataError
from .proposals import tokens

Measure = Callable[[str, Document], float | None]


@dataclass(frozen=True)
class Leak:
    """A score on the true documents, on mismatched ones, and the mean difference."""

    n: int
    own: Estimate
    control: Estimate
    gain: Estimate

    @property
    def z(self) -> float:
        """The gain in standard errors."""
        return self.gain.mean / self.gain.se if self.gain.se else 0.0


def facts_of(document: Document) -> tuple[str, ...]:
    """Everything in it that could be looked up: facts, medication, people, firms."""
    d = document
    return tuple(dict.fromkeys((*d.facts.values(), *d.medication, *d.people, *d.firms)))


def holds(text: str, fact: str) -> bool:
    """Whether `fact` stands in `text` as whole words, in any case.

    >>> holds("Started Metformin, 500 mg.", "metformin"), holds("£71,000", "71")
    (True, False)
    """
    pattern = rf"(?<!\w)(?<!\d[.,]){re.escape(fact.lower())}(?!\w|[.,]\d)"
    return re.search(pattern, text.lower()) is not None


def facts_found(text: str, document: Document) -> float | None:
    """The share of the document's facts that stand in the text; None without facts."""
    facts = facts_of(document)
    return sum(holds(text, fact) for fact in facts) / len(facts) if facts else None


def medication_found(text: str, document: Document) -> float | None:
    """The same for medication alone."""
    drugs = document.medication
    return sum(holds(text, drug) for drug in drugs) / len(drugs) if drugs else None


def token_f1(text: str, document: Document) -> float:
    """F1 of the two bags of words, signs counted: 2 |A ∩ B| / (|A| + |B|)."""
    a, b = Counter(tokens(text)), Counter(tokens(document.text))
    return 2 * (a & b).total() / max(1, a.total() + b.total())


def leak(
    texts: Sequence[str],
    rows: Sequence[int],
    documents: Sequence[Document],
    measure: Measure,
    same_label: bool = True,
) -> Leak:
    r"""`texts[i]`, inverted from document `rows[i]`, against it and against the others.

    Gain $= \frac1n \sum_i \big(s(t_i, d_i) - \operatorname{mean}_{j \in J_i} s(t_i,
    d_j)\big)$, with $J_i$ the other documents that share i's first label (all others
    with `same_label=False`); its standard error is that of the paired differences. Rows
    for which `measure` gives None, or without mismatched partners, do not count.
    """
    if len(texts) != len(rows):
        raise DataError(f"{len(texts)} texts for {len(rows)} rows; give one a row")
    own, control = [], []
    for text, row in zip(texts, rows, strict=True):
        true, label = documents[row], documents[row].labels[0]
        others = [
            measure(text, d)
            for i, d in enumerate(documents)
            if i != row and (not same_label or label in d.labels)
        ]
        others = [value for value in others if value is not None]
        value = measure(text, true)
        if value is not None and others:
            own.append(value)
            control.append(sum(others) / len(others))
    if len(own) < 2:
        raise DataError(f"{len(own)} rows can be scored, but at least 2 are needed")
    pairs = torch.tensor([own, control], dtype=torch.float64)
    return Leak(len(own), *map(_estimate, (*pairs, pairs[0] - pairs[1])))


def _estimate(values: torch.Tensor) -> Estimate:
    return Estimate(values.mean().item(), values.std().item() / math.sqrt(len(values)))
